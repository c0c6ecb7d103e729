//! Mean and variance of data.

use crate::bail;
use crate::base::Result;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moments {
    pub(super) mean: f64,
    pub(super) variance: f64,
}

impl Moments {
    pub(super) fn of(values: &[f64]) -> Result<Self> {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        if values.len() < 3 || !variance.is_finite() || variance <= 0.0 {
            bail!(
                Invalid,
                "{} values of variance {variance} are too few to train on",
                values.len()
            );
        }
        Ok(Self { mean, variance })
    }
}
