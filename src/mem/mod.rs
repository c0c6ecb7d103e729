//! Host memory: capped, aligned blocks and the tensors made of them. Everything large is taken from a [`Budget`], so a
//! cap the host sets is obeyed and a failed allocation is a status, not an abort.

pub mod arena;
pub mod callback;
pub mod dlpack;
pub mod tensor;

pub use arena::{ALIGN, Block, Budget, reserved, zeros};
pub use tensor::Tensor;
