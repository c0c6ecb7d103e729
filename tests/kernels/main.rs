//! CPU kernels of the ops that are not pointwise: against the definition in f64 on odd shapes, and bit for bit against
//! themselves over batch sizes and thread counts.

mod contract;
mod draw;
mod harness;
mod layout;
mod reduce;
mod threads;
