//! One process in C, C++ and Rust: each is loaded by `dlopen`, and the three emit the same graph, node for node.

use crate::compiler::{Language, command, folder, library, root, run};
use crate::rig::{config, loaded, process_graph};
use diffx::plugin::Kind;
use std::path::{Path, PathBuf};
use std::process::Command;

fn c() -> Option<PathBuf> {
    let source = root().join("plugins/examples/c_minimal/ve_example.c");
    library(&source, &folder("languages").join("libve_c.so"), &["-pedantic"])
}

fn cpp() -> Option<PathBuf> {
    let source = root().join("plugins/examples/cpp_minimal/ve_example.cpp");
    library(&source, &folder("languages").join("libve_cpp.so"), &["-pedantic"])
}

fn rust() -> Option<PathBuf> {
    let manifest = root().join("plugins/examples/rust_minimal/Cargo.toml");
    if !manifest.exists() {
        println!("skipped: no plugins/examples/rust_minimal yet");
        return None;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rust_minimal");
    run(Command::new(env!("CARGO"))
        .args(["build", "--offline", "--manifest-path"])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target));
    let built = std::fs::read_dir(target.join("debug")).unwrap().map_while(Result::ok);
    let library = built.map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "so"));
    Some(library.expect("rust_minimal builds a shared library"))
}

#[test]
fn three_languages_one_graph() {
    let files: Vec<PathBuf> = [c(), cpp(), rust()].into_iter().flatten().collect();
    let mut hashes = Vec::new();
    for file in &files {
        let registry = loaded(file);
        let process = registry.process("org.example.ve", &config(r#"{"scale": 0.5}"#)).unwrap();
        let once = process_graph(process.clone()).unwrap();
        assert_eq!(once, process_graph(process).unwrap(), "a build is pure");
        let other = registry.process("ve", &config(r#"{"scale": 0.25}"#)).unwrap();
        assert_ne!(once, process_graph(other).unwrap(), "the config is used");
        hashes.push(once);
        for (bad, why) in [(r#"{"scale": -1}"#, "scale"), (r#"{"sale": 1}"#, "")] {
            let e = registry.process("ve", &config(bad)).err().expect("a bad config is refused");
            assert!(e.message.starts_with("org.example/ve: "), "{}", e.message);
            assert!(e.message.contains(why), "{}", e.message);
            assert_eq!(registry.plugin_id(e.source), Some("org.example"));
        }
        let list = registry.list();
        assert_eq!(list[0]["id"], "org.example");
        assert_eq!(list[0]["factories"][0]["kind"], Kind::Process.name());
        assert_eq!(list[0]["factories"][0]["id"], "org.example.ve");
    }
    assert!(hashes.windows(2).all(|w| w[0] == w[1]), "{files:?} give {hashes:x?}");
    println!("{} languages, hash {:x?}", hashes.len(), hashes.first());
}

/// A plugin exports one symbol of its own. (C++ may add weak ones of the standard library.)
#[test]
fn a_c_plugin_exports_one_symbol() {
    let Some(file) = c() else { return };
    match Command::new("nm").args(["-D", "--defined-only"]).arg(&file).output() {
        Ok(out) => {
            let text = String::from_utf8(out.stdout).unwrap();
            let symbols: Vec<_> = text.lines().filter_map(|l| l.split(' ').next_back()).collect();
            assert_eq!(symbols, ["diffx_plugin_v0"]);
        }
        Err(_) => println!("skipped: no nm"),
    }
}

/// Built with DFX_STATIC_PLUGIN the same source has another symbol, to be linked in beside others.
#[test]
fn the_same_source_links_in() {
    let Some(mut cc) = command(Language::C) else { return };
    let object = folder("languages").join("ve_static.o");
    run(cc
        .args(["-c", "-DDFX_STATIC_PLUGIN", "-I"])
        .arg(crate::compiler::include())
        .arg(root().join("plugins/examples/c_minimal/ve_example.c"))
        .arg("-o")
        .arg(&object));
    let bytes = std::fs::read(&object).unwrap();
    let name = b"diffx_plugin_v0_ve_example\0";
    assert!(bytes.windows(name.len()).any(|w| w == name));
}
