//! Jobs: started, asked, waited for, saved.

use super::engine::User;
use super::guard::{CError, guard, out, path, quiet, shield, text};
use super::handle::{Handle, Object};
use super::model::{self, CPipeline};
use super::option::{self, CJobOptions, CPreview, CProgress, ProgressFn, check_flags};
use super::tensor::{self, CTensor};
use crate::base::Result;
use crate::engine::{Engine, Job, JobOptions, Progress, State};
use crate::mem::callback;
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
    with(j, err, |handle| {
        handle.value.job.pipeline.engine.deliver_log();
        let progress = tell(j, handle);
        // Safety: the contract of the header.
        unsafe { option::write(result, &c(progress)) }
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_job_wait(j: *mut CJob, timeout_ns: u64, err: *mut CError) -> i32 {
    with(j, err, |handle| {
        let job = &handle.value.job;
        let mut left = Duration::from_nanos(timeout_ns);
        loop {
            let turn = if handle.value.callback.is_some() { left.min(TURN) } else { left };
            let over = job.wait(turn);
            job.pipeline.engine.deliver_log();
            let progress = tell(j, handle);
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
    named(j, name, result, err, |job, name| job.preview(name).map(|(t, _)| Arc::new(t)))
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_job_preview_at(
    j: *const CJob,
    name: *const c_char,
    what: *mut CPreview,
    result: *mut *mut CTensor,
    err: *mut CError,
) -> i32 {
    named(j, name, result, err, |job, name| {
        let (tensor, shows) = job.preview(name)?;
        let shows = CPreview {
            struct_size: size_of::<CPreview>() as u32,
            reserved: 0,
            first_sample: shows.first_sample,
            n_samples: shows.n_samples,
            step: shows.step,
        };
        // Safety: the contract of the header.
        unsafe { option::write(what, &shows) }?;
        Ok(Arc::new(tensor))
    })
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
    // Safety: the contract of the header.
    with(j, err, |handle| handle.value.job.save(&unsafe { path(file, "path") }?))
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

/// Guards a call on a job. A bug in it poisons the engine; a poisoned engine's jobs can still be asked.
fn with(j: *const CJob, err: *mut CError, body: impl FnOnce(&CJob) -> Result<()>) -> i32 {
    // Safety: the header asks for a job that is not released.
    match unsafe { CJob::get(j) } {
        Ok(handle) => shield(err, Some(&handle.value.job.pipeline.engine), || body(&handle)),
        Err(e) => guard(err, None, || Err(e)),
    }
}

/// A tensor of a job by name; NULL is the first component.
fn named(
    j: *const CJob,
    name: *const c_char,
    result: *mut *mut CTensor,
    err: *mut CError,
    find: impl FnOnce(&Job, &str) -> Result<Arc<crate::mem::Tensor>>,
) -> i32 {
    with(j, err, |handle| {
        // Safety: the contract of the header.
        let (result, name) = unsafe { (out(result, "tensor")?, text(name, "name")?) };
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
        if callback::call("progress", || unsafe { f(user.0, j, &raw const c) }) != 0 {
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

#[cfg(test)]
mod tests {
    //! Bugs of ours, played by a backend that panics when it is told to.

    use super::*;
    use crate::capi::engine::CEngine;
    use crate::cpu::Cpu;
    use crate::engine::{OpenModel, Options, Pipeline};
    use crate::exec::Interrupt;
    use crate::exec::backend::{Backend, Executable, Layout, Memory, Outcome, RunKey, StepTime};
    use crate::graph::plan::{Plan, Scratch};
    use crate::mem::Budget;
    use std::path::Path;
    use std::sync::atomic::{AtomicU32, Ordering};

    const NONE: u32 = 0;
    const RUN: u32 = 1;
    const READ: u32 = 2;

    #[derive(Clone)]
    struct Fault(Arc<AtomicU32>);

    impl Fault {
        fn set(&self, at: u32) {
            self.0.store(at, Ordering::Relaxed);
        }

        fn meet(&self, at: u32) {
            assert!(self.0.load(Ordering::Relaxed) != at, "a bug, on purpose");
        }
    }

    struct Faulty(Cpu, Fault);

    impl Backend for Faulty {
        fn name(&self) -> &str {
            "faulty"
        }

        fn scratch(&self) -> &dyn Scratch {
            self.0.scratch()
        }

        fn reads_host_memory(&self) -> bool {
            self.0.reads_host_memory()
        }

        fn memory(&self, bytes: usize, budget: &Arc<Budget>) -> Result<Box<dyn Memory>> {
            Ok(Box::new(FaultyMemory(self.0.memory(bytes, budget)?, self.1.clone())))
        }

        fn load(
            &self,
            plan: Plan,
            layout: Layout,
            memory: &mut dyn Memory,
            profile: bool,
        ) -> Result<Box<dyn Executable>> {
            Ok(Box::new(FaultyPlan(self.0.load(plan, layout, memory, profile)?, self.1.clone())))
        }
    }

    struct FaultyMemory(Box<dyn Memory>, Fault);

    impl Memory for FaultyMemory {
        fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<()> {
            self.0.write(offset, bytes)
        }

        fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
            self.1.meet(READ);
            self.0.read(offset, bytes)
        }

        fn base(&self) -> *mut u8 {
            self.0.base()
        }
    }

    struct FaultyPlan(Box<dyn Executable>, Fault);

    impl Executable for FaultyPlan {
        fn run(
            &mut self,
            memory: &mut dyn Memory,
            key: RunKey,
            from: usize,
            interrupt: &mut dyn FnMut() -> Interrupt,
        ) -> Result<Outcome> {
            self.1.meet(RUN);
            self.0.run(memory, key, from, interrupt)
        }

        fn profile(&self) -> &[StepTime] {
            self.0.profile()
        }
    }

    const INTERNAL: i32 = -13;
    const STATE: i32 = -2;

    /// An engine whose backend can fail, and a job of it.
    fn rigged(options: Options, at: u32) -> (Fault, Arc<Engine>, *mut CJob) {
        let fault = Fault(Arc::new(AtomicU32::new(at)));
        let backend = Arc::new(Faulty(Cpu::new(1), fault.clone()));
        let engine = Engine::with_backend(options, backend).unwrap();
        let model = OpenModel::open(&engine, "vix", "").unwrap();
        let pipeline = Pipeline::new(&model, "{\"steps\":2}").unwrap();
        let options = JobOptions { n_samples: 2, ..JobOptions::default() };
        let job = Job::start(&pipeline, options).unwrap();
        (fault, engine, CJob::make(Watched { job, callback: None }))
    }

    fn state(j: *mut CJob) -> u32 {
        let mut at = c(Progress { state: State::Queued, step: 0, n_steps: 0, elapsed_ns: 0 });
        // Safety: a job that is not released, and a struct of ours.
        assert_eq!(unsafe { dfx_job_poll(j, &raw mut at, std::ptr::null_mut()) }, 0);
        at.state
    }

    fn wait(j: *mut CJob) -> i32 {
        // Safety: a job that is not released.
        unsafe { dfx_job_wait(j, u64::MAX, std::ptr::null_mut()) }
    }

    fn poisoned(engine: &Arc<Engine>) -> bool {
        let e = CEngine::make(Arc::clone(engine));
        // Safety: just made, and released here.
        unsafe {
            let status = super::super::engine::dfx_engine_pump(e, 0);
            CEngine::release(e);
            status == STATE
        }
    }

    #[test]
    fn a_bug_while_a_job_runs_fails_it_and_poisons_the_engine() {
        for no_threads in [true, false] {
            let options = Options { no_threads, ..Options::default() };
            let (_, engine, j) = rigged(options, RUN);
            assert_eq!((wait(j), state(j), wait(j)), (INTERNAL, State::Failed as u32, INTERNAL));
            assert!(poisoned(&engine));
            // Safety: made above.
            unsafe { CJob::release(j) };
        }
    }

    #[test]
    fn a_bug_while_a_job_is_saved_lets_it_go() {
        let options = Options { no_threads: true, ..Options::default() };
        let (fault, engine, j) = rigged(options, READ);
        // Safety: made above.
        let handle = unsafe { CJob::get(j) }.unwrap();
        let path = std::env::temp_dir().join(format!("diffx-bug-{}", std::process::id()));
        let text = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // Safety: a job that is not released and a string.
        assert_eq!(unsafe { dfx_job_save(j, text.as_ptr(), std::ptr::null_mut()) }, INTERNAL);
        assert!(!Path::new(&path).exists());
        fault.set(NONE);
        assert!(!handle.value.job.is_held(), "whoever drives it may");
        assert_eq!((state(j), wait(j)), (State::Failed as u32, INTERNAL));
        assert!(poisoned(&engine));
        drop(handle);
        // Safety: made above.
        unsafe { CJob::release(j) };
    }

    #[test]
    fn a_bug_beside_the_run_poisons_the_engine() {
        type Ask = fn(*mut CJob) -> i32;
        let poll: Ask = |j| {
            // Safety: a job that is not released.
            unsafe { dfx_job_poll(j, std::ptr::null_mut(), std::ptr::null_mut()) }
        };
        for ask in [poll, wait as Ask] {
            let log: crate::engine::LogSink = Arc::new(|_, _| panic!("a bug, on purpose"));
            let options = Options { no_threads: true, log: Some(log), ..Options::default() };
            let (_, engine, j) = rigged(options, NONE);
            engine.message(2, "something to deliver");
            assert_eq!(ask(j), INTERNAL);
            assert!(poisoned(&engine));
            // Safety: made above.
            unsafe { CJob::release(j) };
        }
    }
}
