//! Classes whose steps go between whole times of the chain: DDPM, DDIM, PNDM, LCM and TCD.

use super::betas::Chain;
use super::keys::{Keys, Unless};
use super::linear::{Call, D, Form, Point, X, Z, ZERO, kept};
use super::run::{Asked, Asking, Clip, Frame, Prediction, Run};
use super::times::{Spacing, linspace, timesteps};
use crate::bail;
use crate::base::Result;

pub(super) const DDPM: &[(&str, Unless)] = &[
    ("clip_sample", Unless::Flag(true)),
    ("timestep_spacing", Unless::Word("leading")),
    ("variance_type", Unless::Word("fixed_small")),
];
pub(super) const DDIM: &[(&str, Unless)] =
    &[("clip_sample", Unless::Flag(true)), ("timestep_spacing", Unless::Word("leading"))];
pub(super) const PNDM: &[(&str, Unless)] =
    &[("set_alpha_to_one", Unless::Flag(false)), ("timestep_spacing", Unless::Word("leading"))];
pub(super) const LCM: &[(&str, Unless)] = &[
    ("beta_start", Unless::Number(0.00085)),
    ("beta_end", Unless::Number(0.012)),
    ("beta_schedule", Unless::Word("scaled_linear")),
    ("timestep_spacing", Unless::Word("leading")),
];

const ALL: &[Prediction] = &[Prediction::Epsilon, Prediction::Sample, Prediction::V];

/// The product of alphas at a time of the chain; past its beginning `end`.
fn bar(chain: &Chain, t: f64, end: f32) -> Result<f32> {
    if t < 0.0 {
        return Ok(end);
    }
    match chain.bar(t as i64) {
        Some(bar) => Ok(bar),
        None => bail!(Invalid, "scheduler: time {t} of a chain of {}", chain.steps()),
    }
}

fn point(bar: f32) -> Point {
    Point::of_alpha_bar(f64::from(bar))
}

fn fits(steps: usize, chain: &Chain) -> Result<()> {
    if steps > chain.steps() {
        bail!(Invalid, "scheduler: {steps} steps of a chain of {}", chain.steps());
    }
    Ok(())
}

pub(super) fn ddpm(keys: &Keys, asked: &Asked) -> Result<Run> {
    let chain = Chain::read(keys, None)?;
    fits(asked.steps, &chain)?;
    let prediction = Prediction::read(keys, ALL)?;
    let variance = keys.word("variance_type")?;
    let times = timesteps(keys, Spacing::Whole, asked.steps, chain.steps(), 0)?;
    let mut calls = Vec::new();
    for (i, &t) in times.iter().enumerate() {
        // single precision where differences of near numbers are taken, as in the original
        let here = bar(&chain, t, 1.0)?;
        let before = bar(&chain, times.get(i + 1).copied().unwrap_or(-1.0), 1.0)?;
        let (rest, rest_before) = (1.0 - here, 1.0 - before);
        let alpha = here / before;
        let beta = 1.0 - alpha;
        let small = (rest_before / rest * beta).max(1e-20);
        let mut learned = None;
        let noise = match variance.as_str() {
            _ if t == 0.0 => 0.0,
            "learned_range" => {
                learned = Some([f64::from(small.ln()), f64::from(beta.ln())]);
                0.0
            }
            "fixed_small" | "fixed_small_log" => f64::from(small).sqrt(),
            "fixed_large" => f64::from(beta).sqrt(),
            other => bail!(
                Unsupported,
                "scheduler: variance_type is {other}, want fixed_small, fixed_small_log, fixed_large or learned_range"
            ),
        };
        let to_d = before.sqrt() * beta / rest;
        let to_x = alpha.sqrt() * rest_before / rest;
        let next = f64::from(to_d) * D + f64::from(to_x) * X + noise * Z;
        calls.push(Call { learned, ..Call::new(point(here), t, next) });
    }
    Ok(Run {
        calls,
        end: point(1.0),
        init: 1.0,
        frame: Frame::Preserving,
        prediction,
        clip: Clip::read(keys)?,
        sigmas: Vec::new(),
        chain: Some(chain),
        discrete: Vec::new(),
        begins: Vec::new(),
    })
}

pub(super) fn ddim(keys: &Keys, asked: &Asked) -> Result<Run> {
    let chain = Chain::read(keys, None)?;
    fits(asked.steps, &chain)?;
    let prediction = Prediction::read(keys, ALL)?;
    let end = if keys.flag("set_alpha_to_one")? { 1.0 } else { bar(&chain, 0.0, 1.0)? };
    let eta = asked.eta.unwrap_or(0.0);
    let stride = (chain.steps() / asked.steps) as f64;
    let times = timesteps(keys, Spacing::Whole, asked.steps, chain.steps(), 0)?;
    let mut calls = Vec::new();
    let mut last = end;
    for &t in &times {
        let (here, before) = (bar(&chain, t, end)?, bar(&chain, t - stride, end)?);
        let variance = (1.0 - before) / (1.0 - here) * (1.0 - here / before);
        let spread = eta * f64::from(variance).sqrt();
        let (at, to) = (point(here), point(before));
        let noise = if asked.use_clipped_model_output { at.clipped_noise() } else { at.noise() };
        let along = (to.sigma * to.sigma - spread * spread).max(0.0).sqrt();
        let next = to.alpha * D + along * noise + spread * Z;
        calls.push(Call::new(at, t, next));
        last = before;
    }
    Ok(Run {
        calls,
        end: point(last),
        init: 1.0,
        frame: Frame::Preserving,
        prediction,
        clip: Clip::read(keys)?,
        sigmas: Vec::new(),
        chain: Some(chain),
        discrete: Vec::new(),
        begins: Vec::new(),
    })
}

