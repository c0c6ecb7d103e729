//! What `.ci/run` may not skip: the words of `scripts/skipped` over a made-up log, in the lines that tests print.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A word, and a line of a test that could not find what it names.
const LINES: &[(&str, &str)] = &[
    ("compiler", "skipped: no C compiler (gcc-99: No such file or directory)"),
    ("compiler", "skipped: no Cpp compiler"),
    ("cc", "skipped: cc is not installed"),
    ("gcc", "skipped: gcc is not installed"),
    ("gcc", "skipped: gcc has no address sanitizer: ld: cannot find libasan"),
    ("c++", "skipped: c++ is not installed"),
    ("g++", "skipped: g++ is not installed"),
    ("clang", "skipped: no clang"),
    ("clang++", "skipped: no clang++"),
    ("sanitizer", "skipped: gcc has no address sanitizer: ld: cannot find libasan"),
    ("nm", "skipped: no nm"),
    ("readelf", "skipped: readelf is not installed"),
    ("make", "skipped: no make or no compiler cc"),
    ("rustc", "skipped: rustc is not installed"),
    ("libdiffx", "skipped: no libdiffx.so beside this test"),
    ("valgrind", "skipped: valgrind is not installed"),
    ("pkg-config", "skipped: pkg-config is not installed"),
    ("cmake", "skipped: cmake is not installed"),
    ("ctest", "skipped: ctest is not installed"),
    ("doxygen", "skipped: doxygen is not installed"),
    ("julia", "skipped: julia is not installed"),
    ("julia", "skipped: julia dies of its own exceptions here; scripts/install-julia mends it"),
    ("luajit", "skipped: luajit is not installed"),
    ("love", "skipped: love is not installed"),
    ("xvfb-run", "skipped: xvfb-run is not installed"),
    ("python3", "skipped: python3 is not installed"),
    ("numpy", "skipped: python with numpy"),
    ("numpy", "skipped: python has no numpy"),
    ("matplotlib", "skipped: python has no matplotlib"),
    ("mypy", "test_types (t.Types) ... skipped 'skipped: mypy is not installed'"),
    ("setuptools", "skipped: python has no setuptools"),
    ("wheel", "skipped: python has no wheel"),
    ("onnxruntime", "skipped: /home/x/target/venv/bin/python has no onnxruntime"),
    ("tsan", "skipped: tsan: rust-src is not installed"),
];

