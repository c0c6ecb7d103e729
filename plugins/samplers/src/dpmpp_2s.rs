//! DPM-Solver++ 2S (Lu et al. 2022; specs guidance_samplers 4) at r = 1/2: the midpoint rule in λ = -log σ. D at the
//! geometric mean of σ and σ' carries the whole step; order 2, two calls.

use crate::stages::{self, Start};
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Factory, Knots, Plan, Result, Sampler, SamplerInfo, Step, schema,
};

pub(crate) struct Dpmpp2s;

/// σ, σ', √(σσ'), σ'/σ, 1 - σ'/σ, √(σ'/σ), 1 - √(σ'/σ)
const COLUMNS: usize = 7;
const LAST: u32 = 1;

fn row(sigma: f64, next: f64) -> [f64; COLUMNS] {
    let (keep, half) = (next / sigma, (next / sigma).sqrt());
    [sigma, next, sigma * half, keep, (sigma - next) / sigma, half, 1.0 - half]
}

impl Factory for Dpmpp2s {
    const ID: &'static CStr = c"org.diffx.dpmpp_2s";
    const SUMMARY: &'static CStr = c"DPM-Solver++ 2S: midpoint in log sigma, order 2";
    const SCHEMA: Option<&'static CStr> = schema![];

    fn create(_: &mut Config) -> Result<Self> {
        Ok(Self)
    }
}

impl Sampler for Dpmpp2s {
    fn info(&self) -> SamplerInfo {
        stages::info(COLUMNS, 0.0)
    }

    fn plan(&self, knots: &Knots<'_>) -> Result<Plan> {
        Ok(stages::plan(knots, row))
    }

    fn step<'b>(&self, b: Builder<'b>, io: &mut Step<'b>) -> Result<()> {
        let at = stages::columns::<COLUMNS>(io);
        let start = Start::new(b, io, at.iter().map(|r| r[0]).collect());
        let mut carrier = start.d.clone();
        if io.variant() != LAST {
            let middle = start.state(|c| at[c][5] * start.x[c] + at[c][6] * start.d[c]);
            carrier = start.call(&middle, |c| at[c][2]);
        }
        let w = start.state(|c| at[c][3] * start.x[c] + at[c][4] * carrier[c]);
        start.finish(io, w, |c| at[c][1], &carrier);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stage_is_at_the_geometric_mean() {
        let plan = Dpmpp2s.plan(&Knots::new(&[8.0, 2.0, 0.0], 1)).unwrap();
        assert_eq!(plan.rows[..7], [8.0, 2.0, 4.0, 0.25, 0.75, 0.5, 0.5]);
        assert_eq!(plan.rows[7..], [2.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
        assert_eq!(plan.variants, [0, LAST]);
    }
}
