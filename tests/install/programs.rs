//! Programs of a stranger in C: one checksum by every way of linking, a plugin with only a C compiler, the command.

use crate::tree::{compilers, has, hello, program, run, tree};
use std::path::{Path, PathBuf};
use std::process::Command;

const STRICT: &[&str] = &["-Wall", "-Wextra", "-Werror", "-O1"];
fn example(tree: &Path, name: &str) -> PathBuf {
    tree.join("share/doc/diffx/examples").join(name)
}

/// What the hello of every language prints, by way of the shared library and plain flags.
fn said(tree: &Path) -> String {
    static SAID: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let build = || {
        let out = plain("cc", tree, "said");
        let said = hello(&out, tree);
        let digits = said.trim_end();
        assert!(digits.len() == 16 && u64::from_str_radix(digits, 16).is_ok(), "{said}");
        said
    };
    SAID.get_or_init(build).clone()
}

fn plain(cc: &str, tree: &Path, name: &str) -> PathBuf {
    let out = program(name);
    let mut command = Command::new(cc);
    command.args(STRICT).arg(example(tree, "hello.c")).arg("-o").arg(&out);
    command.arg("-I").arg(tree.join("include")).arg("-L").arg(tree.join("lib"));
    command.arg(format!("-Wl,-rpath,{}", tree.join("lib").display()));
    run(command.arg("-ldiffx"));
    out
}

/// The words of pkg-config for the moved tree.
fn pkg_config(tree: &Path, args: &[&str]) -> Vec<String> {
    let path = tree.join("lib/pkgconfig");
    let mut command = Command::new("pkg-config");
    command
        .env("PKG_CONFIG_PATH", &path)
        .env_remove("PKG_CONFIG_SYSROOT_DIR")
        .args(args)
        .arg("diffx");
    let said = run(&mut command);
    // a space of the path is escaped
    let words = said.trim().replace("\\ ", "\0");
    words.split(' ').filter(|w| !w.is_empty()).map(|w| w.replace('\0', " ")).collect()
}

#[test]
fn c_through_pkg_config() {
    let (Some(tree), true) = (tree(), has("pkg-config")) else { return };
    assert_eq!(pkg_config(tree, &["--modversion"]), [env!("CARGO_PKG_VERSION")]);
    let out = program("hello-pkg-config");
    let mut cc = Command::new("cc");
    cc.args(["-std=c89", "-pedantic"])
        .args(STRICT)
        .arg(example(tree, "hello.c"))
        .arg("-o")
        .arg(&out);
    run(cc.args(pkg_config(tree, &["--cflags", "--libs"])));
    assert_eq!(hello(&out, tree), said(tree));
    // the static library is named whole, because -ldiffx takes the shared one
    let archive = pkg_config(tree, &["--variable=staticlib"]);
    let private = pkg_config(tree, &["--static", "--libs-only-l"]);
    let out = program("hello-pkg-config-static");
    let mut cc = Command::new("cc");
    cc.args(STRICT).arg(example(tree, "hello.c")).arg("-o").arg(&out);
    cc.args(pkg_config(tree, &["--cflags"])).args(archive);
    run(cc.args(private.iter().filter(|w| *w != "-ldiffx")));
    assert_eq!(hello(&out, Path::new("/nowhere")), said(tree));
}

#[test]
fn c_by_plain_flags() {
    let Some(tree) = tree() else { return };
    for cc in compilers(&["cc", "clang"]) {
        let out = plain(cc, tree, &format!("hello-plain-{cc}"));
        // found by its rpath alone
        assert_eq!(run(&mut Command::new(&out)), said(tree), "{cc}");
    }
}

