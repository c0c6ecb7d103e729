//! Training: the engine's trainer, one caller at a time.

use super::engine::{self, CEngine};
use super::guard::{CError, needed, out, path, quiet};
use super::handle::{Handle, Object};
use super::learner::{self, Inner, Learner, Stand, with};
use super::option::{self, Growing, TrainerOptions, Training, check_flags};
use super::tensor;
use crate::bail;
use crate::base::Result;
use crate::engine::Engine;
use crate::engine::recipe::Recipe;
use crate::engine::trainer::Trainer;
use crate::exec::Interrupt;
use crate::mem::Tensor;
use std::ffi::c_char;
use std::sync::{Arc, Mutex};

/// A trainer, and what it last said.
pub struct Held {
    engine: Arc<Engine>,
    inner: Inner<Trainer>,
}

pub type CTrainer = Handle<Held>;

impl Object for Held {
    const MAGIC: u64 = 0x6469_6666_7874_7261;
    const NAME: &'static str = "dfx_trainer";

    fn engine(&self) -> Option<&Arc<Engine>> {
        Some(&self.engine)
    }
}

impl Learner for Held {
    type Of = Trainer;
    const UPDATE: &'static str = "step";

    fn inner(&self) -> &Inner<Trainer> {
        &self.inner
    }

    fn metrics(of: &Trainer) -> &[String] {
        of.training().metrics()
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
        let stand = stand(trainer, learner::last_of(last.as_ref()));
        // Safety: the contract of the header.
        unsafe { learner::tell(result, &stand) }
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
        Some(report) => unsafe { learner::tell(result, &stand(trainer, (report.loss, 0.0))) },
        None => bail!(State, "there is no held-out data to measure on: give the data a split"),
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_trainer_metric_count(t: *const CTrainer) -> u32 {
    learner::metric_count(t)
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
    // Safety: the contract of the header.
    unsafe { learner::metric_name(t, i, name, err) }
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
    // Safety: the contract of the header.
    unsafe { learner::metric(t, name, value, err) }
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

fn stand(trainer: &Trainer, (loss, norm): (f64, f64)) -> Stand {
    let training = trainer.training();
    Stand { step: training.done(), of: training.steps(), rate: training.rate(), loss, norm }
}
