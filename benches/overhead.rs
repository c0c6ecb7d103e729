//! What everything but the arithmetic costs: a step of a network that says 0, an op emitted across the ABI, the way from
//! `dlopen` to a first sample, the size of the library; beside the machine's own rate of multiplying matrices. Medians of
//! CPU time, because wall time on a shared machine measures the neighbours. Prints a table; targets are not enforced.

#[path = "../tests/abi/compiler.rs"]
#[allow(dead_code, reason = "shared with tests/abi")]
mod compiler;
#[path = "../tests/support/model.rs"]
mod model;
#[path = "../tests/abi/rig.rs"]
#[allow(dead_code, reason = "shared with tests/abi")]
mod rig;

use compiler::{Language, command, folder, include, library, root, run, source};
use diffx::base::{DType, Desc};
use diffx::cpu::Cpu;
use diffx::engine::{Engine, Job, JobOptions, OpenModel, Options, Pipeline, Setting, carried};
use diffx::exec::{RunKey, SessionBuilder};
use diffx::graph::{Attrs, Graph, Op};
use diffx::mem::Budget;
use diffx::sample::Request;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Ops that `tests/abi/misuse.c` emits in its case `chain`.
const CHAIN: usize = 20_000;

/// Seconds of CPU this thread has used.
fn cpu_seconds() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // Safety: the clock exists on Linux and writes the struct.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = cpu_seconds();
    work();
    cpu_seconds() - start
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn row(what: &str, value: &str, target: &str) {
    println!("{what:<66} {value:>16}  {target}");
}

/// Billions of operations per second of one thread, 512 x 512 by 512 x 512, f32: by its CPU time, and the best by the
/// clock, which should not be far off.
fn gemm_rate() -> (f64, f64) {
    const N: usize = 512;
    let mut g = Graph::new(1, DType::F32);
    let desc = Desc::new(DType::F32, &[N, N]).expect("a shape");
    let (a, b) = (g.input("a", desc), g.input("b", desc));
    let c = g.emit(Op::MatMul, &[a, b], Attrs::NONE);
    let mut s = SessionBuilder::new(Arc::new(Cpu::new(1)));
    let ids = [s.buffer("a", desc), s.buffer("b", desc)];
    let out = s.buffer("c", desc);
    let plan = s.plan(&g, &ids, &[(c, out)], &[]).expect("a plan");
    let mut s = s.allocate(&Budget::unlimited()).expect("memory");
    for id in ids {
        s.write(id, bytemuck::cast_slice(&vec![0.5f32; N * N])).expect("values");
    }
    let key = RunKey { seed: 1, step: 0, first_sample: 0 };
    let mut best = f64::INFINITY;
    let runs = (0..51).map(|_| {
        timed(|| {
            let start = Instant::now();
            s.replay(plan, key).expect("a run");
            best = best.min(start.elapsed().as_secs_f64());
        })
    });
    let work = 2.0 * (N as f64).powi(3) * 1e-9;
    (work / median(runs.collect()), work / best)
}

