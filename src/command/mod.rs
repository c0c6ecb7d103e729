//! The `diffx` command.

pub mod chart;
