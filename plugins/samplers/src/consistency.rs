//! Sampling of consistency models (Song et al. 2023, algorithm 1): D is the end of the path, which the process noises
//! again to the next level; to level 0 it returns D. One step is one call. With a D that is only a mean it does not
//! give the law.

use crate::discrete;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Denoiser, Factory, Knots, Node, Plan, Result, Sampler, SamplerInfo, Step,
    purpose, schema,
};

pub(crate) struct Consistency;

const AGAIN: u32 = 0;
const LAST: u32 = 1;
/// σ, σ'
const COLUMNS: usize = 2;

impl Factory for Consistency {
    const ID: &'static CStr = c"org.diffx.consistency";
    const SUMMARY: &'static CStr =
        c"to the end of the path and back to the next level, for consistency models";
    const SCHEMA: Option<&'static CStr> = schema![];

    fn create(_: &mut Config) -> Result<Self> {
        Ok(Self)
    }
}

impl Sampler for Consistency {
    fn info(&self) -> SamplerInfo {
        SamplerInfo {
            n_coeff: COLUMNS as u32,
            per_component: true,
            n_variants: 2,
            slots: vec![],
            control: false,
            stochasticity: 1.0,
        }
    }

    fn plan(&self, knots: &Knots<'_>) -> Result<Plan> {
        let mut plan = Plan::default();
        for k in 0..knots.steps() {
            let of = |c: usize| [knots.of(c)[k], knots.of(c)[k + 1]];
            let row: Vec<f64> = (0..knots.components()).flat_map(of).collect();
            let last = (0..knots.components()).all(|c| knots.of(c)[k + 1] == 0.0);
            plan.push(if last { LAST } else { AGAIN }, &row);
        }
        Ok(plan)
    }

    fn step<'b>(&self, b: Builder<'b>, io: &mut Step<'b>) -> Result<()> {
        let n = io.components();
        let sigma: Vec<Node<'b>> = (0..n).map(|c| io.coeff(c * COLUMNS)).collect();
        let d = b.denoise_at(Denoiser::OUTERMOST, &io.state(), &sigma);
        for (c, d) in d.into_iter().enumerate() {
            let after = io.coeff(c * COLUMNS + 1);
            let next = if discrete::is_discrete(b, c) {
                discrete::advance(b, c, io.x(c), d, sigma[c], after)
            } else if io.variant() == LAST {
                d
            } else {
                let mut shape = d.shape().to_vec();
                shape.iter_mut().skip(1).for_each(|d| *d = 1);
                let [next, _] = b.process(c).perturb(d, after.broadcast_to(&shape), purpose::STEP);
                next
            };
            io.set_next(c, next);
            io.set_denoised(c, d);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_step_draws_nothing() {
        let plan = Consistency.plan(&Knots::new(&[4.0, 1.0, 0.0], 1)).unwrap();
        assert_eq!((plan.rows, plan.variants), (vec![4.0, 1.0, 1.0, 0.0], vec![AGAIN, LAST]));
    }
}
