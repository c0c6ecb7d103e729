//! Classes whose sample is the data plus noise of a level: Euler, ancestral Euler, Heun, KDPM2 and its ancestral form,
//! LMS, and Euler as EDM preconditions it.

use super::betas::Chain;
use super::betas::linspace_f32;
use super::keys::{Keys, Unless};
use super::linear::{Call, D, D_RAW, Form, Point, SLOPE, X, Z, kept};
use super::run::{Asked, Asking, Clip, Frame, Prediction, Run};
use super::times::{
    Crowding, Spacing, interpolate, karras, linspace, logs, rounded, time_of, timesteps,
};
use crate::base::Result;

pub(super) const OTHERS: &[(&str, Unless)] = &[];
pub(super) const FINER: &[(&str, Unless)] =
    &[("beta_start", Unless::Number(0.00085)), ("beta_end", Unless::Number(0.012))];

/// Levels of a run with the times told to the network, one fewer.
struct Ladder {
    chain: Chain,
    sigmas: Vec<f64>,
    times: Vec<f64>,
    /// log sigma at the times of the chain.
    logs: Vec<f64>,
    prediction: Prediction,
    init: f64,
    crowding: Crowding,
}

const NOISE_OR_V: &[Prediction] = &[Prediction::Epsilon, Prediction::V];
const ANY: &[Prediction] = &[Prediction::Epsilon, Prediction::V, Prediction::Sample];

impl Ladder {
    fn read(keys: &Keys, asked: &Asked, known: &[Prediction], last: Option<f32>) -> Result<Self> {
        let n = asked.steps;
        let chain = Chain::read(keys, last)?;
        let prediction = Prediction::read(keys, known)?;
        let table = chain.sigmas();
        let logs = logs(&table);
        let mut times = timesteps(keys, Spacing::Between, n, chain.steps(), 0)?;
        let mut sigmas: Vec<f64> = times.iter().map(|t| interpolate(&table, *t)).collect();
        let low = table.first().copied().unwrap_or(0.0);
        if keys.one_of("interpolation_type", &["linear", "log_linear"])? == 1 {
            let high = table.last().copied().unwrap_or(low);
            let even =
                linspace_f32(f64::from((high as f32).ln()), f64::from((low as f32).ln()), n + 1);
            sigmas = even.iter().map(|l| f64::from(l.exp())).collect();
        }
        let crowding = Crowding::read(keys)?;
        if crowding != Crowding::None {
            let least = sigmas.last().copied().unwrap_or(low);
            let most = sigmas.first().copied().unwrap_or(low);
            let lo = keys.maybe("sigma_min")?.unwrap_or(least);
            let hi = keys.maybe("sigma_max")?.unwrap_or(most);
            sigmas = crowding.levels(lo, hi, n);
            times = sigmas.iter().map(|s| time_of(*s, &logs)).collect();
        }
        let last = keys.one_of("final_sigmas_type", &["zero", "sigma_min"])?;
        sigmas.push(if last == 1 { low } else { 0.0 });
        let sigmas: Vec<f64> = sigmas.into_iter().map(rounded).collect();
        let times = times.into_iter().map(rounded).collect();
        let most = sigmas.iter().copied().fold(0.0, f64::max);
        let leading = keys.word("timestep_spacing")? == "leading";
        let init = if leading { (most * most + 1.0).sqrt() } else { most };
        Ok(Self { chain, sigmas, times, logs, prediction, init, crowding })
    }

    /// Level, level of the next step, and time of each step.
    fn steps(&self) -> impl Iterator<Item = (f64, f64, f64)> + '_ {
        self.sigmas.windows(2).zip(&self.times).map(|(w, t)| (w[0], w[1], *t))
    }

    fn run(self, calls: Vec<Call>, clip: Clip, sigmas: Vec<f64>) -> Run {
        let end = self.steps().last().map_or(0.0, |s| s.1);
        Run {
            calls,
            end: Point::exploding(end),
            init: self.init,
            frame: Frame::Preserving,
            prediction: self.prediction,
            clip,
            sigmas,
            chain: Some(self.chain),
            discrete: Vec::new(),
            begins: Vec::new(),
        }
    }
}

pub(super) fn euler(keys: &Keys, asked: &Asked) -> Result<Run> {
    let mut ladder = Ladder::read(keys, asked, ANY, Some(SMALLEST))?;
    let continuous = keys.one_of("timestep_type", &["discrete", "continuous"])? == 1;
    if continuous && ladder.prediction == Prediction::V {
        ladder.times = ladder.sigmas.iter().map(|s| 0.25 * s.ln()).collect();
        ladder.times.truncate(asked.steps);
    }
    let asking = Asking { frame: Frame::Preserving, prediction: ladder.prediction };
    let n = ladder.sigmas.len() - 1; // one was pushed
    let mut calls = Vec::new();
    for (sigma, to, time) in ladder.steps() {
        let at = Point::exploding(sigma);
        let up = asked.churn(sigma, n);
        let hat = sigma * (1.0 + up);
        let (next, d) = if up > 0.0 {
            let x = X + (asked.s_noise * (hat * hat - sigma * sigma).sqrt()) * Z;
            let output = asking.output(at);
            let a = 1.0 / (sigma * sigma + 1.0);
            let d = match ladder.prediction {
                Prediction::Epsilon => x - hat * output,
                Prediction::V => a * x - (sigma * a.sqrt()) * output,
                _ => D_RAW,
            };
            (x + ((to - hat) / hat) * (x - d), d)
        } else {
            (X + (to - sigma) * SLOPE, D)
        };
        calls.push(Call::new(at, time, next).showing(d));
    }
    let sigmas = ladder.sigmas.clone();
    Ok(ladder.run(calls, Clip::No, sigmas))
}