/// Lines of a machine that has all of it.
const HARMLESS: &[&str] = &[
    "skipped: jax.numpy is not installed",
    "skipped: torch is not installed",
    "skipped: ml_dtypes is not installed",
    "skipped: this linker has no second namespace",
    "skipped: no layout for riscv64",
    "skipped: no shared golden rows (/home/julia/love/make: No such file or directory)",
    "skipped: /data/numpy/tiles.safetensors is missing",
    "skipped: no oracle, neither in DIFFX_ORACLE nor in the shared folder",
    "skipped: threads of Julia: JULIA_NUM_THREADS is 1",
    "skipped: the job was over before it could be saved",
    "test python::numpy_arrays ... ok",
    "julia version 1.5.3",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Whether the script lets the log pass, and what it says.
fn passes(name: &str, lines: &[&str], require: Option<&str>) -> (bool, String) {
    ask(name, lines, require, &[])
}

fn ask(name: &str, lines: &[&str], require: Option<&str>, flags: &[&str]) -> (bool, String) {
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ci-{name}.log"));
    std::fs::write(&log, lines.join("\n") + "\n").unwrap();
    let mut command = Command::new(root().join("scripts/skipped"));
    command
        .args(flags)
        .arg(&log)
        .env_remove("DIFFX_REQUIRE")
        .envs(require.map(|r| ("DIFFX_REQUIRE", r)));
    let out = command.output().unwrap();
    std::fs::remove_file(log).unwrap();
    (out.status.success(), String::from_utf8(out.stdout).unwrap())
}

fn words() -> Vec<String> {
    let mut command = Command::new(root().join("scripts/skipped"));
    let out = command.arg("--words").env_remove("DIFFX_REQUIRE").output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    text.trim().split(',').map(str::to_owned).collect()
}

#[test]
fn what_is_installed_may_not_be_skipped() {
    let (ok, said) = passes("julia", &["skipped: julia is not installed"], None);
    assert!(!ok && said.ends_with("DIFFX_REQUIRE: julia was skipped\n"), "{said}");
    let missing: Vec<&str> = LINES.iter().map(|l| l.1).collect();
    let (ok, said) = passes("all", &[HARMLESS, &missing].concat(), None);
    assert!(!ok);
    // under each word the lines it was found in
    let (mut found, mut lines) = (Vec::new(), Vec::new());
    for line in said.lines().filter(|l| !l.starts_with(' ')) {
        match line.strip_prefix("DIFFX_REQUIRE: ").and_then(|l| l.strip_suffix(" was skipped")) {
            None => lines.push(line),
            Some(word) => found.extend(std::mem::take(&mut lines).into_iter().map(|l| (word, l))),
        }
    }
    for (word, line) in LINES {
        assert!(found.contains(&(word, line)), "{word} in {line}: {said}");
    }
    for (word, line) in &found {
        assert!(!HARMLESS.contains(line), "{word} in {line}");
    }
    for word in words() {
        assert!(LINES.iter().any(|(w, _)| *w == word), "no line for {word}");
    }
}

#[test]
fn what_nobody_installs_may_be_skipped() {
    let (ok, said) = passes("harmless", HARMLESS, None);
    assert!(ok && said.contains("jax.numpy") && !said.contains("DIFFX_REQUIRE"), "{said}");
    assert!(passes("empty", &["test result: ok"], None).1.contains("nothing"));
}

#[test]
fn the_environment_says_what_else_may_be_skipped() {
    let lines = ["skipped: clang is not installed"];
    assert!(passes("none", &lines, Some("")).0);
    assert!(passes("other", &lines, Some("julia,numpy")).0);
    assert!(!passes("same", &lines, Some("julia,clang")).0);
}

/// A step that is one test: whatever is skipped there, and a name that no test has any more, would be green.
#[test]
fn a_step_of_one_test_may_skip_nothing() {
    let one = "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out; finished in 9.00s";
    let ten = one.replace("1 passed", "10 passed");
    let zero = one.replace("1 passed", "0 passed");
    let none = |name: &str, lines: &[&str]| ask(name, lines, Some(""), &["--none"]);
    assert!(none("one", &["running 1 test", one]).0);
    assert!(none("ten", &["running 10 tests", &ten]).0);
    let (ok, said) = none("skips", &["skipped: no layout for riscv64", one]);
    assert!(!ok && said.contains("nothing may be skipped here"), "{said}");
    for (name, lines) in
        [("zero", &["running 0 tests", &zero][..]), ("both", &[one, &zero]), ("nothing", &[])]
    {
        let (ok, said) = none(name, lines);
        assert!(!ok && said.contains("no test was run here"), "{name}: {said}");
    }
    let run = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    let step = run.lines().find(|l| l.contains("no_wrong_call")).expect("a step");
    assert!(step.ends_with("| tee \"$log\"; scripts/skipped --none \"$log\""), "{step}");
}

/// The words are those of programs that the tests ask for and that `.ci/run` or its scripts install.
#[test]
fn every_word_is_asked_for_somewhere() {
    let mut text = std::fs::read_to_string(root().join("scripts/tsan")).unwrap();
    let mut folders = vec![root().join("tests"), root().join("bindings")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map_while(Result::ok).map(|e| e.path()) {
            let ends =
                |ends: &[&str]| path.extension().is_some_and(|e| ends.iter().any(|x| e == *x));
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if ends(&["rs", "py", "jl"]) && !path.ends_with("ci.rs") {
                text += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    for word in words() {
        let quoted = text.contains(&format!("\"{word}\""));
        let said = text.lines().any(|l| l.contains("skip") && l.contains(&word));
        assert!(quoted || said, "no test says that it skips for want of {word}");
    }
}
