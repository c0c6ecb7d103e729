//! Lifetimes as a host sees them: C programs that release in every order, from callbacks and from many threads, and say
//! which call of the library came when it must not. Each case is a run of a program of its own, so that one that hangs
//! is a failure and not a hang.

#[path = "../support/model.rs"]
mod model;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than any case takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// The directory of the shared library of this build.
fn library() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let deps = exe.parent()?;
    let places = [deps.to_path_buf(), deps.parent()?.to_path_buf()];
    places.into_iter().find(|p| p.join("libdiffx.so").is_file())
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
}

/// A program of this folder, gone with the value.
struct Host(PathBuf);

impl Drop for Host {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Builds one; None, said out loud, where that cannot be done.
fn build(source: &str, flags: &[&str], tag: &str) -> Option<Host> {
    compile(source, flags, tag).map(|made| made.unwrap_or_else(|said| panic!("{said}")))
}

/// The program, or what the compiler said against it.
fn compile(source: &str, flags: &[&str], tag: &str) -> Option<Result<Host, String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(library) = library() else {
        println!("skipped: no libdiffx.so beside this test");
        return None;
    };
    let (variable, usual) = if source.ends_with(".cpp") { ("CXX", "c++") } else { ("CC", "cc") };
    let compiler = std::env::var(variable).unwrap_or_else(|_| usual.into());
    if !has(&compiler) {
        println!("skipped: no compiler {compiler}");
        return None;
    }
    let out = model::temporary(&format!("{source}-{tag}"));
    let built = Command::new(&compiler)
        .args(["-g", "-O1", "-Wall", "-Wextra", "-Werror"])
        .args(flags)
        .arg("-I")
        .arg(root.join("include"))
        .arg(root.join("tests/lifetimes").join(source))
        .arg("-o")
        .arg(&out)
        .arg("-L")
        .arg(&library)
        // before LD_LIBRARY_PATH, by which cargo names a folder whose library may be older
        .arg(format!("-Wl,-rpath,{},--disable-new-dtags", library.display()))
        .args(["-ldiffx", "-lpthread", "-lm"])
        .output()
        .unwrap();
    Some(match built.status.success() {
        true => Ok(Host(out)),
        false => Err(String::from_utf8_lossy(&built.stderr).into_owned()),
    })
}

/// Runs a case, which ends in time.
fn run(host: &Host, arguments: &[&str]) -> Output {
    let mut child = Command::new(&host.0)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let end = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            let _ = child.kill();
            panic!("{arguments:?} hangs: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn expect_ok(host: &Host, arguments: &[&str]) {
    let out = run(host, arguments);
    let text = String::from_utf8_lossy(&out.stdout);
    println!("{arguments:?}: {text}{}", String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && text.trim_end().ends_with("ok"), "{:?}", out.status);
}

const C: &[&str] = &["-std=gnu11"];

#[test]
fn inputs_of_a_job_that_is_over_are_given_back() {
    let Some(host) = build("inputs.c", C, "over") else { return };
    expect_ok(&host, &["given_back"]);
    expect_ok(&host, &["cancelled"]);
}

#[test]
fn free_fn_may_start_a_job() {
    let Some(host) = build("inputs.c", C, "start") else { return };
    expect_ok(&host, &["starts_a_job"]);
}

#[test]
fn waiting_beside_a_pump_sees_every_job_done() {
    let Some(host) = build("race.c", C, "race") else { return };
    expect_ok(&host, &[]);
}

#[test]
fn after_the_last_release_nothing_runs() {
    let Some(host) = build("release.c", C, "last") else { return };
    let csv = model::temporary("lifetimes.csv");
    let rows = (0..200).map(|i| format!("{:.5}\n", 10.0 + (f64::from(i) * 0.9).sin()));
    std::fs::write(&csv, format!("level\n{}", rows.collect::<String>())).unwrap();
    for case in ["running", "no_threads", "tensors"] {
        expect_ok(&host, &[case]);
    }
    expect_ok(&host, &["trainer", csv.to_str().unwrap()]);
    let _ = std::fs::remove_file(csv);
}

#[test]
fn a_callback_may_release_the_last_object() {
    let Some(host) = build("release.c", C, "callback") else { return };
    expect_ok(&host, &["callback"]);
    expect_ok(&host, &["own_thread"]);
}

#[test]
fn engines_come_and_go_on_many_threads() {
    let Some(host) = build("release.c", C, "stress") else { return };
    expect_ok(&host, &["stress"]);
}

#[test]
fn plugins_and_the_log_run_under_no_lock() {
    let Some(host) = build("log.c", C, "log") else { return };
    for case in ["register", "create", "slow"] {
        expect_ok(&host, &[case]);
    }
}

/// Nothing can be caught there (`mem/callback.rs`): the end of the process is the orderly answer.
#[test]
fn a_callback_that_throws_ends_the_process_with_words() {
    use std::os::unix::process::ExitStatusExt;
    let Some(host) = build("throws.cpp", &["-std=c++11"], "throws") else { return };
    expect_ok(&host, &[]);
    for callback in ["alloc", "free", "log", "free_fn", "DLPack deleter", "progress"] {
        let out = run(&host, &[callback]);
        let said = String::from_utf8_lossy(&out.stderr);
        let words = format!("diffx: the host's {callback} was left by an exception");
        assert!(out.status.signal() == Some(6) && said.contains(&words), "{callback}: {out:?}");
    }
}

#[test]
fn callbacks_of_a_new_cpp_host_promise_not_to_throw() {
    let Some(refused) = compile("throws.cpp", &["-std=c++17"], "may-throw") else { return };
    let said = refused.err().expect("a function that may throw is no callback");
    assert!(said.contains("noexcept"), "{said}");
    let flags = ["-std=c++17", "-DPROMISE"];
    let Some(host) = build("throws.cpp", &flags, "promise") else { return };
    expect_ok(&host, &[]);
}
