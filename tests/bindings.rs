//! Other languages over the C ABI: each binding's own tests, and one program in every language that must print the same
//! checksum of the same samples. What is not installed is skipped by name.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The shared library of this build; None, said out loud, where there is none.
fn library() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let deps = exe.parent()?;
    let places = [deps.join("libdiffx.so"), deps.parent()?.join("libdiffx.so")];
    let found = places.into_iter().find(|p| p.is_file());
    if found.is_none() {
        println!("skipped: no libdiffx.so beside this test");
    }
    found
}

fn works(program: &str, words: &[&str]) -> bool {
    Command::new(program).args(words).output().is_ok_and(|o| o.status.success())
}

/// Runs a program; its words are shown, and it must end well.
fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    println!("{out}{err}");
    assert!(status.success(), "{command:?}: {status}");
    out.into_owned()
}

/// `DIFFX_PYTHON`, else `python3`.
fn python() -> Option<String> {
    let python = std::env::var("DIFFX_PYTHON").unwrap_or_else(|_| "python3".into());
    if !works(&python, &["--version"]) {
        println!("skipped: {python} is not installed");
        return None;
    }
    Some(python)
}

fn has_module(python: &str, module: &str) -> bool {
    let there = works(python, &["-c", &format!("import {module}")]);
    if !there {
        println!("skipped: python has no {module}");
    }
    there
}

/// A Python that finds the package in the tree and the library of this build, and writes nothing beside the sources.
fn run_python(python: &str, library: &Path) -> Command {
    let mut command = Command::new(python);
    command
        .env("DIFFX_LIBRARY", library)
        .env("PYTHONPATH", root().join("bindings/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(std::env::temp_dir());
    command
}

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("diffx-bindings-{}-{name}", std::process::id()))
}

#[test]
fn python_passes_its_own_tests() {
    let (Some(python), Some(library)) = (python(), library()) else { return };
    let _ = has_module(&python, "numpy"); // its tests skip what needs it, and say so
    let tests = root().join("bindings/python/tests");
    succeed(
        run_python(&python, &library)
            .args(["-W", "error", "-m", "unittest", "discover", "--verbose", "-s"])
            .arg(&tests)
            .arg("-t")
            .arg(root().join("bindings/python")),
    );
}

/// By pip into an empty folder, with the library beside the package as a wheel carries it.
#[test]
fn python_installs_by_pip() {
    let (Some(python), Some(library)) = (python(), library()) else { return };
    if !["pip", "setuptools", "wheel"].iter().all(|m| has_module(&python, m)) {
        return;
    }
    let (source, target) = (temporary("source"), temporary("site"));
    succeed(Command::new("cp").arg("-r").arg(root().join("bindings/python")).arg(&source));
    succeed(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--root-user-action=ignore", "--no-deps", "--no-build-isolation", "--target"])
            .arg(&target)
            .arg(&source),
    );
    std::fs::copy(&library, target.join("diffx/libdiffx.so.0")).unwrap();
    let mut installed = run_python(&python, &library);
    installed.env_remove("DIFFX_LIBRARY").env("PYTHONPATH", &target);
    let out = succeed(installed.arg(root().join("examples/hello/hello.py")));
    assert_eq!(out.trim().len(), 16);
    assert!(target.join("diffx/py.typed").is_file());
    for folder in [source, target] {
        let _ = std::fs::remove_dir_all(folder);
    }
}

#[test]
fn python_draws_a_fan() {
    let (Some(python), Some(library)) = (python(), library()) else { return };
    if !["numpy", "matplotlib"].iter().all(|m| has_module(&python, m)) {
        return;
    }
    let picture = temporary("fan.png");
    let script = root().join("examples/python/fan.py");
    let mut run = run_python(&python, &library);
    let out = succeed(run.arg(script).arg(&picture).args(["32", "1"]));
    assert!(out.contains("32 paths, median after 32 days"), "{out}");
    assert!(std::fs::read(&picture).unwrap().starts_with(b"\x89PNG"));
    let _ = std::fs::remove_file(picture);
}

fn checksum_in_c(library: &Path) -> Option<String> {
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    if !works(&cc, &["--version"]) {
        println!("skipped: no C compiler {cc}");
        return None;
    }
    let exe = temporary("hello-c");
    succeed(
        Command::new(&cc)
            .args(["-std=c89", "-pedantic-errors", "-Wall", "-Wextra", "-Werror", "-I"])
            .arg(root().join("include"))
            .arg(root().join("examples/hello/hello.c"))
            .arg(library)
            .arg(format!("-Wl,-rpath,{},--disable-new-dtags", library.parent()?.display()))
            .arg("-o")
            .arg(&exe),
    );
    let out = succeed(&mut Command::new(&exe));
    let _ = std::fs::remove_file(exe);
    Some(out)
}

/// Under 40 lines each, and one answer.
#[test]
fn every_language_says_the_same_checksum() {
    let Some(library) = library() else { return };
    let mut said: Vec<(&str, String)> = Vec::new();
    said.extend(checksum_in_c(&library).map(|out| ("c", out)));
    if let Some(python) = python() {
        let script = root().join("examples/hello/hello.py");
        said.push(("python", succeed(run_python(&python, &library).arg(script))));
    }
    println!("{said:?}");
    for (_, sum) in &said {
        assert_eq!(sum.trim().len(), 16, "{sum}");
        assert_eq!(sum, &said[0].1);
    }
    for entry in std::fs::read_dir(root().join("examples/hello")).unwrap() {
        let path = entry.unwrap().path();
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines < 40, "{}: {lines} lines", path.display());
    }
}
