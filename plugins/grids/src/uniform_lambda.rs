//! Levels in equal steps of λ = log(signal/noise) = -log sigma, the grid of DPM-Solver and UniPC. In sigma this is
//! `geometric`, under the name and with the end of those papers: by default it stops at sigma_min.

use crate::geometric::Geometric;
use core::ffi::CStr;
use diffx_plugin::{Config, Factory, Grid, Result, schema};

pub(crate) struct UniformLambda(Geometric);

impl Factory for UniformLambda {
    const ID: &'static CStr = c"org.diffx.uniform_lambda";
    const SUMMARY: &'static CStr = c"equal steps of log signal over noise, down to sigma_min";
    const SCHEMA: Option<&'static CStr> = schema![
        "to_zero": boolean "end at level 0 instead of sigma_min", default false;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self(Geometric { to_zero: config.bool("to_zero", false)? }))
    }
}

impl Grid for UniformLambda {
    fn knots(&self, n: u32, sigma_min: f64, sigma_max: f64) -> Result<Vec<f64>> {
        self.0.knots(n, sigma_min, sigma_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_at_the_lowest_level() {
        let grid = UniformLambda::create(&mut Config::parse("{}").unwrap()).unwrap();
        let knots = grid.knots(2, 1.0, 16.0).unwrap();
        assert!((knots[1] - 4.0).abs() < 1e-14);
        assert_eq!((knots[0], knots[2]), (16.0, 1.0));
    }
}
