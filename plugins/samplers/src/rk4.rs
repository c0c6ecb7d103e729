//! The classical Runge-Kutta step of order 4 on `dw/dsigma = (w - D)/sigma` (specs guidance_samplers 4): four calls. The
//! reference for smooth denoisers; to σ' = 0 it returns D.

use crate::stages::{self, Start};
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Factory, Knots, Plan, Result, Sampler, SamplerInfo, Step, schema,
};

pub(crate) struct Rk4;

/// σ, σ', (σ + σ')/2, σ' - σ
const COLUMNS: usize = 4;
const LAST: u32 = 1;

fn row(sigma: f64, next: f64) -> [f64; COLUMNS] {
    [sigma, next, 0.5 * (sigma + next), next - sigma]
}

impl Factory for Rk4 {
    const ID: &'static CStr = c"org.diffx.rk4";
    const SUMMARY: &'static CStr = c"classical Runge-Kutta on the ODE, order 4";
    const SCHEMA: Option<&'static CStr> = schema![];

    fn create(_: &mut Config) -> Result<Self> {
        Ok(Self)
    }
}

impl Sampler for Rk4 {
    fn info(&self) -> SamplerInfo {
        stages::info(COLUMNS, 0.0)
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
        let x = &start.x;
        let k1 = start.state(|c| (x[c] - start.d[c]) / at[c][0]);
        let x2 = start.state(|c| x[c] + at[c][3] * 0.5 * k1[c]);
        let d2 = start.call(&x2, |c| at[c][2]);
        let k2 = start.state(|c| (x2[c] - d2[c]) / at[c][2]);
        let x3 = start.state(|c| x[c] + at[c][3] * 0.5 * k2[c]);
        let d3 = start.call(&x3, |c| at[c][2]);
        let k3 = start.state(|c| (x3[c] - d3[c]) / at[c][2]);
        let x4 = start.state(|c| x[c] + at[c][3] * k3[c]);
        let d4 = start.call(&x4, |c| at[c][1]);
        let k4 = start.state(|c| (x4[c] - d4[c]) / at[c][1]);
        let w = start.state(|c| x[c] + at[c][3] / 6.0 * (k1[c] + (k2[c] + k3[c]) * 2.0 + k4[c]));
        start.finish(io, w, |c| at[c][1], &d4);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_the_middle_and_the_length() {
        let plan = Rk4.plan(&Knots::new(&[4.0, 2.0, 0.0], 1)).unwrap();
        assert_eq!(plan.rows, [4.0, 2.0, 3.0, -2.0, 2.0, 0.0, 1.0, -2.0]);
        assert_eq!(plan.variants, [0, LAST]);
    }
}
