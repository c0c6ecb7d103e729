//! DPM-Solver and DPM-Solver++ of order 1 to 3, with and without noise, over several steps or within one, and DEIS: the
//! exact linear part, and a polynomial in log signal over noise (in noise over signal for DEIS) for the rest.

use super::betas::Chain;
use super::keys::{Keys, Unless};
use super::linear::{Call, D, Form, Point, X, Z, kept};
use super::run::{Asked, Clip, Frame, Prediction, Run};
use super::sigmas::{SMALLEST, edm_levels};
use super::times::{Crowding, Spacing, interpolate, linspace, logs, rounded, time_of, timesteps};
use crate::bail;
use crate::base::Result;

pub(super) const MULTI: &[(&str, Unless)] = &[];
pub(super) const SINGLE: &[(&str, Unless)] = &[("lower_order_final", Unless::Flag(false))];
pub(super) const DEIS: &[(&str, Unless)] =
    &[("solver_type", Unless::Word("logrho")), ("algorithm_type", Unless::Word("deis"))];

const ANY: &[Prediction] =
    &[Prediction::Epsilon, Prediction::Sample, Prediction::V, Prediction::Flow];

/// Levels as the class lists them, one more than there are steps, and times.
pub(super) struct Levels {
    pub(super) chain: Chain,
    pub(super) sigmas: Vec<f64>,
    pub(super) times: Vec<f64>,
    pub(super) flow: bool,
}

/// How the last level follows from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// By `final_sigmas_type`: 0 or the least of the chain.
    Chain,
    /// By `final_sigmas_type`: 0 or the last one, where levels are spaced otherwise than by times.
    Last,
    /// The least of the chain, or the last one once more where they are spaced otherwise (DEIS).
    Repeat,
}

impl Levels {
    pub(super) fn read(
        keys: &Keys,
        asked: &Asked,
        spacing: Option<Spacing>,
        ending: Ending,
    ) -> Result<Self> {
        let n = asked.steps;
        let chain = Chain::read(keys, Some(SMALLEST))?;
        let total = chain.steps();
        let table = chain.sigmas();
        let logs = logs(&table);
        let clipped = match keys.maybe("lambda_min_clipped")? {
            Some(least) => table.iter().rev().take_while(|s| -s.ln() < least).count(),
            None => 0,
        };
        let times = match spacing {
            Some(spacing) => timesteps(keys, spacing, n, total, clipped)?,
            None => {
                let last = total - clipped.min(total - 1);
                let all = linspace(0.0, (last - 1) as f64, n + 1);
                all.iter().rev().take(n).map(|t| t.round_ties_even()).collect()
            }
        };
        let crowding = Crowding::read(keys)?;
        let lu = keys.flag("use_lu_lambdas")?;
        let flow = keys.flag("use_flow_sigmas")?;
        let (low, high) = (table.first().copied(), table.last().copied());
        let (low, high) = (low.unwrap_or(0.0), high.unwrap_or(0.0));
        let lo = keys.maybe("sigma_min")?.unwrap_or(low);
        let hi = keys.maybe("sigma_max")?.unwrap_or(high);
        let at = |s: &f64| time_of(*s, &logs);
        let mut spaced = true;
        let (mut sigmas, times): (Vec<f64>, Vec<f64>) = if crowding != Crowding::None {
            let mut sigmas = crowding.levels(lo, hi, n);
            if crowding == Crowding::Karras && flow && ending == Ending::Last {
                sigmas.iter_mut().for_each(|s| *s /= *s + 1.0);
                let times = sigmas.iter().map(|s| s * total as f64).collect();
                (sigmas, times)
            } else {
                let mut times: Vec<f64> = sigmas.iter().map(at).collect();
                // a multistep solver of a cosine chain keeps them between whole ones until they are cut off
                let cosine = keys.word("beta_schedule")? == "squaredcos_cap_v2";
                let rounds = !(cosine && spacing.is_some() && ending == Ending::Chain);
                if crowding == Crowding::Karras && rounds {
                    times.iter_mut().for_each(|t| *t = t.round_ties_even());
                }
                (sigmas, times)
            }
        } else if lu {
            let (a, b) =
                (logs.last().copied().unwrap_or(0.0), logs.first().copied().unwrap_or(0.0));
            let sigmas: Vec<f64> =
                linspace(0.0, 1.0, n).iter().map(|u| (a + u * (b - a)).exp()).collect();
            let times = sigmas.iter().map(|s| at(s).round_ties_even()).collect();
            (sigmas, times)
        } else if flow {
            let shift = match asked.mu {
                Some(mu) => mu.exp(),
                None => keys.positive("flow_shift")?,
            };
            let parts = linspace(1.0, 1.0 / total as f64, n + 1);
            let shifted = |s: f64| shift * s / (1.0 + (shift - 1.0) * s);
            let mut sigmas: Vec<f64> = match ending {
                Ending::Last => flow_levels(keys, asked, parts, shift)?,
                _ => parts.iter().rev().take(n).map(|a| shifted(1.0 - a)).collect(),
            };
            if ending == Ending::Last
                && let Some(first) = sigmas.first_mut().filter(|s| (**s - 1.0).abs() < 1e-6)
            {
                *first -= 1e-6; // at 1 there is no signal
            }
            let times = sigmas.iter().map(|s| s * total as f64).collect();
            (sigmas, times)
        } else {
            spaced = false;
            (times.iter().map(|t| interpolate(&table, *t)).collect(), times)
        };
        let least = sigmas.last().copied().unwrap_or(low);
        let zero = ending != Ending::Repeat
            && keys.one_of("final_sigmas_type", &["zero", "sigma_min"])? == 0;
        sigmas.push(match ending {
            _ if zero => 0.0,
            Ending::Chain => low,
            _ if spaced => least,
            _ => low,
        });
        let sigmas = sigmas.into_iter().map(rounded).collect();
        let times = times.into_iter().map(f64::trunc).collect(); // they are whole numbers there
        Ok(Self { chain, sigmas, times, flow })
    }

