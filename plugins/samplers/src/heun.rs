//! Heun's step on `dw/dsigma = (w - D)/sigma` (Karras et al. 2022, algorithm 1): Euler to σ', then the mean of the
//! slopes at both ends. The step to σ' = 0 is Euler's, `w' = D`, and a variant of its own. Order 2, 2n - 1 calls of
//! the network.
//!
//! Positive coordinates stay positive up to σ/σ' = 2 whatever D >= 0 is (specs processes 0.2), and beyond where D moves
//! little over a step, as it does on a ρ = 7 grid.

use crate::discrete;
use crate::euler;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Denoiser, Factory, Knots, Node, Plan, Result, Sampler, SamplerInfo, Step,
    schema,
};

pub(crate) struct Heun;

const TRAPEZOID: u32 = 0;
const LAST: u32 = 1;
/// Euler's σ, σ', σ'/σ, 1 - σ'/σ, then the weights of the two pulls (D - w) at σ and at σ'.
const COLUMNS: usize = 6;

/// w' = w + (h/2σ)(D - w) + (h/2σ')(D' - w_euler), h = σ - σ': the weights in f64, so that thousands of small steps
/// do not subtract rounded levels. To σ' = 0 there is no second slope.
fn row(sigma: f64, next: f64) -> [f64; COLUMNS] {
    let [sigma, next, keep, step] = euler::row(sigma, next);
    let there = if next > 0.0 { 0.5 * (sigma - next) / next } else { 0.0 };
    [sigma, next, keep, step, 0.5 * step, there]
}

impl Factory for Heun {
    const ID: &'static CStr = c"org.diffx.heun";
    const SUMMARY: &'static CStr = c"Heun on the probability-flow ODE (EDM), order 2";
    const SCHEMA: Option<&'static CStr> = schema![];

    fn create(_: &mut Config) -> Result<Self> {
        Ok(Self)
    }
}

impl Sampler for Heun {
    fn info(&self) -> SamplerInfo {
        SamplerInfo {
            n_coeff: COLUMNS as u32,
            per_component: true,
            n_variants: 2,
            slots: vec![],
            control: false,
            stochasticity: 0.0,
        }
    }

    fn plan(&self, knots: &Knots<'_>) -> Result<Plan> {
        let mut plan = Plan::default();
        for k in 0..knots.steps() {
            let of = |c: usize| row(knots.of(c)[k], knots.of(c)[k + 1]);
            let row: Vec<_> = (0..knots.components()).flat_map(of).collect();
            // one component at 0 has no slope there, so the whole state takes the last form
            let last = (0..knots.components()).any(|c| knots.of(c)[k + 1] == 0.0);
            plan.push(if last { LAST } else { TRAPEZOID }, &row);
        }
        Ok(plan)
    }

    fn step<'b>(&self, b: Builder<'b>, io: &mut Step<'b>) -> Result<()> {
        let n = io.components();
        let x = io.state();
        let rows: Vec<[Node<'b>; COLUMNS]> =
            (0..n).map(|c| core::array::from_fn(|k| io.coeff(c * COLUMNS + k))).collect();
        let sigma: Vec<_> = rows.iter().map(|r| r[0]).collect();
        let next: Vec<_> = rows.iter().map(|r| r[1]).collect();
        let d = b.denoise_at(Denoiser::OUTERMOST, &x, &sigma);
        let euler: Vec<Node<'b>> = (0..n)
            .map(|c| {
                let [sigma, next, keep, step, ..] = rows[c];
                if discrete::is_discrete(b, c) {
                    discrete::advance(b, c, x[c], d[c], sigma, next)
                } else {
                    keep * x[c] + step * d[c]
                }
            })
            .collect();
        if io.variant() == LAST {
            for c in 0..n {
                io.set_next(c, euler[c]);
                io.set_denoised(c, d[c]);
            }
            return Ok(());
        }
        let d_next = b.denoise_at(Denoiser::OUTERMOST, &euler, &next);
        for c in 0..n {
            let [.., here, there] = rows[c];
            let w = if discrete::is_discrete(b, c) {
                euler[c] // a token moves once
            } else {
                x[c] + here * (d[c] - x[c]) + there * (d_next[c] - euler[c])
            };
            io.set_next(c, w);
            io.set_denoised(c, d_next[c]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_step_to_zero_is_eulers() {
        let plan = Heun.plan(&Knots::new(&[4.0, 2.0, 1.0, 0.0], 1)).unwrap();
        assert_eq!(plan.variants, [TRAPEZOID, TRAPEZOID, LAST]);
        assert_eq!(plan.rows[..6], [4.0, 2.0, 0.5, 0.5, 0.25, 0.5]);
        assert_eq!(plan.rows[12..], [1.0, 0.0, 0.0, 1.0, 0.5, 0.0]);
        let open = Heun.plan(&Knots::new(&[4.0, 2.0, 1.0], 1)).unwrap();
        assert_eq!(open.variants, [TRAPEZOID, TRAPEZOID]);
    }
}
