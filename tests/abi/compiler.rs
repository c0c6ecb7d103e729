//! The C and C++ compilers of this machine, and where their output goes.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn include() -> PathBuf {
    root().join("include")
}

/// A folder for the files of one test that only its owner may write to.
pub(crate) fn folder(test: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("abi").join(test);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Language {
    C,
    Cpp,
}

/// The compiler's command, or None, having said so.
pub(crate) fn command(language: Language) -> Option<Command> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let tool = cc::Build::new()
        .cpp(language == Language::Cpp)
        .target(&triple)
        .host(&triple)
        .opt_level(1)
        .cargo_metadata(false)
        .try_get_compiler();
    let works = |path: &Path| {
        Command::new(path).arg("--version").output().is_ok_and(|o| o.status.success())
    };
    match tool {
        Ok(tool) if works(tool.path()) => Some(Command::new(tool.path())),
        _ => {
            println!("skipped: no {language:?} compiler");
            None
        }
    }
}

/// A shared library from one source file. None without a compiler; fails the test when the source does not compile.
pub(crate) fn library(source: &Path, out: &Path, extra: &[&str]) -> Option<PathBuf> {
    let cpp = source.extension().is_some_and(|e| e == "cpp");
    let mut command = command(if cpp { Language::Cpp } else { Language::C })?;
    command.args(["-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]);
    command.arg(if cpp { "-std=c++17" } else { "-std=c99" });
    // tests side by side may want the same file: nobody sees half of it
    let own = out.with_extension(format!("{:?}.so", std::thread::current().id()));
    command.args(extra).arg("-I").arg(include()).arg(source).arg("-o").arg(&own);
    command.args(["-lm", "-lpthread"]);
    run(&mut command);
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(&own, out).unwrap();
    Some(out.to_owned())
}

/// Runs a command that must succeed and returns what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let out = command.output().unwrap();
    assert!(
        out.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

pub(crate) fn source(name: &str) -> PathBuf {
    root().join("tests/abi").join(name)
}