    pub(super) fn points(&self) -> Vec<Point> {
        self.sigmas
            .iter()
            .map(|s| if self.flow { Point::flow(*s) } else { Point::of_ratio(*s) })
            .collect()
    }

    pub(super) fn frame(&self) -> Frame {
        if self.flow { Frame::Flow } else { Frame::Preserving }
    }
}

/// UniPC's levels of flow time: given ones or evenly, shifted, stretched to the terminal one.
fn flow_levels(keys: &Keys, asked: &Asked, parts: Vec<f64>, shift: f64) -> Result<Vec<f64>> {
    let mut sigmas = match &asked.sigmas {
        Some(given) => given.clone(),
        None => parts[..parts.len() - 1].to_vec(), // n + 1 of them
    };
    let dynamic = keys.flag("use_dynamic_shifting")?;
    let mu = match (dynamic, asked.mu) {
        (true, None) => bail!(Invalid, "scheduler: use_dynamic_shifting wants mu"),
        (true, mu) => mu,
        (false, _) => None,
    };
    let linear = keys.one_of("time_shift_type", &["exponential", "linear"])? == 1;
    for s in &mut sigmas {
        *s = match mu {
            Some(mu) => shifted(if linear { mu } else { mu.exp() }, *s),
            None => shift * *s / (1.0 + (shift - 1.0) * *s),
        };
    }
    if let Some(terminal) = keys.maybe("shift_terminal")?.filter(|t| *t != 0.0) {
        stretch(&mut sigmas, terminal);
    }
    Ok(sigmas)
}

/// A dynamic shift of a flow time.
pub(super) fn shifted(factor: f64, t: f64) -> f64 {
    factor / (factor + (1.0 / t - 1.0))
}

/// Stretches flow times so that the last is `terminal`.
pub(super) fn stretch(times: &mut [f64], terminal: f64) {
    let scale = times.last().map_or(1.0, |t| (1.0 - t) / (1.0 - terminal));
    times.iter_mut().for_each(|t| *t = 1.0 - (1.0 - *t) / scale);
}

/// Which equation is solved, of data or of noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Algorithm {
    data: bool,
    noisy: bool,
}

impl Algorithm {
    fn read(keys: &Keys) -> Result<Self> {
        let word = keys.word("algorithm_type")?;
        let (data, noisy) = match word.as_str() {
            "dpmsolver++" | "deis" => (true, false),
            "dpmsolver" => (false, false),
            "sde-dpmsolver++" => (true, true),
            "sde-dpmsolver" => (false, true),
            other => bail!(
                Unsupported,
                "scheduler: algorithm_type is {other}, want dpmsolver++, dpmsolver, sde-dpmsolver++ or sde-dpmsolver"
            ),
        };
        if !data && keys.word("final_sigmas_type")? == "zero" {
            bail!(
                Unsupported,
                "scheduler: final_sigmas_type zero with algorithm_type {word}, want sigma_min"
            );
        }
        Ok(Self { data, noisy })
    }

