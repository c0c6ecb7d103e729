//! EDM's grid (Karras et al. 2022, equation 5): σ_i = (σ_max^{1/ρ} + i/(n-1) (σ_min^{1/ρ} - σ_max^{1/ρ}))^ρ, then 0.
//! ρ = 7 by default.

use crate::ends;
use core::ffi::CStr;
use diffx_plugin::{Config, Factory, Grid, Result, schema};

pub(crate) struct Edm {
    rho: f64,
    to_zero: bool,
}

impl Factory for Edm {
    const ID: &'static CStr = c"org.diffx.edm";
    const SUMMARY: &'static CStr = c"EDM's grid: uniform in sigma^(1/rho)";
    const SCHEMA: Option<&'static CStr> = schema![
        "rho": number "how the levels crowd at the low end", default 7, minimum 1, maximum 100;
        "to_zero": boolean "end at level 0 instead of sigma_min", default true;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self {
            rho: config.f64("rho", 7.0, 1.0..=100.0)?,
            to_zero: config.bool("to_zero", true)?,
        })
    }
}

impl Grid for Edm {
    fn knots(&self, n: u32, sigma_min: f64, sigma_max: f64) -> Result<Vec<f64>> {
        let (hi, lo) = (sigma_max.powf(1.0 / self.rho), sigma_min.powf(1.0 / self.rho));
        Ok(ends::fill(n, sigma_min, sigma_max, self.to_zero, |u| {
            (hi + u * (lo - hi)).powf(self.rho)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edm(json: &str) -> Edm {
        Edm::create(&mut Config::parse(json).unwrap()).unwrap()
    }

    /// Golden row edm.grid: 18 levels from 80 to 0.002.
    #[test]
    fn golden_row() {
        let knots = edm("{}").knots(18, 0.002, 80.0).unwrap();
        assert_eq!(knots.len(), 19);
        for (i, want) in [(0, 80.0), (1, 57.585_984_72), (9, 1.923_339_837), (17, 0.002)] {
            let error: f64 = knots[i] / want - 1.0;
            assert!(error.abs() < 1e-9, "level {i}: {} and not {want}", knots[i]);
        }
        assert_eq!(knots[18], 0.0);
    }

    #[test]
    fn few_steps_and_an_open_end() {
        assert_eq!(edm("{}").knots(1, 0.1, 2.0).unwrap(), [2.0, 0.0]);
        assert_eq!(edm(r#"{"to_zero":false}"#).knots(1, 0.1, 2.0).unwrap(), [2.0, 0.1]);
        let open = edm(r#"{"rho":1,"to_zero":false}"#).knots(2, 1.0, 3.0).unwrap();
        assert_eq!(open, [3.0, 2.0, 1.0]);
        let e = Edm::create(&mut Config::parse(r#"{"rho":0.5}"#).unwrap()).err().unwrap();
        assert_eq!(e.message, "rho is 0.5, want a number from 1 to 100");
    }
}
