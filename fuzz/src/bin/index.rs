//! The fuzzer of `index`.
#![no_main]

use diffx_fuzz::{index, prepare};

libfuzzer_sys::fuzz_target!(init: prepare(index::seeds, index::WORDS), |data: &[u8]| index::run(data));
