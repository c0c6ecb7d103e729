//! Nodes and the declarations they point to.

use super::attr::Attrs;
use super::op::Op;
use crate::base::{DType, Desc};

/// A node of one graph. 0 is the error node: whatever is built on it is the error node too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl NodeId {
    pub const ERROR: Self = Self(0);

    pub fn is_error(self) -> bool {
        self.0 == 0
    }

    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One application of an op. Inputs always have smaller ids: the node list is a topological order.
#[derive(Debug, Clone)]
pub struct Node {
    pub op: Op,
    pub inputs: Vec<NodeId>,
    pub attrs: Attrs,
    pub desc: Desc,
    /// Index into the graph's scope paths.
    pub scope: u32,
}

/// A tensor the caller binds for each run.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    pub name: String,
    pub desc: Desc,
    pub node: NodeId,
}

/// How a weight starts when it is trained from nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WeightInit {
    Zeros,
    Ones,
    Constant(f64),
    /// N(0, std^2).
    Normal(f64),
    /// U(-bound, bound).
    Uniform(f64),
}

/// A parameter, declared where it is used. The same name may be declared again with the same shape (shared weights).
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// Network slot the weight belongs to (`base`, `ema`, `h`, ...).
    pub slot: String,
    /// Name within the network, as in the file (`blocks.0.fc1.weight`).
    pub name: String,
    pub desc: Desc,
    pub init: WeightInit,
    /// Half of a low-rank adapter: the core's, not the model's. Where a slot has adapters, only they train.
    pub adapter: bool,
    pub node: NodeId,
}

/// A tensor given while building; bytes in the native order of `desc.dtype`.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    pub desc: Desc,
    pub bytes: Vec<u8>,
}

impl Node {
    pub fn dtype(&self) -> DType {
        self.desc.dtype
    }
}
