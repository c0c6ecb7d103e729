//! Levels given one by one: `sigmas`, descending, one more than there are steps. The first is where the run starts and
//! must be its sigma_max, the last is 0 or its sigma_min.

use core::ffi::CStr;
use diffx_plugin::{Config, Error, Factory, Grid, Result, schema};

pub(crate) struct List {
    sigmas: Vec<f64>,
}

impl Factory for List {
    const ID: &'static CStr = c"org.diffx.list";
    const SUMMARY: &'static CStr = c"levels given one by one";
    const SCHEMA: Option<&'static CStr> = schema![
        "sigmas": numbers "the levels, descending, one more than there are steps", minimum 0;
    ];

    /// Without `sigmas` there is a list of none, which fits no run.
    fn create(config: &mut Config) -> Result<Self> {
        let sigmas = config.f64s("sigmas", 0.0..)?.unwrap_or_default();
        if let Some(i) = sigmas.windows(2).position(|w| w[1] >= w[0]) {
            let (a, b) = (sigmas[i], sigmas[i + 1]);
            return Err(Error::invalid(format!("sigmas: {b} follows {a}, want descending levels")));
        }
        Ok(Self { sigmas })
    }
}

impl Grid for List {
    fn knots(&self, n: u32, sigma_min: f64, sigma_max: f64) -> Result<Vec<f64>> {
        let (got, want) = (self.sigmas.len(), n as usize + 1);
        if got != want {
            return Err(Error::invalid(format!("{got} sigmas for {n} steps, want {want}")));
        }
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b;
        let (first, last) = (self.sigmas[0], self.sigmas[n as usize]); // n + 1 of them, as just seen
        if !near(first, sigma_max) || !(last == 0.0 || near(last, sigma_min)) {
            return Err(Error::invalid(format!(
                "sigmas go from {first} to {last}, want from sigma_max {sigma_max} to sigma_min {sigma_min} or 0"
            )));
        }
        Ok(self.sigmas.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(json: &str) -> Result<List> {
        List::create(&mut Config::parse(json)?)
    }

    #[test]
    fn gives_what_it_was_given() {
        let grid = list(r#"{"sigmas":[8,3,1,0]}"#).unwrap();
        assert_eq!(grid.knots(3, 0.5, 8.0).unwrap(), [8.0, 3.0, 1.0, 0.0]);
        let message = |n, hi| grid.knots(n, 0.5, hi).unwrap_err().message;
        assert_eq!(message(4, 8.0), "4 sigmas for 4 steps, want 5");
        let want = "sigmas go from 8 to 0, want from sigma_max 9 to sigma_min 0.5 or 0";
        assert_eq!(message(3, 9.0), want);
        let e = list(r#"{"sigmas":[8,3,3]}"#).err().unwrap();
        assert_eq!(e.message, "sigmas: 3 follows 3, want descending levels");
    }
}
