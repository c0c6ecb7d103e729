//! The files themselves: names, versions, symbols; that those which a build reads (`.pc`, `.cmake`) name no place, and the
//! library has no search path; and a second packing of the same build gives the same bytes. The binaries are not searched: they
//! hold the paths of sources that Rust puts into panics (`docs/install.md`).

use crate::tree::{FAMILIES, has, make, run, scratch, tree};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for path in fs::read_dir(dir).unwrap().map_while(Result::ok).map(|e| e.path()) {
        if path.is_dir() && !path.is_symlink() { files(&path, out) } else { out.push(path) }
    }
}

#[test]
fn everything_is_there() {
    let Some(tree) = tree() else { return };
    let mut all = Vec::new();
    files(tree, &mut all);
    let names: Vec<String> =
        all.iter().map(|p| p.strip_prefix(tree).unwrap().display().to_string()).collect();
    let shared = format!("lib/libdiffx.so.{}", version());
    for name in [
        "bin/diffx",
        "include/diffx.h",
        "include/diffx.hpp",
        "include/diffx_plugin.h",
        "include/diffx_plugin.hpp",
        "lib/libdiffx.a",
        "lib/libdiffx.so",
        "lib/libdiffx.so.0",
        &shared,
        "lib/pkgconfig/diffx.pc",
        "lib/cmake/diffx/diffxConfig.cmake",
        "lib/cmake/diffx/diffxConfigVersion.cmake",
        "share/doc/diffx/LICENSE-MIT",
        "share/doc/diffx/install.md",
        "share/doc/diffx/examples/hello.c",
        "share/doc/diffx/examples/hello.cpp",
        "share/doc/diffx/examples/ve_example.c",
    ] {
        assert!(names.iter().any(|n| n == name), "{name} is not among {names:#?}");
    }
    let mut plugins: Vec<&str> = names
        .iter()
        .filter_map(|n| n.strip_prefix("lib/diffx/plugins/")?.strip_suffix(".so"))
        .collect();
    plugins.sort_unstable();
    let mut families = FAMILIES.to_vec();
    families.sort_unstable();
    assert_eq!(plugins, families);
    assert!(!names.iter().any(|n| n == "include/CHANGES.md"), "headers only");
    let links = |name: &str| fs::read_link(tree.join(name)).unwrap();
    assert_eq!(links("lib/libdiffx.so"), Path::new("libdiffx.so.0"));
    assert_eq!(links("lib/libdiffx.so.0"), Path::new(&format!("libdiffx.so.{}", version())));
    for path in all.iter().filter(|p| p.extension().is_some_and(|e| e == "pc" || e == "cmake")) {
        let text = fs::read_to_string(path).unwrap();
        assert!(!text.contains('@'), "{}: {text}", path.display());
        assert!(!text.contains("/usr") && !text.contains("/tmp"), "{}: {text}", path.display());
    }
}

/// One node per generation of the ABI, holding every function of the header and nothing else.
#[test]
fn exports_have_the_node_of_their_generation() {
    let (Some(tree), true) = (tree(), has("nm")) else { return };
    let library = tree.join("lib/libdiffx.so");
    let text = run(Command::new("nm").args(["-D", "--defined-only"]).arg(&library));
    let mut found: Vec<&str> = text.lines().filter_map(|l| l.split(' ').next_back()).collect();
    found.sort_unstable();
    let listed = include_str!("../abi/exports.txt");
    let mut want: Vec<String> = listed.lines().map(|n| format!("{n}@@DIFFX_0")).collect();
    want.push("DIFFX_0".into());
    want.sort();
    assert_eq!(found, want);
    let text = run(Command::new("nm").args(["-D", "--undefined-only"]).arg(&library));
    assert!(!text.contains("dfx_"), "{text}");
}

