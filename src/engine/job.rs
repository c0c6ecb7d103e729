//! One run: its state, its progress, what it gives, and how it is saved and resumed.
//!
//! The replay is behind a lock that whoever advances the job holds, in slices; what a host asks all the time (progress,
//! the newest preview, results) is behind another that is never held for long.

use super::pipeline::Pipeline;
use super::{lock, pump, saved};
use crate::bail;
use crate::base::sync::{
    Arc, AtomicBool, AtomicUsize, Condvar, Instant, Mutex, Ordering, PoisonError,
};
use crate::base::{Error, Result, Status};
use crate::exec::Interrupt;
use crate::mem::Tensor;
use crate::sample::{Advance, Replay, Request, Rows};
use crate::weights::SafeTensors;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

/// How far a job is; codes as `DFX_JOB_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    Queued = 0,
    Running = 1,
    Done = 2,
    Failed = 3,
    Cancelled = 4,
}

impl State {
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct JobOptions {
    pub seed: u64,
    pub first_sample: u64,
    pub n_samples: usize,
    /// 0 = the pipeline's choice.
    pub n_steps: u32,
    /// 0 = no previews.
    pub preview_every: u32,
    /// Conditions by name.
    pub inputs: Vec<(String, Arc<Tensor>)>,
}

/// A look at a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub state: State,
    /// Rows run, over all batches, and how many there will be.
    pub step: u64,
    pub n_steps: u64,
    pub elapsed_ns: u64,
}

/// A job of an engine.
pub struct Job {
    pub pipeline: Arc<Pipeline>,
    /// Without the inputs: those are the replay's, and go when it ends.
    pub(super) options: JobOptions,
    pub(super) rows: Arc<Rows>,
    replay: Mutex<Option<Replay>>,
    shared: Mutex<Shared>,
    shown: Mutex<Shown>,
    changed: Condvar,
    cancel: AtomicBool,
    /// How many callers want the replay between two plans.
    hold: AtomicUsize,
}

/// The wish of one caller for the replay between two plans, given up however the caller ends.
struct Held<'a>(&'a AtomicUsize);

impl<'a> Held<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Acquire);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// How a job ends, and what it leaves behind: given back first, so that who sees it over finds the memory there.
struct Ending {
    state: State,
    error: Option<Error>,
    results: Vec<(String, Arc<Tensor>)>,
    replay: Option<Replay>,
    inputs: Vec<Arc<Tensor>>,
}

struct Shared {
    state: State,
    step: u64,
    n_steps: u64,
    started: Instant,
    elapsed: Option<Duration>,
    error: Option<Error>,
    results: Vec<(String, Arc<Tensor>)>,
}

/// The newest preview of each component, and what it shows, once there is one.
struct Shown {
    tensors: Vec<(String, Tensor)>,
    what: Option<Preview>,
}

/// What a preview shows: row i is sample `first_sample + i` for i below `n_samples`; rows behind those fill a batch up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preview {
    pub first_sample: u64,
    pub n_samples: u64,
    /// Rows run when it was taken, as in [`Progress`].
    pub step: u64,
}

/// Rows and batch of a job with these options.
fn sizes(pipeline: &Pipeline, options: &JobOptions) -> Result<(Arc<Rows>, usize)> {
    if options.n_samples == 0 || options.n_samples > 1 << 32 {
        bail!(Invalid, "{} samples, want 1 to 2^32", options.n_samples);
    }
    Ok((pipeline.rows(options.n_steps)?, pipeline.batch_for(options.n_samples)?))
}

impl Job {
    /// Takes the memory and enters the queue.
    pub fn start(pipeline: &Arc<Pipeline>, options: JobOptions) -> Result<Arc<Self>> {
        let (rows, batch) = sizes(pipeline, &options)?;
        let job = Self::prepare(pipeline, options, rows, batch)?;
        pipeline.engine.queue().push(&job);
        Ok(job)
    }

