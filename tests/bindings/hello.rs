//! One program in each language: under 40 lines each. Those in C, Python and Lua are run here and give the same samples;
//! the other ones where their compilers are: C++ in tests/install, Julia in tests/julia.rs.

use crate::host::{library, root, succeed, temporary, works};
use crate::lua::{luajit, run_lua};
use crate::python::{python, run_python};
use std::path::Path;
use std::process::Command;

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

/// Under 40 lines each, and one answer of those that are installed, of which two are wanted: one agrees with itself.
#[test]
fn c_python_and_lua_say_the_same_checksum() {
    let Some(library) = library() else { return };
    let script = |end: &str| root().join(format!("examples/hello/hello.{end}"));
    let mut said: Vec<(&str, String)> = Vec::new();
    said.extend(checksum_in_c(&library).map(|out| ("c", out)));
    if let Some(python) = python() {
        said.push(("python", succeed(run_python(&python, &library).arg(script("py")))));
    }
    said.extend(luajit().map(|lua| ("lua", succeed(run_lua(&lua, &library).arg(script("lua"))))));
    println!("{said:?}");
    if said.len() < 2 {
        println!("skipped: nothing to compare: {} of a C compiler, python3 and luajit", said.len());
    }
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
