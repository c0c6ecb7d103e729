//! The fuzz targets of `fuzz/` over what is committed: their seeds, a sample of what the fuzzers
//! kept, and every input that once broke something. No fuzzer is needed for this.

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// Every input that once broke a target, by name.
fn findings(target: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(files) = std::fs::read_dir(folder().join("findings").join(target)) else {
        return Vec::new();
    };
    let mut out: Vec<(String, Vec<u8>)> = files
        .map(|f| f.unwrap().path())
        .map(|p| (p.display().to_string(), std::fs::read(&p).unwrap()))
        .collect();
    out.sort();
    out
}

/// A sample of what a fuzzer kept: a line of hexadecimal digits per input.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(text) = std::fs::read_to_string(folder().join(format!("corpus/{target}.hex"))) else {
        return Vec::new();
    };
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let line = |l: &str| l.as_bytes().chunks(2).map(byte).collect();
    text.lines().enumerate().map(|(i, l)| (format!("line {}", i + 1), line(l))).collect()
}

#[test]
fn every_committed_input_comes_back() {
    for target in fuzz::TARGETS {
        let seeds = (target.seeds)().into_iter().enumerate();
        let mut all: Vec<_> = seeds.map(|(i, s)| (format!("seed {i}"), s)).collect();
        all.extend(corpus(target.name));
        all.extend(findings(target.name));
        for (name, bytes) in &all {
            println!("{} {name}", target.name); // shown when it does not come back
            (target.run)(bytes);
        }
        println!("{}: {} inputs", target.name, all.len());
    }
}

/// A seed that ends at the first check would fuzz nothing.
#[test]
fn seeds_are_accepted() {
    fuzz::descriptor::check_seeds();
    fuzz::saved::check_seeds();
}

/// The allocator sees what a body holds: without that, no target would bound memory.
#[test]
fn memory_is_counted() {
    let over = std::panic::catch_unwind(|| {
        fuzz::memory::bounded(1000, || drop(std::hint::black_box(vec![1u8; 2000])))
    });
    assert!(over.is_err());
    let left = std::panic::catch_unwind(|| {
        fuzz::memory::bounded(4000, || std::mem::forget(std::hint::black_box(vec![1u8; 2000])))
    });
    assert!(left.is_err());
    fuzz::memory::bounded(4000, || drop(std::hint::black_box(vec![1u8; 2000])));
}
