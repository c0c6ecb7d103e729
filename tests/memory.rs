//! Memory is known before it is taken, taken once, and given back; the loop allocates nothing.

#[path = "support/model.rs"]
mod model;

use diffx::base::Status;
use diffx::engine::{Engine, Job, JobOptions, OpenModel, Options, Pipeline};
use diffx::exec::Interrupt;
use diffx::sample::{Advance, Request};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Counts the allocations of each thread.
struct Counting;

thread_local!(static COUNT: Cell<u64> = const { Cell::new(0) });

fn count() {
    // a thread that is ending has no counter any more
    let _ = COUNT.try_with(|c| c.set(c.get() + 1));
}

// Safety: passes every call on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, l: Layout) -> *mut u8 {
        count();
        // Safety: the caller's promise.
        unsafe { System.alloc(l) }
    }

    unsafe fn dealloc(&self, p: *mut u8, l: Layout) {
        // Safety: the caller's promise.
        unsafe { System.dealloc(p, l) }
    }

    unsafe fn realloc(&self, p: *mut u8, l: Layout, n: usize) -> *mut u8 {
        count();
        // Safety: the caller's promise.
        unsafe { System.realloc(p, l, n) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn open(path: &Path, cap: u64, config: &str) -> (Arc<Engine>, Arc<Pipeline>) {
    let options = Options { no_threads: true, arena_bytes: cap, ..Options::default() };
    let engine = Engine::new(options).unwrap();
    let model = OpenModel::open(&engine, path.to_str().unwrap(), "").unwrap();
    let pipeline = Pipeline::new(&model, config).unwrap();
    (engine, pipeline)
}

fn file(name: &str) -> std::path::PathBuf {
    let path = model::temporary(name);
    model::save(&path, &model::manifest(&[6], "ve")).unwrap();
    path
}

fn options(n: usize, preview_every: u32) -> JobOptions {
    JobOptions { seed: 1, n_samples: n, preview_every, ..JobOptions::default() }
}

#[test]
fn what_was_planned_is_what_is_taken() {
    let path = file("planned.safetensors");
    for (n, preview) in [(1, 0), (100, 0), (700, 3)] {
        let (engine, pipeline) = open(&path, 0, "");
        let before = engine.budget().used();
        let planned = pipeline.plan(n, 0, preview > 0).unwrap();
        assert_eq!(engine.budget().used(), before, "planning takes nothing");
        let job = Job::start(&pipeline, options(n, preview)).unwrap();
        assert_eq!(engine.budget().used() - before, planned, "{n} samples");
        assert!(job.wait(Duration::from_secs(600)));
        job.result("x").unwrap();
        assert_eq!(engine.budget().used() - before, planned, "while it ran nothing was added");
        assert_eq!(engine.budget().peak() - before, planned);
        let budget = Arc::clone(engine.budget());
        drop((job, pipeline, engine));
        assert_eq!(budget.used(), 0, "everything came back");
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_cap_below_the_need_is_refused_before_anything_runs() {
    let path = file("cap.safetensors");
    let (engine, pipeline) = open(&path, 0, "");
    let need = engine.budget().used() + pipeline.plan(100, 0, false).unwrap();
    for (cap, fits) in [(need, true), (need - 1, false)] {
        let (engine, pipeline) = open(&path, cap, "");
        let before = engine.budget().used();
        match Job::start(&pipeline, options(100, 0)) {
            Ok(job) => {
                assert!(fits);
                assert!(job.wait(Duration::from_secs(600)));
                job.result("x").unwrap();
            }
            Err(e) => {
                assert!(!fits, "{e}");
                assert_eq!(e.status, Status::NoMemory);
                assert_eq!(engine.budget().used(), before, "nothing is left behind");
                // a smaller job still fits
                let small = Job::start(&pipeline, options(1, 0)).unwrap();
                assert!(small.wait(Duration::from_secs(600)));
                small.result("x").unwrap();
            }
        }
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn the_loop_allocates_nothing() {
    let path = file("loop.safetensors");
    for config in ["", r#"{"sampler":"ancestral"}"#] {
        let (engine, pipeline) = open(&path, 0, config);
        let rows = pipeline.rows(0).unwrap();
        let mut replay = pipeline.replay(&rows, 16, true).unwrap();
        let request =
            Request { seed: 1, first_sample: 0, n_samples: 50, preview_every: 2, conds: vec![] };
        replay.begin(&rows, request, &pipeline.nulls(), engine.budget()).unwrap();
        let mut plans = 0;
        let before = COUNT.with(Cell::get);
        while replay.advance(&mut || Interrupt::Continue).unwrap() != Advance::Done {
            plans += 1;
        }
        assert_eq!(COUNT.with(Cell::get) - before, 0, "{plans} plans, {config}");
        assert!(plans > 60);
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_second_job_reuses_the_session_of_the_first() {
    let path = file("reuse.safetensors");
    let (engine, pipeline) = open(&path, 0, "");
    let first = Job::start(&pipeline, options(100, 0)).unwrap();
    assert!(first.wait(Duration::from_secs(600)));
    let used = engine.budget().used();
    let results: u64 = first.results().iter().map(|(_, t)| t.bytes().len() as u64).sum();
    let second = Job::start(&pipeline, options(100, 0)).unwrap();
    assert_eq!(engine.budget().used(), used + results);
    assert!(second.wait(Duration::from_secs(600)));
    assert_eq!(first.result("x").unwrap().bytes(), second.result("x").unwrap().bytes());
    std::fs::remove_file(path).unwrap();
}
