//! Levels of equal distance from σ_max to 0 (or to sigma_min): the grid of discrete times, where the step from t to s
//! reveals the same share of tokens everywhere.

use core::ffi::CStr;
use diffx_plugin::{Config, Factory, Grid, Result, schema};

pub(crate) struct Uniform {
    to_zero: bool,
}

impl Factory for Uniform {
    const ID: &'static CStr = c"org.diffx.uniform";
    const SUMMARY: &'static CStr = c"levels of equal distance";
    const SCHEMA: Option<&'static CStr> = schema![
        "to_zero": boolean "end at level 0 instead of sigma_min", default true;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self { to_zero: config.bool("to_zero", true)? })
    }
}

impl Grid for Uniform {
    fn knots(&self, n: u32, sigma_min: f64, sigma_max: f64) -> Result<Vec<f64>> {
        let end = if self.to_zero { 0.0 } else { sigma_min };
        let level = |i: u32| {
            let u = f64::from(i) / f64::from(n);
            (1.0 - u) * sigma_max + u * end
        };
        Ok((0..=n).map(level).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_exact() {
        assert_eq!(
            Uniform { to_zero: true }.knots(4, 1e-3, 1.0).unwrap(),
            [1.0, 0.75, 0.5, 0.25, 0.0]
        );
        let open = Uniform { to_zero: false }.knots(2, 1.0, 3.0).unwrap();
        assert_eq!(open, [3.0, 2.0, 1.0]);
    }
}
