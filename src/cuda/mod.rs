//! The CUDA backend, or its stand-in when this build has none.

mod off;

pub use off::open;
