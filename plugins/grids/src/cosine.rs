//! The levels of the cosine schedule (Nichol and Dhariwal 2021): with signal cos θ and noise sin θ, sigma = tan θ, and θ
//! goes in equal steps; then 0. Dense where signal and noise are alike.

use crate::ends;
use core::ffi::CStr;
use diffx_plugin::{Config, Factory, Grid, Result, schema};

pub(crate) struct Cosine {
    to_zero: bool,
}

impl Factory for Cosine {
    const ID: &'static CStr = c"org.diffx.cosine";
    const SUMMARY: &'static CStr = c"equal angles between signal and noise";
    const SCHEMA: Option<&'static CStr> = schema![
        "to_zero": boolean "end at level 0 instead of sigma_min", default true;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self { to_zero: config.bool("to_zero", true)? })
    }
}

impl Grid for Cosine {
    fn knots(&self, n: u32, sigma_min: f64, sigma_max: f64) -> Result<Vec<f64>> {
        let (hi, lo) = (sigma_max.atan(), sigma_min.atan());
        Ok(ends::fill(n, sigma_min, sigma_max, self.to_zero, |u| (hi + u * (lo - hi)).tan()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_angles() {
        let root = 3f64.sqrt(); // 60 degrees, then 45 and 30
        let knots = Cosine { to_zero: true }.knots(3, 1.0 / root, root).unwrap();
        assert!((knots[1] - 1.0).abs() < 1e-15);
        assert_eq!((knots[0], knots[2], knots[3]), (root, 1.0 / root, 0.0));
    }
}
