//! Levels of equal ratio, σ_i = σ_max (σ_min/σ_max)^{i/(n-1)}, then 0: uniform in log sigma, as in variance exploding
//! SDEs (Song et al. 2021) and DPM-Solver's log-SNR grid.

use crate::ends;
use core::ffi::CStr;
use diffx_plugin::{Config, Factory, Grid, Result, schema};

pub(crate) struct Geometric {
    pub(crate) to_zero: bool,
}

impl Factory for Geometric {
    const ID: &'static CStr = c"org.diffx.geometric";
    const SUMMARY: &'static CStr = c"levels of equal ratio";
    const SCHEMA: Option<&'static CStr> = schema![
        "to_zero": boolean "end at level 0 instead of sigma_min", default true;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self { to_zero: config.bool("to_zero", true)? })
    }
}

impl Grid for Geometric {
    fn knots(&self, n: u32, sigma_min: f64, sigma_max: f64) -> Result<Vec<f64>> {
        let ratio = (sigma_min / sigma_max).ln();
        Ok(ends::fill(n, sigma_min, sigma_max, self.to_zero, |u| sigma_max * (u * ratio).exp()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ratios() {
        let knots = Geometric { to_zero: true }.knots(4, 1.0, 8.0).unwrap();
        assert!((knots[1] / 4.0 - 1.0).abs() < 1e-15 && (knots[2] / 2.0 - 1.0).abs() < 1e-15);
        assert_eq!((knots[0], knots[3], knots[4]), (8.0, 1.0, 0.0));
    }
}