/// The last product of a chain without terminal signal, as the classes of levels have it.
pub(super) const SMALLEST: f32 = 1.0 / (1 << 24) as f32;

/// Where a step to `to` goes without noise, and the noise that is added.
fn ancestral(sigma: f64, to: f64) -> (f64, f64) {
    let up = to * to * (sigma * sigma - to * to) / (sigma * sigma);
    ((to * to - up).max(0.0).sqrt(), up.max(0.0).sqrt())
}

pub(super) fn euler_ancestral(keys: &Keys, asked: &Asked) -> Result<Run> {
    let ladder = Ladder::read(keys, asked, NOISE_OR_V, Some(SMALLEST))?;
    let call = |(sigma, to, time): (f64, f64, f64)| {
        let (down, up) = ancestral(sigma, to);
        let next = X + (down - sigma) * SLOPE + up * Z;
        Call::new(Point::exploding(sigma), time, next)
    };
    let calls = ladder.steps().map(call).collect();
    let sigmas = ladder.sigmas.clone();
    Ok(ladder.run(calls, Clip::No, sigmas))
}

/// First and last once, those between twice.
pub(super) fn doubled(list: &[f64]) -> Vec<f64> {
    let twice = |(i, v): (usize, &f64)| {
        let n = if i == 0 || i + 1 == list.len() { 1 } else { 2 };
        std::iter::repeat_n(*v, n)
    };
    list.iter().enumerate().flat_map(twice).collect()
}

/// Registers of the methods of two calls: the sample that a step sets out from, and the slope there.
const FROM: usize = 0;
const PAST: usize = 1;

/// Trapezoids over levels: Euler's step, then again with the mean of both slopes; only Euler's to the last level.
pub(super) fn trapezoids(
    steps: &[(f64, f64, f64)],
    at: fn(f64) -> Point,
    slope: &dyn Fn(f64) -> Form,
) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    for (i, &(sigma, to, time)) in steps.iter().enumerate() {
        let here = slope(sigma);
        if let Some(before) = i.checked_sub(1).and_then(|i| steps.get(i)) {
            // the second call of the step before
            let next = kept(FROM) + (0.5 * (sigma - before.0)) * (kept(PAST) + here);
            calls.push(Call::new(at(sigma), time, next));
        }
        let next = X + (to - sigma) * here;
        calls.push(Call::new(at(sigma), time, next).keeping(FROM, X).keeping(PAST, here));
    }
    calls
}

pub(super) fn heun(keys: &Keys, asked: &Asked) -> Result<Run> {
    let ladder = Ladder::read(keys, asked, ANY, None)?;
    let clip = match keys.flag("clip_sample")? {
        true => Clip::Range(keys.positive("clip_sample_range")?),
        false => Clip::No,
    };
    let steps: Vec<_> = ladder.steps().collect();
    let calls = trapezoids(&steps, Point::exploding, &|_| SLOPE);
    let sigmas = doubled(&ladder.sigmas);
    Ok(ladder.run(calls, clip, sigmas))
}

/// The level half way in log sigma.
fn between(a: f64, b: f64) -> f64 {
    if b > 0.0 { (a.ln() + 0.5 * (b.ln() - a.ln())).exp() } else { 0.0 }
}

/// The midpoint rule in log sigma, with or without noise after each step.
fn midpoints(keys: &Keys, asked: &Asked, noisy: bool) -> Result<Run> {
    let mut ladder = Ladder::read(keys, asked, NOISE_OR_V, None)?;
    if ladder.crowding == Crowding::Karras {
        ladder.times.iter_mut().for_each(|t| *t = t.round_ties_even());
    }
    let mut calls = Vec::new();
    for (sigma, to, time) in ladder.steps() {
        let (down, up) = if noisy { ancestral(sigma, to) } else { (to, 0.0) };
        let middle = rounded(between(sigma, down));
        let at = Point::exploding(sigma);
        if middle == 0.0 {
            // to level 0 the midpoint is 0 too
            calls.push(Call::new(at, time, X + (down - sigma) * SLOPE));
            continue;
        }
        let next = X + (middle - sigma) * SLOPE;
        calls.push(Call::new(at, time, next).keeping(FROM, X));
        let next = kept(FROM) + (down - sigma) * SLOPE + up * Z;
        calls.push(Call::new(Point::exploding(middle), time_of(middle, &ladder.logs), next));
    }
    let mut sigmas: Vec<f64> = Vec::new();
    for (i, s) in ladder.sigmas.iter().enumerate() {
        sigmas.extend(std::iter::repeat_n(*s, if i == 0 { 1 } else { 2 }));
    }
    sigmas.extend(ladder.sigmas.last());
    Ok(ladder.run(calls, Clip::No, sigmas))
}

