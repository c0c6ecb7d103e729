//! One installed tree for all tests: packed by `make dist`, unpacked elsewhere. And the tools of this machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The crates of built-in plugins; the Makefile names them too.
pub(crate) const FAMILIES: &[&str] =
    &["models", "processes", "guidance", "samplers", "grids", "objectives"];

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn scratch() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("install")
}

/// Whether a program is here; said out loud where it is not.
pub(crate) fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

/// The first of these that is here.
pub(crate) fn compilers(candidates: &[&'static str]) -> Vec<&'static str> {
    candidates.iter().copied().filter(|c| has(c)).collect()
}

/// Runs a command that must succeed and returns what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (said, err) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{command:?}\n{said}{err}");
    said.into_owned()
}

/// What cargo built for this test: the static library, the folder of the command, and the name of their profile.
fn built() -> Option<(PathBuf, PathBuf, String)> {
    let exe = std::env::current_exe().ok()?;
    let (deps, folder) = (exe.parent()?, exe.parent()?.parent()?);
    // the one in `deps` belongs to this test; one beside the command may be older
    let archive = [deps, folder].map(|d| d.join("libdiffx.a")).into_iter().find(|p| p.is_file());
    let (Some(archive), true) = (archive, folder.join("diffx").is_file()) else {
        println!("skipped: no libdiffx.a and diffx beside this test");
        return None;
    };
    let name = folder.file_name()?.to_str()?;
    let profile = if name == "debug" { "dev" } else { name };
    Some((archive, folder.to_owned(), profile.to_owned()))
}

/// `make` with these words, over what is built already.
pub(crate) fn make(words: &[String]) -> Option<String> {
    if !has("make") || !has("cc") {
        return None;
    }
    let (archive, built, profile) = built()?;
    static PLUGINS: OnceLock<()> = OnceLock::new();
    PLUGINS.get_or_init(|| {
        for family in FAMILIES {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.current_dir(root()).args(["rustc", "--offline", "--lib", "--package"]);
            cargo.arg(format!("diffx-{family}")).args(["--features", "export"]);
            cargo.args(["--crate-type", "cdylib", "--profile", &profile]);
            run(cargo.arg("--target-dir").arg(built.parent().unwrap()));
        }
    });
    let mut make = Command::new("make");
    make.current_dir(root()).arg(format!("BUILT={}", built.display()));
    make.arg(format!("ARCHIVE={}", archive.display()));
    make.env_remove("MAKEFLAGS").env_remove("MFLAGS").env_remove("DESTDIR").env_remove("PREFIX");
    Some(run(make.args(words)))
}

/// The unpacked tarball, at a place it was not made for.
pub(crate) fn tree() -> Option<&'static Path> {
    static TREE: OnceLock<Option<PathBuf>> = OnceLock::new();
    TREE.get_or_init(|| {
        let dist = scratch().join("dist");
        let _ = std::fs::remove_dir_all(scratch());
        std::fs::create_dir_all(&dist).unwrap();
        let out = format!("OUT={}", scratch().join("package").display());
        let said = make(&[
            "dist".into(),
            format!("DIST={}", dist.display()),
            out,
            "PACKER=gzip -1n".into(),
        ])?;
        println!("{said}");
        let is_tarball = |p: &PathBuf| p.extension().is_some_and(|e| e == "gz");
        let names = std::fs::read_dir(&dist).unwrap().map_while(Result::ok).map(|e| e.path());
        let tarball = names.into_iter().find(is_tarball).expect("make dist makes a tarball");
        let moved = scratch().join("moved here");
        std::fs::create_dir_all(&moved).unwrap();
        run(Command::new("tar").arg("-xzf").arg(&tarball).arg("-C").arg(&moved));
        let top = std::fs::read_dir(&moved).unwrap().map_while(Result::ok).next();
        Some(top.expect("the tarball has a folder").path())
    })
    .as_deref()
}

/// A name for a program of a test.
pub(crate) fn program(name: &str) -> PathBuf {
    let dir = scratch().join("programs");
    std::fs::create_dir_all(&dir).unwrap();
    dir.join(name)
}

/// What every hello prints.
pub(crate) fn hello(program: &Path, tree: &Path) -> String {
    run(Command::new(program).env("LD_LIBRARY_PATH", tree.join("lib")))
}
