//! Euler-Maruyama on the reverse SDE in the clock u = sigma² (specs guidance_samplers 4): with du = σ² - σ'²,
//! `w' = w + du (D - w)/σ² + √du z`. The baseline of the stochastic samplers, weak order 1.
//!
//! For Bessel processes the draw is the radius of this step in delta dimensions, so no truncation is needed.

use crate::linear::{Linear, Row};
use core::ffi::CStr;
use diffx_plugin::{Config, Factory, Result, schema};

pub(crate) struct EulerMaruyama;

impl Factory for EulerMaruyama {
    const ID: &'static CStr = c"org.diffx.em";
    const SUMMARY: &'static CStr = c"Euler-Maruyama on the reverse SDE, the baseline";
    const SCHEMA: Option<&'static CStr> = schema![];

    fn create(_: &mut Config) -> Result<Self> {
        Ok(Self)
    }
}

impl Linear for EulerMaruyama {
    const PAST: usize = 0;
    const STOCHASTICITY: f64 = 1.0;

    fn row(&self, levels: &[f64], k: usize) -> Row {
        let (sigma, next) = (levels[k], levels[k + 1]);
        let du = (sigma - next) * (sigma + next);
        Row { v: du, ..Row::new((next / sigma).powi(2), du / (sigma * sigma)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::plan;

    #[test]
    fn the_draw_has_the_whole_variance_of_the_clock() {
        let p = plan::<EulerMaruyama>("{}", &[4.0, 2.0, 0.0]);
        assert_eq!(p.rows[..5], [4.0, 2.0, 0.25, 12.0, 0.75]);
        assert_eq!(p.rows[5..], [2.0, 0.0, 0.0, 0.0, 1.0]);
    }
}