    /// Goes on with a saved job. The pipeline must be set up as it was.
    pub fn resume(pipeline: &Arc<Pipeline>, path: &Path) -> Result<Arc<Self>> {
        Self::resume_from(pipeline, SafeTensors::open(path)?)
    }

    /// Goes on with the job in a file that is open already.
    pub fn resume_from(pipeline: &Arc<Pipeline>, file: SafeTensors) -> Result<Arc<Self>> {
        let saved = saved::Saved::read(file)?;
        let o = &saved.options;
        let (rows, batch) = sizes(pipeline, o)?;
        saved.check(pipeline, &rows, batch)?; // before memory is taken for it
        let options = JobOptions { inputs: saved.inputs(pipeline)?, ..o.clone() };
        let job = Self::prepare(pipeline, options, rows, batch)?;
        if let Some(replay) = lock(&job.replay).as_mut() {
            saved.restore(replay)?;
            if let Some(noise) = pipeline.noise(job.options.seed, job.options.first_sample)? {
                replay.give_noise(noise)?; // from where it stands now
            }
        }
        pipeline.engine.queue().push(&job);
        Ok(job)
    }

    fn prepare(
        pipeline: &Arc<Pipeline>,
        mut options: JobOptions,
        rows: Arc<Rows>,
        batch: usize,
    ) -> Result<Arc<Self>> {
        pipeline.check_start(&options.inputs)?;
        let mut replay = pipeline.replay(&rows, batch, options.preview_every > 0)?;
        let request = Request {
            seed: options.seed,
            first_sample: options.first_sample,
            n_samples: options.n_samples,
            preview_every: options.preview_every as usize,
            conds: std::mem::take(&mut options.inputs),
        };
        replay.begin(&rows, request, &pipeline.nulls(), pipeline.engine.budget())?;
        if let Some(noise) = pipeline.noise(options.seed, options.first_sample)? {
            replay.give_noise(noise)?;
        }
        let previews = replay.program.previews().iter();
        let previews =
            previews.map(|(n, b)| Ok((n.clone(), Tensor::new(b.desc, pipeline.engine.budget())?)));
        let shown = Shown { tensors: previews.collect::<Result<_>>()?, what: None };
        let n_steps = replay.progress().1 as u64;
        Ok(Arc::new(Self {
            pipeline: Arc::clone(pipeline),
            options,
            rows,
            replay: Mutex::new(Some(replay)),
            shared: Mutex::new(Shared {
                state: State::Queued,
                step: 0,
                n_steps,
                started: Instant::now(),
                elapsed: None,
                error: None,
                results: Vec::new(),
            }),
            shown: Mutex::new(shown),
            changed: Condvar::new(),
            cancel: AtomicBool::new(false),
            hold: AtomicUsize::new(0),
        }))
    }

    // ---- asked by the host

