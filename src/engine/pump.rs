//! Who drives the jobs: a thread of ours, or the host through `pump`. Both take slices in turn, so that every job moves.

use super::job::Job;
use super::lock;
use crate::base::Result;
use crate::base::sync::{Arc, AtomicBool, Condvar, Instant, Mutex, Ordering, PoisonError, thread};
use crate::fail;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use thread::JoinHandle;

/// How long the thread stays with one job while others wait.
const SLICE: Duration = Duration::from_millis(10);

/// Jobs that are not over.
#[derive(Default)]
pub(super) struct Queue {
    jobs: Mutex<Vec<Arc<Job>>>,
    wake: Condvar,
    quit: AtomicBool,
}

impl Queue {
    pub(super) fn push(&self, job: &Arc<Job>) {
        lock(&self.jobs).push(Arc::clone(job));
        self.wake.notify_all();
    }

    pub(super) fn wake(&self) {
        self.wake.notify_all();
    }

    /// Stops every job at its next node and sends the thread home.
    pub(super) fn quit(&self) {
        let jobs = lock(&self.jobs); // a thread about to sleep sees it
        self.quit.store(true, Ordering::Relaxed);
        jobs.iter().for_each(|job| job.flag());
        self.wake.notify_all();
    }

    /// Lets go of all jobs.
    pub(super) fn clear(&self) {
        let jobs = std::mem::take(&mut *lock(&self.jobs));
        drop(jobs); // after the lock, as in `forget_finished`
    }

    /// Takes jobs that are over out of the queue.
    pub(super) fn forget_finished(&self) {
        self.behind(0);
    }

    /// Puts the first `served` jobs behind the others, and takes those that are over out of the queue.
    fn behind(&self, served: usize) {
        // dropped after the lock: the last hold on a job may be the last on the engine
        let over: Vec<Arc<Job>> = {
            let mut jobs = lock(&self.jobs);
            let n = served.min(jobs.len());
            jobs.rotate_left(n);
            let (over, rest) =
                jobs.drain(..).partition(|j: &Arc<Job>| j.progress().state.is_over());
            *jobs = rest;
            over
        };
        drop(over);
    }

    /// Advances all jobs in turn for about `budget_us`, one of them by a node at the least: a host that calls often
    /// enough gets there, however little time it gives. A job that had its turn goes behind those the time did not reach,
    /// which are first in the next call. Returns how many are unfinished.
    pub(super) fn pump(&self, budget_us: u64) -> usize {
        let end = Instant::now() + Duration::from_micros(budget_us);
        let mut least = Least::OneNode;
        loop {
            let jobs = lock(&self.jobs).clone();
            let n = u32::try_from(jobs.len()).unwrap_or(u32::MAX).max(1);
            let share = end.saturating_duration_since(Instant::now()) / n;
            let mut served = 0;
            for job in &jobs {
                let now = Instant::now();
                if least == Least::Nothing && now >= end {
                    break;
                }
                drive(job, Some((now + share).min(end)), least);
                served += 1;
                if !job.is_held() {
                    least = Least::Nothing; // one that is held may not have moved
                }
            }
            self.behind(served);
            let left = lock(&self.jobs).len();
            if left == 0 || Instant::now() >= end {
                return left;
            }
        }
    }
}

/// Starts the thread that drives the queue.
pub(super) fn spawn(queue: &Arc<Queue>) -> Result<JoinHandle<()>> {
    let queue = Arc::clone(queue);
    thread::Builder::new()
        .name("diffx-jobs".into())
        .spawn(move || work(&queue))
        .map_err(|e| fail!(NoMemory, "the system gave no thread for jobs: {e}"))
}

fn work(queue: &Queue) {
    let mut turn = 0usize;
    loop {
        let (job, alone) = {
            let mut jobs = lock(&queue.jobs);
            while jobs.is_empty() && !queue.quit.load(Ordering::Relaxed) {
                jobs = queue.wake.wait(jobs).unwrap_or_else(PoisonError::into_inner);
            }
            if queue.quit.load(Ordering::Relaxed) {
                return;
            }
            turn = (turn + 1) % jobs.len();
            (Arc::clone(&jobs[turn]), jobs.len() == 1)
        };
        if job.is_held() {
            thread::sleep(Duration::from_micros(200)); // somebody reads it between two plans
            continue;
        }
        // alone it may stay longer, but must look up for newcomers
        let slice = if alone { 2 * SLICE } else { SLICE };
        if drive(&job, Some(Instant::now() + slice), Least::Nothing) {
            queue.forget_finished();
        }
    }
}

/// What is done of a job though the deadline be past.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Least {
    Nothing,
    OneNode,
}

/// Advances a job; a panic in it is its failure and poisons the engine, never the caller.
pub(super) fn drive(job: &Arc<Job>, deadline: Option<Instant>, least: Least) -> bool {
    match catch_unwind(AssertUnwindSafe(|| job.advance(deadline, least))) {
        Ok(over) => over,
        Err(panic) => {
            job.broke(panic);
            true
        }
    }
}
