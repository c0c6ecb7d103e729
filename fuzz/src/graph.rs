//! A graph of wild ops, as a plugin could emit it: any op with any attributes over any nodes, a gradient at its end. A
//! node that is refused is left out and the rest goes on. Laws: nothing that was accepted fails below with more than a
//! sentence; memory of a run is the plan's and stays under the cap, that of the graph is so much a node; fused and
//! unfused runs give the same bits.

use super::bytes::Bytes;
use super::memory::bounded_by;
use diffx::base::{DType, Desc};
use diffx::cpu::Cpu;
use diffx::exec::{RunKey, SessionBuilder, WeightBinding};
use diffx::graph::attr::Value;
use diffx::graph::op::AttrKind;
use diffx::graph::reference::element;
use diffx::graph::{AttrKey, Attrs, Graph, NodeId, OPS, Op};
use diffx::mem::Budget;
use std::sync::Arc;

pub const WORDS: &[&str] = &["\u{1}\u{2}\u{3}"];

const CAP: u64 = 256 << 10;
/// A node of the graph or of its gradient, its part of a fused program, of the plans and of the copies kept here.
const A_NODE: usize = 2 << 10;
/// Thread-local scratch of kernels, the processor's threads.
const SCRATCH: usize = 4 << 20;
const MOST_OPS: usize = 16;
/// Sixteen ops and their gradients may be hundreds of thousands of nodes: here the graph ends sooner, so that there are
/// many runs a second, each within 12 MiB.
const MOST_NODES: usize = 1 << 12;
const BATCH: usize = 2;

pub fn run(data: &[u8]) {
    bounded_by(|| CAP as usize + SCRATCH + A_NODE * once(data));
}

/// Returns how many nodes there were, those of gradients too.
fn once(data: &[u8]) -> usize {
    let mut input = Bytes(data);
    let first = input.u8();
    let float = if first & 1 == 0 { DType::F32 } else { DType::F64 };
    let mut graph = Graph::new(BATCH, float).with_most_nodes(MOST_NODES);
    let mut nodes = Vec::new();
    for (name, dtype, dims) in [
        ("a", float, &[BATCH, 3][..]),
        ("b", float, &[BATCH, 4, 4]),
        ("c", float, &[1]),
        ("i", DType::I32, &[BATCH, 3]),
    ] {
        let Ok(desc) = Desc::new(dtype, dims) else { return 0 };
        nodes.push(graph.input(name, desc));
    }
    for _ in 0..MOST_OPS {
        if input.is_empty() {
            break;
        }
        let before = graph.clone();
        let node = emit(&mut graph, &mut input, &nodes);
        match graph.check() {
            Ok(()) => nodes.push(node),
            Err(e) => {
                assert!(!e.message.is_empty());
                graph = before;
            }
        }
    }
    let mut most = graph.nodes().len();
    let last = nodes[nodes.len() - 1];
    let mut outputs = vec![last];
    if first & 2 != 0 && graph.desc(last).dtype == float {
        let before = graph.clone();
        let ones = graph.full(1.0, float, graph.desc(last).dims());
        let found = graph.grad(last, ones, &nodes[..3]);
        most = graph.nodes().len(); // those of a gradient that is refused too
        match graph.check() {
            Ok(()) => outputs.extend(found),
            Err(_) => graph = before,
        }
    }
    let wild = first >> 2;
    let (fused, plain) =
        (bytes(&graph, &outputs, true, wild), bytes(&graph, &outputs, false, wild));
    if let (Some(fused), Some(plain)) = (fused, plain) {
        for ((a, b), node) in fused.iter().zip(&plain).zip(&outputs) {
            assert_eq!(a, b, "{} of {:?}", graph.desc(*node), graph.node(*node).op);
        }
    }
    most
}

