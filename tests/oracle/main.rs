//! Reference checkpoints and tensors: every test of every manifest of `DIFFX_ORACLE`, else of the shared folder's
//! `oracle`, is handed to the function for its kind, and what comes back is held to the manifest's tolerance.
//!
//! A family's file has a table `KINDS`: the kinds it covers, and a function that puts the outputs the manifest names
//! (and gradients by parameter) into `Got`. Write from the checkpoints' configs: other sizes and types are tried too.
//! A kind nobody lists is not covered and is listed so; a covered test that differs in anything fails.
//!
//! Without the harness of the test library, so that the table below is always seen:
//!     cargo test --release --test oracle [-- TEXT]        tests whose case/name holds TEXT; none or `oracle`: all

// what the families need, as they come
#[allow(dead_code)]
mod array;
#[allow(dead_code)]
mod case;
#[allow(dead_code)]
mod compare;
mod csdi;
mod dit;
mod edm;
mod llada;
mod loader;
#[allow(dead_code)]
mod network;
mod rng;
mod schedulers;
mod tabular;
mod unet2d;
mod vae;

use case::{Case, Test};
use compare::Got;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// A kind of tests, and what gives its outputs.
pub(crate) struct Row {
    pub kind: &'static str,
    /// Cases it is of; none: any. Some kinds are called alike.
    pub cases: &'static [&'static str],
    pub run: fn(&Test, &mut Got) -> Answer,
}

/// An error is a sentence.
pub(crate) type Answer<T = ()> = Result<T, String>;

const FAMILIES: &[&[Row]] = &[
    dit::KINDS,
    unet2d::KINDS,
    edm::KINDS,
    vae::KINDS,
    csdi::KINDS,
    tabular::KINDS,
    llada::KINDS,
    schedulers::KINDS,
    rng::KINDS,
    loader::KINDS,
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let filter: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|w| !w.starts_with('-') && *w != "oracle")
        .collect();
    let Some(root) = case::root() else {
        println!("skipped: no oracle, neither in DIFFX_ORACLE nor in the shared folder");
        return ExitCode::SUCCESS;
    };
    let cases = match case::read(&root) {
        Ok(cases) => cases,
        Err(e) => {
            println!("{e}");
            return ExitCode::FAILURE;
        }
    };
    let list = words.iter().any(|w| w == "--list");
    let mut left: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut faults = 0;
    for case in &cases {
        let (mut good, mut covered) = (0, 0);
        let begun = Instant::now();
        let mut chosen = 0;
        for test in &case.tests {
            let path = format!("{}/{}", case.name, test.name);
            if !filter.is_empty() && !filter.iter().any(|f| path.contains(f)) {
                continue;
            }
            chosen += 1;
            if list {
                println!("{path}: {}", test.kind);
                continue;
            }
            let Some(row) = row(case, test) else {
                left.entry(case.name.clone()).or_default().push(test.name.clone());
                continue;
            };
            covered += 1;
            match judge(row, test) {
                Ok(()) => good += 1,
                Err(e) => println!("FAILED {path}: {e}"),
            }
        }
        faults += covered - good;
        if covered > 0 && !list {
            let seconds = begun.elapsed().as_secs_f64();
            println!("{good:4} of {covered:3}  {} ({chosen} tests, {seconds:.1} s)", case.name);
        }
    }
    if !left.is_empty() {
        println!("not covered:");
        for (case, names) in left {
            println!("  {case}: {}", names.join(", "));
        }
    }
    if faults > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn row(case: &Case, test: &Test) -> Option<&'static Row> {
    if test.params["ckpt"] == "single_file" {
        return None; // a file of a whole pipeline, which nothing opens yet
    }
    let is_of = |r: &&Row| r.cases.is_empty() || r.cases.contains(&case.name.as_str());
    FAMILIES.iter().copied().flatten().find(|r| r.kind == test.kind && is_of(r))
}

fn judge(row: &Row, test: &Test) -> Answer {
    let mut got = Got::default();
    match catch_unwind(AssertUnwindSafe(|| (row.run)(test, &mut got))) {
        Ok(done) => done?,
        Err(_) => return Err("panicked".into()),
    }
    compare::check(test, &got)
}
