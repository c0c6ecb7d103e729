//! Compilers, scratch folders, the library of this build.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn source(name: &str) -> PathBuf {
    root().join("tests/gate").join(name)
}

/// A header of today.
pub(crate) fn header(name: &str) -> String {
    std::fs::read_to_string(root().join("include").join(name)).unwrap()
}

/// A folder of one test, which only its owner may write to: plugins are loaded from there.
pub(crate) fn folder(test: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gate").join(test);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Whether a program is here; said out loud where it is not.
pub(crate) fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

/// The library of this build, or the one that DIFFX_TEST_ENGINE names: an older release, say.
pub(crate) fn engine() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("DIFFX_TEST_ENGINE") {
        return Some(PathBuf::from(path));
    }
    let exe = std::env::current_exe().ok()?;
    let found =
        exe.ancestors().skip(1).take(2).map(|d| d.join("libdiffx.so")).find(|p| p.is_file());
    if found.is_none() {
        println!("skipped: no libdiffx.so beside this test");
    }
    found
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command that must succeed and returns what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let out: Output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(out.status.success(), "{command:?}\n{}{}", text(&out.stdout), text(&out.stderr));
    text(&out.stdout)
}

/// A plugin from one C file against the headers of `include`.
pub(crate) fn plugin(include: &Path, source: &Path, out: &Path, flags: &[&str]) {
    let mut cc = Command::new("cc");
    cc.args([
        "-std=c99",
        "-O1",
        "-shared",
        "-fPIC",
        "-fvisibility=hidden",
        "-Wall",
        "-Wextra",
        "-Werror",
    ]);
    run(cc.args(flags).arg("-I").arg(include).arg(source).arg("-o").arg(out).arg("-lm"));
}

/// A host from one C file against the headers of `include`; it finds the library by itself, through dlopen.
pub(crate) fn host(include: &Path, source: &Path, out: &Path, flags: &[&str]) {
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu99", "-O1", "-Wall", "-Wextra", "-Werror"]).args(flags);
    run(cc.arg("-I").arg(include).arg(source).arg("-o").arg(out).args([
        "-ldl",
        "-lpthread",
        "-lm",
    ]));
}
