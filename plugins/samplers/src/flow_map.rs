//! Steps of an average velocity (MeanFlow; specs processes 7.2): `z_r = z - (t - r) u(z, r, t)` from time t to the next,
//! t = σ/(1 + σ). In w that is Euler's step with D = z - t u, so all it adds is that the network is told r, by its
//! condition of that name. Exact for an exact u, whatever the steps; for one step the last level is 0.

use crate::euler;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Denoiser, Error, Eval, Factory, Knots, Plan, Result, Sampler, SamplerInfo,
    Step, schema,
};

pub(crate) struct FlowMap;

/// After Euler's columns the time of the next level.
const COLUMNS: usize = euler::COLUMNS + 1;

impl Factory for FlowMap {
    const ID: &'static CStr = c"org.diffx.flow_map";
    const SUMMARY: &'static CStr =
        c"steps of an average velocity that is told where it goes (MeanFlow)";
    const SCHEMA: Option<&'static CStr> = schema![];

    fn create(_: &mut Config) -> Result<Self> {
        Ok(Self)
    }
}

impl Sampler for FlowMap {
    fn info(&self) -> SamplerInfo {
        SamplerInfo {
            n_coeff: COLUMNS as u32,
            per_component: false,
            n_variants: 1,
            slots: vec![],
            control: false,
            stochasticity: 0.0,
        }
    }

    fn plan(&self, knots: &Knots<'_>) -> Result<Plan> {
        if knots.components() != 1 {
            let n = knots.components();
            return Err(Error::invalid(format!("the state has {n} components, flow_map wants 1")));
        }
        let mut plan = Plan::default();
        for pair in knots.of(0).windows(2) {
            let mut row = euler::row(pair[0], pair[1]).to_vec();
            row.push(pair[1] / (1.0 + pair[1]));
            plan.push(0, &row);
        }
        Ok(plan)
    }

    fn step<'b>(&self, b: Builder<'b>, io: &mut Step<'b>) -> Result<()> {
        let Some(at) = b.cond_index("r") else {
            return Err(Error::invalid("the network has no condition r, flow_map wants one"));
        };
        let [sigma, _, keep, step] = euler::columns(io, 0);
        let mut cond: Vec<_> = (0..b.conds()).map(|i| b.cond(i).0).collect();
        let goal = io.coeff(euler::COLUMNS).broadcast_to(&cond[at].shape());
        cond[at] = goal;
        let x = io.state();
        let eval = Eval { phase: 0, x: &x, sigma: &[sigma], cond: Some(&cond) };
        for d in b.denoise(Denoiser::OUTERMOST, &[eval]).into_iter().flatten() {
            io.set_next(0, keep * io.x(0) + step * d);
            io.set_denoised(0, d);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_the_time_it_goes_to() {
        let plan = FlowMap.plan(&Knots::new(&[4.0, 1.0, 0.0], 1)).unwrap();
        assert_eq!(plan.rows, [4.0, 1.0, 0.25, 0.75, 0.5, 1.0, 0.0, 0.0, 1.0, 0.0]);
        let e = FlowMap.plan(&Knots::new(&[1.0, 0.0, 1.0, 0.0], 2)).unwrap_err();
        assert_eq!(e.message, "the state has 2 components, flow_map wants 1");
    }
}
