//! The fuzzer of `graph`.
#![no_main]

use diffx_fuzz::{graph, prepare};

libfuzzer_sys::fuzz_target!(init: prepare(graph::seeds, graph::WORDS), |data: &[u8]| graph::run(data));
