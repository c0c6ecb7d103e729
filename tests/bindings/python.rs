//! Python: the package's own tests, its installation, and the fan chart.

use crate::host::{library, root, succeed, temporary, works};
use std::path::Path;
use std::process::Command;

/// `DIFFX_PYTHON`, else `python3`.
pub(crate) fn python() -> Option<String> {
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
pub(crate) fn run_python(python: &str, library: &Path) -> Command {
    let mut command = Command::new(python);
    command
        .env("DIFFX_LIBRARY", library)
        .env("PYTHONPATH", root().join("bindings/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(std::env::temp_dir());
    command
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
