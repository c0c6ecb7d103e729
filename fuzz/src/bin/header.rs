//! The fuzzer of `header`.
#![no_main]

use diffx_fuzz::{header, prepare};

libfuzzer_sys::fuzz_target!(init: prepare(header::seeds, header::WORDS), |data: &[u8]| header::run(data));
