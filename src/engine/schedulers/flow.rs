//! Flow matching, x = (1 - t) x0 + t z: Euler and Heun in t with shifts, and the stochastic solver of the VE SDE with
//! its Langevin corrector.

use super::betas::linspace_f32;
use super::dpm::{shifted, stretch};
use super::keys::{Keys, Unless};
use super::linear::{Call, D_RAW, Form, Point, X, Z};
use super::run::{Asked, Clip, Frame, Prediction, Run};
use super::sigmas::{doubled, trapezoids};
use super::times::{Crowding, linspace, rounded};
use crate::bail;
use crate::base::Result;

pub(super) const FLOW: &[(&str, Unless)] = &[];
pub(super) const VE: &[(&str, Unless)] = &[
    ("num_train_timesteps", Unless::Number(2000.0)),
    ("sigma_min", Unless::Number(0.01)),
    ("sigma_max", Unless::Number(1348.0)),
];

/// Most calls of a run whose steps are corrected.
const MOST_CALLS: usize = 40_000;

/// The velocity at t.
fn velocity(t: f64) -> Form {
    (1.0 / t) * (X - D_RAW)
}

/// Times of a class that was made for `total` of them, shifted once as a list and once more as a run.
fn times(keys: &Keys, asked: &Asked, dynamic: bool) -> Result<Vec<f64>> {
    let total = keys.whole("num_train_timesteps", 1, super::betas::MOST)? as f64;
    let shift = keys.positive("shift")?;
    let once = |t: f64| {
        let t = rounded(t);
        let s = shift as f32;
        let moved = s * t as f32 / (1.0 + (s - 1.0) * t as f32);
        if dynamic { t } else { f64::from(moved) }
    };
    let mut list = match &asked.sigmas {
        Some(given) => given.iter().map(|s| rounded(*s)).collect(),
        None => {
            let ends = [once(1.0) * total, once(1.0 / total) * total];
            linspace(ends[0], ends[1], asked.steps).iter().map(|t| t / total).collect::<Vec<_>>()
        }
    };
    if list.len() != asked.steps {
        bail!(Invalid, "scheduler: {} sigmas for {} steps", list.len(), asked.steps);
    }
    if let Some(bad) = list.iter().find(|t| !(**t > 0.0 && **t <= 1.0)) {
        bail!(Invalid, "scheduler: a sigma of flow matching is {bad}, want above 0 to 1");
    }
    let linear = keys.one_of("time_shift_type", &["exponential", "linear"])? == 1;
    let mu = match (dynamic, asked.mu) {
        (true, None) => bail!(Invalid, "scheduler: use_dynamic_shifting wants mu"),
        (true, mu) => mu,
        (false, _) => None,
    };
    for t in &mut list {
        *t = match mu {
            Some(mu) => shifted(if linear { mu } else { mu.exp() }, *t),
            None => shift * *t / (1.0 + (shift - 1.0) * *t),
        };
    }
    Ok(list)
}

fn run(calls: Vec<Call>, sigmas: Vec<f64>) -> Run {
    Run {
        calls,
        end: Point::flow(0.0),
        init: 1.0,
        frame: Frame::Flow,
        prediction: Prediction::Flow,
        clip: Clip::No,
        sigmas,
        chain: None,
        discrete: Vec::new(),
        begins: Vec::new(),
    }
}

pub(super) fn euler(keys: &Keys, asked: &Asked) -> Result<Run> {
    let dynamic = keys.flag("use_dynamic_shifting")?;
    let total = keys.number("num_train_timesteps")?;
    if keys.flag("invert_sigmas")? {
        bail!(Unsupported, "scheduler: invert_sigmas, whose samples go from data to noise");
    }
    let mut list = times(keys, asked, dynamic)?;
    if let Some(terminal) = keys.maybe("shift_terminal")?.filter(|t| *t != 0.0) {
        stretch(&mut list, terminal);
    }
    let crowding = Crowding::read(keys)?;
    if let (true, Some(hi), Some(lo)) = (crowding != Crowding::None, list.first(), list.last()) {
        list = crowding.levels(*lo, *hi, list.len());
    }
    let mut sigmas: Vec<f64> = list.into_iter().map(rounded).collect();
    sigmas.push(0.0);
    let noisy = keys.flag("stochastic_sampling")?;
    let call = |w: &[f64]| {
        let (t, to) = (w[0], w[1]);
        let next = match noisy {
            true => (1.0 - to) * D_RAW + to * Z,
            false => X + (to - t) * velocity(t),
        };
        Call::new(Point::flow(t), t * total, next)
    };
    let calls = sigmas.windows(2).map(call).collect();
    Ok(run(calls, sigmas))
}

pub(super) fn heun(keys: &Keys, asked: &Asked) -> Result<Run> {
    let total = keys.number("num_train_timesteps")?;
    if asked.s_churn != 0.0 {
        bail!(Unsupported, "scheduler: s_churn with FlowMatchHeunDiscreteScheduler");
    }
    let mut sigmas: Vec<f64> = times(keys, asked, false)?.into_iter().map(rounded).collect();
    sigmas.push(0.0);
    let steps: Vec<_> = sigmas.windows(2).map(|w| (w[0], w[1], w[0] * total)).collect();
    let calls = trapezoids(&steps, Point::flow, &velocity);
    Ok(run(calls, doubled(&sigmas)))
}

/// Predictor and Langevin corrector of Song et al. 2021, on data plus noise.
pub(super) fn ve(keys: &Keys, asked: &Asked) -> Result<Run> {
    let (lo, hi) = (keys.positive("sigma_min")?, keys.positive("sigma_max")?);
    let (snr, eps) = (keys.positive("snr")?, keys.number("sampling_eps")?);
    let correct = keys.whole("correct_steps", 0, 1000)?;
    let n = asked.steps;
    if n * (1 + correct) > MOST_CALLS {
        bail!(
            Invalid,
            "scheduler: {n} steps of {correct} corrections, want at most {MOST_CALLS} calls"
        );
    }
    let times = linspace_f32(1.0, eps, n);
    let discrete: Vec<f64> =
        linspace_f32(lo.ln(), hi.ln(), n).iter().map(|l| f64::from(l.exp())).collect();
    let mut calls = Vec::new();
    let mut sigmas = Vec::new();
    for t in times {
        let sigma = rounded(lo * (hi / lo).powf(f64::from(t)));
        sigmas.push(sigma);
        let at = Point::exploding(sigma);
        let score = (1.0 / (sigma * sigma)) * (D_RAW - X);
        for _ in 0..correct {
            // by one unit of score; the size of the step is the sampler's
            calls.push(Call { snr: Some(snr), ..Call::new(at, sigma, X + score) });
        }
        let k = (t * (n - 1) as f32) as usize;
        let here = discrete.get(k).copied().unwrap_or(sigma);
        let below = k.checked_sub(1).and_then(|k| discrete.get(k)).copied().unwrap_or(0.0);
        let variance = here * here - below * below;
        calls.push(Call::new(at, sigma, X + variance * score + variance.sqrt() * Z));
    }
    Ok(Run {
        calls,
        end: Point::exploding(0.0),
        init: hi,
        frame: Frame::Plain,
        prediction: Prediction::Score,
        clip: Clip::No,
        sigmas,
        chain: None,
        discrete,
        begins: Vec::new(),
    })
}
