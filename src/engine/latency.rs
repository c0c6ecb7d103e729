//! How soon a job stops when it is told to: counted in turns (nodes, or shares of long nodes), not in time. A backend
//! that counts them cancels the job at a turn of its own choosing, from another thread.

use super::watched::{Watched, Watcher};
use super::{Engine, Job, JobOptions, OpenModel, Options, Pipeline, State};
use crate::cpu::Cpu;
use crate::exec::Interrupt;
use crate::exec::backend::RunKey;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Turns that were begun, and what happens when so many were.
#[derive(Clone, Default)]
struct Turns {
    begun: Arc<AtomicUsize>,
    at: Arc<AtomicUsize>,
    /// Whether the turn is still asked for after that, or under way.
    under_way: bool,
    job: Arc<Mutex<Option<Arc<Job>>>>,
}

impl Turns {
    /// Cancels the job from another thread, and is back when that thread is.
    fn cancel(&self) {
        let Some(job) = self.job.lock().unwrap().take() else { return };
        std::thread::scope(|s| {
            s.spawn(|| job.cancel());
        });
    }
}

impl Watcher for Turns {
    fn turn(&self, _: RunKey, ask: &mut dyn FnMut() -> Interrupt) -> Interrupt {
        let is_it = self.begun.load(Ordering::Relaxed) + 1 == self.at.load(Ordering::Relaxed);
        if is_it && !self.under_way {
            self.cancel();
        }
        let said = ask();
        if said == Interrupt::Continue {
            self.begun.fetch_add(1, Ordering::Relaxed);
            if is_it {
                self.cancel(); // the turn is decided on: it runs
            }
        }
        said
    }
}

fn begun(no_threads: bool, threads: usize, turns: &Turns) -> (Arc<Engine>, Arc<Job>) {
    let options = Options { no_threads, ..Options::default() };
    let backend = Arc::new(Watched(Cpu::new(threads), turns.clone()));
    let engine = Engine::with_backend(options, backend).unwrap();
    let model = OpenModel::open(&engine, "vix", "").unwrap();
    let pipeline = Pipeline::new(&model, "{\"steps\":3,\"sampler\":\"heun\"}").unwrap();
    // many rows, so that long nodes are cut into shares
    let job = Job::start(&pipeline, JobOptions { n_samples: 64, ..JobOptions::default() }).unwrap();
    (engine, job)
}

fn all_turns(threads: usize) -> usize {
    let turns = Turns::default();
    let (_engine, job) = begun(true, threads, &turns);
    assert!(job.wait(Duration::MAX));
    assert_eq!(job.progress().state, State::Done);
    turns.begun.load(Ordering::Relaxed)
}

/// A cancel from another thread, wherever the job is: the turn under way ends, and none is begun after it.
#[test]
fn no_turn_is_begun_after_a_cancel() {
    let all = all_turns(1);
    println!("a job of {all} turns");
    assert!(all > 100, "{all} turns");
    for at in [1, 2, 3, all / 3, all / 2, all - 1, all] {
        for under_way in [false, true] {
            let turns = Turns { under_way, ..Turns::default() };
            turns.at.store(at, Ordering::Relaxed);
            let (_engine, job) = begun(true, 1, &turns);
            *turns.job.lock().unwrap() = Some(Arc::clone(&job));
            assert!(job.wait(Duration::MAX));
            let begun = turns.begun.load(Ordering::Relaxed);
            // asked before it the turn is not begun; during it, it is the last
            assert_eq!(
                begun,
                if under_way { at } else { at - 1 },
                "cancelled at turn {at} of {all}"
            );
            let last = under_way && at == all;
            let want = if last { State::Done } else { State::Cancelled };
            assert_eq!(job.progress().state, want, "cancelled at turn {at} of {all}");
        }
    }
}

/// The same where a thread of ours drives the job.
#[test]
fn the_thread_of_the_engine_stops_at_that_turn_too() {
    for threads in [1, 2] {
        let all = all_turns(threads);
        for at in [all / 3, all / 2] {
            let turns = Turns { under_way: true, ..Turns::default() };
            turns.at.store(at, Ordering::Relaxed);
            // until the host has put the job there nothing is cancelled, so the lock is held until it has
            let mut place = turns.job.lock().unwrap();
            let (_engine, job) = begun(false, threads, &turns);
            *place = Some(Arc::clone(&job));
            drop(place);
            assert!(job.wait(Duration::MAX));
            assert_eq!(job.progress().state, State::Cancelled);
            assert_eq!(turns.begun.load(Ordering::Relaxed), at, "{threads} threads, {all} turns");
        }
    }
}

/// A host that pumps: each call without a budget makes one turn, and after a cancel none.
#[test]
fn a_pump_after_a_cancel_makes_no_turn() {
    let turns = Turns::default();
    let (engine, job) = begun(true, 1, &turns);
    for n in 1..=5 {
        assert_eq!(engine.pump(0), 1);
        assert_eq!(turns.begun.load(Ordering::Relaxed), n);
    }
    job.cancel();
    assert_eq!(engine.pump(0), 0, "it is over at once");
    assert_eq!(turns.begun.load(Ordering::Relaxed), 5);
    assert_eq!(job.progress().state, State::Cancelled);
}
