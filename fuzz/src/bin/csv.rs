//! The fuzzer of `csv`.
#![no_main]

use diffx_fuzz::{csv, prepare};

libfuzzer_sys::fuzz_target!(init: prepare(csv::seeds, csv::WORDS), |data: &[u8]| csv::run(data));
