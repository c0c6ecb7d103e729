//! Feature `layout-check`: a Rust plugin whose mirrors are those of the host loads; one built with an SDK in which a
//! single `u32` became an `i32`, which the layout hash cannot see, is refused with the field named; a C plugin, which
//! describes no mirrors, passes with the hash. Builds two small plugins, so `.ci/run` asks for it by name.

#[path = "abi/compiler.rs"]
#[expect(dead_code, reason = "shared with tests/abi")]
mod compiler;

use compiler::{folder, library, root, run};
use diffx::base::{Result, Status};
use diffx::plugin::{Registry, Trust};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// The example plugin, described, over the SDK in `plugins/sdk` after `edit` of its mirrors.
fn plugin(name: &str, edit: impl Fn(String) -> String) -> PathBuf {
    let dir = folder("layout_check").join(name);
    let copy = |part: &str| {
        for file in walk(&root().join(part)) {
            let to = dir.join(file.strip_prefix(root()).unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(&file, to).unwrap();
        }
    };
    for part in ["plugins/sdk", "plugins/event", "plugins/examples/rust_minimal"] {
        copy(part);
    }
    fs::copy(root().join("Cargo.lock"), dir.join("plugins/examples/rust_minimal/Cargo.lock"))
        .unwrap();
    // both take their version and lints from the workspace above them
    let workspace = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let end = workspace.find("\n[package]").unwrap();
    let workspace =
        workspace[..end].replace("[\"plugins/*\"]", "[\"plugins/sdk\", \"plugins/event\"]");
    fs::write(dir.join("Cargo.toml"), workspace).unwrap();
    let mirrors = dir.join("plugins/sdk/src/abi/mod.rs");
    fs::write(&mirrors, edit(fs::read_to_string(&mirrors).unwrap())).unwrap();

    let target = folder("layout_check").join("target");
    run(Command::new(env!("CARGO"))
        .args(["build", "--offline", "--features", "diffx-plugin/layout-check"])
        .arg("--manifest-path")
        .arg(dir.join("plugins/examples/rust_minimal/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target));
    let out = dir.join(format!("lib{name}.so"));
    fs::copy(target.join("debug/libve_example.so"), &out).unwrap();
    out
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    entries.flat_map(|p| if p.is_dir() { walk(&p) } else { vec![p] }).collect()
}

fn load(file: &Path) -> (Result<u32>, Vec<String>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&log);
    let mut registry = Registry::new(Box::new(move |level, text| {
        sink.lock().unwrap().push(format!("{level} {text}"));
    }));
    let outcome = registry.load(file, &Trust { allowed: true, sha256: None });
    let log = log.lock().unwrap().clone();
    (outcome, log)
}

#[test]
fn equal_mirrors_load_and_one_edited_field_does_not() {
    let (outcome, log) = load(&plugin("equal", |mirrors| mirrors));
    assert_eq!(outcome.unwrap(), 1);
    assert_eq!(log, ["3 plugin org.example: mirrors compared and equal"]);

    let edited = plugin("edited", |mirrors| {
        let (before, plan) = mirrors.split_once("Plan = \"dfx_plan\"").unwrap();
        let plan = plan.replacen("reserved: u32", "reserved: i32", 1);
        format!("{before}Plan = \"dfx_plan\"{plan}")
    });
    let e = load(&edited).0.expect_err("reserved is an i32 in this plugin");
    println!("{e}");
    assert_eq!(e.status, Status::Version);
    assert!(!e.message.contains('\n') && e.message.len() < 500, "{e}");
    for word in ["Plan", "u32", "i32"] {
        assert!(e.message.contains(word), "{word} in {e}");
    }
}

#[test]
fn a_c_plugin_passes_with_the_hash() {
    let source = root().join("plugins/examples/c_minimal/ve_example.c");
    let Some(file) = library(&source, &folder("layout_check").join("libve_c.so"), &[]) else {
        return;
    };
    let (outcome, log) = load(&file);
    assert_eq!(outcome.unwrap(), 1);
    assert_eq!(log, ["3 plugin org.example: describes no mirrors; its layout hash is right"]);
}
