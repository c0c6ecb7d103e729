//! Jobs: started, asked, waited for, saved.

use super::engine::User;
use super::guard::{CError, guard, out, path, quiet, text};
use super::handle::{Handle, Object};
use super::model::{self, CPipeline};
use super::option::{self, CJobOptions, CProgress, ProgressFn, check_flags};
use super::tensor::{self, CTensor};
use crate::base::Result;
use crate::engine::{Engine, Job, JobOptions, Progress, State};
use crate::{bail, fail};
use std::ffi::c_char;
use std::sync::Arc;
use std::time::Duration;

/// A job and whom to tell about it.
pub struct Watched {
    job: Arc<Job>,
    callback: Option<(ProgressFn, User)>,
}

pub type CJob = Handle<Watched>;

impl Object for Watched {
    const MAGIC: u64 = 0x6469_6666_786a_6f62;
    const NAME: &'static str = "dfx_job";

    fn engine(&self) -> Option<&Arc<Engine>> {
        Some(&self.job.pipeline.engine)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.job.progress().state.is_over() {
            self.job.abandon();
        }
    }
}

/// How long a wait stays away from the callback.
const TURN: Duration = Duration::from_millis(20);

/// Options, read and checked.
///
/// # Safety
/// What the options point to must be as the header says.
pub(super) unsafe fn read(o: CJobOptions) -> Result<JobOptions> {
    check_flags(o.flags, 0, "dfx_job_options")?;
    Ok(JobOptions {
        seed: o.seed,
        first_sample: o.first_sample,
        n_samples: usize::try_from(o.n_samples.max(1))
            .map_err(|_| fail!(Invalid, "{} samples do not fit", o.n_samples))?,
        n_steps: o.n_steps,
        preview_every: o.preview_every,
        // Safety: as the caller promised.
        inputs: unsafe { tensor::named(o.input_names, o.inputs, o.n_inputs) }?,
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_job_start(
    p: *const CPipeline,
    options: *const CJobOptions,
    result: *mut *mut CJob,
    err: *mut CError,
) -> i32 {
    model::with(p, err, |pipeline| {
        // Safety: the contract of the header.
        let (result, raw) = unsafe { (out(result, "job")?, option::read(options)?) };
        // Safety: as above.
        let job = Job::start(&pipeline.value, unsafe { read(raw) }?)?;
        result.write(watch(job, &raw));
        Ok(())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_job_resume(
    p: *const CPipeline,
    file: *const c_char,
    options: *const CJobOptions,
    result: *mut *mut CJob,
    err: *mut CError,
) -> i32 {
    model::with(p, err, |pipeline| {
        // Safety: the contract of the header.
        let (result, raw, file) =
            unsafe { (out(result, "job")?, option::read(options)?, path(file, "path")?) };
        result.write(watch(Job::resume(&pipeline.value, &file)?, &raw));
        Ok(())
    })
}

fn watch(job: Arc<Job>, o: &CJobOptions) -> *mut CJob {
    CJob::make(Watched { job, callback: o.progress.map(|f| (f, User(o.user))) })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_job_poll(
    j: *mut CJob,
    result: *mut CProgress,
    err: *mut CError,
) -> i32 {
    guard(err, None, || {
        // Safety: the contract of the header.
        let handle = unsafe { CJob::get(j) }?;
        handle.value.job.pipeline.engine.deliver_log();
        let progress = tell(j, &handle);
        // Safety: as above.
        unsafe { option::write(result, &c(progress)) }
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_job_wait(j: *mut CJob, timeout_ns: u64, err: *mut CError) -> i32 {
    guard(err, None, || {
        // Safety: the contract of the header.
        let handle = unsafe { CJob::get(j) }?;
        let job = &handle.value.job;
        let mut left = Duration::from_nanos(timeout_ns);
        loop {
            let turn = if handle.value.callback.is_some() { left.min(TURN) } else { left };
            let over = job.wait(turn);
            job.pipeline.engine.deliver_log();
            let progress = tell(j, &handle);
            if over {
                return match (progress.state, job.error()) {
                    (State::Done, _) => Ok(()),
                    (_, Some(e)) => Err(e),
                    (state, None) => Err(fail!(Cancelled, "the job is {state:?}")),
                };
            }
            if timeout_ns != u64::MAX {
                left = left.saturating_sub(turn);
            }
            if left.is_zero() {
                bail!(State, "the job is not over, step {} of {}", progress.step, progress.n_steps);
            }
        }
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_job_cancel(j: *const CJob) {
    quiet((), || {
        // Safety: the contract of the header.
        if let Ok(handle) = unsafe { CJob::get(j) } {
            handle.value.job.cancel();
        }
    });
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_job_preview(
    j: *const CJob,
    name: *const c_char,
    result: *mut *mut CTensor,
    err: *mut CError,
) -> i32 {
    named(j, name, result, err, |job, name| job.preview(name).map(Arc::new))
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_job_result(
    j: *const CJob,
    name: *const c_char,
    result: *mut *mut CTensor,
    err: *mut CError,
) -> i32 {
    named(j, name, result, err, Job::result)
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_job_save(
    j: *const CJob,
    file: *const c_char,
    err: *mut CError,
) -> i32 {
    guard(err, None, || {
        // Safety: the contract of the header.
        let (handle, file) = unsafe { (CJob::get(j)?, path(file, "path")?) };
        handle.value.job.save(&file)
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_job_release(j: *mut CJob) {
    quiet((), || {
        // Safety: the contract of the header.
        unsafe {
            // now, not when the last call that uses it returns: this may be its own callback
            if let Ok(handle) = CJob::get(j) {
                handle.value.job.cancel();
            }
            CJob::release(j);
        }
    });
}

/// A tensor of a job by name; NULL is the first component.
fn named(
    j: *const CJob,
    name: *const c_char,
    result: *mut *mut CTensor,
    err: *mut CError,
    find: impl FnOnce(&Job, &str) -> Result<Arc<crate::mem::Tensor>>,
) -> i32 {
    guard(err, None, || {
        // Safety: the contract of the header.
        let (handle, result, name) =
            unsafe { (CJob::get(j)?, out(result, "tensor")?, text(name, "name")?) };
        let job = &handle.value.job;
        let pipeline = &job.pipeline;
        let first = pipeline.parts.components.first().map_or("x", |c| c.name.as_str());
        let tensor = find(job, name.unwrap_or(first))?;
        result.write(CTensor::of(tensor));
        Ok(())
    })
}

/// Tells the host how far the job is, on its own thread, and cancels if it says so.
fn tell(j: *mut CJob, handle: &CJob) -> Progress {
    let progress = handle.value.job.progress();
    if let Some((f, user)) = &handle.value.callback {
        let c = c(progress);
        // Safety: the function and its argument are the host's; the job is alive.
        if unsafe { f(user.0, j, &raw const c) } != 0 {
            handle.value.job.cancel();
        }
    }
    progress
}

fn c(p: Progress) -> CProgress {
    CProgress {
        struct_size: size_of::<CProgress>() as u32,
        state: p.state as u32,
        step: p.step,
        n_steps: p.n_steps,
        elapsed_ns: p.elapsed_ns,
    }
}