/// Seconds of one step of a pipeline around the null network with a state of one number, and of planning a row.
fn null_step(sampler: &str) -> (f64, f64) {
    let path = model::temporary("null.safetensors");
    let mut manifest = model::manifest(&[1], "ve");
    manifest.model = Setting::parse(r#"null:{"dims":[1]}"#).expect("a setting");
    model::save(&path, &manifest).expect("a model file");
    let options = Options { no_threads: true, threads: 1, ..Options::default() };
    let engine = Engine::new(options).expect("an engine");
    let model = OpenModel::open(&engine, &path.to_string_lossy(), "").expect("a model");
    let _ = std::fs::remove_file(path);
    let config = format!(r#"{{"sampler":"{sampler}","sigma_min":0.01,"sigma_max":80}}"#);
    let pipeline = Pipeline::new(&model, &config).expect("a pipeline");
    let (mut steps, mut rows_each) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        let [short, long] = [2_000u32, 42_000].map(|n| {
            let mut rows = None;
            let planning = timed(|| rows = pipeline.rows(n).ok());
            let rows = rows.expect("rows");
            let mut replay = pipeline.replay(&rows, 1, false).expect("a session");
            let request =
                Request { seed: 1, first_sample: 0, n_samples: 1, preview_every: 0, conds: vec![] };
            replay.begin(&rows, request, &[], engine.budget()).expect("a beginning");
            let running = timed(|| replay.finish().expect("a run"));
            drop(pipeline.leave(replay));
            (running, planning)
        });
        steps.push((long.0 - short.0) / 40_000.0);
        rows_each.push((long.1 - short.1) / 40_000.0);
    }
    (median(steps), median(rows_each))
}

/// Seconds per op of a plugin in C: emission across the ABI, with what the host does for it.
fn emitted_op() -> Option<f64> {
    let file = library(&source("misuse.c"), &folder("overhead").join("misuse.so"), &["-O2"])?;
    let model =
        rig::loaded(&file).model("misuse", &rig::config(r#"{"case":"chain"}"#)).expect("a model");
    let runs = (0..15).map(|_| {
        timed(|| {
            rig::build_model(model.clone()).expect("a build");
        })
    });
    Some(median(runs.collect()) / CHAIN as f64)
}

/// Milliseconds from `dlopen` to the first sample: median of the clock, its best, and median of the processor.
fn first_sample(library: &Path, model: &str) -> Option<[f64; 3]> {
    let mut cc = command(Language::C)?;
    let program = folder("overhead").join("first_sample");
    run(cc
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "-I"])
        .arg(include())
        .arg(root().join("benches/c/first_sample.c"))
        .arg("-o")
        .arg(&program)
        .arg("-ldl"));
    let (mut clock, mut work) = (Vec::new(), Vec::new());
    for _ in 0..21 {
        let text = run(Command::new(&program).arg(library).arg(model));
        let mut numbers = text.split_whitespace().map(|w| w.parse::<f64>().expect("a number"));
        clock.push(numbers.next().expect("clock") * 1e-3);
        work.push(numbers.next().expect("work") * 1e-3);
    }
    let best = clock.iter().copied().fold(f64::INFINITY, f64::min);
    Some([median(clock), best, median(work)])
}

/// Millions of bytes of a library without its symbols.
fn stripped(library: &Path) -> Option<f64> {
    let out = folder("overhead").join("stripped.so");
    let done = Command::new("strip").arg("-o").arg(&out).arg(library).status();
    if !done.is_ok_and(|s| s.success()) {
        println!("skipped: no strip");
        return None;
    }
    std::fs::metadata(out).ok().map(|m| m.len() as f64 * 1e-6)
}

/// Milliseconds from a cancel at any moment of a job of `vix`, 64 rows, to its end: median, 99 of 100, and the worst of
/// 300, by the clock. A thread of the engine drives the job.
fn cancelled() -> [f64; 3] {
    let options = Options { threads: 1, ..Options::default() };
    let engine = Engine::new(options).expect("an engine");
    let model = OpenModel::open(&engine, "vix", "").expect("a model");
    let pipeline = Pipeline::new(&model, "{\"steps\":1000}").expect("a pipeline");
    let mut times: Vec<f64> = (0..300)
        .map(|i| {
            let options = JobOptions { n_samples: 64, ..JobOptions::default() };
            let job = Job::start(&pipeline, options).expect("a job");
            while job.progress().step < 2 {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_micros(i * 37 % 1000));
            let start = Instant::now();
            job.cancel();
            assert!(job.wait(Duration::MAX));
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    [times[150], times[297], times[299]]
}

/// libdiffx.so of this build, and the one of the profile `dist` where there is one.
fn libraries() -> (Option<PathBuf>, Option<PathBuf>) {
    let exe = std::env::current_exe().expect("a program");
    let built = exe.ancestors().skip(1).take(2).map(|d| d.join("libdiffx.so")).find(|p| p.exists());
    let dist = exe.ancestors().nth(3).map(|target| target.join("dist/libdiffx.so"));
    (built, dist.filter(|p| p.exists()))
}

fn main() {
    row("what", "median", "target");
    let (rate, best) = gemm_rate();
    row("f32 matrix product, 512^3, one thread", &format!("{rate:.1} GFLOP/s"), "");
    row("  best of 51 by the clock", &format!("{best:.1} GFLOP/s"), "");
    for sampler in ["euler", "heun"] {
        let (step, planning) = null_step(sampler);
        let what = format!("a step of the null network, one number, {sampler}, kernels included");
        row(&what, &format!("{:.3} us", step * 1e6), "< 0.5 us");
        row("  planning its row, once", &format!("{:.3} us", planning * 1e6), "");
    }
    if let Some(op) = emitted_op() {
        row("an op emitted by a C plugin", &format!("{:.3} us", op * 1e6), "< 0.3 us");
    }
    let [middle, late, worst] = cancelled();
    row(
        "from a cancel of a running job of vix, 64 rows, to its end",
        &format!("{middle:.3} ms"),
        "",
    );
    row("  99 of 100 within, the worst of 300", &format!("{late:.2}, {worst:.2} ms"), "");
    let (built, dist) = libraries();
    let model = "vix";
    assert!(carried::names().any(|name| name == model), "the library carries no model {model}");
    for (name, library) in [("release", built), ("dist", dist)] {
        let Some(library) = library else {
            println!("skipped: no libdiffx.so of the profile {name}");
            continue;
        };
        if let Some([clock, best, work]) = first_sample(&library, model) {
            row(
                &format!("dlopen to first sample of {model}, {name}"),
                &format!("{clock:.2} ms"),
                "< 10 ms",
            );
            row("  best of 21", &format!("{best:.2} ms"), "");
            row("  CPU time", &format!("{work:.2} ms"), "");
        }
        if let Some(size) = stripped(&library) {
            row(&format!("libdiffx.so, {name}, stripped"), &format!("{size:.2} MB"), "< 6 MB");
        }
    }
}
