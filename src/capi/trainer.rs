//! Training: the engine's trainer, one caller at a time.

use super::engine::{self, CEngine};
use super::guard::{CError, guard, needed, out, path, quiet};
use super::handle::{Handle, Object};
use super::option::{self, Growing, TrainerOptions, Training, check_flags};
use super::tensor;
use crate::bail;
use crate::base::Result;
use crate::engine::Engine;
use crate::engine::recipe::Recipe;
use crate::engine::trainer::Trainer;
use crate::exec::Interrupt;
use crate::mem::Tensor;
use crate::train::Report;
use std::ffi::c_char;
use std::sync::{Arc, Mutex, PoisonError};

/// A trainer, and what it last said.
pub struct Held {
    engine: Arc<Engine>,
    inner: Mutex<(Trainer, Option<Report>)>,
}

pub type CTrainer = Handle<Held>;

impl Object for Held {
    const MAGIC: u64 = 0x6469_6666_7874_7261;
    const NAME: &'static str = "dfx_trainer";

    fn engine(&self) -> Option<&Arc<Engine>> {
        Some(&self.engine)
    }
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_trainer_create(
    e: *mut CEngine,
    config: *const c_char,
    options: *const TrainerOptions,
    result: *mut *mut CTrainer,
    err: *mut CError,
) -> i32 {
    engine::with(e, err, |handle| {
        // Safety: the contract of the header.
        let (result, (recipe, tables)) =
            unsafe { (out(result, "trainer")?, asked(config, options)?) };
        let trainer = Trainer::with_tables(&handle.value, recipe, tables)?;
        let engine = Arc::clone(&handle.value);
        result.write(CTrainer::make(Held { engine, inner: Mutex::new((trainer, None)) }));
        Ok(())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_trainer_plan(
    e: *mut CEngine,
    config: *const c_char,
    options: *const TrainerOptions,
    bytes: *mut u64,
    err: *mut CError,
) -> i32 {
    engine::with(e, err, |handle| {
        // Safety: the contract of the header.
        let (bytes, (recipe, tables)) = unsafe { (out(bytes, "bytes")?, asked(config, options)?) };
        bytes.write(Trainer::plan(&handle.value, recipe, tables)?);
        Ok(())
    })
}

/// The recipe and the tables of a call.
///
/// # Safety
/// The contract of `diffx.h`.
unsafe fn asked(
    config: *const c_char,
    options: *const TrainerOptions,
) -> Result<(Recipe, Vec<(String, Arc<Tensor>)>)> {
    // Safety: as the caller promised, for everything lent here.
    let (config, o) = unsafe { (needed(config, "config")?, option::read(options)?) };
    check_flags(o.flags, 0, TrainerOptions::NAME)?;
    // Safety: as above.
    let tables = unsafe { tensor::named(o.table_names, o.tables, o.n_tables)? };
    Ok((Recipe::parse(config)?, tables))
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_trainer_step(
    t: *mut CTrainer,
    n_steps: u32,
    result: *mut Training,
    err: *mut CError,
) -> i32 {
    with(t, err, |trainer, last| {
        let left = trainer.training().steps().saturating_sub(trainer.training().done());
        for _ in 0..n_steps.max(1).min(left) {
            match trainer.advance(&mut || Interrupt::Continue)? {
                Some(report) => *last = Some(report),
                None => break, // paused, which this interrupt never asks for
            }
        }
        let said = last.as_ref();
        // Safety: the contract of the header.
        unsafe {
            tell(
                result,
                trainer,
                said.map_or(f64::NAN, |r| r.loss),
                said.map_or(f64::NAN, |r| r.norm),
            )
        }
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_trainer_measure(
    t: *mut CTrainer,
    result: *mut Training,
    err: *mut CError,
) -> i32 {
    with(t, err, |trainer, _| match trainer.measure()? {
        // Safety: the contract of the header.
        Some(report) => unsafe { tell(result, trainer, report.loss, 0.0) },
        None => bail!(State, "there is no held-out data to measure on: give the data a split"),
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_trainer_metric_count(t: *const CTrainer) -> u32 {
    let mut n = 0;
    with(t.cast_mut(), std::ptr::null_mut(), |trainer, _| {
        n = trainer.training().metrics().len() as u32;
        Ok(())
    });
    n
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_trainer_metric_name(
    t: *const CTrainer,
    i: u32,
    name: *mut *const c_char,
    err: *mut CError,
) -> i32 {
    let mut found = None;
    let status = with(t.cast_mut(), err, |trainer, _| {
        let names = trainer.training().metrics();
        match names.get(i as usize) {
            Some(name) => found = Some(name.clone()),
            None => bail!(NotFound, "metric {i}, there are {}", names.len()),
        }
        Ok(())
    });
    match found {
        None => status,
        Some(found) => guard(err, None, || {
            // Safety: the contract of the header.
            let (handle, name) = unsafe { (CTrainer::get(t)?, out(name, "name")?) };
            name.write(handle.keep(found));
            Ok(())
        }),
    }
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_trainer_metric(
    t: *mut CTrainer,
    name: *const c_char,
    value: *mut f64,
    err: *mut CError,
) -> i32 {
    with(t, err, |trainer, last| {
        // Safety: the contract of the header.
        let (name, value) = unsafe { (needed(name, "name")?, out(value, "value")?) };
        let names = trainer.training().metrics();
        let Some(i) = names.iter().position(|n| n == name) else {
            bail!(NotFound, "no metric named {name:?}; there are: {}", names.join(", "));
        };
        match last.as_ref().and_then(|r| r.metrics.get(i)) {
            Some(v) => value.write(*v),
            None => bail!(State, "no step was made yet"),
        };
        Ok(())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_trainer_resume(
    t: *mut CTrainer,
    file: *const c_char,
    err: *mut CError,
) -> i32 {
    with(t, err, |trainer, last| {
        *last = None; // of steps that are not this training's any more
        // Safety: the contract of the header.
        trainer.resume(&unsafe { path(file, "path") }?)
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_trainer_checkpoint(
    t: *mut CTrainer,
    file: *const c_char,
    err: *mut CError,
) -> i32 {
    // Safety: the contract of the header.
    with(t, err, |trainer, _| trainer.save_checkpoint(&unsafe { path(file, "path") }?))
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_trainer_save(
    t: *mut CTrainer,
    file: *const c_char,
    err: *mut CError,
) -> i32 {
    // Safety: the contract of the header.
    with(t, err, |trainer, _| trainer.save(&unsafe { path(file, "path") }?))
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_trainer_release(t: *mut CTrainer) {
    // Safety: the contract of the header.
    quiet((), || unsafe { CTrainer::release(t) });
}

/// # Safety
/// `result` must be null or a dfx_training.
unsafe fn tell(result: *mut Training, trainer: &Trainer, loss: f64, norm: f64) -> Result<()> {
    if result.is_null() {
        return Ok(());
    }
    let training = trainer.training();
    let said = Training {
        struct_size: 0,
        reserved: 0,
        step: u64::from(training.done()),
        n_steps: u64::from(training.steps()),
        loss,
        norm,
        rate: training.rate(),
    };
    // Safety: as the caller promised.
    unsafe { option::write(result, &said) }
}

fn with(
    t: *mut CTrainer,
    err: *mut CError,
    body: impl FnOnce(&mut Trainer, &mut Option<Report>) -> Result<()>,
) -> i32 {
    // Safety: the header asks for a trainer that is not released.
    match unsafe { CTrainer::get(t) } {
        Err(e) => guard(err, None, || Err(e)),
        Ok(handle) => guard(err, Some(&handle.value.engine), || {
            // after a panic the engine is poisoned, and nothing gets here
            let mut inner = handle.value.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let (trainer, last) = &mut *inner;
            body(trainer, last)
        }),
    }
}
