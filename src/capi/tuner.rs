//! Tuning by rewards: a pure sequence of calls, one caller at a time.

use super::guard::{CError, guard, needed, out, path, quiet, text};
use super::handle::{Handle, Object};
use super::learner::{self, Inner, Learner, Stand, with};
use super::model::CModel;
use super::option::{self, CReward, Growing, RolloutOptions, Training, check_flags};
use super::tensor::{self, CTensor};
use crate::bail;
use crate::base::{DType, Result};
use crate::engine::Engine;
use crate::engine::tuner::Tuner;
use crate::mem::Tensor;
use crate::train::Reward;
use std::ffi::{CString, c_char};
use std::sync::{Arc, Mutex, PoisonError};

/// A tuner, and what its last update said.
pub struct Held {
    engine: Arc<Engine>,
    inner: Inner<Tuner>,
    /// What `dfx_tuner_json` said last. It changes with every update, so that keeping each would grow without end.
    said: Mutex<CString>,
}

impl Held {
    /// The text in its one place, which moves only when the text is another: only after a call that needs the tuner to
    /// itself, so that callers of many threads read the same.
    fn say(&self, text: String) -> *const c_char {
        let text = CString::new(text).unwrap_or_default(); // JSON has no NUL
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != text {
            *said = text;
        }
        said.as_ptr()
    }
}

pub type CTuner = Handle<Held>;

impl Object for Held {
    const MAGIC: u64 = 0x6469_6666_7874_756e;
    const NAME: &'static str = "dfx_tuner";

    fn engine(&self) -> Option<&Arc<Engine>> {
        Some(&self.engine)
    }
}

impl Learner for Held {
    type Of = Tuner;
    const UPDATE: &'static str = "update";

    fn inner(&self) -> &Inner<Tuner> {
        &self.inner
    }

