//! The CPU backend: runs planned graphs on the engine's own threads.
//!
//! Path of a step: [`call::Call`] says what to compute on which bytes, `kernel` computes it, [`pool::Pool`] spreads it
//! over threads. Nothing here allocates while a plan runs, and no result depends on the number of threads.

pub mod backend;
pub mod call;
pub mod kernel;
pub mod pointwise;
pub mod pool;

pub use backend::Cpu;
pub use call::{Call, In, Out};
pub use pointwise::Level;
pub use pool::Pool;
