//! UniPC of order 1 to 3 (Zhao et al. 2023; specs guidance_samplers 4): a predictor of order p from the last p values of
//! D, and a corrector of order p + 1 that also uses D at the predicted state. That D is the first of the next step, so a
//! step is one call; the first step has one more, and the step to 0, which is `w' = D`, calls at the corrected state.
//!
//! In λ = -log σ with h = log(σ/σ'): r_k = (λ_{i-k} - λ_i)/h, the weights ρ solve Σ_k r_k^{j-1} ρ_k = b_j. Config: `order`,
//! `b` ("bh2": B = e^-h - 1, "bh1": B = -h), `corrector`.

use crate::discrete;
use crate::linear;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Denoiser, Factory, Knots, Node, Plan, Result, Sampler, SamplerInfo, Step,
    schema,
};

pub(crate) struct UniPc {
    order: usize,
    bh2: bool,
    corrector: bool,
}

/// σ, σ', σ'/σ, predictor of D_i, D_{i-1}, D_{i-2}, corrector of the same and of the new D
const COLUMNS: usize = 10;
const PREDICT: usize = 3;
const CORRECT: usize = 6;
/// D's kept: the newest is D_i itself.
const KEPT: usize = 3;

/// Variants: the first step, steps that use 1, 2 or 3 values of D, the step to 0.
const FIRST: u32 = 0;
const LAST: u32 = 4;

impl UniPc {
    /// Weights of the predictor and of the corrector at order `p`.
    fn row(&self, levels: &[f64], k: usize, p: usize) -> [f64; COLUMNS] {
        let (sigma, next) = (levels[k], levels[k + 1]);
        let h = (sigma / next).ln();
        let shrink = (next - sigma) / sigma; // e^-h - 1
        let scale = if self.bh2 { shrink } else { -h };
        let mut r = [0.0; 3];
        for j in 1..p {
            r[j - 1] = (sigma / levels[k - j]).ln() / h;
        }
        r[p - 1] = 1.0;
        // b_j = H_j j!/B, H_1 = (e^-h - 1)/(-h) - 1, H_{j+1} = H_j/(-h) - 1/(j+1)!
        let mut b = [0.0; 3];
        let (mut moment, mut factorial) = (shrink / -h - 1.0, 1.0);
        for (j, b) in b.iter_mut().enumerate().take(p) {
            *b = moment * factorial / scale;
            factorial *= (j + 2) as f64;
            moment = moment / -h - 1.0 / factorial;
        }
        let mut row = [0.0; COLUMNS];
        row[..3].copy_from_slice(&[sigma, next, next / sigma]);
        // order 2 predicts and order 1 corrects with 1/2, as published: the equation would give nearly that
        let predictor = if p == 2 { [0.5, 0.0, 0.0] } else { solve(r, b, p - 1) };
        let corrector = if p == 1 { [0.5, 0.0, 0.0] } else { solve(r, b, p) };
        for (first, weights, past) in [(PREDICT, predictor, p - 1), (CORRECT, corrector, p - 1)] {
            row[first] = -shrink;
            for j in 0..past {
                // - B rho_j (D_{i-j-1} - D_i)/r_j
                let part = -scale * weights[j] / r[j];
                row[first] -= part;
                row[first + 1 + j] = part;
            }
        }
        let new = -scale * corrector[p - 1];
        row[CORRECT] -= new;
        row[CORRECT + 3] = new;
        row
    }
}

/// Solves Σ_k r_k^j x_k = b_j for j < n: Newton's elimination of a Vandermonde matrix (Björck and Pereyra 1970).
fn solve(r: [f64; 3], b: [f64; 3], n: usize) -> [f64; 3] {
    let mut x = b;
    for k in 0..n.saturating_sub(1) {
        for i in (k + 1..n).rev() {
            x[i] -= r[k] * x[i - 1];
        }
    }
    for k in (0..n.saturating_sub(1)).rev() {
        for i in k + 1..n {
            x[i] /= r[i] - r[i - k - 1];
        }
        for i in k..n - 1 {
            x[i] -= x[i + 1];
        }
    }
    x
}

impl Factory for UniPc {
    const ID: &'static CStr = c"org.diffx.unipc";
    const SUMMARY: &'static CStr =
        c"UniPC of order 1 to 3: predictor and corrector, one call per step";
    const SCHEMA: Option<&'static CStr> = schema![
        "order": integer "of the predictor; the corrector has one more", default 3, minimum 1, maximum 3;
        "b": string "the factor B: bh2 is e^-h - 1, bh1 is -h", default "bh2", enum ["bh2", "bh1"];
        "corrector": boolean "correct each step with D at its end", default true;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self {
            order: config.usize("order", 3, 1..=3)?,
            bh2: config.one_of("b", &[("bh2", true), ("bh1", false)])?,
            corrector: config.bool("corrector", true)?,
        })
    }
}

impl Sampler for UniPc {
    fn info(&self) -> SamplerInfo {
        SamplerInfo {
            n_coeff: COLUMNS as u32,
            per_component: true,
            n_variants: LAST + 1,
            slots: linear::history(KEPT),
            control: false,
            stochasticity: 0.0,
        }
    }

