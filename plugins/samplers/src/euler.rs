//! Euler's step on `dw/dsigma = (w - D)/sigma`: `w' = (σ'/σ) w + (1 - σ'/σ) D`, which is DDIM in every Gaussian
//! parametrisation (specs guidance_samplers 4, processes 0.2). A convex combination, so positive w stay positive.

use crate::discrete;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Denoiser, Factory, Knots, Node, Plan, Result, Sampler, SamplerInfo, Step,
    schema,
};

pub(crate) struct Euler;

/// Columns of a row, per component.
const SIGMA: usize = 0;
const NEXT: usize = 1;
const KEEP: usize = 2;
const MOVE: usize = 3;
pub(crate) const COLUMNS: usize = 4;

/// (σ, σ', σ'/σ, 1 - σ'/σ); the last one as (σ - σ')/σ, which does not cancel.
pub(crate) fn row(sigma: f64, next: f64) -> [f64; COLUMNS] {
    [sigma, next, next / sigma, (sigma - next) / sigma]
}

/// The four columns of a component.
pub(crate) fn columns<'b>(io: &Step<'b>, component: usize) -> [Node<'b>; COLUMNS] {
    [SIGMA, NEXT, KEEP, MOVE].map(|k| io.coeff(component * COLUMNS + k))
}

impl Factory for Euler {
    const ID: &'static CStr = c"org.diffx.euler";
    const SUMMARY: &'static CStr = c"Euler on the probability-flow ODE (DDIM)";
    const SCHEMA: Option<&'static CStr> = schema![];

    fn create(_: &mut Config) -> Result<Self> {
        Ok(Self)
    }
}

impl Sampler for Euler {
    fn info(&self) -> SamplerInfo {
        SamplerInfo {
            n_coeff: COLUMNS as u32,
            per_component: true,
            n_variants: 1,
            slots: vec![],
            control: false,
            stochasticity: 0.0,
        }
    }

    fn plan(&self, knots: &Knots<'_>) -> Result<Plan> {
        let mut plan = Plan::default();
        for k in 0..knots.steps() {
            let of = |c: usize| row(knots.of(c)[k], knots.of(c)[k + 1]);
            let rows: Vec<_> = (0..knots.components()).map(of).collect();
            plan.push(0, &rows.concat());
            rows.iter().for_each(|r| plan.push_kernel([r[KEEP], r[MOVE], 0.0]));
        }
        Ok(plan)
    }

    fn step<'b>(&self, b: Builder<'b>, io: &mut Step<'b>) -> Result<()> {
        let n = io.components();
        let sigma: Vec<_> = (0..n).map(|c| columns(io, c)[SIGMA]).collect();
        let d = b.denoise_at(Denoiser::OUTERMOST, &io.state(), &sigma);
        for (c, d) in d.into_iter().enumerate() {
            let w = io.x(c);
            let [sigma, next, keep, step] = columns(io, c);
            let w_next = if discrete::is_discrete(b, c) {
                discrete::advance(b, c, w, d, sigma, next)
            } else {
                keep * w + step * d
            };
            io.set_next(c, w_next);
            io.set_denoised(c, d);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_convex_combination() {
        let knots = [4.0, 1.0, 0.0, 8.0, 6.0, 3.0];
        let plan = Euler.plan(&Knots::new(&knots, 2)).unwrap();
        let want = [
            [4.0, 1.0, 0.25, 0.75],
            [8.0, 6.0, 0.75, 0.25],
            [1.0, 0.0, 0.0, 1.0],
            [6.0, 3.0, 0.5, 0.5],
        ];
        assert_eq!(plan.rows, want.concat());
        assert_eq!(plan.variants, [0, 0]);
        assert_eq!(plan.levels, None);
    }
}
