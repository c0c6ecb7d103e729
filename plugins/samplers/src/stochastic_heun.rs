//! Heun on the reverse SDE in the clock u = sigma² (specs guidance_samplers 4): the trapezoid of the drift
//! f = (D - w)/σ², with the same noise in both stages; weak order 2, two calls.
//!
//! Written as a correction of Euler-Maruyama's draw y, `w' = y + du/2 (f(y) - f(w))`, the noise is drawn once and by the
//! process itself.

use crate::stages::{self, Start};
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Factory, Knots, Plan, Result, Sampler, SamplerInfo, Step, schema,
};

pub(crate) struct StochasticHeun;

/// σ, σ', du/σ², du/2σ², du/2σ'², du; du = σ² - σ'²
const COLUMNS: usize = 6;
const LAST: u32 = 1;

fn row(sigma: f64, next: f64) -> [f64; COLUMNS] {
    let du = (sigma - next) * (sigma + next);
    let slope = du / (sigma * sigma);
    let end = if next == 0.0 { 0.0 } else { 0.5 * du / (next * next) };
    [sigma, next, slope, 0.5 * slope, end, du]
}

impl Factory for StochasticHeun {
    const ID: &'static CStr = c"org.diffx.stochastic_heun";
    const SUMMARY: &'static CStr = c"Heun on the reverse SDE, weak order 2";
    const SCHEMA: Option<&'static CStr> = schema![];

    fn create(_: &mut Config) -> Result<Self> {
        Ok(Self)
    }
}

impl Sampler for StochasticHeun {
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
        let pull = start.state(|c| start.d[c] - start.x[c]);
        let y = start.draw(|c| start.x[c] + at[c][2] * pull[c], |c| at[c][5]);
        let d = start.call(&y, |c| at[c][1]);
        let w = start.state(|c| y[c] + at[c][4] * (d[c] - y[c]) - at[c][3] * pull[c]);
        start.finish(io, w, |c| at[c][1], &d);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_in_the_clock_of_squares() {
        let plan = StochasticHeun.plan(&Knots::new(&[4.0, 2.0, 0.0], 1)).unwrap();
        assert_eq!(plan.rows[..6], [4.0, 2.0, 0.75, 0.375, 1.5, 12.0]);
        assert_eq!(plan.rows[10], 0.0);
        assert_eq!(plan.variants, [0, LAST]);
    }
}
