//! Every function of `diffx.h` called wrongly, by a list made from the header: NULL and odd pointers in each place, objects
//! of another kind, structs of every size with every field wild, wild numbers, and mixtures of those. Each function has
//! a child process of its own, so that a crash is counted and named. A status comes back, and it is none of ours that
//! says "bug"; a failed call writes nothing; the engine works afterwards and holds no memory. Released handles are part
//! of it where the library is one with debug assertions: `cargo test --test hostile`.
//!
//! `rows.rs` has a good call of each function; a function of the header without one fails the test. What a text or a
//! file can say is not tried here but by `fuzz/`.

#[path = "../gate/layout.rs"]
#[allow(dead_code)]
mod layout;
mod live;
mod memory;
#[path = "../gate/reader.rs"]
#[allow(dead_code)]
mod reader;
mod rows;
#[path = "../gate/tools.rs"]
#[allow(dead_code)]
mod tools;
mod values;

use live::{Live, Seen};
use reader::Interface;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use values::{Place, Wrong};

/// Names the function a child tries.
const CHILD: &str = "DIFFX_HOSTILE_FUNCTION";
/// Mixtures of wrong and right arguments per function.
const MIXTURES: usize = 300;
/// A child that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(300);

fn interface() -> Interface {
    reader::read(&tools::header("diffx.h"))
}

#[test]
fn every_function_of_the_header_has_a_row() {
    let header: Vec<String> = interface().functions.into_keys().collect();
    let mut rows: Vec<&str> = rows::ROWS.iter().map(|r| r.0).collect();
    rows.sort_unstable();
    assert_eq!(rows, header, "tests/hostile/rows.rs has a good call of each function");
}

#[test]
fn no_wrong_call_crashes() {
    let Some(_) = tools::engine() else { return };
    let begun = Instant::now();
    let (mut calls, mut refused, mut bad) = (0, 0, Vec::new());
    // two at a time: a child waits for files and threads of its own
    let queue = std::sync::Mutex::new(rows::ROWS.iter());
    let results = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                loop {
                    let Some((name, _)) = queue.lock().unwrap().next() else { return };
                    let result = child(name);
                    results.lock().unwrap().push((*name, result));
                }
            });
        }
    });
    for (name, result) in results.into_inner().unwrap() {
        match result {
            Ok((n, said)) => (calls, refused) = (calls + n, refused + said),
            Err(e) => bad.push(format!("{name}: {e}")),
        }
    }
    println!(
        "hostile: {} functions, {calls} calls tried, {refused} refused in words, {} crashes, released handles {}, {:.0} s",
        rows::ROWS.len(),
        bad.len(),
        if cfg!(debug_assertions) { "among them" } else { "only in a debug build" },
        begun.elapsed().as_secs_f64()
    );
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    assert!(calls > 10_000 && refused > calls / 4, "{calls} calls, {refused} refused");
}

/// The machinery sees a crash, and names it.
#[test]
fn a_crash_is_named() {
    let Some(_) = tools::engine() else { return };
    let e = child("crash").expect_err("a call of address 16");
    assert!(e.contains("signal") && e.contains("on purpose"), "{e}");
}

/// Calls one function in a process of its own. Gives the number of calls, and of those refused.
fn child(function: &str) -> Result<(usize, usize), String> {
    let dir = tools::folder(&format!("hostile-{function}"));
    let log = dir.join("log");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["the_child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, function)
        .current_dir(&dir)
        .stdout(std::fs::File::create(&log).unwrap())
        .stderr(Stdio::from(std::fs::File::create(dir.join("words")).unwrap()))
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if begun.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let log = tools::text(&std::fs::read(log).unwrap());
    let words = tools::text(&std::fs::read(dir.join("words")).unwrap());
    let last = log.lines().rfind(|l| l.starts_with("call ")).unwrap_or("before the first call");
    let Some(status) = status else { return Err(format!("hangs at {last}")) };
    if let Some(signal) = status.signal() {
        return Err(format!("signal {signal} at {last}\n{words}"));
    }
    if !status.success() {
        return Err(format!("{last}\n{words}"));
    }
    let count = log.lines().find_map(|l| l.strip_prefix("done "));
    let count = count.ok_or_else(|| format!("ended early at {last}"))?;
    let (calls, refused) = count.split_once(' ').unwrap();
    Ok((calls.parse().unwrap(), refused.parse().unwrap()))
}

/// Not a test of its own: what the children run.
#[test]
fn the_child() {
    let Ok(function) = std::env::var(CHILD) else { return };
    say(""); // what stands on this line is the harness's
    let mut seen = Seen::default();
    let live = Live::new(&tools::engine().unwrap());
    if function == "crash" {
        say("call on purpose");
        // Safety: none; this is the crash that the parent must see.
        unsafe { (16 as *const u32).read_volatile() };
    }
    let all = interface();
    let row = rows::ROWS.iter().find(|r| r.0 == function).expect("a row");
    let signature = &all.functions[row.0];
    let (returns, types) = values::signature(signature);
    let words: Vec<&str> = row.1.split_whitespace().collect();
    assert_eq!(words.len(), types.len(), "{function}: {signature}");
    let mut good: Vec<Place> =
        words.iter().zip(&types).map(|(w, ty)| values::good(w, ty, &all, &live)).collect();
    let wrong: Vec<Vec<Wrong>> =
        types.iter().zip(&good).map(|(ty, g)| values::wrong(ty, g, &all, &live)).collect();
    let expected = live.sample();

    let f = live.function(&function);
    let mut try_one = |choice: &[Option<usize>], good: &mut [Place]| {
        let labels = choice.iter().enumerate().filter_map(|(i, c)| {
            c.map(|c| format!("argument {i} ({}): {}", types[i], wrong[i][c].label))
        });
        let labels: Vec<String> = labels.collect();
        say(&format!("call {function}: {}", labels.join("; ")));
        live::attempt(&live, f, returns, &types, choice, good, &wrong, &mut seen);
    };
    try_one(&vec![None; types.len()], &mut good);
    for i in 0..types.len() {
        for k in 0..wrong[i].len() {
            let mut choice = vec![None; types.len()];
            choice[i] = Some(k);
            try_one(&choice, &mut good);
        }
    }
    let mut state = function.bytes().fold(7u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0193));
    let mut draw = |n: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n.max(1)
    };
    for _ in 0..if types.is_empty() { 0 } else { MIXTURES } {
        let choice: Vec<Option<usize>> = wrong
            .iter()
            .map(|w| if w.is_empty() || draw(2) == 0 { None } else { Some(draw(w.len())) })
            .collect();
        try_one(&choice, &mut good);
    }
    say("call afterwards: a sample as before");
    assert_eq!(live.sample(), expected, "the engine does not work as it did");
    drop(good);
    say("call afterwards: the end");
    live.end();
    say(&format!("done {} {}", seen.calls, seen.refused));
}

/// At once, so that it is there when the next call does not come back.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
