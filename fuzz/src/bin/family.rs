//! The fuzzer of `family`.
#![no_main]

use diffx_fuzz::{family, prepare};

libfuzzer_sys::fuzz_target!(init: prepare(family::seeds, family::WORDS), |data: &[u8]| family::run(data));
