//! The C++ headers: clean under the warnings a careful project has, in C++17 and later, with and without exceptions;
//! a host that uses every call; and a project of CMake's, with ctest, against the installed tree.

use crate::tree::{compilers, has, hello, program, root, run, scratch, tree};
use std::path::Path;
use std::process::Command;

const WARNINGS: &[&str] =
    &["-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wold-style-cast", "-Werror"];
const PLUGIN_WARNINGS: &[&str] =
    &["-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"];
const STANDARDS: &[&str] = &["-std=c++17", "-std=c++20", "-std=c++2b"];
const WITHOUT: &[&str] = &["-fno-exceptions", "-fno-rtti"];

fn compile(compiler: &str, tree: &Path, source: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(compiler);
    command.args(flags).arg("-I").arg(tree.join("include"));
    command.arg("-I").arg(tree.join("share/doc/diffx/examples")).arg(source);
    command
}

#[test]
fn headers_are_clean() {
    let Some(tree) = tree() else { return };
    let alone = program("alone.cpp");
    let both = program("both.cpp");
    std::fs::write(&alone, "#include \"diffx.hpp\"\n#include \"diffx.hpp\"\nint used;\n").unwrap();
    let text = "#include \"diffx_plugin.hpp\"\n#include \"diffx.hpp\"\n#include \"diffx_plugin.hpp\"\nint used;\n";
    std::fs::write(&both, text).unwrap();
    for compiler in compilers(&["g++", "clang++"]) {
        for standard in STANDARDS {
            let without: &[&[&str]] =
                if *standard == "-std=c++17" { &[&[], WITHOUT] } else { &[&[]] };
            for exceptions in without {
                let check = |source: &Path, warnings: &[&str]| {
                    let mut command = compile(compiler, tree, source, warnings);
                    run(command.arg(standard).args(*exceptions).arg("-fsyntax-only"));
                };
                check(&alone, WARNINGS);
                check(&both, PLUGIN_WARNINGS);
                check(&tree.join("share/doc/diffx/examples/trio.cpp"), PLUGIN_WARNINGS);
            }
        }
    }
}

fn runs(name: &str, source: &Path, flags: &[&str]) {
    let Some(tree) = tree() else { return };
    for compiler in compilers(&["g++", "clang++"]) {
        let out = program(&format!("{name}-{compiler}"));
        let mut command = compile(compiler, tree, source, PLUGIN_WARNINGS);
        command.args(flags).arg("-o").arg(&out).arg("-L").arg(tree.join("lib"));
        run(command.arg("-ldiffx"));
        println!("{name} {compiler}: {}", hello(&out, tree));
    }
}

#[test]
fn a_host_uses_every_call() {
    let source = root().join("tests/install/host.cpp");
    runs("host-20", &source, &["-std=c++20"]);
    runs("host-plain", &source, &["-std=c++17", "-fno-exceptions", "-fno-rtti"]);
}

#[test]
fn a_host_with_a_plugin_linked_in() {
    runs(
        "linked",
        &root().join("tests/install/linked.cpp"),
        &["-std=c++17", "-DDFX_STATIC_PLUGIN"],
    );
}

#[test]
fn settings_of_a_plugin_are_read_and_refused() {
    let Some(tree) = tree() else { return };
    let source = root().join("tests/install/config.cpp");
    for (i, flags) in [&["-O1"][..], &["-g", "-fsanitize=address,undefined"]].iter().enumerate() {
        let out = program(&format!("config-{i}"));
        if !has("g++") {
            return;
        }
        let mut command = compile("g++", tree, &source, PLUGIN_WARNINGS);
        let built = command.arg("-std=c++17").args(*flags).arg("-o").arg(&out).output().unwrap();
        let said = String::from_utf8_lossy(&built.stderr);
        if i == 1 && !built.status.success() && said.contains("asan") {
            println!("skipped: g++ has no address sanitizer");
            return;
        }
        assert!(built.status.success(), "{said}");
        assert_eq!(run(&mut Command::new(&out)), "ok\n");
    }
}

/// Left away, the fault is an exception; without exceptions there is nothing to leave away.
#[test]
fn without_exceptions_a_failure_cannot_be_ignored() {
    let Some(tree) = tree() else { return };
    let source = program("ignores.cpp");
    let text = "#include \"diffx.hpp\"\nvoid f(diffx::engine &e) { diffx::model m(e, \"vix\"); (void)m; }\n";
    std::fs::write(&source, text).unwrap();
    for compiler in compilers(&["g++", "clang++"]) {
        run(&mut compile(compiler, tree, &source, &["-std=c++17", "-fsyntax-only"]));
        let out =
            compile(compiler, tree, &source, &["-std=c++17", "-fsyntax-only", "-fno-exceptions"])
                .output()
                .unwrap();
        assert!(!out.status.success(), "{compiler}: a call without a fault compiled");
    }
}

#[test]
fn cmake_and_ctest_against_the_installed_tree() {
    let Some(tree) = tree() else { return };
    if !has("cmake") || !has("ctest") || !has("c++") {
        return;
    }
    let build = scratch().join("cmake");
    let _ = std::fs::remove_dir_all(&build);
    run(Command::new("cmake")
        .arg("-S")
        .arg(root().join("tests/install"))
        .arg("-B")
        .arg(&build)
        .arg(format!("-DCMAKE_PREFIX_PATH={}", tree.display()))
        .arg(format!("-Ddiffx_EXAMPLES={}", tree.join("share/doc/diffx/examples").display())));
    run(Command::new("cmake").arg("--build").arg(&build).args(["-j", "2"]));
    let said = run(Command::new("ctest").arg("--test-dir").arg(&build).arg("--output-on-failure"));
    println!("{said}");
    assert!(said.contains("100% tests passed, 0 tests failed out of 10"), "{said}");
}
