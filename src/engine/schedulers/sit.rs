//! The samplers of SiT's own code (Ma et al. 2024): the probability flow by fixed Runge-Kutta steps, and its stochastic
//! equation with a diffusion of one's choice and a last step apart. Time runs from noise, 0, to data, 1, along
//! x = t x0 + (1 - t) z; `num_inference_steps` is its `num_steps`, how many moments there are from the first to the last.

use super::keys::{Keys, Unless};
use super::linear::{Call, D_RAW, Form, Point, X, Z, ZERO, kept};
use super::run::{Asked, Clip, Frame, Prediction, Run};
use super::times::{linspace, rounded};
use crate::bail;
use crate::base::Result;

pub(super) const SIT: &[(&str, Unless)] = &[
    ("mode", Unless::Word("ode")),
    ("path_type", Unless::Word("Linear")),
    ("sampling_method", Unless::Word("")),
    ("substeps", Unless::Number(4.0)),
    ("diffusion_form", Unless::Word("sigma")),
    ("diffusion_norm", Unless::Number(1.0)),
    ("last_step", Unless::Word("Mean")),
    ("last_step_size", Unless::Number(0.04)),
];

/// Least noise at which a velocity is read off the estimate, which tells nothing of it where there is none. Stages that
/// end a step at the data want f64.
const LEAST: f64 = 1e-5;

/// Most calls of a run.
const MOST_CALLS: usize = 40_000;

/// An explicit method: when each stage is asked, of the step; what each adds of the slopes so far; the step itself.
struct Method {
    name: &'static str,
    at: &'static [f64],
    stages: &'static [&'static [f64]],
    step: &'static [f64],
}

#[rustfmt::skip]
const METHODS: &[Method] = &[
    Method { name: "euler", at: &[0.0], stages: &[], step: &[1.0] },
    Method { name: "midpoint", at: &[0.0, 0.5], stages: &[&[0.5]], step: &[0.0, 1.0] },
    Method { name: "heun2", at: &[0.0, 1.0], stages: &[&[1.0]], step: &[0.5, 0.5] },
    Method {
        name: "rk4", // by three eighths, as torchdiffeq has it
        at: &[0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0],
        stages: &[&[1.0 / 3.0], &[-1.0 / 3.0, 1.0], &[1.0, -1.0, 1.0]],
        step: &[0.125, 0.375, 0.375, 0.125],
    },
    Method {
        name: "dopri5", // without its control of the step: `substeps` of them from each moment to the next
        at: &[0.0, 0.2, 0.3, 0.8, 8.0 / 9.0, 1.0],
        stages: &[
            &[0.2],
            &[3.0 / 40.0, 9.0 / 40.0],
            &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
            &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0],
            &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0],
        ],
        step: &[35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0],
    },
];

/// The state at a moment of SiT's time.
fn point(t: f64) -> Point {
    Point::flow((1.0 - t).max(LEAST))
}

/// dx/dt there.
fn velocity(t: f64) -> Form {
    (1.0 / point(t).sigma) * (D_RAW - X)
}

/// The score there.
fn score(t: f64) -> Form {
    let at = point(t);
    (1.0 / (at.sigma * at.sigma)) * (at.alpha * D_RAW - X)
}

fn call(t: f64, next: Form) -> Call {
    Call::new(point(t), point(t).sigma, next)
}

pub(super) fn sit(keys: &Keys, asked: &Asked) -> Result<Run> {
    keys.one_of("path_type", &["Linear"])?;
    let n = asked.steps;
    if n < 2 {
        bail!(Invalid, "scheduler: {n} moments, want at least the first and the last");
    }
    let (calls, begins) = match keys.one_of("mode", &["ode", "sde"])? {
        0 => flow(keys, n)?,
        _ => stochastic(keys, n)?,
    };
    Ok(Run {
        calls,
        end: Point::flow(0.0),
        init: 1.0,
        frame: Frame::Flow,
        prediction: Prediction::Flow,
        clip: Clip::No,
        sigmas: Vec::new(),
        chain: None,
        discrete: Vec::new(),
        begins,
    })
}

fn moments(to: f64, n: usize) -> Vec<f64> {
    linspace(0.0, to, n).into_iter().map(rounded).collect()
}

