//! `diffx tune` end to end: rewards by an expression, a C function and a process; a run that goes on where it stopped; and
//! reward processes that die, hang or talk nonsense: one sentence, exit code 1, the checkpoint as it was.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const EXE: &str = env!("CARGO_BIN_EXE_diffx");

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("diffx-tune-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Two rounds on the carried model, small.
fn tune(out: &Path, reward: &str, more: &[&str]) -> Output {
    Command::new(EXE)
        .args(["tune", "vix", "--objective", "elbo_pg:{\"draws\":1}", "--reward", reward])
        .args(["--sampler", "ancestral", "--steps", "3", "--samples", "4", "--rounds", "2"])
        .args(["--json", "--threads", "1", "-o"])
        .arg(out)
        .args(more)
        .output()
        .unwrap()
}

fn sentence(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn an_expression_tunes() {
    let dir = folder("expression");
    let reward = "expression:{\"text\":\"0.1 * mean(x)\"}";
    let whole = dir.join("whole.safetensors");
    let output = tune(&whole, reward, &[]);
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let rounds: Vec<serde_json::Value> =
        lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((rounds.len(), &rounds[1]["round"]), (3, &2.into()));
    assert!(rounds[0]["reward"].is_f64());
    let inspected = Command::new(EXE).arg("inspect").arg(&whole).output().unwrap();
    assert!(String::from_utf8_lossy(&inspected.stdout).contains("tuned"));

    let fails = "process:{\"command\":[\"sh\",\"-c\",\"exit 3\"],\"timeout\":20}";
    let e = sentence(&tune(&dir.join("never.safetensors"), fails, &[]));
    assert!(e.contains("reward process sh: ended (exit status: 3)"), "{e}");
    assert!(!dir.join("never.safetensors").exists());
    std::fs::remove_dir_all(dir).unwrap();
}

/// Conditions as `sample` takes them; without any, those the model carries.
#[test]
fn conditions_are_those_of_sample() {
    let dir = folder("conditions");
    let out = dir.join("out.safetensors");
    let reward = "expression:{\"text\":\"mean(x)\"}";
    let first = |more: &[&str]| {
        let output = tune(&out, reward, more);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        line["reward"].as_f64().unwrap()
    };
    let history = |level: f64| serde_json::json!({"history": vec![level; 32]}).to_string();
    let (low, high) = (first(&["--cond", &history(11.0)]), first(&["--cond", &history(60.0)]));
    assert!(low + 20.0 < high, "{low}, {high}");
    let carried = first(&[]);
    assert!(low < carried && carried < high, "{low}, {carried}, {high}");
    assert_ne!(carried, first(&["--cond", "{}"]), "the null condition is another");
    for (cond, want) in [
        ("{\"history\":[1,2]}", "condition history: 2 values, want"),
        ("{\"past\":[1]}", "no condition named past; there are: history"),
    ] {
        let e = sentence(&tune(&out, reward, &["--cond", cond]));
        assert!(e.contains(want), "{e}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn processes_that_misbehave_are_told_in_one_sentence() {
    let dir = folder("process");
    let out = dir.join("out.safetensors");
    let checkpoint = dir.join("out.checkpoint.safetensors");
    std::fs::write(&checkpoint, "as it was").unwrap();
    for (script, timeout, want) in [
        ("exec sleep 60", 1, "gave no answer within 1 s"),
        ("echo hello, this is no array; exec sleep 60", 20, "said something that is no .npy"),
        ("kill -9 $$", 20, "ended (signal: 9"),
        ("exec true", 20, "ended (exit status: 0)"),
    ] {
        let command = serde_json::json!({"command": ["sh", "-c", script], "timeout": timeout});
        let e = sentence(&tune(&out, &format!("process:{command}"), &[]));
        assert!(e.contains("reward process sh: ") && e.contains(want), "{script}: {e}");
        assert_eq!(std::fs::read(&checkpoint).unwrap(), b"as it was");
        assert!(!out.exists());
    }
    for (reward, want) in [
        ("process:{\"command\":[\"/no/such/program\"]}", "/no/such/program"),
        ("process", "command is missing"),
        ("magic", "no reward called \"magic\"; there are: expression, library, process"),
        ("expression:{\"text\":\"mean(y)\"}", "no component y"),
        ("expression:{\"text\":\"log(mean(x) - mean(x) - 1)\"}", "the reward of sample 0 is NaN"),
        ("library:{\"path\":\"relative.so\"}", "want an absolute path"),
        ("library:{\"path\":\"/no/such.so\"}", "/no/such.so"),
    ] {
        let e = sentence(&tune(&out, reward, &[]));
        assert!(e.contains(want), "{reward}: {e}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}

/// Whether a process is there and not only waiting to be forgotten.
fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn what_a_process_started_ends_with_it() {
    if !std::path::Path::new("/proc/self/stat").exists() {
        println!("skipped: no /proc to look for processes in");
        return;
    }
    let dir = folder("group");
    let (out, pid) = (dir.join("out.safetensors"), dir.join("pid"));
    // the first is out of time, the second ends by itself and leaves one behind
    for end in ["wait", "exit 3"] {
        let script = format!("sleep 600 & echo $! > {}; {end}", pid.display());
        let command = serde_json::json!({"command": ["sh", "-c", script], "timeout": 2});
        let e = sentence(&tune(&out, &format!("process:{command}"), &[]));
        assert!(e.contains("reward process sh: "), "{e}");
        let pid = std::fs::read_to_string(&pid).unwrap();
        let begun = std::time::Instant::now();
        while is_running(&pid) {
            assert!(begun.elapsed().as_secs() < 60, "{end}: {pid} is still there");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    std::fs::remove_dir_all(dir).unwrap();
}

/// A process answers with NumPy's format; NaN is a row without a reward. One that dies after a round leaves the checkpoint
/// of that round, from which a resumed run ends in the bits of one that never stopped.
#[test]
fn a_process_judges_with_arrays() {
    let dir = folder("python");
    let script = dir.join("judge.py");
    std::fs::write(
        &script,
        r#"
import struct, sys
left = int(sys.argv[1])
i, o = sys.stdin.buffer, sys.stdout.buffer
while left > 0:
    left -= 1
    start = i.read(10)
    if len(start) < 10: break
    head = i.read(struct.unpack("<H", start[8:])[0]).decode()
    dims = [int(d) for d in head.split("'shape': (")[1].split(")")[0].split(",") if d.strip()]
    width = 1
    for d in dims[1:]: width *= d
    x = struct.unpack("<%df" % (dims[0] * width), i.read(4 * dims[0] * width))
    r = [sum(x[k * width:(k + 1) * width]) / width for k in range(dims[0])]
    r[0] = float("nan")
    head = ("{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }" % len(r)).encode()
    head += b" " * ((64 - (11 + len(head)) % 64) % 64) + b"\n"
    o.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + struct.pack("<%dd" % len(r), *r))
    o.flush()
sys.exit(3)
"#,
    )
    .unwrap();
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: no python3");
        return;
    }
    let out = dir.join("out.safetensors");
    let metrics = dir.join("metrics.jsonl");
    let judge = |rounds: &str| {
        let command = serde_json::json!({"command": ["python3", script, rounds], "timeout": 60});
        format!("process:{command}")
    };
    let output = tune(&out, &judge("9"), &["--metrics", metrics.to_str().unwrap()]);
    assert!(output.status.success() && out.exists(), "{output:?}");
    let lines = std::fs::read_to_string(metrics).unwrap();
    let line: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(line["valid"], 0.75);
    assert!(line["reward"].as_f64().unwrap() > 5.0, "{line}"); // levels of the VIX

    let part = dir.join("part.safetensors");
    let e = sentence(&tune(&part, &judge("1"), &["--save-every", "1"]));
    assert!(e.contains("ended (exit status: 3)"), "{e}");
    assert!(dir.join("part.checkpoint.safetensors").exists() && !part.exists());
    let rest = tune(&part, &judge("1"), &["--resume"]); // one round is left
    assert!(rest.status.success(), "{rest:?}");
    assert!(std::fs::read(&out).unwrap() == std::fs::read(&part).unwrap());
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_function_in_c_judges() {
    let dir = folder("c");
    let source = dir.join("judge.c");
    std::fs::write(
        &source,
        "#include <stdint.h>\n\
         int32_t reward(const float *x, uint64_t n, uint64_t width, double *r, float *g, uint8_t *valid) {\n\
           uint64_t i, k; (void)g; (void)valid;\n\
           for (i = 0; i < n; i++) { r[i] = 0; for (k = 0; k < width; k++) r[i] += x[i * width + k] / width; }\n\
           return 0; }\n\
         int32_t fails(const float *x, uint64_t n, uint64_t w, double *r, float *g, uint8_t *v) {\n\
           (void)x; (void)n; (void)w; (void)r; (void)g; (void)v; return 7; }\n",
    )
    .unwrap();
    let library = dir.join("judge.so");
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let built = Command::new(cc)
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(&source)
        .status();
    if !built.is_ok_and(|s| s.success()) {
        println!("skipped: no C compiler");
        return;
    }
    let out = dir.join("out.safetensors");
    let of = |function: &str| {
        format!("library:{}", serde_json::json!({"path": library, "function": function}))
    };
    let output = tune(&out, &of("reward"), &[]);
    assert!(output.status.success() && out.exists(), "{output:?}");
    let e = sentence(&tune(&out, &of("fails"), &[]));
    assert!(e.contains("returned 7, want 0"), "{e}");
    let e = sentence(&tune(&out, &of("absent"), &[]));
    assert!(e.contains("has no function absent"), "{e}");
    std::fs::remove_dir_all(dir).unwrap();
}