pub(super) fn kdpm2(keys: &Keys, asked: &Asked) -> Result<Run> {
    midpoints(keys, asked, false)
}

pub(super) fn kdpm2_ancestral(keys: &Keys, asked: &Asked) -> Result<Run> {
    midpoints(keys, asked, true)
}

/// Linear multistep: the slope as a polynomial through the last ones, integrated over the step.
pub(super) fn lms(keys: &Keys, asked: &Asked) -> Result<Run> {
    let ladder = Ladder::read(keys, asked, ANY, None)?;
    let mut calls = Vec::new();
    for (i, (sigma, to, time)) in ladder.steps().enumerate() {
        let order = asked.order.clamp(1, 4).min(i + 1);
        let nodes: Vec<f64> = ladder.sigmas[i + 1 - order..=i].iter().rev().copied().collect();
        let here = SLOPE;
        let mut next = X;
        for k in 0..order {
            let value = if k == 0 { here } else { kept(k - 1) };
            next = next + integral(&nodes, k, sigma, to) * value;
        }
        let call = Call::new(Point::exploding(sigma), time, next);
        calls.push(call.keeping(0, here).keeping(1, kept(0)).keeping(2, kept(1)));
    }
    let sigmas = ladder.sigmas.clone();
    Ok(ladder.run(calls, Clip::No, sigmas))
}

/// Of the polynomial that is 1 at node `k` and 0 at the others: at most of degree 3, for which two points are exact.
fn integral(nodes: &[f64], k: usize, from: f64, to: f64) -> f64 {
    let value = |t: f64| -> f64 {
        let others = nodes.iter().enumerate().filter(|(j, _)| *j != k);
        others.map(|(_, node)| (t - node) / (nodes[k] - node)).product()
    };
    let (middle, half) = (0.5 * (from + to), 0.5 * (to - from));
    let off = half / 3f64.sqrt();
    half * (value(middle - off) + value(middle + off))
}

/// Levels of EDM, f32.
pub(super) fn edm_levels(keys: &Keys, n: usize) -> Result<Vec<f64>> {
    let (lo, hi) = (keys.positive("sigma_min")?, keys.positive("sigma_max")?);
    let levels = match keys.one_of("sigma_schedule", &["karras", "exponential"])? {
        0 => karras(lo, hi, keys.positive("rho")?, n),
        _ => linspace(lo.ln(), hi.ln(), n).iter().rev().map(|l| l.exp()).collect(),
    };
    Ok(levels.into_iter().map(rounded).collect())
}

pub(super) const EDM: &[(&str, Unless)] =
    &[("sigma_min", Unless::Number(0.002)), ("sigma_max", Unless::Number(80.0))];

pub(super) fn edm_euler(keys: &Keys, asked: &Asked) -> Result<Run> {
    let prediction = Prediction::read(keys, NOISE_OR_V)?;
    let data = keys.positive("sigma_data")?;
    let most = keys.positive("sigma_max")?;
    let mut sigmas = edm_levels(keys, asked.steps)?;
    let last = keys.one_of("final_sigmas_type", &["zero", "sigma_min"])?;
    let least = sigmas.last().copied().unwrap_or(0.0);
    sigmas.push(if last == 1 { least } else { 0.0 });
    let frame = Frame::Edm { data };
    let asking = Asking { frame, prediction };
    let n = asked.steps;
    let mut calls = Vec::new();
    for w in sigmas.windows(2) {
        let (sigma, to) = (w[0], w[1]);
        let at = Point::exploding(sigma);
        let up = asked.churn(sigma, n);
        let hat = sigma * (1.0 + up);
        let (next, d) = if up > 0.0 {
            let x = X + (asked.s_noise * (hat * hat - sigma * sigma).sqrt()) * Z;
            let (skip, out) = frame.back(prediction, hat);
            let d = skip * x + out * asking.output(at);
            (x + ((to - hat) / hat) * (x - d), d)
        } else {
            (X + (to - sigma) * SLOPE, D)
        };
        calls.push(Call::new(at, 0.25 * sigma.ln(), next).showing(d));
    }
    Ok(Run {
        calls,
        end: Point::exploding(sigmas.last().copied().unwrap_or(0.0)),
        init: (most * most + 1.0).sqrt(),
        frame,
        prediction,
        clip: Clip::No,
        sigmas,
        chain: None,
        discrete: Vec::new(),
        begins: Vec::new(),
    })
}