/// Registers: the sample at the beginning of a step, and the slopes of its stages but the last.
fn flow(keys: &Keys, n: usize) -> Result<(Vec<Call>, Vec<usize>)> {
    let word = keys.word("sampling_method")?;
    let name = if word.is_empty() { "dopri5" } else { &word };
    let Some(method) = METHODS.iter().find(|m| m.name == name) else {
        let known: Vec<&str> = METHODS.iter().map(|m| m.name).collect();
        bail!(Unsupported, "scheduler: sampling_method is {name}, want {}", known.join(", "));
    };
    let each = if name == "dopri5" { keys.whole("substeps", 1, 64)? } else { 1 };
    let count = (n - 1).saturating_mul(each).saturating_mul(method.at.len());
    if count > MOST_CALLS {
        bail!(Unsupported, "scheduler: {count} calls of the network, want at most {MOST_CALLS}");
    }
    let (mut calls, mut begins) = (Vec::new(), Vec::new());
    for pair in moments(1.0, n).windows(2) {
        begins.push(calls.len());
        let dt = (pair[1] - pair[0]) / each as f64; // windows of two
        for k in 0..each {
            step(&mut calls, method, pair[0] + k as f64 * dt, dt);
        }
    }
    Ok((calls, begins))
}

fn step(calls: &mut Vec<Call>, method: &Method, t: f64, dt: f64) {
    for (i, at) in method.at.iter().enumerate() {
        let now = t + at * dt;
        let slope = velocity(now);
        let from = if i == 0 { X } else { kept(0) };
        let weights = method.stages.get(i).copied().unwrap_or(method.step);
        let mut next = from;
        for (j, weight) in weights.iter().enumerate() {
            let of = if j == i { slope } else { kept(1 + j) };
            next = next + (weight * dt) * of;
        }
        let mut made = call(now, next);
        if method.at.len() > 1 && i == 0 {
            made = made.keeping(0, X);
        }
        if i + 1 < method.at.len() {
            made = made.keeping(1 + i, slope);
        }
        calls.push(made);
    }
}

/// What multiplies the score, at a moment.
fn diffusion(keys: &Keys, t: f64) -> Result<f64> {
    let norm = keys.number("diffusion_norm")?;
    let forms = ["sigma", "linear", "decreasing", "inccreasing-decreasing"]; // spelled so there
    let turn = std::f64::consts::PI * t;
    Ok(match keys.one_of("diffusion_form", &forms)? {
        0 | 1 => norm * (1.0 - t),
        2 => 0.25 * (norm * turn.cos() + 1.0).powi(2),
        _ => norm * turn.sin().powi(2),
    })
}

fn stochastic(keys: &Keys, n: usize) -> Result<(Vec<Call>, Vec<usize>)> {
    let word = keys.word("sampling_method")?;
    let heun = match word.as_str() {
        "" | "Euler" => false,
        "Heun" => true,
        other => bail!(Unsupported, "scheduler: sampling_method is {other}, want Euler or Heun"),
    };
    let last = keys.one_of("last_step", &["Mean", "Tweedie", "Euler"])?;
    let size = keys.number("last_step_size")?;
    if !(LEAST..1.0).contains(&size) {
        bail!(Invalid, "scheduler: last_step_size is {size}, want {LEAST} to 1");
    }
    let times = moments(1.0 - size, n);
    let drift = |t: f64| Ok(velocity(t) + diffusion(keys, t)? * score(t));
    let (mut calls, mut begins) = (Vec::new(), Vec::new());
    for pair in times.windows(2) {
        begins.push(calls.len());
        let (t, dt) = (pair[0], pair[1] - pair[0]); // windows of two
        let noise = (2.0 * diffusion(keys, t)? * dt).max(0.0).sqrt() * Z;
        if !heun {
            calls.push(call(t, X + dt * drift(t)? + noise));
            continue;
        }
        // the noise comes before the network is asked: a call of its own, whose answer nobody uses
        calls.push(call(t, X + noise));
        let slope = drift(t)?;
        calls.push(call(t, X + dt * slope).keeping(0, X).keeping(1, slope));
        calls.push(call(t + dt, kept(0) + (0.5 * dt) * (kept(1) + drift(t + dt)?)));
    }
    let t = times.last().copied().unwrap_or(0.0);
    let at = point(t);
    begins.push(calls.len());
    calls.push(call(
        t,
        match last {
            0 => X + size * drift(t)?,
            1 => (1.0 / at.alpha) * X + (at.sigma * at.sigma / at.alpha) * score(t),
            _ => ZERO + X + size * velocity(t),
        },
    ));
    Ok((calls, begins))
}

#[cfg(test)]
mod tests {
    use super::super::linear::{DENOISED, RAW, REGISTER, REGISTERS, SAMPLE};
    use super::*;
    use serde_json::json;

