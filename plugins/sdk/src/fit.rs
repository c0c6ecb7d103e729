//! Fitting a process to data: what a trainer hands over, and the settings a process makes of it.

use crate::error::{Error, Result};
use core::ffi::CStr;

/// Values of one component, all finite.
#[derive(Debug, Clone, Copy)]
pub struct Data<'a> {
    pub values: &'a [f64],
    /// They follow each other, one unit of time apart; else their order says nothing.
    pub ordered: bool,
}

/// A setting that the data says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fitted {
    pub key: &'static CStr,
    pub value: f64,
    /// 0 = set on its own; others all together, or none where the user gave one of them.
    pub group: u32,
}

impl Fitted {
    /// Where the data lies: open or not on its own.
    pub const fn place(key: &'static CStr, value: f64) -> Self {
        Self { key, value, group: 0 }
    }

    /// A parameter of the law, which belongs with the others.
    pub const fn law(key: &'static CStr, value: f64) -> Self {
        Self { key, value, group: 1 }
    }
}

/// Mean and variance of values, and how fast they return to the mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    pub mean: f64,
    pub variance: f64,
    /// The rate that has the autocorrelation of neighbours after one unit of time; 1 of values in no order.
    pub rate: f64,
}

impl Data<'_> {
    pub fn moments(&self) -> Result<Moments> {
        let values = self.values;
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        if values.len() < 3 || !variance.is_finite() || variance <= 0.0 {
            return Err(Error::invalid(format!(
                "{} values of variance {variance} are too few to fit to",
                values.len()
            )));
        }
        let pairs = values.iter().zip(values.iter().skip(1));
        let lagged = pairs.map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / n;
        let rate = if self.ordered { -(lagged / variance).clamp(1e-3, 0.9999).ln() } else { 1.0 };
        Ok(Moments { mean, variance, rate })
    }

    /// Itself, if all values are above 0.
    pub fn positive(&self) -> Result<&Self> {
        match self.values.iter().find(|v| **v <= 0.0) {
            Some(bad) => Err(Error::invalid(format!("wants positive data, a value is {bad}"))),
            None => Ok(self),
        }
    }
}