    pub fn progress(&self) -> Progress {
        let s = lock(&self.shared);
        let elapsed = s.elapsed.unwrap_or_else(|| s.started.elapsed());
        Progress {
            state: s.state,
            step: s.step,
            n_steps: s.n_steps,
            elapsed_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// Why it failed or was cancelled.
    pub fn error(&self) -> Option<Error> {
        lock(&self.shared).error.clone()
    }

    pub fn cancel(&self) {
        self.flag();
        self.pipeline.engine.queue().wake();
    }

    /// Whoever drives it stops at the next node.
    pub(super) fn flag(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }

    /// The host wants nothing of it any more.
    pub fn abandon(&self) {
        self.cancel();
        if !self.pipeline.engine.has_thread() {
            // nobody may come to pump again
            self.stop(State::Cancelled, None);
            self.pipeline.engine.queue().forget_finished();
        }
    }

    /// Waits until the job is over or the time is up; on an engine without threads, advances it here. Returns whether
    /// it is over.
    pub fn wait(self: &Arc<Self>, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        if !self.pipeline.engine.has_thread() {
            // as the pump does: a bug in the job ends it and poisons the engine
            while !pump::drive(self, deadline, pump::Least::OneNode) {
                if deadline.is_some_and(|d| Instant::now() >= d) {
                    return false;
                }
                if self.is_ending() && !self.sleep(deadline) {
                    return false; // whoever drove it gives its memory back
                }
            }
            self.pipeline.engine.queue().forget_finished();
            return true;
        }
        self.sleep(deadline)
    }

    /// Waits until another has brought the job to its end, or the time is up.
    fn sleep(&self, deadline: Option<Instant>) -> bool {
        let mut shared = lock(&self.shared);
        while !shared.state.is_over() {
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            match left {
                Some(Duration::ZERO) => return false,
                Some(left) => {
                    let woken = self.changed.wait_timeout(shared, left);
                    shared = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => {
                    shared = self.changed.wait(shared).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        true
    }

    /// A result by name: a component, `feasible`, `log_weight`.
    pub fn result(&self, name: &str) -> Result<Arc<Tensor>> {
        let shared = lock(&self.shared);
        match (shared.state, &shared.error) {
            (State::Done, _) => {}
            (State::Failed | State::Cancelled, Some(e)) => return Err(e.clone()),
            (state, _) => bail!(State, "the job is {state:?}, results come when it is done"),
        }
        match shared.results.iter().find(|(n, _)| n == name) {
            Some((_, tensor)) => Ok(Arc::clone(tensor)),
            None => {
                let names: Vec<&str> = shared.results.iter().map(|(n, _)| n.as_str()).collect();
                bail!(NotFound, "no result named {name:?}; there are: {}", names.join(", "))
            }
        }
    }

    /// All results of a job that is done.
    pub fn results(&self) -> Vec<(String, Arc<Tensor>)> {
        lock(&self.shared).results.clone()
    }

    /// A copy of the newest preview of a component, one batch, and what it shows.
    pub fn preview(&self, name: &str) -> Result<(Tensor, Preview)> {
        let shown = lock(&self.shown);
        let Some((_, t)) = shown.tensors.iter().find(|(n, _)| n == name) else {
            bail!(NotFound, "no preview of {name:?}: was the job started with previews?");
        };
        let Some(what) = shown.what else { bail!(State, "there is no preview yet") };
        let copy = Tensor::from_bytes(t.desc(), t.bytes(), self.pipeline.engine.budget())?;
        Ok((copy, what))
    }

    /// Writes the job as it stands between two plans, so that [`Job::resume`] goes on with the same bits.
    pub fn save(&self, path: &Path) -> Result<()> {
        let _hold = Held::new(&self.hold);
        let out = catch_unwind(AssertUnwindSafe(|| {
            let mut replay = lock(&self.replay);
            match replay.as_mut() {
                Some(replay) => saved::write(self, replay, path),
                None => bail!(State, "the job is over, there is nothing to go on with"),
            }
        }));
        out.unwrap_or_else(|panic| Err(self.broke(panic)))
    }

    // ---- asked by whoever drives

    /// Advances until the deadline (none = the end) or until somebody wants the job. Returns whether it is over.
    pub(super) fn advance(&self, deadline: Option<Instant>, least: pump::Least) -> bool {
        let mut slot = lock(&self.replay);
        if slot.is_none() {
            return self.progress().state.is_over();
        }
        let Some(ending) = self.run(&mut slot, deadline, least) else { return false };
        // what the job no longer needs goes after the lock: memory of the host is given back then, and its functions
        // may call us; and before the job is over, for a job started then may need that memory
        drop(slot);
        let Ending { state, error, results, replay, inputs } = ending;
        drop((replay, inputs));
        self.end(state, error, results);
        true
    }

    /// Advances a job that stands somewhere. Gives how it ends once it does; then it stands nowhere.
    fn run(
        &self,
        slot: &mut Option<Replay>,
        deadline: Option<Instant>,
        least: pump::Least,
    ) -> Option<Ending> {
        let replay = slot.as_mut()?;
        self.update(|s| s.state = State::Running);
        // asked once before a plan and once before its first node
        let mut free = if least == pump::Least::OneNode { 2 } else { 0 };
        let mut interrupt = || {
            let late = free == 0 && deadline.is_some_and(|d| Instant::now() >= d);
            free -= i32::from(free > 0);
            if self.cancel.load(Ordering::Relaxed) {
                Interrupt::Cancel
            } else if late || self.hold.load(Ordering::Relaxed) > 0 {
                Interrupt::Pause
            } else {
                Interrupt::Continue
            }
        };
        loop {
            // between plans too: a plan may be too short to be asked
            if interrupt() == Interrupt::Pause {
                return None;
            }
            let did = match replay.advance(&mut interrupt) {
                Ok(Advance::Preview) => self.show(replay).map(|()| Advance::Preview),
                other => other,
            };
            match did {
                Ok(Advance::Paused) => return None,
                Ok(Advance::Done) => break,
                Ok(Advance::Stage | Advance::Row | Advance::Preview) => {}
                Err(e) => {
                    let cancelled = e.status == Status::Cancelled;
                    let state = if cancelled { State::Cancelled } else { State::Failed };
                    let (results, inputs) = (Vec::new(), Vec::new());
                    return Some(Ending {
                        state,
                        error: Some(e),
                        results,
                        replay: slot.take(),
                        inputs,
                    });
                }
            }
            let (step, n_steps) = replay.progress();
            self.update(|s| (s.step, s.n_steps) = (step as u64, n_steps as u64));
        }
        let results = replay.take_results().into_iter().map(|(n, t)| (n, Arc::new(t))).collect();
        let inputs = replay.take_inputs();
        // before it is over: who waits for that finds the session there
        let replay = slot.take().and_then(|r| self.pipeline.leave(r));
        Some(Ending { state: State::Done, error: None, results, replay, inputs })
    }

    /// Whether it stands nowhere any more and is not over: its memory is on the way back.
    fn is_ending(&self) -> bool {
        lock(&self.replay).is_none() && !self.progress().state.is_over()
    }

    /// A bug of ours showed in this job: it fails, and the engine is poisoned.
    pub(super) fn broke(&self, panic: Box<dyn Any + Send>) -> Error {
        std::mem::forget(panic); // dropping a payload may panic again
        self.pipeline.engine.poison();
        let e = Error::new(Status::Internal, "a bug in diffx ended the job");
        self.stop(State::Failed, Some(e.clone()));
        e
    }

    /// Ends a job that has not ended by itself.
    fn stop(&self, state: State, error: Option<Error>) {
        let replay = lock(&self.replay).take();
        drop(replay); // after the lock and before the end, as in `advance`
        self.end(state, error, Vec::new());
    }

    pub(crate) fn is_held(&self) -> bool {
        self.hold.load(Ordering::Relaxed) > 0
    }

    /// The first end counts.
    fn end(&self, state: State, error: Option<Error>, results: Vec<(String, Arc<Tensor>)>) {
        self.update(|s| {
            if s.state.is_over() {
                return;
            }
            s.state = state;
            s.elapsed = Some(s.started.elapsed());
            s.error = error;
            s.results = results;
            if state == State::Done {
                s.step = s.n_steps;
            }
        });
        self.changed.notify_all();
    }

    fn update(&self, f: impl FnOnce(&mut Shared)) {
        f(&mut lock(&self.shared));
    }

    fn show(&self, replay: &Replay) -> Result<()> {
        let mut shown = lock(&self.shown);
        for (c, (_, tensor)) in shown.tensors.iter_mut().enumerate() {
            replay.read_preview(c, tensor.bytes_mut())?;
        }
        let (first_sample, n_samples) = replay.batch_samples();
        shown.what = Some(Preview { first_sample, n_samples, step: replay.progress().0 as u64 });
        Ok(())
    }
}