    #[test]
    fn methods_are_consistent() {
        for m in METHODS {
            assert!((m.step.iter().sum::<f64>() - 1.0).abs() < 1e-14, "{}", m.name);
            assert_eq!(
                (m.at.len(), m.stages.len()),
                (m.step.len(), m.step.len() - 1),
                "{}",
                m.name
            );
            for (row, at) in m.stages.iter().zip(&m.at[1..]) {
                assert!((row.iter().sum::<f64>() - at).abs() < 1e-14, "{} at {at}", m.name);
            }
        }
    }

    /// The sample at the end, of a normal law of this deviation, from `z`; D is known there.
    fn ended(calls: &[Call], deviation: f64, z: f64) -> f64 {
        let (mut x, mut registers) = (z, [0.0; REGISTERS]);
        for c in calls {
            let (a, s) = (c.at.alpha, c.at.sigma);
            let d = a * deviation * deviation * x / (a * a * deviation * deviation + s * s);
            let of = |f: &Form| {
                let known = f.0[SAMPLE] * x + (f.0[DENOISED] + f.0[RAW]) * d;
                known + f.0[REGISTER..].iter().zip(&registers).map(|(f, r)| f * r).sum::<f64>()
            };
            let next = of(&c.next);
            let keep: Vec<(usize, f64)> = c.keep.iter().map(|(k, f)| (*k, of(f))).collect();
            keep.into_iter().for_each(|(k, v)| registers[k] = v);
            x = next;
        }
        x
    }

    /// The flow takes z to deviation z: an error goes down at least as the order of the method says.
    #[test]
    fn steps_have_their_order() {
        for (name, order) in [("euler", 1.0), ("midpoint", 2.0), ("heun2", 2.0), ("rk4", 4.0)] {
            let method = METHODS.iter().find(|m| m.name == name).unwrap();
            let error = |n: usize| {
                let mut calls = Vec::new();
                // to where the velocity is smooth still
                let times = moments(0.5, n + 1);
                times.windows(2).for_each(|p| step(&mut calls, method, p[0], p[1] - p[0]));
                let want = 1.3 * (0.25_f64 * 0.36 + 0.25).sqrt();
                (ended(&calls, 0.6, 1.3) - want).abs()
            };
            let seen = (error(8) / error(16)).log2();
            assert!(seen > order - 0.35, "{name}: {seen}"); // midpoint has 3 on this law
        }
    }

    /// A run that sets out later sets out where a step begins, and ends where the whole one does.
    #[test]
    fn the_last_steps_are_those_of_the_whole_run() {
        let config = |mode: &str, method: &str| {
            let json =
                json!({"_class_name": "SiTSampler", "mode": mode, "sampling_method": method});
            json.as_object().unwrap().clone()
        };
        let (n, skipped) = (6, 4); // a share of a third
        for (mode, method, to) in [
            ("ode", "euler", 1.0),
            ("ode", "heun2", 1.0),
            ("ode", "rk4", 1.0),
            ("ode", "dopri5", 1.0),
            ("sde", "Euler", 0.96),
            ("sde", "Heun", 0.96),
        ] {
            let whole = Asked::steps(n);
            let part = Asked { skipped, ..whole.clone() };
            let whole = super::super::plan(&config(mode, method), &whole).unwrap().calls;
            let part = super::super::plan(&config(mode, method), &part).unwrap().calls;
            // of five intervals two are left, of those of the equation one and the last step
            let at = if mode == "ode" { 3 } else { 4 };
            assert_eq!(part[0].time, point(moments(to, n)[at]).sigma, "{mode} {method}");
            let before = &whole[..whole.len() - part.len()];
            let (z, deviation) = (1.3, 0.6);
            let end = ended(&part, deviation, ended(before, deviation, z));
            let want = ended(&whole, deviation, z);
            assert!((end - want).abs() < 1e-12, "{mode} {method}: {end}, want {want}");
            // however few are left out, the first is: it would set out from noise alone
            let most = Asked { skipped: 1, ..Asked::steps(10) };
            let most = super::super::plan(&config(mode, method), &most).unwrap().calls;
            assert_eq!(most[0].time, point(moments(to, 10)[1]).sigma, "{mode} {method}");
            let only = Asked { skipped: 1, ..Asked::steps(2) };
            let only = super::super::plan(&config(mode, method), &only);
            assert_eq!(only.is_err(), mode == "ode", "{method}: two moments are one interval");
        }
    }
}
