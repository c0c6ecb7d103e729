//! How far `pump` and `wait` go beyond the time they were given: by less than the longest piece (a node, or a share of a
//! long one), because none but the first is begun after its end. Held on a clock in the test's hand, on which every piece
//! takes a time of its own; `benches/hosts/overrun.py` prints what it is by the time of the thread.

use super::watched::{Watched, Watcher};
use super::{Engine, Job, JobOptions, OpenModel, Options, Pipeline};
use crate::base::clock::{ByHand, TICK, pass, shows};
use crate::cpu::Cpu;
use crate::exec::Interrupt;
use crate::exec::backend::RunKey;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A piece that ran: of which job (its seed), when it began, how long it took.
#[derive(Debug, Clone, Copy)]
struct Piece {
    job: u64,
    begun: Duration,
    took: Duration,
}

/// Lets each piece take its time, and writes them down.
#[derive(Clone, Default)]
struct Pieces {
    /// A fault: one more piece is begun after the engine has said to pause.
    one_more: bool,
    ran: Arc<Mutex<Vec<Piece>>>,
    /// Whether that piece has just been begun.
    overdue: Arc<Mutex<bool>>,
}

impl Pieces {
    /// Those that ran since it was last asked.
    fn take(&self) -> Vec<Piece> {
        std::mem::take(&mut self.ran.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Watcher for Pieces {
    fn turn(&self, key: RunKey, ask: &mut dyn FnMut() -> Interrupt) -> Interrupt {
        let mut overdue = self.overdue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut said = ask();
        if said == Interrupt::Pause && self.one_more {
            *overdue = !*overdue;
            if *overdue {
                said = Interrupt::Continue;
            }
        }
        if said == Interrupt::Continue {
            let mut ran = self.ran.lock().unwrap_or_else(PoisonError::into_inner);
            let begun = shows();
            // by the moment: 1 to 800 microseconds, and one in some forty up to 5 ms, which is beyond the budget
            let lot = begun.as_nanos() as u64 / 50 * 0x9e37_79b9 % 104_729;
            let took = Duration::from_micros(
                if lot.is_multiple_of(41) { lot % 5_000 } else { lot % 800 } + 1,
            );
            ran.push(Piece { job: key.seed, begun, took });
            pass(took);
        }
        said
    }
}

struct Set {
    engine: Arc<Engine>,
    jobs: Vec<Arc<Job>>,
    pieces: Pieces,
    _clock: ByHand,
}

fn set(jobs: usize, one_more: bool) -> Set {
    begun_at(Duration::from_secs(1), jobs, one_more)
}

/// The moment decides what every piece takes.
fn begun_at(from: Duration, jobs: usize, one_more: bool) -> Set {
    let clock = ByHand::take(from);
    let pieces = Pieces { one_more, ..Pieces::default() };
    let options = Options { no_threads: true, ..Options::default() };
    let backend = Arc::new(Watched(Cpu::new(1), pieces.clone()));
    let engine = Engine::with_backend(options, backend).unwrap();
    let model = OpenModel::open(&engine, "vix", "").unwrap();
    let pipeline = Pipeline::new(&model, "{\"steps\":3,\"sampler\":\"heun\"}").unwrap();
    // many rows, so that long nodes are cut into shares
    let start = |seed| {
        Job::start(&pipeline, JobOptions { seed, n_samples: 64, ..JobOptions::default() }).unwrap()
    };
    Set { jobs: (0..jobs as u64).map(start).collect(), engine, pieces, _clock: clock }
}

/// The law for one call that was given `budget` at `from`.
fn law(from: Duration, budget: Duration, longest: Duration, ran: &[Piece]) -> Result<(), String> {
    let end = from + budget;
    for (i, piece) in ran.iter().enumerate().skip(1) {
        if piece.begun >= end {
            let late = piece.begun - end;
            return Err(format!("piece {i} of {} is begun {late:?} after the end", ran.len()));
        }
    }
    match ran.last() {
        Some(last) if last.begun + last.took > end + longest => {
            Err(format!("{:?} over, the longest takes {longest:?}", last.begun + last.took - end))
        }
        _ => Ok(()),
    }
}

/// Pumps to the end and holds every call to the law, by the longest piece of them all. Gives the pieces of each call.
fn pumped(set: &Set, budget: Duration) -> Result<Vec<Vec<Piece>>, String> {
    let (mut began, mut calls) = (Vec::new(), Vec::new());
    loop {
        let from = shows();
        let left = set.engine.pump(budget.as_micros() as u64);
        let ran = set.pieces.take();
        assert!(left == 0 || !ran.is_empty(), "a call that does nothing");
        assert!(left == 0 || shows() >= from + budget, "a call that gives up before its time");
        began.push(from);
        calls.push(ran);
        if left == 0 {
            break;
        }
    }
    let longest = calls.iter().flatten().map(|p| p.took).max().unwrap();
    for (from, ran) in began.iter().zip(&calls) {
        law(*from, budget, longest, ran)?;
    }
    Ok(calls)
}

/// How many pieces these jobs have, by pumping piece by piece.
fn piece_by_piece(jobs: usize) -> usize {
    let calls = pumped(&set(jobs, false), Duration::from_micros(1)).unwrap();
    // the end of a job is none of its pieces, so that the last call may have none
    assert!(calls.iter().all(|ran| ran.len() <= 1), "a call of a microsecond has two pieces");
    calls.concat().len()
}

const BUDGET: Duration = Duration::from_millis(2);
/// No piece takes longer.
const LONGEST: Duration = Duration::from_millis(5);

/// No piece but the first is begun after the budget, so a call overruns it by less than the longest piece; and nothing is
/// lost by that.
#[test]
fn a_pump_overruns_by_less_than_its_longest_piece() {
    for jobs in [1, 2, 5] {
        let all = piece_by_piece(jobs);
        let set = set(jobs, false);
        let calls = pumped(&set, BUDGET).unwrap();
        assert_eq!(calls.concat().len(), all, "{jobs} jobs");
        assert!(set.jobs.iter().all(|j| j.progress().state.is_over()));
        let beyond = calls.iter().filter(|c| c.iter().any(|p| p.took > BUDGET)).count();
        println!("{jobs} jobs: {all} pieces, {} calls, {beyond} with one above 2 ms", calls.len());
        assert!(beyond > 0 && calls.len() > 2 * beyond, "calls of both kinds");
    }
}

/// The law sees an engine that begins one more piece after it was told to pause.
#[test]
fn one_more_piece_is_seen() {
    for jobs in [1, 2] {
        let broken = pumped(&set(jobs, true), BUDGET);
        let said = broken.expect_err("a call that begins one more piece passes");
        assert!(said.contains("after the end"), "{said}");
    }
}

/// `wait` on an engine without threads is a pump for one job, with the same law.
#[test]
fn a_wait_without_threads_overruns_by_less_than_its_longest_piece() {
    let set = set(1, false);
    loop {
        let from = shows();
        let over = set.jobs[0].wait(BUDGET);
        let ran = set.pieces.take();
        law(from, BUDGET, LONGEST, &ran).unwrap();
        if over {
            return;
        }
        assert!(shows() + TICK >= from + BUDGET, "a call that gives up before its time");
    }
}

/// Jobs are served in turn, whatever a call is given: who had none in one call is first in the next. Held until one is
/// over, for several courses of long and short pieces.
#[test]
fn jobs_are_served_in_turn_whatever_a_call_is_given() {
    for budget in [0, 50, 500, 2000] {
        for (jobs, course) in [(2, 1), (2, 2), (5, 1)] {
            let set = begun_at(Duration::from_millis(course), jobs, false);
            let mut turns = Vec::new();
            while set.engine.pump(budget) == jobs {
                turns.extend(set.pieces.take().iter().map(|piece| piece.job));
            }
            turns.dedup();
            assert!(turns.len() > 2 * jobs, "{jobs} jobs, {budget} us a call: {turns:?}");
            for (i, round) in turns.windows(jobs + 1).enumerate() {
                let mut all = round[1..].to_vec();
                all.sort_unstable();
                all.dedup();
                assert!(
                    all.len() == jobs && round[0] == round[jobs],
                    "{jobs} jobs, {budget} us a call: turn {i} begins {round:?}"
                );
            }
        }
    }
}
