//! The `diffx` command: a host like any other.
#![allow(dead_code)]
mod command;

fn main() {}
