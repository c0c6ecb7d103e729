//! What the tests of all languages share: the library of this build, and running programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The shared library of this build; None, said out loud, where there is none.
pub(crate) fn library() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let deps = exe.parent()?;
    let places = [deps.join("libdiffx.so"), deps.parent()?.join("libdiffx.so")];
    let found = places.into_iter().find(|p| p.is_file());
    if found.is_none() {
        println!("skipped: no libdiffx.so beside this test");
    }
    found
}

pub(crate) fn works(program: &str, words: &[&str]) -> bool {
    Command::new(program).args(words).output().is_ok_and(|o| o.status.success())
}

/// Runs a program; its words are shown, and it must end well.
pub(crate) fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    println!("{out}{err}");
    assert!(status.success(), "{command:?}: {status}");
    out.into_owned()
}

pub(crate) fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("diffx-bindings-{}-{name}", std::process::id()))
}
