// Included into each tree of `engine.rs`: the engine and the pipeline its sources stand on, and the models. The sources
// of a tree say `super::` of each other, so these are written down once and compiled per tree.

use crate::base::sync::{Arc, AtomicUsize, Mutex, MutexGuard, PoisonError, thread};
use crate::base::{Result, Status};
use crate::sample::{Replay, Rows};
use crate::stand_in::Host;
pub use hold::Hold;
use job::{Job, JobOptions, State};
use pump::Queue;
use std::time::Duration;

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct Engine {
    queue: Arc<Queue>,
    worker: Mutex<Option<thread::JoinHandle<()>>>,
    threaded: bool,
    holds: AtomicUsize,
}

impl Engine {
    fn new(threaded: bool) -> Arc<Self> {
        let queue = Arc::new(Queue::default());
        let worker = threaded.then(|| pump::spawn(&queue).expect("a thread"));
        Arc::new(Self { queue, worker: Mutex::new(worker), threaded, holds: AtomicUsize::new(0) })
    }

    fn queue(&self) -> &Queue {
        &self.queue
    }

    fn has_thread(&self) -> bool {
        self.threaded
    }

    fn poison(&self) {
        panic!("assert: a bug showed in a job");
    }

    fn budget(&self) -> &() {
        &()
    }
}

pub mod pipeline {
    use super::{Arc, Engine, Host, Replay, Result, Rows};

    pub struct Pipeline {
        pub engine: Arc<Engine>,
        pub host: Arc<Host>,
        pub rows: usize,
    }

    impl Pipeline {
        pub fn rows(&self, _: u32) -> Result<Arc<Rows>> {
            Ok(Arc::new(Rows))
        }

        pub fn batch_for(&self, _: usize) -> Result<usize> {
            Ok(1)
        }

        pub fn replay(&self, _: &Rows, _: usize, _: bool) -> Result<Replay> {
            Ok(Replay::of(&self.host, self.rows))
        }

        pub fn leave(&self, replay: Replay) -> Option<Replay> {
            Some(replay)
        }

        pub fn noise(&self, _: u64, _: u64) -> Result<Option<()>> {
            Ok(None)
        }

        pub fn check_start(&self, _: &[(String, Arc<crate::mem::Tensor>)]) -> Result<()> {
            Ok(())
        }

        pub fn nulls(&self) -> Vec<(String, f64)> {
            Vec::new()
        }
    }
}

mod saved {
    use super::job::{Job, JobOptions};
    use super::pipeline::Pipeline;
    use super::{Arc, Replay, Result, Rows};
    use crate::mem::Tensor;
    use crate::weights::SafeTensors;

    pub fn write(_: &Job, replay: &mut Replay, _: &std::path::Path) -> Result<()> {
        assert!(replay.progress().0 < replay.progress().1, "a job that can go on");
        Ok(())
    }

    pub struct Saved {
        pub options: JobOptions,
    }

    impl Saved {
        pub fn read(_: SafeTensors) -> Result<Self> {
            Ok(Self { options: JobOptions::default() })
        }

        pub fn check(&self, _: &Pipeline, _: &Rows, _: usize) -> Result<()> {
            Ok(())
        }

        pub fn inputs(&self, _: &Pipeline) -> Result<Vec<(String, Arc<Tensor>)>> {
            Ok(Vec::new())
        }

        pub fn restore(&self, _: &mut Replay) -> Result<()> {
            Ok(())
        }
    }
}

/// An engine, its host's hold on it, and a job of so many rows.
fn begun(threaded: bool, rows: usize) -> (Hold, Arc<Host>, Arc<Job>) {
    let (engine, host) = (Engine::new(threaded), Host::new());
    let hold = Hold::new(&engine);
    let pipeline = Arc::new(pipeline::Pipeline { engine, host: Arc::clone(&host), rows });
    (hold, host, started(&pipeline))
}

fn started(pipeline: &Arc<pipeline::Pipeline>) -> Arc<Job> {
    let options = JobOptions { n_samples: 1, ..JobOptions::default() };
    Job::start(pipeline, options).expect("a job")
}

/// Once over it stays as it is, and what it held is given back.
fn is_over(job: &Job, host: &Host, replays: usize) -> State {
    let state = job.progress().state;
    assert!(state.is_over(), "assert: a wait ended before the job");
    assert_eq!(host.replays(), replays, "memory is given back before a job is over");
    match state {
        State::Done => assert!(job.result("x").is_ok()),
        State::Cancelled => assert!(job.error().is_none_or(|e| e.status == Status::Cancelled)),
        other => panic!("assert: {other:?}"),
    }
    state
}

