//! A training that is killed at any moment and gone on with ends in the bytes of one that nobody touched: the model, and
//! its metrics but for how fast it was. Signals that ask leave a checkpoint first.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const KILLS: u32 = 50;
const STEPS: usize = 40;

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("diffx-kill-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let row = |i: usize| {
        let v = 20.0 + 3.0 * (i as f64 * 0.37).sin() + 2.0 * (i as f64 * 0.053).cos();
        format!("{}-{:02}-{:02},{v:.4}\n", 2000 + i / 336, i / 28 % 12 + 1, i % 28 + 1)
    };
    let rows: String = (0..200).map(row).collect();
    std::fs::write(dir.join("data.csv"), format!("DATE,CLOSE\n{rows}")).unwrap();
    dir
}

/// A checkpoint after every step: most of the time is spent inside a save.
fn command(dir: &Path, more: &[&str]) -> Command {
    let mut out = Command::new(env!("CARGO_BIN_EXE_diffx"));
    out.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    out.args(["train", "--data", "data.csv", "--window", "4", "--split", "2000-06-01"]);
    out.args(["--process", "cir", "--seed", "7", "--threads", "1"]);
    out.args(["--metrics", "m.jsonl", "-o", "model.safetensors"]);
    out.args(more);
    out
}

fn small(dir: &Path, steps: usize, more: &[&str]) -> Command {
    let mut out = command(dir, &["--model", "mlp:{\"width\":8,\"depth\":1}", "--batch", "4"]);
    out.args(["--save-every", "1", "--metrics-every", "3"]);
    out.args(["--steps", &steps.to_string()]).args(more);
    out
}

fn done(out: &Output) {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// Model and metrics; the speed is not the same twice.
fn results(dir: &Path) -> (Vec<u8>, Vec<serde_json::Value>) {
    let lines = std::fs::read_to_string(dir.join("m.jsonl")).unwrap();
    let line = |l: &str| {
        let mut v: serde_json::Value = serde_json::from_str(l).unwrap();
        assert!(v.as_object_mut().unwrap().remove("samples_per_second").is_some());
        v
    };
    (std::fs::read(dir.join("model.safetensors")).unwrap(), lines.lines().map(line).collect())
}

/// Names in the folder with this ending.
fn count(dir: &Path, ending: &str) -> usize {
    let names = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name());
    names.filter(|n| n.to_string_lossy().ends_with(ending)).count()
}

fn clean(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_name() != "data.csv" {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

#[test]
fn a_run_killed_at_random_ends_in_the_same_bytes() {
    let dir = scratch("random");
    let started = Instant::now();
    done(&small(&dir, STEPS, &[]).output().unwrap());
    let whole = started.elapsed();
    let want = results(&dir);
    assert_eq!(want.1.len(), STEPS / 3 + 1); // every third step, and the last
    assert!(want.1.last().unwrap()["held_out_loss"].is_f64());

    let mut state = 11u64;
    let mut share = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f64 / f64::from(1 << 24)
    };
    // moments within the life of a run, which is not as long twice: too late, and the next try comes sooner
    let (mut resumed, mut inside, mut late, mut kills) = (0, 0, 0, 0);
    let mut life = whole;
    while kills < KILLS {
        assert!(late < 20 * KILLS, "{late} kills came too late");
        clean(&dir);
        let mut child = small(&dir, STEPS, &["--resume"]).spawn().unwrap();
        std::thread::sleep(life.mul_f64(share()));
        let over = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        child.wait().unwrap();
        if over {
            late += 1;
            life = life.mul_f64(0.9);
            continue;
        }
        kills += 1;
        life = life.mul_f64(1.02);
        inside += u32::from(count(&dir, ".tmp") > 0);
        resumed += u32::from(dir.join("model.checkpoint.safetensors").exists());
        done(&small(&dir, STEPS, &["--resume"]).output().unwrap());
        let got = results(&dir);
        assert!(got.0 == want.0, "kill {kills}: another model");
        assert_eq!(got.1, want.1, "kill {kills}: other metrics");
    }
    println!(
        "{KILLS} kills within {whole:.2?}: {resumed} left a checkpoint, {inside} hit a save, {late} came too late"
    );
    assert!(resumed >= KILLS / 4 && inside > 0, "{resumed} checkpoints, {inside} inside a save");
    std::fs::remove_dir_all(&dir).unwrap();
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
}

/// Waits until the run has written a line of metrics.
fn under_way(dir: &Path, child: &mut Child) {
    let start = Instant::now();
    while std::fs::read(dir.join("m.jsonl")).unwrap_or_default().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(120), "no step was made");
        assert!(child.try_wait().unwrap().is_none(), "it ended before a step");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_signal_leaves_a_checkpoint_and_says_so() {
    let dir = scratch("signal");
    done(&small(&dir, 600, &[]).output().unwrap());
    let want = results(&dir);
    for name in ["-INT", "-TERM"] {
        clean(&dir);
        let mut child = small(&dir, 600, &[]).spawn().unwrap();
        under_way(&dir, &mut child);
        signal(&child, name);
        let out = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert!(said.starts_with("diffx: stopped after step "), "{said}");
        assert!(said.contains("of 600; model.checkpoint.safetensors has it, --resume goes on"));
        done(&small(&dir, 600, &["--resume"]).output().unwrap());
        assert!(results(&dir) == want, "{name}: another end");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_second_signal_ends_the_program_at_once() {
    let dir = scratch("second");
    let model = "mlp:{\"width\":512,\"depth\":6}"; // a step of a second or so
    let words = ["--model", model, "--batch", "1024", "--steps", "1000", "--metrics-every", "1"];
    // the first signal may fall between two steps: then the run is over before the second
    for _ in 0..8 {
        clean(&dir);
        let mut args = command(&dir, &[]);
        args.args(words);
        let mut child = args.spawn().unwrap();
        under_way(&dir, &mut child);
        signal(&child, "-INT");
        std::thread::sleep(Duration::from_millis(20));
        let pid = child.id().to_string();
        let _ = Command::new("kill").args(["-INT", &pid]).stderr(Stdio::null()).status();
        let code = child.wait_with_output().unwrap().status.code();
        if code == Some(130) {
            assert_eq!(count(&dir, ".checkpoint.safetensors"), 0);
            std::fs::remove_dir_all(&dir).unwrap();
            return;
        }
        assert_eq!(code, Some(1));
    }
    panic!("no second signal ended the program");
}
