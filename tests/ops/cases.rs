//! Graphs with inputs for every op of the table: odd shapes, batch 1, broadcasting, larger sizes, edges. The gradient
//! tests and every backend walk the same list; what is right is said by `diffx::graph::reference`.
//!
//! Include with `#[path = "ops/cases.rs"] mod cases;`.
#![allow(dead_code)] // each test program uses its part

#[path = "cases/contract.rs"]
mod contract;
#[path = "cases/index.rs"]
mod index;
#[path = "cases/layout.rs"]
mod layout;
#[path = "cases/pointwise.rs"]
mod pointwise;
#[path = "cases/reduce.rs"]
mod reduce;

use diffx::base::{DType, Desc};
use diffx::graph::reference::{self, RefTensor};
use diffx::graph::{Attrs, Graph, NodeId, Op};

/// One graph, the values of its inputs in the order of `graph.inputs()`, and what to compare.
pub(crate) struct Case {
    pub name: String,
    pub op: Op,
    pub graph: Graph,
    pub inputs: Vec<RefTensor>,
    pub outputs: Vec<NodeId>,
    pub kind: Kind,
}

/// What a case is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Small and away from kinks: finite differences tell the gradient.
    Smooth,
    /// Values only: ties, edges, integers, large shapes.
    Values,
}

impl Case {
    /// The reference values of the outputs.
    pub(crate) fn expected(&self) -> Vec<RefTensor> {
        self.evaluate(&self.outputs, &self.inputs)
    }

    pub(crate) fn evaluate(&self, outputs: &[NodeId], inputs: &[RefTensor]) -> Vec<RefTensor> {
        reference::evaluate(&self.graph, outputs, &|node, _| {
            let index = node.attrs.int(diffx::graph::AttrKey::Index, 0) as usize;
            Ok(inputs[index].clone())
        })
        .unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }
}

/// Every case, in a graph whose float type is `float`. Values of inputs are exact in their element type.
pub(crate) fn all_cases(float: DType) -> Vec<Case> {
    let mut cases = Cases { float, list: Vec::new() };
    pointwise::add(&mut cases);
    reduce::add(&mut cases);
    contract::add(&mut cases);
    index::add(&mut cases);
    layout::add(&mut cases);
    cases.list
}

struct Cases {
    float: DType,
    list: Vec<Case>,
}

impl Cases {
    fn add(&mut self, op: Op, label: &str, kind: Kind, build: impl FnOnce(&mut Bench) -> NodeId) {
        let name = format!("{} {label}", op.name());
        let mut bench = Bench {
            graph: Graph::new(2, self.float),
            inputs: Vec::new(),
            random: Random(self.list.len() as u64 + 1),
            float: self.float,
        };
        let out = build(&mut bench);
        bench.graph.check().unwrap_or_else(|e| panic!("{name}: {e}"));
        self.list.push(Case {
            name,
            op,
            graph: bench.graph,
            inputs: bench.inputs,
            outputs: vec![out],
            kind,
        });
    }
}

/// A case while it is built.
struct Bench {
    graph: Graph,
    inputs: Vec<RefTensor>,
    random: Random,
    float: DType,
}

impl Bench {
    /// An input of the float type: distinct values spread over (lo, hi) in random order.
    fn spread(&mut self, dims: &[usize], lo: f64, hi: f64) -> NodeId {
        self.spread_as(self.float, dims, lo, hi)
    }

    fn spread_as(&mut self, dtype: DType, dims: &[usize], lo: f64, hi: f64) -> NodeId {
        let n: usize = dims.iter().product();
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.random.below(i + 1));
        }
        // off the middle of each cell, so that symmetric ranges do not hold 0
        let value = |i: usize| lo + (hi - lo) * (order[i] as f64 + 0.37) / n as f64;
        let data: Vec<f64> = (0..n).map(value).collect();
        self.values(dtype, dims, &data)
    }

    /// Integers from `lo` to `hi` inclusive.
    fn whole(&mut self, dtype: DType, dims: &[usize], lo: i64, hi: i64) -> NodeId {
        let n = dims.iter().product();
        let range = (hi - lo + 1) as usize;
        let data: Vec<f64> =
            (0..n).map(|_| (lo + self.random.below(range) as i64) as f64).collect();
        self.values(dtype, dims, &data)
    }

    fn values(&mut self, dtype: DType, dims: &[usize], data: &[f64]) -> NodeId {
        let desc = Desc::new(dtype, dims).expect("shape of a case");
        let data = data.iter().map(|v| reference::round(dtype, *v)).collect();
        self.inputs.push(RefTensor::new(dims, data).expect("shape of a case"));
        self.graph.input(&format!("x{}", self.inputs.len() - 1), desc)
    }

    fn emit(&mut self, op: Op, inputs: &[NodeId], attrs: Attrs) -> NodeId {
        self.graph.emit(op, inputs, attrs)
    }
}

/// SplitMix64: enough to shuffle.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}