#[test]
fn the_library_says_its_name_and_stays() {
    let (Some(tree), true) = (tree(), has("readelf")) else { return };
    let text = run(Command::new("readelf").arg("-dW").arg(tree.join("lib/libdiffx.so")));
    assert!(text.contains("Library soname: [libdiffx.so.0]"), "{text}");
    assert!(text.contains("NODELETE") && text.contains("BIND_NOW"), "{text}");
    assert!(
        !text.contains("RPATH") && !text.contains("RUNPATH") && !text.contains("TEXTREL"),
        "{text}"
    );
    for line in text.lines().filter(|l| l.contains("(NEEDED)")) {
        let own = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux"];
        assert!(own.iter().any(|n| line.contains(n)), "needs more than the C library: {line}");
    }
}

/// In the static library too nothing is global but the functions of the header.
#[test]
fn the_static_library_keeps_its_symbols_to_itself() {
    let (Some(tree), true) = (tree(), has("nm")) else { return };
    let text =
        run(Command::new("nm").args(["-g", "--defined-only"]).arg(tree.join("lib/libdiffx.a")));
    let names = text.lines().filter_map(|l| l.split(' ').nth(2));
    let (ours, others): (Vec<&str>, Vec<&str>) = names.partition(|n| n.starts_with("dfx_"));
    assert_eq!(ours.len(), include_str!("../abi/exports.txt").lines().count());
    assert!(others.iter().all(|n| n.starts_with("DW.ref.")), "{others:?}");
}

#[test]
fn the_flags_of_a_static_link_are_those_of_the_compiler() {
    let (Some(tree), true) = (tree(), has("rustc")) else { return };
    let empty = scratch().join("empty.rs");
    fs::write(&empty, "").unwrap();
    let out = Command::new("rustc")
        .args(["--print", "native-static-libs", "--crate-type", "staticlib", "-o"])
        .arg(scratch().join("empty.a"))
        .arg(&empty)
        .output()
        .unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    let flags = said.split("native-static-libs: ").nth(1).expect("rustc prints them");
    let flags = flags.lines().next().unwrap().trim();
    let pc = fs::read_to_string(tree.join("lib/pkgconfig/diffx.pc")).unwrap();
    assert!(pc.contains(&format!("Libs.private: {flags}\n")), "{flags:?} in {pc}");
}

/// Another prefix, another libdir, a DESTDIR; and taken away again without a trace.
#[test]
fn installs_under_any_prefix_and_uninstalls() {
    if tree().is_none() {
        return;
    }
    let stage = scratch().join("stage");
    let word = |verb: &str| {
        let out = format!("OUT={}", scratch().join("package").display());
        let at = format!("DESTDIR={}", stage.display());
        vec![verb.into(), "PREFIX=/opt/d".into(), "LIBDIR=/opt/d/lib/multi/arch".into(), at, out]
    };
    make(&word("install")).unwrap();
    let lib = stage.join("opt/d/lib/multi/arch");
    assert!(lib.join("libdiffx.so.0").exists() && stage.join("opt/d/bin/diffx").exists());
    let pc = fs::read_to_string(lib.join("pkgconfig/diffx.pc")).unwrap();
    assert!(pc.contains("prefix=${pcfiledir}/../../../..\n"), "{pc}");
    assert!(pc.contains("libdir=${prefix}/lib/multi/arch\n"), "{pc}");
    make(&word("uninstall")).unwrap();
    let mut left = Vec::new();
    files(&stage, &mut left);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_same_files_pack_into_the_same_bytes() {
    if tree().is_none() {
        return;
    }
    let sums = |dist: &Path| {
        let path = fs::read_dir(dist).unwrap().map_while(Result::ok).map(|e| e.path());
        let sum = path.into_iter().find(|p| p.extension().is_some_and(|e| e == "sha256")).unwrap();
        fs::read_to_string(sum).unwrap()
    };
    let again = scratch().join("again");
    let out = format!("OUT={}", scratch().join("package").display());
    make(&["dist".into(), format!("DIST={}", again.display()), out, "PACKER=gzip -1n".into()])
        .unwrap();
    assert_eq!(sums(&scratch().join("dist")), sums(&again));
}