    /// What the history holds.
    fn converted(self, at: Point) -> Form {
        if self.data { D } else { at.clipped_noise() }
    }

    /// Factors of the sample, of the value, its slope by half steps (midpoint), its slope, its bend, and of the draw,
    /// for a step from `from` to `to`.
    fn factors(self, from: Point, to: Point) -> [f64; 6] {
        let h = to.lambda() - from.lambda();
        let (a, s) = (to.alpha, to.sigma);
        let (ratio_s, ratio_a) = (to.sigma / from.sigma, to.alpha / from.alpha);
        match (self.data, self.noisy) {
            (true, false) => {
                let p = (-h).exp() - 1.0;
                [
                    ratio_s,
                    -a * p,
                    -0.5 * a * p,
                    a * (p / h + 1.0),
                    -a * ((p + h) / (h * h) - 0.5),
                    0.0,
                ]
            }
            (false, false) => {
                let p = h.exp() - 1.0;
                [
                    ratio_a,
                    -s * p,
                    -0.5 * s * p,
                    -s * (p / h - 1.0),
                    -s * ((p - h) / (h * h) - 0.5),
                    0.0,
                ]
            }
            (true, true) => {
                let p = 1.0 - (-2.0 * h).exp();
                [
                    ratio_s * (-h).exp(),
                    a * p,
                    0.5 * a * p,
                    a * (p / (-2.0 * h) + 1.0),
                    a * ((p - 2.0 * h) / (4.0 * h * h) - 0.5),
                    s * p.sqrt(),
                ]
            }
            (false, true) => {
                let p = h.exp() - 1.0;
                [
                    ratio_a,
                    -2.0 * s * p,
                    -s * p,
                    -2.0 * s * (p / h - 1.0),
                    f64::NAN, // there is no third order of it
                    s * ((2.0 * h).exp() - 1.0).sqrt(),
                ]
            }
        }
    }
}

struct Solver {
    algorithm: Algorithm,
    heun: bool,
    order: usize,
}

impl Solver {
    fn read(keys: &Keys) -> Result<Self> {
        let algorithm = Algorithm::read(keys)?;
        let kind = keys.one_of("solver_type", &["midpoint", "heun", "logrho", "bh1", "bh2"])?;
        let order = keys.whole("solver_order", 1, 3)?;
        Ok(Self { algorithm, heun: kind == 1, order })
    }

    /// A step from `points[i]` to the next of this order, by values `m` there and before, newest first.
    fn several(&self, points: &[Point], i: usize, order: usize, m: [Form; 3]) -> Form {
        let lambda = |j: usize| points[j].lambda();
        let h = lambda(i + 1) - lambda(i);
        let [keep, value, half, slope, bend, noise] =
            self.algorithm.factors(points[i], points[i + 1]);
        let start = keep * X + value * m[0] + noise * Z;
        if order == 1 {
            return start;
        }
        let r0 = (lambda(i) - lambda(i - 1)) / h;
        let d10 = (1.0 / r0) * (m[0] - m[1]);
        if order == 2 {
            return start + (if self.heun { slope } else { half }) * d10;
        }
        let r1 = (lambda(i - 1) - lambda(i - 2)) / h;
        let d11 = (1.0 / r1) * (m[1] - m[2]);
        let d1 = d10 + (r0 / (r0 + r1)) * (d10 - d11);
        let d2 = (1.0 / (r0 + r1)) * (d10 - d11);
        start + slope * d1 + bend * d2
    }

    /// A step over `order` levels at once from a sample kept there, by values on the way, newest first.
    fn single(&self, points: &[Point], i: usize, order: usize, x: Form, m: [Form; 3]) -> Form {
        let first = i + 1 - order;
        let lambda = |j: usize| points[j].lambda();
        let h = lambda(i + 1) - lambda(first);
        let [keep, value, half, slope, bend, noise] =
            self.algorithm.factors(points[first], points[i + 1]);
        let start = keep * x + value * m[order - 1] + noise * Z;
        let r = |j: usize| (lambda(j) - lambda(first)) / h;
        match order {
            1 => start,
            2 => {
                let d1 = (1.0 / r(i)) * (m[0] - m[1]);
                start + (if self.heun { slope } else { half }) * d1
            }
            _ => {
                let (r0, r1) = (r(i), r(i - 1));
                let (early, late) = ((1.0 / r1) * (m[1] - m[2]), (1.0 / r0) * (m[0] - m[2]));
                if !self.heun {
                    return start + slope * late;
                }
                let d1 = (1.0 / (r0 - r1)) * (r0 * early - r1 * late);
                let d2 = (2.0 / (r0 - r1)) * (late - early);
                start + slope * d1 + bend * d2
            }
        }
    }
}

