//! What a trainer and a tuner have alike at the border: one caller at a time, what their last update said, and the metrics
//! of it by name.

use super::guard::{CError, guard, needed, out};
use super::handle::{Handle, Object};
use super::option::{self, Training};
use crate::bail;
use crate::base::Result;
use crate::train::Report;
use std::ffi::c_char;
use std::sync::{Mutex, PoisonError};

/// What learns, and what it last said.
pub type Inner<T> = Mutex<(T, Option<Report>)>;

/// A kind of object that learns.
pub trait Learner: Object {
    type Of;
    /// What an update is called.
    const UPDATE: &'static str;

    fn inner(&self) -> &Inner<Self::Of>;

    /// Names of the metrics of an update.
    fn metrics(of: &Self::Of) -> &[String];
}

/// Calls with the learner to itself.
pub(super) fn with<L: Learner>(
    p: *mut Handle<L>,
    err: *mut CError,
    body: impl FnOnce(&mut L::Of, &mut Option<Report>) -> Result<()>,
) -> i32 {
    // Safety: the header asks for an object that is not released.
    match unsafe { Handle::<L>::get(p) } {
        Err(e) => guard(err, None, || Err(e)),
        Ok(handle) => guard(err, handle.value.engine().map(|e| &**e), || {
            // after a panic the engine is poisoned, and nothing gets here
            let mut inner = handle.value.inner().lock().unwrap_or_else(PoisonError::into_inner);
            let (of, last) = &mut *inner;
            body(of, last)
        }),
    }
}

pub(super) fn metric_count<L: Learner>(p: *const Handle<L>) -> u32 {
    let mut n = 0;
    with(p.cast_mut(), std::ptr::null_mut(), |of, _| {
        n = L::metrics(of).len() as u32;
        Ok(())
    });
    n
}

/// # Safety
/// `name` must be null or writable.
pub(super) unsafe fn metric_name<L: Learner>(
    p: *const Handle<L>,
    i: u32,
    name: *mut *const c_char,
    err: *mut CError,
) -> i32 {
    let mut found = None;
    let status = with(p.cast_mut(), err, |of, _| {
        let names = L::metrics(of);
        match names.get(i as usize) {
            Some(name) => found = Some(name.clone()),
            None => bail!(NotFound, "metric {i}, there are {}", names.len()),
        }
        Ok(())
    });
    match found {
        None => status,
        Some(found) => guard(err, None, || {
            // Safety: the header asks for an object that is not released, and as the caller promised.
            let (handle, name) = unsafe { (Handle::<L>::get(p)?, out(name, "name")?) };
            name.write(handle.keep(found));
            Ok(())
        }),
    }
}

/// # Safety
/// `name` must be null or a text, `value` null or writable.
pub(super) unsafe fn metric<L: Learner>(
    p: *mut Handle<L>,
    name: *const c_char,
    value: *mut f64,
    err: *mut CError,
) -> i32 {
    with(p, err, |of, last| {
        // Safety: as the caller promised.
        let (name, value) = unsafe { (needed(name, "name")?, out(value, "value")?) };
        let names = L::metrics(of);
        let Some(i) = names.iter().position(|n| n == name) else {
            bail!(NotFound, "no metric named {name:?}; there are: {}", names.join(", "));
        };
        match last.as_ref().and_then(|r| r.metrics.get(i)) {
            Some(v) => value.write(*v),
            None => bail!(State, "no {} was made yet", L::UPDATE),
        };
        Ok(())
    })
}

/// Where a learner stands.
pub(super) struct Stand {
    pub(super) step: u32,
    pub(super) of: u32,
    pub(super) rate: f64,
    pub(super) loss: f64,
    pub(super) norm: f64,
}

/// # Safety
/// `result` must be null or a dfx_training.
pub(super) unsafe fn tell(result: *mut Training, s: &Stand) -> Result<()> {
    if result.is_null() {
        return Ok(());
    }
    let said = Training {
        struct_size: 0,
        reserved: 0,
        step: u64::from(s.step),
        n_steps: u64::from(s.of),
        loss: s.loss,
        norm: s.norm,
        rate: s.rate,
    };
    // Safety: as the caller promised.
    unsafe { option::write(result, &said) }
}

/// Loss and norm of the last update; NaN before the first.
pub(super) fn last_of(last: Option<&Report>) -> (f64, f64) {
    last.map_or((f64::NAN, f64::NAN), |r| (r.loss, r.norm))
}
