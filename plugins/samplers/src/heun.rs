//! Heun's step on `dw/dsigma = (w - D)/sigma` (Karras et al. 2022, algorithm 1): Euler to σ', then the mean of the
//! slopes at both ends. The step to σ' = 0 is Euler's, `w' = D`, and a variant of its own. Order 2, 2n - 1 calls of
//! the network.
//!
//! Positive coordinates stay positive up to σ/σ' = 2 whatever D >= 0 is (specs processes 0.2), and beyond where D moves
//! little over a step, as it does on a ρ = 7 grid.

use crate::discrete;
use crate::euler::{self, COLUMNS, columns};
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Denoiser, Factory, Knots, Node, Plan, Result, Sampler, SamplerInfo, Step,
    schema,
};

pub(crate) struct Heun;

const TRAPEZOID: u32 = 0;
const LAST: u32 = 1;

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
            let of = |c: usize| euler::row(knots.of(c)[k], knots.of(c)[k + 1]);
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
        let rows: Vec<_> = (0..n).map(|c| columns(io, c)).collect();
        let sigma: Vec<_> = rows.iter().map(|r| r[0]).collect();
        let next: Vec<_> = rows.iter().map(|r| r[1]).collect();
        let d = b.denoise_at(Denoiser::OUTERMOST, &x, &sigma);
        let euler: Vec<Node<'b>> = (0..n)
            .map(|c| {
                let [sigma, next, keep, step] = rows[c];
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
            let [sigma, next, _, _] = rows[c];
            let w = if discrete::is_discrete(b, c) {
                euler[c] // a token moves once
            } else {
                let slope = (x[c] - d[c]) / sigma + (euler[c] - d_next[c]) / next;
                x[c] + (next - sigma) * 0.5 * slope
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
        assert_eq!(plan.rows[..4], [4.0, 2.0, 0.5, 0.5]);
        let open = Heun.plan(&Knots::new(&[4.0, 2.0, 1.0], 1)).unwrap();
        assert_eq!(open.variants, [TRAPEZOID, TRAPEZOID]);
    }
}
