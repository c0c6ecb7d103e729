//! Which pointwise nodes run together.
//!
//! Every node gets a level: along an edge it never falls, and it rises by one at least unless both ends are pointwise
//! nodes of the same shape and the same kind of arithmetic. A group is a connected set of such nodes on one level, so
//! no path can leave a group and come back: groups and the remaining nodes form an acyclic graph, found in one pass
//! forward. A second pass, backward, moves a node down to its only user's level where that saves a store.
//!
//! Nothing is computed twice, and fusing never changes bits: a group computes what its nodes would one by one.

use super::op::{AttrKey, Class, Op};
use super::program::Kind;
use super::{Graph, NodeId};
use crate::base::DType;

/// Longest group; a longer one is cut, which costs a store and a load at the cut.
const MAX_GROUP: usize = 96;

/// A set of nodes that run as one step: a fused group, or one node.
#[derive(Debug, Clone)]
pub struct Unit {
    /// In graph order.
    pub nodes: Vec<NodeId>,
    /// The arithmetic of a pointwise program, `None` for any other node.
    pub kind: Option<Kind>,
}

/// How the live part of a graph falls into units.
#[derive(Debug)]
pub struct Grouping {
    pub units: Vec<Unit>,
    /// Index into `units` by node; `NONE` for sources, aliases, uniform values and dead nodes.
    pub unit_of: Vec<u32>,
}

pub const NONE: u32 = u32::MAX;

/// The node whose memory each node shares: itself, or through reshapes, stop_gradient and casts to the same type the
/// one below.
pub fn roots(graph: &Graph) -> Vec<NodeId> {
    let mut out = vec![NodeId::ERROR; graph.nodes().len()];
    for (i, node) in graph.nodes().iter().enumerate() {
        let below = node.inputs.first().copied();
        out[i] = match (node.op, below) {
            (Op::Reshape | Op::StopGradient, Some(x)) => out[x.index()],
            (Op::Cast, Some(x)) if graph.desc(x).dtype == node.desc.dtype => out[x.index()],
            _ => NodeId(i as u32),
        };
    }
    out
}

/// Whether a node is a value that was there before the run.
pub fn is_bound(op: Op) -> bool {
    matches!(op, Op::Input | Op::Weight | Op::Constant)
}

/// Groups the nodes marked `live`. `kept` are the roots whose value is asked for; `fuse` false gives one node per unit.
pub fn group(
    graph: &Graph,
    roots: &[NodeId],
    live: &[bool],
    kept: &[NodeId],
    fuse: bool,
) -> Grouping {
    let nodes = graph.nodes();
    let kinds = kinds(graph, roots, live);
    let edges = Edges { graph, roots, kinds: &kinds };
    let mut levels = forward_levels(&edges, live);
    if fuse {
        sink(&edges, live, kept, &mut levels);
    }
    let mut leader: Vec<u32> = (0..nodes.len() as u32).collect();
    if fuse {
        for i in live_nodes(live) {
            for r in edges.below(i) {
                if edges.pair(r, i) && levels[r.index()] == levels[i.index()] {
                    let (a, b) = (find(&mut leader, r.0), find(&mut leader, i.0));
                    leader[a.max(b) as usize] = a.min(b);
                }
            }
        }
    }
    let mut units: Vec<Unit> = Vec::new();
    let mut unit_of = vec![NONE; nodes.len()];
    let mut open = vec![NONE; nodes.len()]; // by leader: the unit that still takes members
    for i in live_nodes(live) {
        if roots[i.index()] != i || is_bound(nodes[i.index()].op) {
            continue;
        }
        let lead = find(&mut leader, i.0) as usize;
        let full = |u: u32| u == NONE || units[u as usize].nodes.len() >= MAX_GROUP;
        if full(open[lead]) {
            open[lead] = units.len() as u32;
            units.push(Unit { nodes: Vec::new(), kind: kinds[i.index()] });
        }
        unit_of[i.index()] = open[lead];
        units[open[lead] as usize].nodes.push(i);
    }
    Grouping { units, unit_of }
}

