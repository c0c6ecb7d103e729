//! The fuzzer of `png`.
#![no_main]

use diffx_fuzz::{png, prepare};

libfuzzer_sys::fuzz_target!(init: prepare(png::seeds, png::WORDS), |data: &[u8]| png::run(data));
