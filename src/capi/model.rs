//! Models, pipelines and single evaluations.

use super::engine::{self, CEngine};
use super::guard::{CError, guard, list, needed, out, quiet, text};
use super::handle::{Handle, Object};
use super::job;
use super::option::{self, CJobOptions, EvalOptions, ScoreOptions, check_flags};
use super::tensor::{self, CTensor};
use crate::bail;
use crate::base::Result;
use crate::engine::{Engine, Evaluation, OpenModel, Pipeline, Scoring};
use std::ffi::c_char;
use std::sync::Arc;

pub type CModel = Handle<Arc<OpenModel>>;
pub type CPipeline = Handle<Arc<Pipeline>>;

impl Object for Arc<OpenModel> {
    const MAGIC: u64 = 0x6469_6666_786d_6f64;
    const NAME: &'static str = "dfx_model";

    fn engine(&self) -> Option<&Arc<Engine>> {
        Some(&self.engine)
    }
}

impl Object for Arc<Pipeline> {
    const MAGIC: u64 = 0x6469_6666_7870_6970;
    const NAME: &'static str = "dfx_pipeline";

    fn engine(&self) -> Option<&Arc<Engine>> {
        Some(&self.engine)
    }
}

/// Most named tensors of one call.
pub(super) const MOST_NAMES: u32 = 1024;

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_model_open(
    e: *mut CEngine,
    path: *const c_char,
    config: *const c_char,
    result: *mut *mut CModel,
    err: *mut CError,
) -> i32 {
    engine::with(e, err, |handle| {
        // Safety: the contract of the header.
        let (result, path, config) =
            unsafe { (out(result, "model")?, needed(path, "path")?, text(config, "config")?) };
        let model = OpenModel::open(&handle.value, path, config.unwrap_or_default())?;
        result.write(CModel::make(model));
        Ok(())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_model_release(m: *mut CModel) {
    // Safety: the contract of the header.
    quiet((), || unsafe { CModel::release(m) });
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_model_json(
    m: *const CModel,
    json: *mut *const c_char,
    err: *mut CError,
) -> i32 {
    guard(err, None, || {
        // Safety: the contract of the header.
        let (model, json) = unsafe { (CModel::get(m)?, out(json, "json")?) };
        json.write(model.keep(model.value.to_json()));
        Ok(())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_pipeline_create(
    m: *const CModel,
    config: *const c_char,
    result: *mut *mut CPipeline,
    err: *mut CError,
) -> i32 {
    // Safety: the contract of the header.
    let model = match unsafe { CModel::get(m) } {
        Ok(model) => model,
        Err(e) => return guard(err, None, || Err(e)),
    };
    guard(err, Some(&model.value.engine), || {
        // Safety: as above.
        let (result, config) = unsafe { (out(result, "pipeline")?, text(config, "config")?) };
        let pipeline = Pipeline::new(&model.value, config.unwrap_or_default())?;
        result.write(CPipeline::make(pipeline));
        Ok(())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_pipeline_release(p: *mut CPipeline) {
    // Safety: the contract of the header.
    quiet((), || unsafe { CPipeline::release(p) });
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_pipeline_plan(
    p: *const CPipeline,
    options: *const CJobOptions,
    bytes: *mut u64,
    err: *mut CError,
) -> i32 {
    with(p, err, |pipeline| {
        // Safety: the contract of the header.
        let (bytes, o) = unsafe { (out(bytes, "bytes")?, job::read(option::read(options)?)?) };
        bytes.write(pipeline.value.plan(o.n_samples, o.n_steps, o.preview_every > 0)?);
        Ok(())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_pipeline_eval(
    p: *const CPipeline,
    options: *const EvalOptions,
    results: *mut *mut CTensor,
    err: *mut CError,
) -> i32 {
    with(p, err, |pipeline| {
        // Safety: the contract of the header, for everything lent here.
        let o = unsafe { option::read(options) }?;
        check_flags(o.flags, 0, "dfx_eval_options")?;
        // Safety: as above.
        let (slot, inputs, names) = unsafe {
            (
                text(o.slot, "slot")?.unwrap_or_default(),
                tensor::named(o.input_names, o.inputs, o.n_inputs)?,
                list(o.output_names, o.n_outputs, MOST_NAMES, "output_names")?,
            )
        };
        // Safety: as above; the others lie behind it.
        unsafe { out(results, "tensors") }?;
        if names.is_empty() {
            bail!(Invalid, "eval: no outputs are asked for");
        }
        let mut outputs = Vec::with_capacity(names.len());
        for name in names {
            // Safety: as above.
            outputs.push(unsafe { needed(*name, "output name") }?.to_owned());
        }
        let found = pipeline.value.evaluate(&Evaluation {
            slot,
            phase: 0,
            inputs: &inputs,
            outputs: &outputs,
        })?;
        for (i, tensor) in found.into_iter().enumerate() {
            let made = CTensor::of(Arc::new(tensor));
            // Safety: the header asks for room for n_outputs pointers.
            unsafe { results.add(i).write(made) };
        }
        Ok(())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_pipeline_score(
    p: *const CPipeline,
    options: *const ScoreOptions,
    result: *mut *mut CTensor,
    err: *mut CError,
) -> i32 {
    with(p, err, |pipeline| {
        // Safety: the contract of the header, for everything lent here.
        let (result, o) = unsafe { (out(result, "tensor")?, option::read(options)?) };
        check_flags(o.flags, 0, "dfx_score_options")?;
        // Safety: as above.
        let inputs = unsafe { tensor::named(o.input_names, o.inputs, o.n_inputs) }?;
        let nats = pipeline.value.score(&Scoring {
            inputs: &inputs,
            steps: o.n_steps,
            probes: o.n_probes as usize,
            seed: o.seed,
            first_sample: o.first_sample,
        })?;
        result.write(CTensor::of(Arc::new(nats)));
        Ok(())
    })
}

/// Guards a call on a pipeline.
pub(super) fn with(
    p: *const CPipeline,
    err: *mut CError,
    body: impl FnOnce(&CPipeline) -> Result<()>,
) -> i32 {
    // Safety: the header asks for a pipeline that is not released.
    match unsafe { CPipeline::get(p) } {
        Ok(handle) => guard(err, Some(&handle.value.engine), || body(&handle)),
        Err(e) => guard(err, None, || Err(e)),
    }
}
