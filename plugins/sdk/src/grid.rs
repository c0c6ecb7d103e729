//! A grid: the knots of the noise level, host arithmetic only.

use crate::abi;
use crate::error::{Error, Result};
use crate::instance::{Factory, Instance, Kind, guard, null, slice, slice_mut};
use core::ffi::c_void;
use core::marker::PhantomData;

pub trait Grid: Factory {
    /// Above 0: `refine` wants a pilot run of so many steps, on the levels of `knots` ...
    const PILOT_STEPS: u32 = 0;
    /// ... and of so many samples, unless the host says otherwise.
    const PILOT_SAMPLES: u32 = 64;

    /// `n + 1` strictly descending knots from `sigma_max`; the last is 0 or `sigma_min`.
    fn knots(&self, n: u32, sigma_min: f64, sigma_max: f64) -> Result<Vec<f64>>;

    /// The same, knowing what a pilot run measured.
    fn refine(
        &self,
        n: u32,
        sigma_min: f64,
        sigma_max: f64,
        _pilot: &Pilot<'_>,
    ) -> Result<Vec<f64>> {
        self.knots(n, sigma_min, sigma_max)
    }
}

/// What a coarse run measured.
#[derive(Debug, Clone, Copy)]
pub struct Pilot<'a> {
    /// Descending levels above 0, one more than there are bends.
    pub sigma: &'a [f64],
    /// Mean over samples of |slope(k+1) - slope(k)| / (sigma(k) - sigma(k+1)), where slope = (w - D)/sigma.
    pub bend: &'a [f64],
}

/// A plugin type as a grid.
pub struct AsGrid<T>(PhantomData<T>);

impl<T: Grid> Kind for AsGrid<T> {
    type Plugin = T;
    type Info = ();
    const KIND: u32 = abi::KIND_GRID;
    const API: *const c_void = (&raw const *Self::TABLE).cast();

    fn info(_: &T) -> Result<()> {
        Ok(())
    }
}

impl<T: Grid> AsGrid<T> {
    const TABLE: &'static abi::GridApi = &abi::GridApi {
        struct_size: size_of::<abi::GridApi>() as u32,
        pilot_steps: T::PILOT_STEPS,
        pilot_samples: T::PILOT_SAMPLES,
        reserved: 0,
        knots: Some(knots::<T>),
        refine: if T::PILOT_STEPS > 0 { Some(refine::<T>) } else { None },
    };
}

unsafe extern "C" fn knots<T: Grid>(
    this: *const c_void,
    n: u32,
    sigma_min: f64,
    sigma_max: f64,
    out: *mut f64,
    err: *mut abi::Error,
) -> abi::Status {
    // Safety: this came from create; out has n + 1 elements.
    let body = || unsafe {
        let instance = Instance::<AsGrid<T>>::of(this)?;
        let n = checked(n, sigma_min, sigma_max)?;
        store(&instance.plugin.knots(n, sigma_min, sigma_max)?, slice_mut(out, n + 1))
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}

unsafe extern "C" fn refine<T: Grid>(
    this: *const c_void,
    n: u32,
    sigma_min: f64,
    sigma_max: f64,
    pilot: *const abi::Pilot,
    out: *mut f64,
    err: *mut abi::Error,
) -> abi::Status {
    // Safety: this came from create; out has n + 1 elements, sigma of the pilot one more than bend.
    let body = || unsafe {
        let instance = Instance::<AsGrid<T>>::of(this)?;
        let n = checked(n, sigma_min, sigma_max)?;
        let pilot = pilot.as_ref().ok_or_else(|| null("pilot"))?;
        let pilot = Pilot {
            sigma: slice(pilot.sigma, pilot.n.saturating_add(1)),
            bend: slice(pilot.bend, pilot.n),
        };
        store(&instance.plugin.refine(n, sigma_min, sigma_max, &pilot)?, slice_mut(out, n + 1))
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}

fn checked(n: u32, sigma_min: f64, sigma_max: f64) -> Result<u32> {
    if n == 0 || n == u32::MAX {
        return Err(Error::invalid(format!("{n} steps, want at least 1")));
    }
    if !(sigma_min > 0.0 && sigma_min < sigma_max && sigma_max.is_finite()) {
        return Err(Error::invalid(format!(
            "noise levels from {sigma_min} to {sigma_max}, want 0 < lowest < highest"
        )));
    }
    Ok(n)
}

fn store(knots: &[f64], out: &mut [f64]) -> Result<()> {
    if knots.len() != out.len() {
        let (got, want) = (knots.len(), out.len());
        return Err(Error::new(abi::E_PLUGIN, format!("grid gave {got} knots, want {want}")));
    }
    out.copy_from_slice(knots);
    Ok(())
}
