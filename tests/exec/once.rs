//! Runs a graph once in a session of its own: the shortest way from values to bytes.
#![allow(dead_code)] // each test program uses its part

use diffx::base::Result;
use diffx::cpu::Cpu;
use diffx::exec::{Backend, RunKey, SessionBuilder, WeightBinding};
use diffx::graph::reference::{RefTensor, element, encode};
use diffx::graph::{Graph, NodeId};
use diffx::mem::Budget;
use std::sync::Arc;

pub(crate) const KEY: RunKey = RunKey { seed: 1, step: 0, first_sample: 0 };

/// The bytes of the outputs. Every input is a buffer of its own, weights are inputs too.
pub(crate) fn run_bytes(
    cpu: Cpu,
    fuse: bool,
    graph: &Graph,
    inputs: &[Vec<u8>],
    outputs: &[NodeId],
) -> Result<Vec<Vec<u8>>> {
    run_on(Arc::new(cpu), fuse, graph, inputs, outputs)
}

/// The same on any device.
pub(crate) fn run_on(
    backend: Arc<dyn Backend>,
    fuse: bool,
    graph: &Graph,
    inputs: &[Vec<u8>],
    outputs: &[NodeId],
) -> Result<Vec<Vec<u8>>> {
    let mut session = SessionBuilder::new(backend);
    session.fuse(fuse);
    let ins: Vec<_> = graph.inputs().iter().map(|i| session.buffer(&i.name, i.desc)).collect();
    let outs: Vec<_> =
        outputs.iter().map(|o| (*o, session.buffer("out", graph.desc(*o)))).collect();
    let weights: Vec<_> = graph
        .weights()
        .iter()
        .map(|w| WeightBinding::Buffer(session.buffer(&w.name, w.desc)))
        .collect();
    let plan = session.plan(graph, &ins, &outs, &weights)?;
    let mut session = session.allocate(&Budget::unlimited())?;
    for (id, bytes) in ins.iter().zip(inputs) {
        session.write(*id, bytes)?;
    }
    session.replay(plan, KEY)?;
    outs.iter()
        .map(|(node, id)| {
            let mut bytes = vec![0; graph.desc(*node).bytes()];
            session.read(*id, &mut bytes)?;
            Ok(bytes)
        })
        .collect()
}

/// The values of the inputs in the graph's element types.
pub(crate) fn encoded(graph: &Graph, inputs: &[RefTensor]) -> Vec<Vec<u8>> {
    let pairs = graph.inputs().iter().zip(inputs);
    pairs
        .map(|(input, value)| {
            let mut bytes = Vec::new();
            value.data.iter().for_each(|v| encode(input.desc.dtype, *v, &mut bytes));
            bytes
        })
        .collect()
}

/// The values behind the bytes of a node.
pub(crate) fn decoded(graph: &Graph, node: NodeId, bytes: &[u8]) -> Vec<f64> {
    let dtype = graph.desc(node).dtype;
    bytes.chunks_exact(dtype.bytes()).map(|b| element(dtype, b)).collect()
}