/// Orders that may be used at step `i` of `n`: at most one more than steps before it of those that are made, and less at
/// the end of short runs.
fn order_at(
    i: usize,
    n: usize,
    order: usize,
    lowers: bool,
    first_at_last: bool,
    asked: &Asked,
) -> usize {
    let short = lowers && n < 15;
    if i + 1 == n && (first_at_last || short) {
        return 1;
    }
    let most = if i + 2 == n && short { 2 } else { 3 };
    order.min((i + 1).saturating_sub(asked.skipped).max(1)).min(most)
}

fn multistep(
    keys: &Keys,
    asked: &Asked,
    solver: &Solver,
    points: &[Point],
    times: &[f64],
) -> Result<Vec<Call>> {
    let n = times.len();
    let lowers = keys.flag("lower_order_final")?;
    let first = keys.flag("euler_at_final")? || keys.word("final_sigmas_type")? == "zero";
    let mut calls = Vec::new();
    for (i, time) in times.iter().enumerate() {
        let value = solver.algorithm.converted(points[i]);
        let order = order_at(i, n, solver.order, lowers, first, asked);
        let next = solver.several(points, i, order, [value, kept(0), kept(1)]);
        let mut call = Call::new(points[i], *time, next);
        if solver.order > 1 {
            call = call.keeping(0, value);
        }
        if solver.order > 2 {
            call = call.keeping(1, kept(0));
        }
        calls.push(call);
    }
    Ok(calls)
}

/// The rows of a solver over the points of a list, one more than there are times.
fn run(
    calls: Vec<Call>,
    points: &[Point],
    levels: Levels,
    prediction: Prediction,
    clip: Clip,
) -> Run {
    Run {
        calls,
        end: points.last().copied().unwrap_or(Point::exploding(0.0)),
        init: 1.0,
        frame: levels.frame(),
        prediction,
        clip,
        sigmas: levels.sigmas,
        chain: Some(levels.chain),
        discrete: Vec::new(),
        begins: Vec::new(),
    }
}

pub(super) fn multi(keys: &Keys, asked: &Asked) -> Result<Run> {
    let levels = Levels::read(keys, asked, Some(Spacing::Beyond), Ending::Chain)?;
    let prediction = Prediction::read(keys, ANY)?;
    let (solver, clip) = (Solver::read(keys)?, Clip::threshold(keys)?);
    let points = levels.points();
    let calls = multistep(keys, asked, &solver, &points, &levels.times)?;
    Ok(run(calls, &points, levels, prediction, clip))
}

pub(super) fn edm_multi(keys: &Keys, asked: &Asked) -> Result<Run> {
    let prediction =
        Prediction::read(keys, &[Prediction::Epsilon, Prediction::Sample, Prediction::V])?;
    let frame = Frame::Edm { data: keys.positive("sigma_data")? };
    let most = keys.positive("sigma_max")?;
    let mut sigmas = edm_levels(keys, asked.steps)?;
    let last = keys.one_of("final_sigmas_type", &["zero", "sigma_min"])?;
    let times = sigmas.iter().map(|s| 0.25 * s.ln()).collect::<Vec<_>>();
    sigmas.push(if last == 1 { rounded(keys.positive("sigma_min")?) } else { 0.0 });
    let (solver, clip) = (Solver::read(keys)?, Clip::threshold(keys)?);
    if !solver.algorithm.data || (solver.algorithm.noisy && solver.order > 2) {
        bail!(
            Unsupported,
            "scheduler: of EDMDPMSolverMultistepScheduler want dpmsolver++, or sde-dpmsolver++ of order 1 or 2"
        );
    }
    let points: Vec<Point> = sigmas.iter().map(|s| Point::exploding(*s)).collect();
    let calls = multistep(keys, asked, &solver, &points, &times)?;
    Ok(Run {
        calls,
        end: points.last().copied().unwrap_or(Point::exploding(0.0)),
        init: (most * most + 1.0).sqrt(),
        frame,
        prediction,
        clip,
        sigmas,
        chain: None,
        discrete: Vec::new(),
        begins: Vec::new(),
    })
}

