//! A grid over `dfx_grid_api`.

use super::super::instance::{Factory, Instance};
use super::super::{abi, read};
use crate::bail;
use crate::base::Result;
use crate::sample::Grid;
use std::sync::Arc;

const MAX_STEPS: u32 = 1 << 20;
/// Ends of a grid may miss their level by rounding.
const ROUNDING: f64 = 1e-6;

pub(in super::super) struct GridPlugin {
    instance: Instance,
    api: abi::GridApi,
}

impl GridPlugin {
    pub(in super::super) fn new(factory: &Arc<Factory>, config: &str) -> Result<Self> {
        let instance = Instance::create(factory, config)?;
        // Safety: the table was checked when the factory was registered.
        let api = unsafe { read::table::<abi::GridApi>(instance.api().cast()) }?;
        Ok(Self { instance, api })
    }

    /// Strictly descending from sigma_max to 0 or sigma_min.
    fn check(&self, knots: &[f64], sigma_min: f64, sigma_max: f64) -> Result<()> {
        let near = |a: f64, b: f64| (a - b).abs() <= ROUNDING * b.abs().max(f64::MIN_POSITIVE);
        if let Some(i) = knots.iter().position(|k| !k.is_finite() || *k < 0.0) {
            return Err(self.instance.out_of_range(format!("knot {i} is {}", knots[i])));
        }
        if let Some(i) = knots.windows(2).position(|w| w[1] >= w[0]) {
            let (a, b) = (knots[i], knots[i + 1]);
            let message = format!("knots {i} and {}: {b} does not lie below {a}", i + 1);
            // settings may press knots together, but turn none around
            return Err(match b > a {
                true => self.instance.broke(message),
                false => self.instance.out_of_range(message),
            });
        }
        let (Some(&first), Some(&last)) = (knots.first(), knots.last()) else {
            bail!(Internal, "a grid without knots was checked");
        };
        if !near(first, sigma_max) || !(last == 0.0 || near(last, sigma_min)) {
            return Err(self.instance.broke(format!(
                "knots go from {first} to {last}, want {sigma_max} to {sigma_min} or 0"
            )));
        }
        Ok(())
    }
}

fn check_range(n: u32, sigma_min: f64, sigma_max: f64) -> Result<()> {
    let range = sigma_min.is_finite() && sigma_max.is_finite() && sigma_min >= 0.0;
    if n == 0 || n > MAX_STEPS || !range || sigma_max <= sigma_min {
        bail!(
            Invalid,
            "grid: {n} steps from {sigma_max} to {sigma_min}, want 1 to {MAX_STEPS} downwards"
        );
    }
    Ok(())
}

impl Grid for GridPlugin {
    fn pilot_steps(&self) -> u32 {
        if self.api.refine.is_some() { self.api.pilot_steps.min(MAX_STEPS) } else { 0 }
    }

    fn pilot_samples(&self) -> u32 {
        self.api.pilot_samples.clamp(1, MAX_STEPS)
    }

    fn knots(&self, n: u32, sigma_min: f64, sigma_max: f64) -> Result<Vec<f64>> {
        check_range(n, sigma_min, sigma_max)?;
        let mut out = vec![f64::NAN; n as usize + 1];
        self.instance.call(|this, error| match self.api.knots {
            // Safety: the contract of the table; there is room for n + 1 knots.
            Some(knots) => unsafe { knots(this, n, sigma_min, sigma_max, out.as_mut_ptr(), error) },
            None => abi::OK,
        })?;
        self.check(&out, sigma_min, sigma_max)?;
        Ok(out)
    }

    fn refine(
        &self,
        n: u32,
        sigma_min: f64,
        sigma_max: f64,
        sigma: &[f64],
        bend: &[f64],
    ) -> Result<Vec<f64>> {
        check_range(n, sigma_min, sigma_max)?;
        let Some(refine) = self.api.refine else { bail!(State, "refine: this grid has none") };
        if sigma.len() != bend.len() + 1 || bend.is_empty() || bend.len() > MAX_STEPS as usize {
            bail!(Invalid, "refine: {} levels and {} bends", sigma.len(), bend.len());
        }
        let pilot = abi::Pilot {
            struct_size: size_of::<abi::Pilot>() as u32,
            n: bend.len() as u32,
            sigma: sigma.as_ptr(),
            bend: bend.as_ptr(),
        };
        let mut out = vec![f64::NAN; n as usize + 1];
        // Safety: the contract of the table; there is room for n + 1 knots.
        self.instance.call(|this, error| unsafe {
            refine(this, n, sigma_min, sigma_max, &raw const pilot, out.as_mut_ptr(), error)
        })?;
        self.check(&out, sigma_min, sigma_max)?;
        Ok(out)
    }
}