pub fn model(name: &str) {
    match name {
        "waited" => crate::explore(|| waited(2)),
        "cancelled at one" => crate::explore(|| cancelled(1)),
        "cancelled at two" => crate::explore(|| cancelled(2)),
        "abandoned" => crate::explore(|| abandoned(2)),
        "saved at one" => crate::explore(|| saved_meanwhile(1)),
        "saved at two" => crate::explore(|| saved_meanwhile(2)),
        "pumped" => crate::explore(pumped),
        "outlived" => crate::explore(outlived),
        "holds at one" => crate::explore(|| two_holds(1)),
        "holds at two" => crate::explore(|| two_holds(2)),
        _ => panic!("no model {name}"),
    }
}

fn waited(rows: usize) {
    let (hold, host, job) = begun(true, rows);
    assert!(job.wait(Duration::MAX));
    assert_eq!(is_over(&job, &host, 0), State::Done);
    drop((job, hold));
    host.touch(); // nothing of the engine is there any more
}

fn cancelled(rows: usize) {
    let (hold, host, job) = begun(true, rows);
    let other = Arc::clone(&job);
    let canceller = loom::thread::spawn(move || other.cancel());
    assert!(job.wait(Duration::MAX));
    let state = is_over(&job, &host, 0);
    canceller.join().expect("a thread");
    assert_eq!(job.progress().state, state, "a job that is over stays as it is");
    drop((job, hold));
    host.touch();
}

/// On an engine without threads: one thread waits, which drives it, and another lets go of it.
fn abandoned(rows: usize) {
    let (hold, host, job) = begun(false, rows);
    let other = Arc::clone(&job);
    let leaver = loom::thread::spawn(move || other.abandon());
    assert!(job.wait(Duration::MAX));
    let state = is_over(&job, &host, 0);
    leaver.join().expect("a thread");
    assert_eq!(job.progress().state, state, "a job that is over stays as it is");
    drop((job, hold));
    host.touch();
}

fn saved_meanwhile(rows: usize) {
    let (hold, host, job) = begun(true, rows);
    match job.save(std::path::Path::new("")) {
        Ok(()) => {}
        Err(e) => assert_eq!(e.status, Status::State, "it is over"),
    }
    assert!(job.wait(Duration::MAX));
    assert_eq!(is_over(&job, &host, 0), State::Done);
    drop((job, hold));
    host.touch();
}

/// Two threads of a host call `pump` at once, without a budget; then each waits for a job.
fn pumped() {
    let (hold, host, job) = begun(false, 1);
    let other_job = {
        let pipeline = Arc::new(pipeline::Pipeline {
            engine: Arc::clone(&job.pipeline.engine),
            host: Host::new(),
            rows: 1,
        });
        started(&pipeline)
    };
    let engine = Arc::clone(&job.pipeline.engine);
    let pumping = loom::thread::spawn(move || {
        engine.queue().pump(0);
    });
    assert!(job.wait(Duration::MAX));
    assert_eq!(is_over(&job, &host, 0), State::Done);
    pumping.join().expect("a thread");
    let host = Arc::clone(&other_job.pipeline.host);
    assert!(other_job.wait(Duration::MAX));
    assert_eq!(is_over(&other_job, &host, 0), State::Done);
    assert_eq!(job.pipeline.engine.queue().pump(0), 0);
    drop((job, other_job, hold));
}

/// A host lets go of its engine, and the job it still holds goes on.
fn outlived() {
    let (hold, host, job) = begun(true, 1);
    let mine = Hold::new(&job.pipeline.engine);
    let other = loom::thread::spawn(move || drop(hold));
    assert!(job.wait(Duration::MAX));
    assert_eq!(is_over(&job, &host, 0), State::Done);
    other.join().expect("a thread");
    drop((job, mine));
    host.touch();
}

/// A host lets go of a running job on one thread and of the engine on another: after both nothing runs.
fn two_holds(rows: usize) {
    let (hold, host, job) = begun(true, rows);
    let mine = Hold::new(&job.pipeline.engine);
    let other = loom::thread::spawn(move || {
        job.cancel();
        drop(job);
        drop(mine);
    });
    drop(hold);
    other.join().expect("a thread");
    host.touch();
    assert_eq!(host.replays(), 0, "memory of a job is left");
}
