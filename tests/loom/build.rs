//! Lays the sources of the engine beside the models: as they are, and once more for each fault with that fault put in. A
//! fault whose place is not found, because the source moved on, fails the build.

use std::path::Path;

/// A tree of sources, the file that is changed, what stood there, and what stands there instead.
type Fault = (&'static str, &'static str, &'static str, &'static str);

const POOL: &[&str] = &["cpu/pool.rs"];
const ENGINE: &[&str] = &["engine/job.rs", "engine/pump.rs", "engine/hold.rs"];

const FAULTS: &[Fault] = &[
    (
        "pool_unlocked_end",
        "cpu/pool.rs",
        "let slot = self.lock();\n            if self.attached.fetch_sub(1, Ordering::Release) == 1 {\n                \
         self.done.notify_all();\n            }\n            drop(slot);",
        "if self.attached.fetch_sub(1, Ordering::Release) == 1 {\n self.done.notify_all();\n }",
    ),
    (
        "pool_relaxed_end",
        "cpu/pool.rs",
        "self.attached.fetch_sub(1, Ordering::Release) == 1",
        "self.attached.fetch_sub(1, Ordering::Relaxed) == 1",
    ),
    (
        "pool_no_wait",
        "cpu/pool.rs",
        "while self.attached.load(Ordering::Acquire) != 0 {",
        "while false {",
    ),
    (
        "pool_unseen_quit",
        "cpu/pool.rs",
        "while self.epoch.load(Ordering::Acquire) == seen && !slot.quit {",
        "while self.epoch.load(Ordering::Acquire) == seen {",
    ),
    (
        "pump_unlocked_quit",
        "engine/pump.rs",
        "let jobs = lock(&self.jobs); // a thread about to sleep sees it",
        "let jobs = lock(&self.jobs).clone();",
    ),
    (
        "pump_silent_push",
        "engine/pump.rs",
        "lock(&self.jobs).push(Arc::clone(job));\n        self.wake.notify_all();",
        "lock(&self.jobs).push(Arc::clone(job));",
    ),
    (
        "job_second_end",
        "engine/job.rs",
        "if s.state.is_over() {\n                return;\n            }",
        "",
    ),
    (
        "job_silent_end",
        "engine/job.rs",
        "s.step = s.n_steps;\n            }\n        });\n        self.changed.notify_all();",
        "s.step = s.n_steps;\n            }\n        });",
    ),
    (
        "job_end_before_memory",
        "engine/job.rs",
        "drop((replay, inputs));\n        self.end(state, error, results);",
        "self.end(state, error, results);\n        drop((replay, inputs));",
    ),
    ("hold_no_join", "engine/hold.rs", "let _ = worker.join();", "drop(worker);"),
    (
        "hold_one_too_early",
        "engine/hold.rs",
        "self.0.holds.fetch_sub(1, Ordering::AcqRel) == 1",
        "self.0.holds.fetch_sub(1, Ordering::AcqRel) == 2",
    ),
];

fn main() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src");
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo says where"));
    println!("cargo::rerun-if-changed=build.rs");
    let lay = |tree: &str, files: &[&str], fault: Option<&Fault>| {
        std::fs::create_dir_all(out.join(tree)).expect("a folder");
        for file in files {
            let path = source.join(file);
            println!("cargo::rerun-if-changed={}", path.display());
            let mut text = std::fs::read_to_string(&path).expect("a source of the engine");
            if let Some((name, at, from, to)) = fault
                && at == file
            {
                assert_eq!(
                    text.matches(from).count(),
                    1,
                    "{name}: {file} has no longer one {from:?}"
                );
                text = text.replace(from, to);
            }
            // a file that is included has no head of its own, and its tests are not ours
            let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
            let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with("//!")).collect();
            let name = file.rsplit('/').next().unwrap_or(file);
            std::fs::write(out.join(tree).join(name), lines.join("\n")).expect("a file");
        }
    };
    lay("pool", POOL, None);
    lay("engine", ENGINE, None);
    for fault in FAULTS {
        let files = if fault.1.starts_with("cpu") { POOL } else { ENGINE };
        lay(fault.0, files, Some(fault));
    }
}
