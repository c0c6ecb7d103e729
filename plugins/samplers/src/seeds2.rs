//! SEEDS-2 (Gonzalez et al. 2023; specs guidance_samplers 4): the reverse SDE by an exponential midpoint. A draw with the
//! exact linear part leads to √(σσ'), a second one goes on from there with D linear in λ; weak order 2, two calls.
//!
//! With e = σ'/σ, h = -log e and q = 1 - (1 - e²)/2h the two means are `e w + (1 - e) D` and
//! `e m + (1 - e - 2q) D + 2q D_m`, m the state at the middle: the noise of the first half travels with m.

use crate::stages::{self, Start};
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Factory, Knots, Plan, Result, Sampler, SamplerInfo, Step, schema,
};

pub(crate) struct Seeds2;

/// σ, σ', √(σσ'), e, 1 - e, variance to the middle, weights of D and D_m, variance of the second half
const COLUMNS: usize = 9;
const LAST: u32 = 1;

fn row(sigma: f64, next: f64) -> [f64; COLUMNS] {
    let (e, step) = (next / sigma, (sigma - next) / sigma);
    if next == 0.0 {
        return [sigma, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0];
    }
    let q = 1.0 + 0.5 * step * (1.0 + e) / e.ln();
    let middle = sigma * next; // its square
    [
        sigma,
        next,
        middle.sqrt(),
        e,
        step,
        middle * step,
        step - 2.0 * q,
        2.0 * q,
        next * next * step,
    ]
}

impl Factory for Seeds2 {
    const ID: &'static CStr = c"org.diffx.seeds2";
    const SUMMARY: &'static CStr = c"SEEDS-2: stochastic exponential midpoint, weak order 2";
    const SCHEMA: Option<&'static CStr> = schema![];

    fn create(_: &mut Config) -> Result<Self> {
        Ok(Self)
    }
}

impl Sampler for Seeds2 {
    fn info(&self) -> SamplerInfo {
        stages::info(COLUMNS, 1.0)
    }

    fn plan(&self, knots: &Knots<'_>) -> Result<Plan> {
        Ok(stages::plan(knots, row))
    }

    fn step<'b>(&self, b: Builder<'b>, io: &mut Step<'b>) -> Result<()> {
        let at = stages::columns::<COLUMNS>(io);
        let start = Start::new(b, io, at.iter().map(|r| r[0]).collect());
        if io.variant() == LAST {
            start.finish(io, start.d.clone(), |c| at[c][1], &start.d);
            return Ok(());
        }
        let d = &start.d;
        let half = start.draw(|c| at[c][3] * start.x[c] + at[c][4] * d[c], |c| at[c][5]);
        let d_half = start.call(&half, |c| at[c][2]);
        let mean = |c: usize| at[c][3] * half[c] + at[c][6] * d[c] + at[c][7] * d_half[c];
        let w = start.draw(mean, |c| at[c][8]);
        start.finish(io, w, |c| at[c][1], &d_half);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For constant D both halves are exact: the weights of w and of D sum to 1, and the variances add up to that of
    /// one exact step, σ'² (1 - e²).
    #[test]
    fn exact_for_a_constant_denoiser() {
        let [_, next, _, e, step, v_half, d, d_half, v] = row(8.0, 2.0);
        assert_eq!((e, step), (0.25, 0.75));
        assert!((e + d + d_half - 1.0).abs() < 1e-15);
        assert!((e * e * v_half + v - next * next * (1.0 - e * e)).abs() < 1e-15);
        let plan = Seeds2.plan(&Knots::new(&[4.0, 2.0, 0.0], 1)).unwrap();
        assert_eq!(plan.variants, [0, LAST]);
        assert!(plan.rows.iter().all(|x| x.is_finite()));
    }
}
