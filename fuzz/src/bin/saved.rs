//! The fuzzer of `saved`.
#![no_main]

use diffx_fuzz::{prepare, saved};

libfuzzer_sys::fuzz_target!(init: prepare(saved::seeds, saved::WORDS), |data: &[u8]| saved::run(data));
