//! Special functions of the laws: own, safe Rust, in f64 unless a name says f32.
//!
//! Each is checked against 40-digit values; the accuracy promised stands at the function.

pub mod float;
