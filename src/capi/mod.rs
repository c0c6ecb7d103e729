//! `diffx.h` in Rust: converts, calls the engine, converts back. One file per subject of the header; no logic here.

pub mod engine;
pub mod guard;
pub mod handle;
pub mod job;
pub mod learner;
pub mod model;
pub mod option;
pub mod pilot;
pub mod tensor;
pub mod trainer;
pub mod tuner;
pub mod version;
