//! The compute graph: what plugins emit and backends run. Knows no backend and no diffusion.
//!
//! Path of a graph: emit (checks, shapes) -> gradients are rewritten in place while building -> `plan` fuses pointwise
//! chains, schedules and gives every value an address. Nothing here allocates or computes tensors.

pub mod attr;
pub mod builder;
pub mod fuse;
pub mod grad;
pub mod infer;
pub mod jvp;
pub mod node;
pub mod op;
pub mod place;
pub mod plan;
pub mod program;
pub mod reach;
pub mod reference;
mod scope;
mod shorthand;

pub use attr::Attrs;
pub use builder::Graph;
pub use node::{Constant, Input, Node, NodeId, Weight, WeightInit};
pub use op::{AttrKey, Class, OPS, Op, OpInfo};
pub use plan::Plan;
pub use program::Program;
