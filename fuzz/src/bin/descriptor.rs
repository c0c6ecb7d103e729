//! The fuzzer of `descriptor`.
#![no_main]

use diffx_fuzz::{descriptor, prepare};

libfuzzer_sys::fuzz_target!(init: prepare(descriptor::seeds, descriptor::WORDS), |data: &[u8]| descriptor::run(data));
