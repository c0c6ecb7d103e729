//! The fuzzer of `gguf`.
#![no_main]

use diffx_fuzz::{gguf, prepare};

libfuzzer_sys::fuzz_target!(init: prepare(gguf::seeds, gguf::WORDS), |data: &[u8]| gguf::run(data));
