//! What every other room may use: errors, element types, shapes, the counter-based generator and the special
//! functions of the laws. Knows nothing of graphs, memory or diffusion.

pub mod brownian;
#[cfg(test)]
pub mod clock;
pub mod draw;
pub mod dtype;
pub mod error;
pub mod philox;
#[cfg(target_arch = "x86_64")]
mod philox_avx512;
mod philox_simd;
pub mod shape;
pub mod special;
pub mod sync;
pub mod torch;

pub use dtype::DType;
pub use error::{Error, Result, Status};
pub use shape::{Desc, MAX_RANK, Shape};
