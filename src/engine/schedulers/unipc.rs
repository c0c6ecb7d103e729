//! UniPC: a predictor of order p, and a corrector that also uses the value at the predicted sample. Registers: the
//! sample that the last step set out from, then the values before, newest first.

use super::dpm::{Ending, Levels};
use super::keys::{Keys, Unless};
use super::linear::{Call, D, D_RAW, Form, Point, REGISTERS, X, ZERO, kept};
use super::run::{Asked, Clip, Prediction, Run};
use super::times::Spacing;
use crate::bail;
use crate::base::Result;

pub(super) const UNIPC: &[(&str, Unless)] = &[("solver_type", Unless::Word("bh2"))];

const FROM: usize = 0;

struct Solver {
    data: bool,
    bh1: bool,
}

impl Solver {
    /// Weights for a step from `points[i]` of this order: of sample, of the value there, of the differences of earlier
    /// values, and of that of the value at the end (of the corrector).
    fn weights(&self, points: &[Point], i: usize, p: usize) -> Weights {
        let (from, to) = (points[i], points[i + 1]);
        let h = to.lambda() - from.lambda();
        let hh = if self.data { -h } else { h };
        let whole = hh.exp_m1();
        let (keep, scale) = match self.data {
            true => (to.sigma / from.sigma, to.alpha),
            false => (to.alpha / from.alpha, to.sigma),
        };
        let b = if self.bh1 { hh } else { whole };
        let mut r: Vec<f64> =
            (1..p).map(|k| (points[i - k].lambda() - from.lambda()) / h).collect();
        r.push(1.0);
        let (mut moment, mut factorial) = (whole / hh - 1.0, 1.0);
        let mut right = Vec::with_capacity(p);
        for k in 0..p {
            right.push(moment * factorial / b);
            factorial *= (k + 2) as f64;
            moment = moment / hh - 1.0 / factorial;
        }
        let predict = match p {
            1 => Vec::new(),
            2 => vec![0.5],
            _ => solve(&r[..p - 1], &right[..p - 1]),
        };
        let correct = if p == 1 { vec![0.5] } else { solve(&r, &right) };
        Weights { keep, value: -scale * whole, factor: -scale * b, r, predict, correct }
    }
}

struct Weights {
    keep: f64,
    value: f64,
    factor: f64,
    r: Vec<f64>,
    predict: Vec<f64>,
    correct: Vec<f64>,
}

impl Weights {
    fn differences(&self, weights: &[f64], m: &[Form]) -> Form {
        let mut sum = ZERO;
        for (k, w) in weights.iter().enumerate() {
            if let (Some(older), Some(r)) = (m.get(k + 1), self.r.get(k)) {
                sum = sum + (w / r) * (*older - m[0]);
            }
        }
        sum
    }

    /// Over a step from sample `x` by values `m`, the first where it starts.
    fn predicted(&self, x: Form, m: &[Form]) -> Form {
        let start = self.keep * x + self.value * m[0];
        match self.predict.is_empty() {
            true => start,
            false => start + self.factor * self.differences(&self.predict, m),
        }
    }

    fn corrected(&self, x: Form, m: &[Form], end: Form) -> Form {
        let p = self.correct.len();
        let sum = self.differences(&self.correct[..p - 1], m) + self.correct[p - 1] * (end - m[0]);
        self.keep * x + self.value * m[0] + self.factor * sum
    }
}

/// Solves Σ_k r_k^j x_k = b_j by elimination with pivots.
fn solve(r: &[f64], b: &[f64]) -> Vec<f64> {
    let n = r.len();
    let mut rows: Vec<Vec<f64>> = (0..n)
        .map(|j| r.iter().map(|r| r.powi(j as i32)).chain(b.get(j).copied()).collect())
        .collect();
    for c in 0..n {
        let best = (c..n).max_by(|a, b| rows[*a][c].abs().total_cmp(&rows[*b][c].abs()));
        rows.swap(c, best.unwrap_or(c));
        for row in 0..n {
            if row != c {
                let by = rows[row][c] / rows[c][c];
                for k in c..=n {
                    let take = by * rows[c][k];
                    rows[row][k] -= take;
                }
            }
        }
    }
    (0..n).map(|c| rows[c][n] / rows[c][c]).collect()
}

pub(super) fn unipc(keys: &Keys, asked: &Asked) -> Result<Run> {
    let levels = Levels::read(keys, asked, Some(Spacing::Beyond), Ending::Last)?;
    let known = [Prediction::Epsilon, Prediction::Sample, Prediction::V, Prediction::Flow];
    let prediction = Prediction::read(keys, &known)?;
    let data = keys.flag("predict_x0")?;
    let kind = keys.one_of("solver_type", &["bh2", "bh1", "midpoint", "heun", "logrho"])?;
    let solver = Solver { data, bh1: kind == 1 };
    let most = keys.whole("solver_order", 1, REGISTERS - 1)?;
    let lowers = keys.flag("lower_order_final")?;
    let disabled = keys.list("disable_corrector")?.unwrap_or_default();
    if keys.list("solver_p").is_err() {
        bail!(Unsupported, "scheduler: a predictor of its own (solver_p)");
    }
    let clip = if data { Clip::threshold(keys)? } else { Clip::No };
    let points = levels.points();
    let n = levels.times.len();
    let mut calls = Vec::new();
    let mut before = 1;
    for (i, time) in levels.times.iter().enumerate() {
        let at = points[i];
        let value = match (data, clip) {
            (true, Clip::No) => D_RAW,
            (true, _) => D,
            (false, _) => at.noise(),
        };
        let past: Vec<Form> = (0..most).map(|k| kept(1 + k)).collect();
        let corrects = i > 0 && !disabled.contains(&(i as f64 - 1.0));
        let x = match corrects {
            true => solver.weights(&points, i - 1, before).corrected(kept(FROM), &past, value),
            false => X,
        };
        let order = if lowers { most.min(n - i) } else { most };
        let order = order.min(i + 1);
        let m: Vec<Form> = std::iter::once(value).chain(past.iter().copied()).collect();
        let next = solver.weights(&points, i, order).predicted(x, &m);
        let mut call = Call::new(at, *time, next).keeping(FROM, x);
        for k in 0..most {
            let older = if k == 0 { value } else { kept(k) };
            call = call.keeping(1 + k, older);
        }
        calls.push(call);
        before = order;
    }
    Ok(Run {
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
    })
}
