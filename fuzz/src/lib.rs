//! Hostile input, thrown at every reader of diffx. One file per target; `scripts/fuzz TARGET [RUNS]` builds it with
//! coverage on stable Rust and runs it under libFuzzer, `tests/fuzz.rs` replays `corpus/` and `findings/` without it.
//!
//! A body takes any bytes and must come back: no panic (also none that the C border would catch), no memory above what
//! it states, nothing left behind, and the laws each file names. What a fuzzer finds is minimised, put under
//! `findings/TARGET/` with a name that says what it is, and mended; from then on it is a test. `docs/fuzzing.md` has the
//! counts.
#![allow(unreachable_pub, dead_code)] // a library here, a module in tests/fuzz.rs

mod bytes;
mod c;
pub mod calls;
pub mod csv;
pub mod descriptor;
pub mod event;
pub mod family;
pub mod gguf;
pub mod graph;
pub mod header;
pub mod index;
pub mod json;
pub mod memory;
pub mod png;
pub mod saved;

use std::path::Path;

/// A target, as the replay walks them.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:ident)*) => {
        pub const TARGETS: &[Target] = &[
            $(Target { name: stringify!($name), run: $name::run, seeds: $name::seeds },)*
        ];
    };
}

targets! { calls csv descriptor event family gguf graph header index json png saved }

/// What a fuzzer does before the first input: with `FUZZ_SEEDS=DIR` it writes seeds and dictionary there and ends.
pub fn prepare(seeds: fn() -> Vec<Vec<u8>>, words: &[&str]) {
    let Some(dir) = std::env::var_os("FUZZ_SEEDS") else { return };
    let dir = Path::new(&dir);
    std::fs::create_dir_all(dir.join("seeds")).expect("a folder for the seeds");
    for (i, seed) in seeds().iter().enumerate() {
        std::fs::write(dir.join(format!("seeds/{i:03}")), seed).expect("a seed");
    }
    let escaped = |b: u8| match b {
        b'"' | b'\\' => format!("\\{}", char::from(b)),
        b' '..=b'~' => char::from(b).to_string(),
        b => format!("\\x{b:02X}"),
    };
    let quoted = |w: &&str| format!("\"{}\"\n", w.bytes().map(escaped).collect::<String>());
    let words: String = words.iter().map(quoted).collect();
    std::fs::write(dir.join("words"), words).expect("the dictionary");
    std::process::exit(0);
}
