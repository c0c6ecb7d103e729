//! The Julia package: its own tests, and the hello program, against the shared library of this build.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use diffx::engine::{Engine, Job, JobOptions, OpenModel, Options, Pipeline};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The shared library of this build.
fn library() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let deps = exe.parent()?;
    let places = [deps.to_path_buf(), deps.parent()?.to_path_buf()];
    let found = places.map(|p| p.join("libdiffx.so")).into_iter().find(|p| p.is_file());
    if found.is_none() {
        println!("skipped: julia: no libdiffx.so beside this test");
    }
    found
}

/// Julia with the package, where it can be used. Julia built for another libunwind dies of every exception that passes
/// compiled code, before it meets a library of ours; `scripts/install-julia` puts the right one beside it.
fn julia() -> Option<Command> {
    let library = library()?;
    let throws = Command::new("julia")
        .args([
            "--startup-file=no",
            "-e",
            "f() = error(\"x\"); try f() catch; print(\"caught\") end",
        ])
        .output();
    match throws {
        Err(_) => {
            println!("skipped: julia is not installed");
            return None;
        }
        Ok(run) if !run.status.success() || run.stdout != b"caught" => {
            println!(
                "skipped: julia dies of its own exceptions here; scripts/install-julia mends it"
            );
            return None;
        }
        Ok(_) => {}
    }
    let mut julia = Command::new("julia");
    julia
        .arg("--startup-file=no")
        .arg(format!("--project={}", root().join("bindings/julia/Diffx").display()))
        .env("DIFFX_LIBRARY", library)
        .env("DIFFX_INCLUDE", root().join("include"))
        .env("JULIA_DEPOT_PATH", Path::new(env!("CARGO_TARGET_TMPDIR")).join("julia"))
        .env("JULIA_NUM_THREADS", "2");
    Some(julia)
}

fn text(run: &Output) -> String {
    let out = [&run.stdout[..], &run.stderr[..]].concat();
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn the_package_passes_its_tests() {
    let Some(mut julia) = julia() else { return };
    let run = julia.arg(root().join("bindings/julia/Diffx/test/runtests.jl")).output().unwrap();
    println!("{}", text(&run));
    assert!(run.status.success(), "{:?}", run.status);
}

/// FNV-1a, 64 bit, over the samples that the engine itself draws.
fn checksum() -> String {
    let engine: Arc<Engine> = Engine::new(Options::default()).unwrap();
    let model = OpenModel::open(&engine, "vix", "").unwrap();
    let pipeline = Pipeline::new(&model, "").unwrap();
    let options = JobOptions { seed: 1, n_samples: 16, ..JobOptions::default() };
    let job = Job::start(&pipeline, options).unwrap();
    while !job.wait(std::time::Duration::from_millis(100)) {}
    let results = job.results();
    let (_, x) = results.first().unwrap();
    let mix = |h: u64, b: &u8| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:016x}", x.bytes().iter().fold(0xcbf2_9ce4_8422_2325, mix))
}

#[test]
fn hello_prints_the_checksum_of_the_engine() {
    let Some(mut julia) = julia() else { return };
    let run = julia.arg(root().join("examples/hello/hello.jl")).output().unwrap();
    assert!(run.status.success(), "{}", text(&run));
    assert_eq!(String::from_utf8_lossy(&run.stdout).trim(), checksum());
}