/// Orders of the steps of a solver within one step.
fn orders(n: usize, order: usize, lowers: bool, zero: bool) -> Vec<usize> {
    let up: Vec<usize> = (1..=order).collect();
    let mut out = match (lowers, order) {
        (true, 3) if n.is_multiple_of(3) => {
            [up.repeat((n / 3).saturating_sub(1)), vec![1, 2, 1]].concat()
        }
        (true, 3) if n % 3 == 1 => [up.repeat(n / 3), vec![1]].concat(),
        (true, 3) => [up.repeat(n / 3), vec![1, 2]].concat(),
        (true, 2) if n.is_multiple_of(2) => {
            [up.repeat((n / 2).saturating_sub(1)), vec![1, 1]].concat()
        }
        (true, 2) => [up.repeat(n / 2), vec![1]].concat(),
        _ => up.repeat(n / order),
    };
    if let (true, Some(last)) = (zero, out.last_mut()) {
        *last = 1;
    }
    out
}

pub(super) fn single(keys: &Keys, asked: &Asked) -> Result<Run> {
    let levels = Levels::read(keys, asked, None, Ending::Chain)?;
    let prediction = Prediction::read(keys, ANY)?;
    let (solver, clip) = (Solver::read(keys)?, Clip::threshold(keys)?);
    if solver.algorithm.noisy && !solver.algorithm.data {
        bail!(Unsupported, "scheduler: sde-dpmsolver within one step, want sde-dpmsolver++");
    }
    let (n, points) = (levels.times.len(), levels.points());
    let zero = keys.word("final_sigmas_type")? == "zero";
    let lowers = keys.flag("lower_order_final")? || n % solver.order != 0 || zero;
    let orders = orders(n, solver.order, lowers, zero);
    let mut calls = Vec::new();
    /// Registers: two earlier values, and the sample of the last step of order 1.
    const FROM: usize = 2;
    for (i, time) in levels.times.iter().enumerate() {
        let value = solver.algorithm.converted(points[i]);
        let order = orders.get(i).copied().unwrap_or(1).min(i + 1);
        let x = if order == 1 { X } else { kept(FROM) };
        let next = solver.single(&points, i, order, x, [value, kept(0), kept(1)]);
        let call = Call::new(points[i], *time, next).keeping(0, value).keeping(1, kept(0));
        calls.push(if order == 1 { call.keeping(FROM, X) } else { call });
    }
    Ok(run(calls, &points, levels, prediction, clip))
}

pub(super) fn deis(keys: &Keys, asked: &Asked) -> Result<Run> {
    let levels = Levels::read(keys, asked, Some(Spacing::Beyond), Ending::Repeat)?;
    let prediction = Prediction::read(keys, ANY)?;
    let clip = Clip::threshold(keys)?;
    let (most, lowers) = (keys.whole("solver_order", 1, 3)?, keys.flag("lower_order_final")?);
    let (n, points) = (levels.times.len(), levels.points());
    let mut calls = Vec::new();
    for (i, time) in levels.times.iter().enumerate() {
        let (at, to) = (points[i], points[i + 1]);
        let value = at.clipped_noise();
        let order = order_at(i, n, most, lowers, false, asked);
        let rho = |j: usize| points[j].sigma / points[j].alpha;
        let next = if order == 1 {
            let h = to.lambda() - at.lambda();
            (to.alpha / at.alpha) * X - (to.sigma * (h.exp() - 1.0)) * value
        } else {
            let m = [value, kept(0), kept(1)];
            let nodes: Vec<f64> = (0..order).map(|k| rho(i - k)).collect();
            let mut sum = (1.0 / at.alpha) * X;
            for k in 0..order {
                sum =
                    sum + (primitive(&nodes, k, rho(i + 1)) - primitive(&nodes, k, rho(i))) * m[k];
            }
            to.alpha * sum
        };
        let call = Call::new(at, *time, next);
        calls.push(call.keeping(0, value).keeping(1, kept(0)));
    }
    Ok(run(calls, &points, levels, prediction, clip))
}

/// Of the polynomial in log rho that is 1 at node `k` and 0 at the others.
fn primitive(nodes: &[f64], k: usize, t: f64) -> f64 {
    let l = t.ln();
    let others: Vec<f64> =
        nodes.iter().enumerate().filter(|(j, _)| *j != k).map(|(_, n)| n.ln()).collect();
    let at = nodes[k].ln();
    match others.as_slice() {
        [c] => t * (l - c - 1.0) / (at - c),
        [c, d] => {
            let top = c * (d - l + 1.0) - d * l + d + l * l - 2.0 * l + 2.0;
            t * top / ((at - c) * (at - d))
        }
        _ => f64::NAN,
    }
}