    fn metrics(of: &Tuner) -> &[String] {
        of.metrics()
    }
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tuner_create(
    m: *const CModel,
    config: *const c_char,
    result: *mut *mut CTuner,
    err: *mut CError,
) -> i32 {
    // Safety: the contract of the header.
    let model = match unsafe { CModel::get(m) } {
        Ok(model) => model,
        Err(e) => return guard(err, None, || Err(e)),
    };
    guard(err, Some(&model.value.engine), || {
        // Safety: as above.
        let (result, config) = unsafe { (out(result, "tuner")?, needed(config, "config")?) };
        let tuner = Tuner::new(&model.value, config)?;
        let engine = Arc::clone(&model.value.engine);
        let inner = Mutex::new((tuner, None));
        result.write(CTuner::make(Held { engine, inner, said: Mutex::default() }));
        Ok(())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tuner_release(t: *mut CTuner) {
    // Safety: the contract of the header.
    quiet((), || unsafe { CTuner::release(t) });
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tuner_plan(
    m: *const CModel,
    config: *const c_char,
    bytes: *mut u64,
    err: *mut CError,
) -> i32 {
    // Safety: the contract of the header.
    let model = match unsafe { CModel::get(m) } {
        Ok(model) => model,
        Err(e) => return guard(err, None, || Err(e)),
    };
    guard(err, Some(&model.value.engine), || {
        // Safety: as above.
        let (bytes, config) = unsafe { (out(bytes, "bytes")?, needed(config, "config")?) };
        bytes.write(Tuner::plan(&model.value, config)?);
        Ok(())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tuner_json(
    t: *const CTuner,
    json: *mut *const c_char,
    err: *mut CError,
) -> i32 {
    let mut said = None;
    let status = with(t.cast_mut(), err, |tuner, _| {
        said = Some(tuner.to_json().to_string());
        Ok(())
    });
    match said {
        None => status,
        Some(said) => guard(err, None, || {
            // Safety: the contract of the header.
            let (handle, json) = unsafe { (CTuner::get(t)?, out(json, "json")?) };
            json.write(handle.value.say(said));
            Ok(())
        }),
    }
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tuner_rollout(
    t: *mut CTuner,
    options: *const RolloutOptions,
    err: *mut CError,
) -> i32 {
    with(t, err, |tuner, _| {
        // Safety: the contract of the header, for everything lent here.
        let o = unsafe { option::read(options) }?;
        check_flags(o.flags, 0, RolloutOptions::NAME)?;
        // Safety: as above.
        let inputs = unsafe { tensor::named(o.input_names, o.inputs, o.n_inputs)? };
        tuner.rollout(&inputs)
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tuner_result(
    t: *const CTuner,
    name: *const c_char,
    result: *mut *mut CTensor,
    err: *mut CError,
) -> i32 {
    with(t.cast_mut(), err, |tuner, _| {
        // Safety: the contract of the header.
        let (result, name) = unsafe { (out(result, "tensor")?, text(name, "name")?) };
        result.write(CTensor::of(tuner.result(name)?));
        Ok(())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tuner_reward(
    t: *mut CTuner,
    reward: *const CReward,
    err: *mut CError,
) -> i32 {
    with(t, err, |tuner, _| {
        // Safety: the contract of the header, for everything lent here.
        let o = unsafe { option::read(reward) }?;
        check_flags(o.flags, 0, CReward::NAME)?;
        // Safety: as above.
        let (values, valid, grads) = unsafe {
            (
                tensor::lent(o.values)?,
                tensor::lent(o.valid)?,
                tensor::named(o.grad_names, o.grads, o.n_grads)?,
            )
        };
        let Some(values) = values else { bail!(Invalid, "reward: values is NULL, want a tensor") };
        tuner.reward(Reward { values: numbers(&values)?, valid: truths(valid.as_deref())?, grads })
    })
}

/// [samples] or [samples, rewards] of floats.
fn numbers(t: &Tensor) -> Result<Vec<f64>> {
    let desc = t.desc();
    if !desc.dtype.is_compute_float() || !(1..=2).contains(&desc.shape.rank()) {
        bail!(Invalid, "reward: values is {desc}, want f32 or f64 of one or two axes");
    }
    match desc.dtype {
        DType::F64 => Ok(t.bytes().as_chunks().0.iter().map(|b| f64::from_ne_bytes(*b)).collect()),
        _ => {
            let wide = |b: &[u8; 4]| f64::from(f32::from_ne_bytes(*b));
            Ok(t.bytes().as_chunks().0.iter().map(wide).collect())
        }
    }
}

/// Bytes that are 0 or not.
fn truths(t: Option<&Tensor>) -> Result<Vec<bool>> {
    let Some(t) = t else { return Ok(Vec::new()) };
    let desc = t.desc();
    if !matches!(desc.dtype, DType::Bool | DType::U8) || desc.shape.rank() != 1 {
        bail!(Invalid, "reward: valid is {desc}, want bool or u8 of one axis");
    }
    Ok(t.bytes().iter().map(|b| *b != 0).collect())
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tuner_update(
    t: *mut CTuner,
    n_updates: u32,
    result: *mut Training,
    err: *mut CError,
) -> i32 {
    with(t, err, |tuner, last| {
        let left = tuner.left();
        let n = if n_updates == 0 { left } else { left.min(n_updates as usize) };
        for _ in 0..n {
            *last = Some(tuner.advance()?);
        }
        let (loss, norm) = learner::last_of(last.as_ref());
        let tuning = tuner.tuning();
        let (step, of) = (tuning.done().1, tuning.plan().steps());
        // Safety: the contract of the header.
        unsafe { learner::tell(result, &Stand { step, of, rate: tuning.rate(), loss, norm }) }
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tuner_metric_count(t: *const CTuner) -> u32 {
    learner::metric_count(t)
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tuner_metric_name(
    t: *const CTuner,
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
pub unsafe extern "C" fn dfx_tuner_metric(
    t: *mut CTuner,
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
pub unsafe extern "C" fn dfx_tuner_checkpoint(
    t: *mut CTuner,
    file: *const c_char,
    err: *mut CError,
) -> i32 {
    // Safety: the contract of the header.
    with(t, err, |tuner, _| tuner.save_checkpoint(&unsafe { path(file, "path") }?))
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tuner_resume(
    t: *mut CTuner,
    file: *const c_char,
    err: *mut CError,
) -> i32 {
    with(t, err, |tuner, last| {
        *last = None; // of updates that are not this tuning's any more
        // Safety: the contract of the header.
        tuner.resume(&unsafe { path(file, "path") }?)
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tuner_save(
    t: *mut CTuner,
    file: *const c_char,
    err: *mut CError,
) -> i32 {
    // Safety: the contract of the header.
    with(t, err, |tuner, _| tuner.save(&unsafe { path(file, "path") }?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{OpenModel, Options};
    use std::collections::BTreeSet;
    use std::ffi::CStr;
    use std::ptr::null_mut;

    #[test]
    fn of_all_texts_one_is_kept() {
        let engine = Engine::new(Options { threads: 1, ..Options::default() }).unwrap();
        let model = OpenModel::open(&engine, "vix", "").unwrap();
        let config =
            r#"{"objective":"nft","rounds":4,"samples":2,"batch":1,"rollout":{"steps":2}}"#;
        let inner = Mutex::new((Tuner::new(&model, config).unwrap(), None));
        let t = CTuner::make(Held { engine, inner, said: Mutex::default() });
        let say = || {
            let mut json = std::ptr::null();
            // Safety: the tuner above.
            assert_eq!(unsafe { dfx_tuner_json(t, &raw mut json, null_mut()) }, 0);
            json
        };
        let mut texts = BTreeSet::new();
        for _ in 0..4 {
            let step = |f: &mut dyn FnMut(&mut Tuner) -> Result<()>| {
                assert_eq!(with(t, null_mut(), |tuner, _| f(tuner)), 0);
                let p = say();
                assert_eq!(p, say(), "it stays where it is while nothing goes on");
                // Safety: the text that was said last.
                unsafe { CStr::from_ptr(p) }.to_str().unwrap().to_owned()
            };
            step(&mut |t| t.rollout(&[]));
            step(&mut |t| {
                t.reward(Reward { values: vec![1.0, 2.0], valid: vec![], grads: vec![] })
            });
            for _ in 0..2 {
                texts.insert(step(&mut |t| t.advance().map(|_| ())));
            }
        }
        assert_eq!(texts.len(), 8);
        // Safety: the tuner above.
        assert_eq!(unsafe { CTuner::get(t) }.unwrap().kept(), 0);
        // Safety: as above; the last use of it.
        unsafe { dfx_tuner_release(t) };
    }
}