fn emit(graph: &mut Graph, input: &mut Bytes<'_>, nodes: &[NodeId]) -> NodeId {
    let info = &OPS[input.below(OPS.len())];
    if matches!(info.op, Op::Input | Op::Weight | Op::Constant) {
        return graph.full(f64::from(input.u8()), graph.float(), &[]); // emitted by other calls
    }
    let (fewest, most) = info.arity;
    let n = match input.u8() {
        b @ 0..=199 => fewest + usize::from(b) % (most.min(fewest + 3) - fewest + 1),
        b => usize::from(b) % 5,
    };
    let inputs: Vec<NodeId> = (0..n)
        .map(|_| match input.u8() {
            255 => NodeId(9999),
            254 => NodeId(0),
            b => nodes[nodes.len() - 1 - usize::from(b) % nodes.len()],
        })
        .collect();
    let mut attrs = Attrs::NONE;
    for key in info.required {
        attrs.set(*key, value(*key, input));
    }
    let chosen = input.u8();
    for (i, key) in info.optional.iter().enumerate() {
        if chosen >> (i % 8) & 1 != 0 {
            attrs.set(*key, value(*key, input));
        }
    }
    if chosen == 255 {
        let key = AttrKey::ALL[input.below(AttrKey::ALL.len())];
        attrs.set(key, value(key, input));
    }
    graph.emit(info.op, &inputs, attrs)
}

fn number(input: &mut Bytes<'_>) -> i64 {
    match input.u8() {
        b @ 0..=191 => i64::from(b % 5),
        b @ 192..=223 => -i64::from(b % 4),
        b @ 224..=239 => i64::from(b),
        b @ 240..=247 => 1i64 << (b % 8 * 9),
        248 => i64::MAX,
        249 => i64::MIN,
        _ => input.u64() as i64,
    }
}

fn value(key: AttrKey, input: &mut Bytes<'_>) -> Value {
    match key.kind() {
        AttrKind::Int => Value::Int(number(input)),
        AttrKind::Float => Value::Float(match input.u8() {
            b @ 0..=199 => f64::from(b) / 16.0,
            200 => f64::NAN,
            201 => f64::INFINITY,
            202 => -1.0,
            203 => 1e300,
            _ => f64::from_bits(input.u64()),
        }),
        AttrKind::Ints => {
            let n = input.below(6);
            Value::Ints((0..n).map(|_| number(input)).collect())
        }
    }
}

/// The bytes of the outputs, every NaN the same, or nothing when the plan does not fit.
fn bytes(graph: &Graph, outputs: &[NodeId], fuse: bool, wild: u8) -> Option<Vec<Vec<u8>>> {
    thread_local!(static CPU: Arc<Cpu> = Arc::new(Cpu::new(1)));
    let mut session = SessionBuilder::new(CPU.with(|cpu| -> Arc<Cpu> { Arc::clone(cpu) }));
    session.fuse(fuse);
    let ins: Vec<_> = graph.inputs().iter().map(|i| session.buffer(&i.name, i.desc)).collect();
    let outs: Vec<_> =
        outputs.iter().map(|o| (*o, session.buffer("out", graph.desc(*o)))).collect();
    let none: [WeightBinding; 0] = [];
    let plan = session.plan(graph, &ins, &outs, &none).ok()?;
    let planned = session.bytes();
    let budget = Budget::new(CAP, None);
    let mut session = session.allocate(&budget).ok()?;
    assert!(budget.used() <= planned, "{} of {planned}", budget.used());
    for (id, i) in ins.iter().zip(graph.inputs()) {
        let values = (0..i.desc.shape.elements()).map(|k| k as f64 * 0.75 - 1.0);
        let mut bytes = Vec::new();
        for v in values {
            let v = match (wild, i.desc.dtype.is_float()) {
                (0..=31, _) => v,
                (32..=39, true) => v * 1e30,
                (40, true) => f64::NAN,
                (41, true) => f64::INFINITY,
                _ => v * f64::from(wild) * 1e7,
            };
            diffx::graph::reference::encode(i.desc.dtype, v, &mut bytes);
        }
        session.write(*id, &bytes).ok()?;
    }
    session.replay(plan, RunKey { seed: 1, step: 1, first_sample: 0 }).ok()?;
    assert!(budget.peak() <= CAP);
    let read = |(node, id): &(NodeId, _)| {
        let desc = graph.desc(*node);
        let mut bytes = vec![0; desc.bytes()];
        session.read(*id, &mut bytes).ok()?;
        for b in bytes.chunks_exact_mut(desc.dtype.bytes()) {
            if desc.dtype.is_float() && element(desc.dtype, b).is_nan() {
                b.fill(0xff);
            }
        }
        Some(bytes)
    };
    outs.iter().map(read).collect()
}

pub fn seeds() -> Vec<Vec<u8>> {
    // every op once, on the newest nodes, with small attributes
    (0..OPS.len()).map(|i| [&[i as u8 & 3, i as u8][..], &[1; 24]].concat()).collect()
}