/// Two Rust libraries in one program: rustc's own archives clash there once one was made with link-time optimisation.
#[test]
fn the_static_library_stands_beside_another_of_rust() {
    let (Some(tree), true) = (tree(), has("rustc")) else { return };
    let source = program("other.rs");
    let text = "#[unsafe(no_mangle)]\npub extern \"C\" fn other() -> i32 {\n    \
        std::panic::catch_unwind(|| panic!(\"mine\")).is_err() as i32\n}\n";
    std::fs::write(&source, text).unwrap();
    let other = program("libother.a");
    run(Command::new("rustc")
        .args(["--edition", "2024", "-O", "-C", "lto=fat", "--crate-type", "staticlib", "-o"])
        .arg(&other)
        .arg(&source));
    let main = program("beside.c");
    let text = std::fs::read_to_string(example(tree, "hello.c")).unwrap();
    let text = text.replace("int main(void)", "int other(void);\nint main(void)");
    let text = text.replace("options.seed = 1;", "if (!other()) return 2; options.seed = 1;");
    assert!(text.contains("if (!other())"));
    std::fs::write(&main, text).unwrap();
    for (i, order) in [[0, 1], [1, 0]].into_iter().enumerate() {
        let archives = [tree.join("lib/libdiffx.a"), other.clone()];
        let out = program(&format!("beside-{i}"));
        let mut cc = Command::new("cc");
        cc.arg("-I").arg(tree.join("include")).arg(&main).arg("-o").arg(&out);
        cc.args(order.map(|k| &archives[k]));
        run(cc.args(["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl"]));
        assert_eq!(hello(&out, tree), said(tree));
    }
}

/// The path of a new plugin author with nothing but this tree and a C compiler.
#[test]
fn a_plugin_with_only_a_c_compiler() {
    let Some(tree) = tree() else { return };
    let command = tree.join("bin/diffx");
    for (cc, standard, name) in
        [("cc", "-std=c99", "ve_example.c"), ("c++", "-std=c++17", "ve_example.cpp")]
    {
        if !has(cc) {
            continue;
        }
        let out = program(&format!("{name}.so"));
        let mut build = Command::new(cc);
        build.args([standard, "-shared", "-fPIC", "-fvisibility=hidden"]).args(STRICT);
        build.arg("-I").arg(tree.join("include")).arg(example(tree, name)).arg("-o").arg(&out);
        run(build.arg("-lm"));
        let said = run(Command::new(&command).args(["plugin", "check"]).arg(&out));
        assert!(said.contains("org.example.ve") && said.contains("ok"), "{said}");
    }
}

#[test]
fn the_command_runs() {
    let Some(tree) = tree() else { return };
    let said = run(Command::new(tree.join("bin/diffx")).arg("plugins"));
    assert!(said.contains("org.diffx.cir"), "{said}");
}

/// Packages of the tree find the library of the tree by themselves, and say what C says.
#[test]
fn other_languages_find_the_library() {
    let Some(tree) = tree() else { return };
    let mut programs = Vec::new();
    let python = std::env::var("DIFFX_PYTHON").unwrap_or_else(|_| "python3".into());
    if has(&python)
        && Command::new(&python)
            .args(["-c", "import numpy"])
            .output()
            .is_ok_and(|o| o.status.success())
    {
        let mut run = Command::new(&python);
        run.env("PYTHONPATH", tree.join("share/diffx/python")).env("PYTHONDONTWRITEBYTECODE", "1");
        run.arg(example(tree, "hello.py"));
        programs.push(run);
    } else {
        println!("skipped: python with numpy");
    }
    if has("julia") {
        let mut run = Command::new("julia");
        run.arg(format!("--project={}", tree.join("share/diffx/julia/Diffx").display()));
        // what it compiled of another tree at this place with files of this time is not of this one
        run.env("JULIA_DEPOT_PATH", crate::tree::scratch().join("julia"));
        run.arg("--startup-file=no").arg(example(tree, "hello.jl"));
        programs.push(run);
    }
    if Command::new("luajit").arg("-v").output().is_ok_and(|o| o.status.success()) {
        let mut run = Command::new("luajit");
        run.env("LUA_PATH", format!("{}/?.lua;;", tree.join("share/diffx/lua").display()));
        run.arg(example(tree, "hello.lua"));
        programs.push(run);
    } else {
        println!("skipped: luajit is not installed");
    }
    for mut program in programs {
        let out = run(program.env_remove("DIFFX_LIBRARY").env_remove("LD_LIBRARY_PATH"));
        assert_eq!(out, said(tree), "{program:?}");
    }
}
