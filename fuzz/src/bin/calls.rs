//! The fuzzer of `calls`.
#![no_main]

use diffx_fuzz::{calls, prepare};

libfuzzer_sys::fuzz_target!(init: prepare(calls::seeds, calls::WORDS), |data: &[u8]| calls::run(data));