/// The few times that a distilled network knows.
fn distilled(keys: &Keys, asked: &Asked, chain: &Chain) -> Result<Vec<f64>> {
    let original = keys.whole("original_inference_steps", 1, chain.steps())?;
    let stride = (chain.steps() / original) as f64;
    if asked.steps > original {
        bail!(Invalid, "scheduler: {} steps of {original} original_inference_steps", asked.steps);
    }
    let known: Vec<f64> = (1..=original).rev().map(|i| i as f64 * stride - 1.0).collect();
    let every = known.len() as f64 / asked.steps as f64;
    let pick = |i: usize| known.get((i as f64 * every).floor() as usize).copied();
    Ok((0..asked.steps).filter_map(pick).collect())
}

pub(super) fn lcm(keys: &Keys, asked: &Asked) -> Result<Run> {
    /// Of the data, for the boundary condition.
    const DATA: f64 = 0.5;
    let chain = Chain::read(keys, None)?;
    let prediction = Prediction::read(keys, ALL)?;
    let times = distilled(keys, asked, &chain)?;
    let scaling = keys.number("timestep_scaling")?;
    let mut calls = Vec::new();
    for (i, &t) in times.iter().enumerate() {
        let at = point(bar(&chain, t, 1.0)?);
        let scaled = t * scaling;
        let total = scaled * scaled + DATA * DATA;
        let denoised = (scaled / total.sqrt()) * D + (DATA * DATA / total) * X;
        let next = match times.get(i + 1) {
            Some(t) => {
                let to = point(bar(&chain, *t, 1.0)?);
                to.alpha * denoised + to.sigma * Z
            }
            None => denoised,
        };
        calls.push(Call::new(at, t, next).showing(denoised));
    }
    Ok(Run {
        calls,
        end: point(1.0),
        init: 1.0,
        frame: Frame::Preserving,
        prediction,
        clip: Clip::read(keys)?,
        sigmas: Vec::new(),
        chain: Some(chain),
        discrete: Vec::new(),
        begins: Vec::new(),
    })
}

pub(super) fn tcd(keys: &Keys, asked: &Asked) -> Result<Run> {
    let chain = Chain::read(keys, None)?;
    let prediction = Prediction::read(keys, ALL)?;
    let times = distilled(keys, asked, &chain)?;
    let eta = asked.eta.unwrap_or(0.3);
    let mut calls = Vec::new();
    let mut end = point(1.0);
    for (i, &t) in times.iter().enumerate() {
        let last = i + 1 == times.len();
        let before = times.get(i + 1).copied().unwrap_or(0.0);
        let (here, to) = (bar(&chain, t, 1.0)?, bar(&chain, before, 1.0)?);
        let low = bar(&chain, ((1.0 - eta) * before).floor(), 1.0)?;
        let (at, s) = (point(here), point(low));
        let noised = s.alpha * D + s.sigma * at.noise();
        let up = f64::from(to / low);
        let next = match eta > 0.0 && !last {
            true => up.sqrt() * noised + f64::from(1.0 - to / low).max(0.0).sqrt() * Z,
            false => noised,
        };
        end = s;
        calls.push(Call::new(at, t, next).showing(noised));
    }
    Ok(Run {
        calls,
        end,
        init: 1.0,
        frame: Frame::Preserving,
        prediction,
        clip: Clip::No, // the class reads its keys of clipping and leaves them alone
        sigmas: Vec::new(),
        chain: Some(chain),
        discrete: Vec::new(),
        begins: Vec::new(),
    })
}

/// Registers of PNDM: the sample that steps set out from, the running sum of Runge-Kutta, earlier outputs.
const FROM: usize = 0;
const SUM: usize = 1;
const PAST: usize = 2;

