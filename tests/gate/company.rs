//! Company in one process: other copies of the library, under another name and in another namespace of the linker, with
//! the same plugin file at the same time; and onnxruntime, with threads and an allocator of its own.

use crate::tools::{engine, folder, has, host, plugin, root, run, source};
use std::process::Command;

#[test]
fn copies_do_not_know_of_each_other() {
    let (Some(library), true) = (engine(), has("cc")) else { return };
    let dir = folder("copies");
    let include = root().join("include");
    let frozen = root().join("tests/abi/frozen/v0-2026-11/plugin.c");
    let (exe, file) = (dir.join("copies"), dir.join("plugin.so"));
    host(&include, &source("copies.c"), &exe, &[]);
    plugin(&include, &frozen, &file, &[]);
    let names = ["liba.so", "libb.so"].map(|n| dir.join(n));
    for name in &names {
        std::fs::copy(&library, name).unwrap();
    }
    let said = run(Command::new(&exe).args(&names).arg(&file));
    println!("{said}");
    if said.contains("no third") {
        println!("skipped: this linker has no second namespace");
    }
    let sums: Vec<&str> = said.lines().filter_map(|l| l.split_once(": ")).map(|(_, s)| s).collect();
    assert!(sums.len() >= 2 && sums.iter().all(|s| s.contains(" bytes, ")), "{said}");
    assert!(sums.windows(2).all(|w| w[0] == w[1]), "{said}");
}

#[test]
fn beside_onnxruntime() {
    let Some(library) = engine() else { return };
    let python = std::env::var("DIFFX_PYTHON").unwrap_or_else(|_| "python3".into());
    if !has(&python) {
        return;
    }
    let there = Command::new(&python).args(["-c", "import onnxruntime, numpy"]).output();
    if !there.is_ok_and(|o| o.status.success()) {
        println!("skipped: {python} has no onnxruntime");
        return;
    }
    let say = |order: &str| {
        run(Command::new(&python).arg(source("neighbours.py")).arg(&library).arg(order))
    };
    let alone = say("alone");
    let (first, second) = (say("first"), say("second"));
    println!("{first}{second}");
    // one sum each: whatever ran beside it, and again
    for line in first.lines().chain(second.lines()) {
        assert_eq!(line.split(' ').count(), 2, "{line}");
        assert!(
            !line.starts_with("diffx") || format!("{line}\n") == alone,
            "{line}, alone {alone}"
        );
    }
    assert!(first.lines().all(|l| second.lines().any(|m| m == l)), "{first}{second}");
}
