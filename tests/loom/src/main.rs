//! Every order in which a few threads can meet in the pool, the queue, jobs and holds, tried by loom. The sources are the
//! engine's own (`build.rs`); only what they stand on is small here: `base::sync` is loom's, the clock stands still, and a
//! replay counts its rows. Each fault of `build.rs` is put into a copy, and some model must find it there.
//!
//! `diffx-loom` runs all, those with too many orders with few preemptions only; `diffx-loom --all` lifts the bounds that can
//! be lifted in minutes; `diffx-loom MODEL [TREE]` runs one, in this process. A tree with a fault hangs, panics or fails an
//! assertion, all of which end a child process.

mod base;
mod engine;
mod pool;
mod stand_in;

pub use stand_in::{exec, mem, sample, weights};

use std::process::{Command, ExitCode};
use std::time::Instant;

/// A model, the most preemptions (none: all orders there are), and what runs it on a tree.
type Model = (&'static str, Option<u32>, fn(&str));

/// Bounded above for their time alone: `--all` runs all of their orders. Nobody has seen the end of the others.
const LIFTED: &[&str] = &[
    "job: one row, cancelled while it runs",
    "job: two rows, cancelled while it runs",
    "job: two rows, saved while it runs",
    "hold: the last of two goes, two rows",
];

const MODELS: &[Model] = &[
    ("pool: one run of two tasks", None, pool::one_run),
    ("pool: two runs of two tasks", Some(3), pool::two_runs),
    ("pool: two callers", Some(3), pool::two_callers),
    ("job: the engine's thread and a waiting host", None, |t| engine::on(t, "waited")),
    ("job: one row, cancelled while it runs", Some(5), |t| engine::on(t, "cancelled at one")),
    ("job: two rows, cancelled while it runs", Some(4), |t| engine::on(t, "cancelled at two")),
    ("job: released while another thread drives it", None, |t| engine::on(t, "abandoned")),
    ("job: one row, saved while it runs", None, |t| engine::on(t, "saved at one")),
    ("job: two rows, saved while it runs", Some(4), |t| engine::on(t, "saved at two")),
    ("pump: two threads of the host pump two jobs", None, |t| engine::on(t, "pumped")),
    ("hold: the engine is released before its job", None, |t| engine::on(t, "outlived")),
    ("hold: the last of two goes, one row", None, |t| engine::on(t, "holds at one")),
    ("hold: the last of two goes, two rows", Some(4), |t| engine::on(t, "holds at two")),
];

/// Begins the line in which a model counts.
const ORDERS: &str = "orders: ";
/// A model of two threads with fewer orders than this has lost what it models.
const FEWEST: u64 = 100;

const HOLDS: &str = "hold: the last of two goes, two rows";
const WAITED: &str = "job: the engine's thread and a waiting host";
const OUTLIVED: &str = "hold: the engine is released before its job";
const ONE: &str = "pool: one run of two tasks";
const RUNS: &str = "pool: two runs of two tasks";

/// Which model finds which fault.
const FAULTS: &[(&str, &str)] = &[
    ("pool_unlocked_end", ONE),
    ("pool_relaxed_end", RUNS),
    ("pool_no_wait", RUNS),
    ("pool_unseen_quit", ONE),
    ("pump_unlocked_quit", HOLDS),
    ("pump_silent_push", WAITED),
    ("job_second_end", "job: released while another thread drives it"),
    ("job_silent_end", WAITED),
    ("job_end_before_memory", WAITED),
    ("hold_no_join", HOLDS),
    ("hold_one_too_early", OUTLIVED),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let everything = words.first().is_some_and(|w| w == "--all");
    if let Some(name) = words.first().filter(|_| !everything) {
        let (.., run) = MODELS.iter().find(|m| m.0 == name).expect("a model");
        run(words.get(1).map_or("", String::as_str));
        return ExitCode::SUCCESS;
    }
    // two at a time: each model is one thread, whatever it models
    let (mut bad, half) = (0, MODELS.len().div_ceil(2));
    let all = std::thread::scope(|s| {
        let run = |models: &'static [Model]| {
            move || {
                let bound = |name, most: Option<u32>| {
                    most.filter(|_| !everything || !LIFTED.contains(&name))
                };
                models
                    .iter()
                    .map(|(name, most, _)| child(&[name], bound(*name, *most)))
                    .collect::<Vec<_>>()
            }
        };
        let halves = [s.spawn(run(&MODELS[..half])), s.spawn(run(&MODELS[half..]))];
        halves.map(|h| h.join().expect("a thread that waits for children")).concat()
    });
    for ((name, ..), (ok, said, seconds)) in MODELS.iter().zip(all) {
        let ok = ok && orders(&said).is_some_and(|n| n > FEWEST);
        let line = said.lines().find_map(|l| l.strip_prefix(ORDERS)).unwrap_or("not counted");
        println!("{} {name}: {line}, {seconds:.1} s", if ok { "ok  " } else { "FAIL" });
        if !ok {
            println!("{said}");
            bad += 1;
        }
    }
    for (tree, model) in FAULTS {
        let (ok, said, seconds) = child(&[model, tree], Some(4));
        let words =
            ["deadlock", "assert", "Causality", "is over", "given back", "is left", "task runs"];
        let why = said.lines().find(|l| words.iter().any(|w| l.contains(w)));
        println!(
            "{} {tree}: {}, {seconds:.1} s",
            if ok { "MISSED" } else { "found " },
            why.unwrap_or("ended otherwise").trim()
        );
        bad += usize::from(ok);
    }
    println!("{} models, {} faults, {bad} bad", MODELS.len(), FAULTS.len());
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one in a process of its own.
fn child(words: &[&str], most: Option<u32>) -> (bool, String, f64) {
    let begun = Instant::now();
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    match most {
        None => command.env_remove("LOOM_MAX_PREEMPTIONS"),
        Some(n) => command.env("LOOM_MAX_PREEMPTIONS", n.to_string()),
    };
    let out = command.args(words).output().expect("this program again");
    let said = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    (out.status.success(), said.into_owned(), begun.elapsed().as_secs_f64())
}

/// How many orders a model says it went through.
fn orders(said: &str) -> Option<u64> {
    let line = said.lines().find_map(|l| l.strip_prefix(ORDERS))?;
    line.split(' ').next()?.parse().ok()
}

/// Tries all orders of a model and says how many there were.
pub fn explore(model: impl Fn() + Send + Sync + 'static) {
    use std::sync::atomic::{AtomicU64, Ordering};
    let count = std::sync::Arc::new(AtomicU64::new(0));
    let seen = std::sync::Arc::clone(&count);
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 100_000;
    builder.check(move || {
        seen.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let bound = builder
        .preemption_bound
        .map_or_else(|| "all".to_owned(), |n| format!("at most {n} preemptions"));
    println!("{ORDERS}{} ({bound})", count.load(Ordering::Relaxed));
}
