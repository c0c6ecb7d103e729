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

/// What a fuzzer does at first, for the readers that are new: seeds with bytes changed, cut, doubled, and words put in.
/// The same changes every time.
#[test]
fn changed_seeds_come_back() {
    let words: [(&str, &[&str]); 4] = [
        ("family", fuzz::family::WORDS),
        ("gguf", fuzz::gguf::WORDS),
        ("header", fuzz::header::WORDS),
        ("index", fuzz::index::WORDS),
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % n.max(1)
    };
    for (name, words) in words {
        let target = fuzz::TARGETS.iter().find(|t| t.name == name).unwrap();
        let seeds = (target.seeds)();
        for _ in 0..10_000 {
            let mut input = seeds[next(seeds.len())].clone();
            for _ in 0..=next(4) {
                let at = next(input.len() + 1);
                match next(5) {
                    0 => input.truncate(at),
                    1 => input.extend_from_within(at..),
                    2 => drop(input.splice(at..at, words[next(words.len())].bytes())),
                    3 => drop(input.drain(at..(at + next(4)).min(input.len()))),
                    _ => input.iter_mut().skip(at).take(1).for_each(|b| *b = next(256) as u8),
                }
            }
            input.truncate(1024);
            (target.run)(&input);
        }
    }
}

/// A seed that ends at the first check would fuzz nothing.
#[test]
fn seeds_are_accepted() {
    fuzz::descriptor::check_seeds();
    fuzz::gguf::check_seeds();
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
