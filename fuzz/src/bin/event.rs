//! The fuzzer of `event`.
#![no_main]

use diffx_fuzz::{event, prepare};

libfuzzer_sys::fuzz_target!(init: prepare(event::seeds, event::WORDS), |data: &[u8]| event::run(data));