pub(super) fn pndm(keys: &Keys, asked: &Asked) -> Result<Run> {
    let chain = Chain::read(keys, None)?;
    let prediction = Prediction::read(keys, &[Prediction::Epsilon, Prediction::V])?;
    let end = if keys.flag("set_alpha_to_one")? { 1.0 } else { bar(&chain, 0.0, 1.0)? };
    let asking = Asking { frame: Frame::Preserving, prediction };
    let stride = chain.steps() / asked.steps.max(1);
    let all = pndm_times(keys, asked.steps, &chain)?;
    let (first, then) = match keys.flag("skip_prk_steps")? {
        true => (Vec::new(), multistep_times(&all)?),
        false => runge_kutta_times(&all, stride / 2)?,
    };
    // from a time and a sample there, along an output, to another time
    let step = |x: Form, from: f64, to: f64, output: Form| -> Result<(Form, Point)> {
        let (a, b) = (bar(&chain, from, end)?, bar(&chain, to, end)?);
        let (at, to) = (point(a), point(b));
        let output = match prediction {
            Prediction::V => at.alpha * output + at.sigma * x,
            _ => output,
        };
        let below =
            f64::from(a) * to.sigma + (f64::from(a) * f64::from(1.0 - a) * f64::from(b)).sqrt();
        Ok((f64::from(b / a).sqrt() * x - (f64::from(b - a) / below) * output, to))
    };
    let mut calls = Vec::new();
    let mut stop = point(end);
    let mut kept_outputs = 0;
    let push = |call: Call, output: Form| {
        call.keeping(PAST, output).keeping(PAST + 1, kept(PAST)).keeping(PAST + 2, kept(PAST + 1))
    };
    for (i, &t) in first.iter().enumerate() {
        let at = point(bar(&chain, t, end)?);
        let output = asking.output(at);
        let to = t - if i % 2 == 1 { 0.0 } else { (stride / 2) as f64 };
        let from = first.get(i / 4 * 4).copied().unwrap_or(t);
        let (x, along) = match i % 4 {
            0 => (X, output),
            3 => (kept(FROM), kept(SUM) + (1.0 / 6.0) * output),
            _ => (kept(FROM), output),
        };
        let (next, reached) = step(x, from, to, along)?;
        stop = reached;
        let call = Call::new(at, t, next);
        calls.push(match i % 4 {
            0 => {
                kept_outputs += 1;
                push(call.keeping(FROM, X).keeping(SUM, (1.0 / 6.0) * output), output)
            }
            3 => call.keeping(SUM, ZERO),
            _ => call.keeping(SUM, kept(SUM) + (1.0 / 3.0) * output),
        });
    }
    for (k, &t) in then.iter().enumerate() {
        let counter = first.len() + k;
        let at = point(bar(&chain, t, end)?);
        let output = asking.output(at);
        let (mut from, mut to) = (t, t - stride as f64);
        let mut x = X;
        if counter == 1 {
            (from, to) = (t + stride as f64, t);
        } else {
            kept_outputs = (kept_outputs + 1).min(4);
        }
        let p = [kept(PAST), kept(PAST + 1), kept(PAST + 2)];
        let along = match (kept_outputs, counter) {
            (1, 0) => output,
            (1, _) => {
                x = kept(FROM);
                0.5 * (output + p[0])
            }
            (2, _) => 0.5 * (3.0 * output - p[0]),
            (3, _) => (1.0 / 12.0) * (23.0 * output - 16.0 * p[0] + 5.0 * p[1]),
            _ => (1.0 / 24.0) * (55.0 * output - 59.0 * p[0] + 37.0 * p[1] - 9.0 * p[2]),
        };
        let (next, reached) = step(x, from, to, along)?;
        stop = reached;
        let mut call = Call::new(at, t, next);
        if counter == 0 {
            call = call.keeping(FROM, X);
        }
        calls.push(if counter == 1 { call } else { push(call, output) });
    }
    Ok(Run {
        calls,
        end: stop,
        init: 1.0,
        frame: Frame::Preserving,
        prediction,
        clip: Clip::No,
        sigmas: Vec::new(),
        chain: Some(chain),
        discrete: Vec::new(),
        begins: Vec::new(),
    })
}

/// Earliest first.
fn pndm_times(keys: &Keys, n: usize, chain: &Chain) -> Result<Vec<f64>> {
    fits(n, chain)?;
    if keys.word("timestep_spacing")? == "linspace" {
        let all = linspace(0.0, (chain.steps() - 1) as f64, n);
        return Ok(all.iter().map(|t| t.round_ties_even()).collect());
    }
    let mut times = timesteps(keys, Spacing::Whole, n, chain.steps(), 0)?;
    times.reverse();
    Ok(times)
}

/// Latest first, the second latest but one twice: the first step is done again with the mean of two outputs.
fn multistep_times(all: &[f64]) -> Result<Vec<f64>> {
    let [early @ .., before, last] = all else {
        bail!(Invalid, "scheduler: PNDM in {} steps, want at least 2", all.len());
    };
    let mut out = vec![*last, *before, *before];
    out.extend(early.iter().rev());
    Ok(out)
}

/// Times of the Runge-Kutta calls of the first three steps, and of the multistep calls after them.
fn runge_kutta_times(all: &[f64], half: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let Some(cut) = all.len().checked_sub(4) else {
        bail!(Invalid, "scheduler: PNDM with Runge-Kutta in {} steps, want at least 4", all.len());
    };
    let mut pairs: Vec<f64> = all[cut..].iter().flat_map(|t| [*t, t + half as f64]).collect();
    pairs.pop();
    let mut twice: Vec<f64> = pairs.iter().flat_map(|t| [*t, *t]).collect();
    twice.pop();
    let first: Vec<f64> = twice.iter().skip(1).rev().copied().collect();
    let then = all[..=cut].iter().rev().copied().collect();
    Ok((first, then))
}