/// The arithmetic of each pointwise node.
fn kinds(graph: &Graph, roots: &[NodeId], live: &[bool]) -> Vec<Option<Kind>> {
    let mut out: Vec<Option<Kind>> = vec![None; graph.nodes().len()];
    for i in live_nodes(live) {
        let node = graph.node(i);
        let fusable =
            node.op.class() == Class::Pointwise || matches!(node.op, Op::BroadcastTo | Op::Full);
        if !fusable || roots[i.index()] != i {
            continue;
        }
        let mut types = node.inputs.iter().map(|x| graph.desc(*x).dtype);
        let kind = if node.op == Op::Cast {
            types.next_back().and_then(|from| Kind::of_cast(from, node.desc.dtype))
        } else {
            types.chain([node.desc.dtype]).find_map(Kind::of)
        };
        // bools alone fit any arithmetic: that of the node before, so that masks stay in the group they come from
        let before = || node.inputs.iter().find_map(|x| out[roots[x.index()].index()]);
        out[i.index()] = Some(kind.or_else(before).unwrap_or(Kind::F32));
    }
    out
}

struct Edges<'a> {
    graph: &'a Graph,
    roots: &'a [NodeId],
    kinds: &'a [Option<Kind>],
}

impl Edges<'_> {
    /// The nodes that must have run before `i`. Bound values are there, and a uniform value beside a pointwise node is
    /// written into its program.
    fn below(&self, i: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let pointwise = self.kinds[i.index()].is_some();
        let alias = self.roots[i.index()] != i;
        let inputs: &[NodeId] = if alias { &[] } else { &self.graph.node(i).inputs };
        inputs.iter().map(|x| self.roots[x.index()]).filter(move |r| {
            let op = self.graph.node(*r).op;
            !(is_bound(op) || pointwise && op == Op::Full)
        })
    }

    /// Whether the ends of an edge may share a group.
    fn pair(&self, a: NodeId, b: NodeId) -> bool {
        let (x, y) = (self.graph.node(a), self.graph.node(b));
        self.kinds[a.index()].is_some()
            && self.kinds[a.index()] == self.kinds[b.index()]
            && x.desc.shape == y.desc.shape
            && x.op != Op::Full
            && y.op != Op::Full
    }
}

fn forward_levels(edges: &Edges<'_>, live: &[bool]) -> Vec<u32> {
    let mut levels = vec![0; live.len()];
    for i in live_nodes(live) {
        levels[i.index()] = edges
            .below(i)
            .map(|r| levels[r.index()] + u32::from(!edges.pair(r, i)))
            .max()
            .unwrap_or(0);
    }
    levels
}

/// Moves a node to the level of its users when they all are on one level, would then hold it in a register, and it
/// reads at most one large operand itself.
fn sink(edges: &Edges<'_>, live: &[bool], kept: &[NodeId], levels: &mut [u32]) {
    let mut target = vec![None; live.len()]; // the one level of all users, Some(0) when there is no such level
    for r in kept {
        target[r.index()] = Some(0);
    }
    for i in (1..live.len() as u32)
        .map(NodeId)
        .filter(|i| live[i.index()])
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        if let Some(level) = target[i.index()] {
            let own = edges.graph.desc(i).shape.elements();
            let large = edges.graph.node(i).inputs.iter();
            let large = large.filter(|x| edges.graph.desc(**x).shape.elements() == own).count();
            if level > levels[i.index()] && large <= 1 {
                levels[i.index()] = level;
            }
        }
        for r in edges.below(i) {
            let level = if edges.pair(r, i) { levels[i.index()] } else { 0 };
            target[r.index()] = match target[r.index()] {
                Some(before) if before != level => Some(0),
                _ => Some(level),
            };
        }
    }
}

fn live_nodes(live: &[bool]) -> impl Iterator<Item = NodeId> + '_ {
    live.iter().enumerate().filter(|(_, l)| **l).map(|(i, _)| NodeId(i as u32))
}

/// The representative of a set, with path halving.
fn find(leader: &mut [u32], mut i: u32) -> u32 {
    while leader[i as usize] != i {
        let up = leader[leader[i as usize] as usize];
        leader[i as usize] = up;
        i = up;
    }
    i
}

/// The value of a `full` node as it stands in memory.
pub(super) fn full_value(graph: &Graph, id: NodeId) -> f64 {
    let node = graph.node(id);
    let v = node.attrs.float(AttrKey::Value, 0.0);
    match node.desc.dtype {
        DType::F64 => v,
        DType::F32 => f64::from(v as f32),
        DType::F16 => half::f16::from_f64(v).to_f64(),
        DType::BF16 => half::bf16::from_f64(v).to_f64(),
        DType::I32 => f64::from(v as i32),
        DType::I64 => v as i64 as f64,
        DType::U8 => f64::from(v as u8),
        DType::Bool => f64::from(u8::from(v != 0.0)),
    }
}
