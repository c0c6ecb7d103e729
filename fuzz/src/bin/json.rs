//! The fuzzer of `json`.
#![no_main]

use diffx_fuzz::{json, prepare};

libfuzzer_sys::fuzz_target!(init: prepare(json::seeds, json::WORDS), |data: &[u8]| json::run(data));
