//! Hosts: Julia by ccall, and C built against the headers as a user would, linked with the shared library, run plainly, with the address
//! sanitizer, and under valgrind.

#[path = "support/model.rs"]
mod model;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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

/// Builds tests/hosts/c/NAME.c; None, said out loud, where that cannot be done.
fn build(name: &str, flags: &[&str], tag: &str) -> Option<PathBuf> {
    build_file(&format!("tests/hosts/c/{name}.c"), flags, &format!("{name}-{tag}"))
}

fn build_file(source: &str, flags: &[&str], tag: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(library) = library() else {
        println!("skipped: no libdiffx.so beside this test");
        return None;
    };
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    if !has(&cc) {
        println!("skipped: no C compiler {cc}");
        return None;
    }
    let out = model::temporary(tag);
    let built = Command::new(&cc)
        .args(["-std=c89", "-pedantic-errors", "-Wall", "-Wextra", "-Werror", "-g", "-O1"])
        .args(flags)
        .arg("-I")
        .arg(root.join("include"))
        .arg(root.join(source))
        .arg("-o")
        .arg(&out)
        .arg("-L")
        .arg(&library)
        // before LD_LIBRARY_PATH, by which cargo names a folder whose library may be older
        .arg(format!("-Wl,-rpath,{},--disable-new-dtags", library.display()))
        .args(["-ldiffx", "-lm"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    if !built.status.success()
        && flags.iter().any(|f| f.starts_with("-fsanitize"))
        && said.contains("asan")
    {
        println!("skipped: {cc} has no address sanitizer: {said}");
        return None;
    }
    assert!(built.status.success(), "{said}");
    Some(out)
}

fn file(tag: &str) -> PathBuf {
    let path = model::temporary(&format!("{tag}.safetensors"));
    model::save(&path, &model::manifest(&[6], "besq:{\"delta\":3}")).unwrap();
    path
}

fn expect_ok(run: &Output) {
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    println!("{out}{err}");
    assert!(run.status.success(), "{:?}", run.status);
    assert!(out.trim_end().ends_with("ok"));
}

fn with_files(tag: &str, run: impl FnOnce(&Path, &Path)) {
    let (model, saved) = (file(tag), model::temporary(&format!("{tag}-job.safetensors")));
    run(&model, &saved);
    let _ = std::fs::remove_file(model);
    let _ = std::fs::remove_file(saved);
}

#[test]
fn quickstart_runs() {
    let Some(exe) = build("quickstart", &[], "plain") else { return };
    with_files("plain", |model, saved| {
        expect_ok(&Command::new(&exe).arg(model).arg(saved).output().unwrap());
    });
    let _ = std::fs::remove_file(exe);
}

#[test]
fn quickstart_runs_under_the_address_sanitizer() {
    let Some(exe) = build("quickstart", &["-fsanitize=address,undefined"], "asan") else { return };
    with_files("asan", |model, saved| {
        expect_ok(&Command::new(&exe).arg(model).arg(saved).output().unwrap());
    });
    let _ = std::fs::remove_file(exe);
}

#[test]
fn quickstart_runs_under_valgrind() {
    if !has("valgrind") {
        println!("skipped: valgrind is not installed");
        return;
    }
    let Some(exe) = build("quickstart", &[], "valgrind") else { return };
    with_files("valgrind", |model, saved| {
        let run = Command::new("valgrind")
            .args(["--error-exitcode=99", "--leak-check=full", "--errors-for-leak-kinds=definite"])
            .args(["--quiet", "--fair-sched=yes"])
            .arg(&exe)
            .arg(model)
            .arg(saved)
            .output()
            .unwrap();
        expect_ok(&run);
    });
    let _ = std::fs::remove_file(exe);
}

#[test]
fn julia_samples_by_ccall() {
    if !has("julia") {
        println!("skipped: julia is not installed");
        return;
    }
    let Some(library) = library() else {
        println!("skipped: no libdiffx.so beside this test");
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let run = Command::new("julia")
        .arg("--startup-file=no")
        .arg(root.join("tests/hosts/julia/smoke.jl"))
        .arg(library.join("libdiffx.so"))
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    println!("{out}{err}");
    assert!(
        run.status.success() && out.contains("64 positive paths of 32 days"),
        "{:?}",
        run.status
    );
}

/// What `scripts/tsan` runs under the thread sanitizer.
#[test]
fn eight_threads_share_and_release() {
    let flags = ["-D_POSIX_C_SOURCE=200112L", "-pthread"];
    let Some(exe) = build("threads", &flags, "threads") else { return };
    let dir = model::temporary("threads.dir");
    std::fs::create_dir_all(&dir).unwrap();
    expect_ok(&Command::new(&exe).arg(&dir).output().unwrap());
    let _ = std::fs::remove_file(exe);
    let _ = std::fs::remove_dir_all(dir);
}

/// A year and a half of a positive series, a value a day.
fn series(path: &Path) {
    let days = (0..540).map(|i| {
        let (year, day) = (2000 + i / 336, i % 336);
        let level = 18.0 + 4.0 * (f64::from(i) * 0.7).sin() + 3.0 * (f64::from(i) * 0.11).cos();
        format!("{year}-{:02}-{:02},{level:.4}\n", day / 28 + 1, day % 28 + 1)
    });
    std::fs::write(path, format!("date,level\n{}", days.collect::<String>())).unwrap();
}

fn train(exe: &Path, tag: &str) {
    let files: Vec<PathBuf> = ["csv", "checkpoint.safetensors", "a.safetensors", "b.safetensors"]
        .map(|end| model::temporary(&format!("train-{tag}.{end}")))
        .into();
    series(&files[0]);
    expect_ok(&Command::new(exe).args(&files).output().unwrap());
    files.iter().for_each(|f| drop(std::fs::remove_file(f)));
}

#[test]
fn training_steps_to_its_end_and_resumes() {
    let Some(exe) = build("training", &[], "train") else { return };
    train(&exe, "plain");
    let _ = std::fs::remove_file(exe);
}

#[test]
fn training_runs_under_the_address_sanitizer() {
    let Some(exe) = build("training", &["-fsanitize=address,undefined"], "train-asan") else {
        return;
    };
    train(&exe, "asan");
    let _ = std::fs::remove_file(exe);
}

/// The example of docs/empirical-bayes.md on a fifth of its data: within 5 % of the Bayes risk, which nothing that
/// ignores the law of the parameters comes near.
#[test]
fn empirical_bayes_comes_near_the_bayes_risk() {
    let source = "examples/empirical_bayes/empirical_bayes.c";
    let Some(exe) = build_file(source, &[], "empirical-bayes") else { return };
    let scratch = model::temporary("empirical-bayes.safetensors");
    let run = Command::new(&exe).args(["0", "20000", "400"]).arg(&scratch).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    println!("{out}{err}");
    assert!(run.status.success(), "{:?}", run.status);
    let number = |after: &str| -> f64 {
        let tail = out.rsplit_once(after).unwrap().1;
        tail.split([',', '\n']).next().unwrap().trim().parse().unwrap()
    };
    let (learned, plain) = (number("learned "), number("X-7 "));
    assert!((learned / 63.895 - 1.0).abs() < 0.05, "learned {learned}, Bayes risk 63.895");
    assert!((plain / 94.0 - 1.0).abs() < 0.05, "X-7 {plain}, its risk 94");
    let _ = std::fs::remove_file(exe);
    let _ = std::fs::remove_file(scratch);
}
