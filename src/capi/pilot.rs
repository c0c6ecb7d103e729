//! The pilot run of a pipeline, and the model file that keeps what it measured.

use super::guard::{CError, out, path};
use super::job;
use super::model::{CPipeline, with};
use super::option::{self, CJobOptions};
use std::ffi::c_char;

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_pipeline_pilot(
    p: *const CPipeline,
    options: *const CJobOptions,
    json: *mut *const c_char,
    err: *mut CError,
) -> i32 {
    with(p, err, |pipeline| {
        // Safety: the contract of the header.
        let (json, raw) = unsafe { (out(json, "json")?, option::read(options)?) };
        let none = raw.n_samples == 0;
        // Safety: as above.
        let mut o = unsafe { job::read(raw) }?;
        if none {
            o.n_samples = 0; // as many as the grids ask for
        }
        let pilot = pipeline.value.pilot(&o)?;
        json.write(pipeline.keep(pilot.to_value().to_string()));
        Ok(())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_pipeline_save(
    p: *const CPipeline,
    file: *const c_char,
    err: *mut CError,
) -> i32 {
    with(p, err, |pipeline| {
        // Safety: the contract of the header.
        pipeline.value.save_model(&unsafe { path(file, "path") }?)
    })
}