    fn plan(&self, knots: &Knots<'_>) -> Result<Plan> {
        let mut plan = Plan::default();
        for k in 0..knots.steps() {
            let p = self.order.min(k + 1);
            let to_zero = |c: usize| knots.of(c)[k + 1] == 0.0;
            let last = (0..knots.components()).any(to_zero);
            let of = |c: usize| match last {
                true => [knots.of(c)[k], knots.of(c)[k + 1], 0., 0., 0., 0., 0., 0., 0., 0.],
                false => self.row(knots.of(c), k, p),
            };
            let columns: Vec<_> = (0..knots.components()).flat_map(of).collect();
            let uses = if k == 0 { FIRST } else { p as u32 };
            plan.push(if last { LAST } else { uses }, &columns);
        }
        Ok(plan)
    }

    fn step<'b>(&self, b: Builder<'b>, io: &mut Step<'b>) -> Result<()> {
        let n = io.components();
        let x = io.state();
        let column = |io: &Step<'b>, c: usize, k: usize| io.coeff(c * COLUMNS + k);
        let discrete: Vec<bool> = (0..n).map(|c| discrete::is_discrete(b, c)).collect();
        let level = |io: &Step<'b>, k: usize| (0..n).map(|c| column(io, c, k)).collect::<Vec<_>>();
        let (sigma, next) = (level(io, 0), level(io, 1));
        let here = |_: &Step<'b>| b.denoise_at(Denoiser::OUTERMOST, &x, &sigma);
        if io.variant() == LAST {
            for (c, d) in here(io).into_iter().enumerate() {
                let to = match discrete[c] {
                    true => discrete::advance(b, c, x[c], d, sigma[c], next[c]),
                    false => d,
                };
                io.set_next(c, to);
                io.set_denoised(c, d);
            }
            return Ok(());
        }
        let uses = io.variant().max(1) as usize;
        let first = if io.variant() == FIRST { Some(here(io)) } else { None };
        // D_i, D_{i-1}, .. as many as the step uses
        let known = |io: &Step<'b>, c: usize, k: usize| match &first {
            Some(d) => d[c],
            None => io.slot(c * KEPT + k),
        };
        let combine = |io: &Step<'b>, c: usize, weights: usize| {
            let mut w = column(io, c, 2) * x[c];
            for k in 0..uses {
                w = w + column(io, c, weights + k) * known(io, c, k);
            }
            w
        };
        // tokens wait at their own time and move by the logits found beside the predicted state
        let mut at = next.clone();
        let mut predicted: Vec<Node<'b>> = Vec::with_capacity(n);
        for c in 0..n {
            at[c] = if discrete[c] { sigma[c] } else { next[c] };
            predicted.push(if discrete[c] { x[c] } else { combine(io, c, PREDICT) });
        }
        let d = b.denoise_at(Denoiser::OUTERMOST, &predicted, &at);
        for (c, d) in d.into_iter().enumerate() {
            io.set_denoised(c, d);
            if discrete[c] {
                io.set_next(c, discrete::advance(b, c, x[c], d, sigma[c], next[c]));
                continue;
            }
            let w = match self.corrector {
                true => combine(io, c, CORRECT) + column(io, c, CORRECT + 3) * d,
                false => predicted[c],
            };
            io.set_next(c, w);
            let newest = known(io, c, 0);
            linear::push(io, c, KEPT, d);
            if first.is_some() {
                io.set_slot(c * KEPT + 1, newest);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unipc(json: &str) -> UniPc {
        UniPc::create(&mut Config::parse(json).unwrap()).unwrap()
    }

    #[test]
    fn weights_solve_their_equations() {
        let (r, b) = ([-1.3, -2.1, 1.0], [0.4, 0.2, 0.7]);
        for n in 1..=3 {
            let x = solve(r, b, n);
            for j in 0..n {
                let got: f64 = (0..n).map(|k| r[k].powi(j as i32) * x[k]).sum();
                assert!((got - b[j]).abs() < 1e-14, "{n} {j}: {got}");
            }
        }
    }

    #[test]
    fn orders_grow_from_one_and_constants_stay() {
        let levels = [8.0, 5.0, 2.0, 1.5, 0.0];
        for (json, variants) in [
            (r#"{"order":1}"#, [0, 1, 1, 4]),
            (r#"{"order":2,"b":"bh1"}"#, [0, 2, 2, 4]),
            (r#"{"order":3}"#, [0, 2, 3, 4]),
        ] {
            let plan = unipc(json).plan(&Knots::new(&levels, 1)).unwrap();
            assert_eq!(plan.variants, variants, "{json}");
            for row in plan.rows.chunks(COLUMNS).take(3) {
                let predict: f64 = row[2..CORRECT].iter().sum();
                let correct: f64 = row[2] + row[CORRECT..].iter().sum::<f64>();
                assert!((predict - 1.0).abs() < 1e-14 && (correct - 1.0).abs() < 1e-14, "{row:?}");
            }
        }
        let e = UniPc::create(&mut Config::parse(r#"{"order":4}"#).unwrap()).err().unwrap();
        assert_eq!(e.message, "order is 4, want a whole number from 1 to 3");
    }
}
