//! From a graph to a list of steps with addresses.
//!
//! Only what the outputs need is kept. Pointwise nodes become programs (`fuse`, `program`), every other node is one
//! kernel call; reshapes cost nothing. Each value gets an address in the work memory for exactly the steps it lives, so
//! the bytes are known before anything is allocated. An output is written where it belongs at once if nobody reads that
//! buffer any more, else copied there at the end.

use super::fuse::{self, Grouping, NONE};
use super::node::NodeId;
use super::op::{AttrKey, Op};
use super::place::{Span, place};
use super::program::{self, Program};
use super::{Attrs, Graph};
use crate::bail;
use crate::base::{Desc, Error, Result};
use crate::mem::reserved;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fmt::Write;

/// Where a value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// A buffer of the session, by the number the binding gave it.
    Buffer(u32),
    /// A fixed weight, by its index in the graph.
    Weight(u32),
    /// A constant of the plan.
    Constant(u32),
    /// An offset in the work memory.
    Work(usize),
}

/// What the graph's declarations stand for. Buffers are numbered by the caller.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    /// The buffer of each input.
    pub inputs: &'a [u32],
    /// The buffer that receives each output.
    pub outputs: &'a [(NodeId, u32)],
    /// The buffer of each weight, `None` for a fixed tensor.
    pub weights: &'a [Option<u32>],
}

/// What a planner must know of the device: bytes of scratch.
pub trait Scratch {
    fn kernel(&self, op: Op, attrs: &Attrs, inputs: &[Desc], out: Desc) -> usize;
    fn program(&self, program: &Program) -> usize;
}

/// An operand or result of a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slot {
    pub place: Place,
    pub desc: Desc,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum Action {
    Kernel {
        op: Op,
        attrs: Attrs,
        inputs: Vec<Slot>,
        output: Slot,
    },
    /// `staged[k]`: output k lies where an input lies, so its blocks go through a register.
    Program {
        program: Program,
        inputs: Vec<Place>,
        outputs: Vec<Place>,
        staged: Vec<bool>,
    },
    Copy {
        from: Place,
        to: Place,
        bytes: usize,
    },
}

/// One step of a plan.
#[derive(Debug, Clone)]
pub struct Step {
    pub action: Action,
    /// The last node the step computes.
    pub node: NodeId,
    /// What it computes, for people.
    pub name: String,
    /// Where in the model: the scope path.
    pub scope: String,
    /// Offset in the work memory, and length.
    pub scratch: (usize, usize),
}

/// A graph, ready to run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Bytes of work memory, scratch included.
    pub work_bytes: usize,
    /// The constants the steps read.
    pub constants: Vec<Vec<u8>>,
    /// The fixed weights the steps read, by index in the graph.
    pub weights: Vec<u32>,
}

/// Plans `graph`. `fuse` false runs every pointwise node alone (same bits, slower).
pub fn plan(
    graph: &Graph,
    binding: &Binding<'_>,
    scratch: &dyn Scratch,
    fuse: bool,
) -> Result<Plan> {
    graph.check()?;
    for (i, (node, buffer)) in binding.outputs.iter().enumerate() {
        if !graph.is_valid(*node) {
            bail!(Invalid, "output {i}: node {} does not exist in this graph", node.0);
        }
        if binding.outputs[..i].iter().any(|(_, b)| b == buffer) {
            bail!(Invalid, "output {i}: its buffer receives another output already");
        }
    }
    let roots = fuse::roots(graph);
    let live = live(graph, binding);
    let kept: Vec<NodeId> = binding.outputs.iter().map(|(n, _)| roots[n.index()]).collect();
    let grouping = fuse::group(graph, &roots, &live, &kept, fuse);
    let order = order(graph, &roots, &grouping);
    Planner { graph, binding, roots: &roots, kept: &kept, grouping: &grouping }
        .plan(&order, scratch)
}

/// The nodes some output depends on.
fn live(graph: &Graph, binding: &Binding<'_>) -> Vec<bool> {
    let mut live = vec![false; graph.nodes().len()];
    for (node, _) in binding.outputs {
        live[node.index()] = true;
    }
    for i in (1..live.len()).rev() {
        if live[i] {
            graph.nodes()[i].inputs.iter().for_each(|x| live[x.index()] = true);
        }
    }
    live
}

/// Units in an order that respects the edges and otherwise follows the graph.
fn order(graph: &Graph, roots: &[NodeId], grouping: &Grouping) -> Vec<u32> {
    let n = grouping.units.len();
    let mut after: Vec<Vec<u32>> = vec![Vec::new(); n];
    let mut waits = vec![0u32; n];
    for (u, unit) in grouping.units.iter().enumerate() {
        let inputs = unit.nodes.iter().flat_map(|m| &graph.node(*m).inputs);
        let below = inputs.map(|x| grouping.unit_of[roots[x.index()].index()]);
        for v in below.filter(|v| *v != NONE && *v != u as u32) {
            after[v as usize].push(u as u32);
            waits[u] += 1;
        }
    }
    let key = |u: u32| {
        let last = grouping.units[u as usize].nodes.last().map_or(0, |n| n.0);
        (std::cmp::Reverse(last), u)
    };
    let mut ready: BinaryHeap<_> =
        (0..n as u32).filter(|u| waits[*u as usize] == 0).map(key).collect();
    let mut out = Vec::with_capacity(n);
    while let Some((_, u)) = ready.pop() {
        out.push(u);
        for v in &after[u as usize] {
            waits[*v as usize] -= 1;
            if waits[*v as usize] == 0 {
                ready.push(key(*v));
            }
        }
    }
    out
}

struct Planner<'a> {
    graph: &'a Graph,
    binding: &'a Binding<'a>,
    roots: &'a [NodeId],
    kept: &'a [NodeId],
    grouping: &'a Grouping,
}

/// A step before it has addresses: the nodes it reads, as (root, shape seen by the step), and the nodes it writes.
struct Draft {
    reads: Vec<(NodeId, Desc)>,
    writes: Vec<NodeId>,
    node: NodeId,
    program: Option<Program>,
    scratch: usize,
}

impl Planner<'_> {
    fn plan(&self, order: &[u32], scratch: &dyn Scratch) -> Result<Plan> {
        let drafts = self.drafts(order, scratch);
        // lifetimes
        let mut life: HashMap<NodeId, (usize, usize)> = HashMap::new();
        for (s, draft) in drafts.iter().enumerate() {
            life.extend(draft.writes.iter().map(|w| (*w, (s, s))));
            for (r, _) in &draft.reads {
                if let Some((_, last)) = life.get_mut(r) {
                    *last = s;
                }
            }
        }
        // outputs: written in place, or copied at the end
        let last_reads = self.last_reads(&drafts);
        let mut direct: HashMap<NodeId, u32> = HashMap::new();
        let mut copies: Vec<(NodeId, u32)> = Vec::new();
        for (root, (_, buffer)) in self.kept.iter().zip(self.binding.outputs) {
            let safe = life.get(root).is_some_and(|&(s, _)| {
                self.is_safe(*root, *buffer, s, &drafts[s], last_reads.get(buffer).copied())
            });
            if safe && !direct.contains_key(root) {
                direct.insert(*root, *buffer);
            } else if self.buffer_of(*root) != Some(*buffer) {
                copies.push((*root, *buffer));
            }
        }
        let end = drafts.len();
        // a copied buffer that is itself overwritten goes through the work memory
        let targets: HashSet<u32> = copies.iter().map(|(_, to)| *to).collect();
        let written = |b: Option<u32>| b.is_some_and(|b| targets.contains(&b));
        let bounced: Vec<bool> = copies.iter().map(|(r, _)| written(self.buffer_of(*r))).collect();
        let copied: HashSet<NodeId> = copies.iter().map(|(r, _)| *r).collect();
        // addresses
        let mut spans = Vec::new();
        let mut span_of: HashMap<NodeId, usize> = HashMap::new();
        for (s, draft) in drafts.iter().enumerate() {
            spans.push(Span { bytes: draft.scratch, first: s, last: s });
            for w in draft.writes.iter().filter(|w| !direct.contains_key(w)) {
                let last = if copied.contains(w) { end } else { life.get(w).map_or(s, |l| l.1) };
                span_of.insert(*w, spans.len());
                spans.push(Span { bytes: self.graph.desc(*w).bytes(), first: s, last });
            }
        }
        let bounce_at = spans.len();
        for (r, _) in &copies {
            spans.push(Span { bytes: self.graph.desc(*r).bytes(), first: end, last: end });
        }
        for (k, b) in bounced.iter().enumerate() {
            if !b {
                spans[bounce_at + k].bytes = 0;
            }
        }
        let (offsets, work_bytes) = place(&spans)?;
        // steps
        let mut constants = Constants::default();
        let mut weights = Weights::default();
        let mut place_of = |root: NodeId| -> Place {
            if let Some(b) = direct.get(&root) {
                return Place::Buffer(*b);
            }
            if let Some(span) = span_of.get(&root) {
                return Place::Work(offsets[*span]);
            }
            self.bound(root, &mut constants, &mut weights)
        };
        let mut steps = Vec::with_capacity(drafts.len() + copies.len());
        let mut scratch_span = 0;
        for draft in drafts {
            let inputs: Vec<Slot> = draft
                .reads
                .iter()
                .map(|(r, desc)| Slot { place: place_of(*r), desc: *desc })
                .collect();
            let outputs: Vec<Place> = draft.writes.iter().map(|w| place_of(*w)).collect();
            let at = offsets[scratch_span];
            scratch_span += 1 + draft.writes.iter().filter(|w| !direct.contains_key(w)).count();
            let node = self.graph.node(draft.node);
            let name = match &draft.program {
                Some(p) if p.code.len() > 1 => {
                    format!("{} and {} more", node.op.name(), p.code.len() - 1)
                }
                _ => node.op.name().to_owned(),
            };
            let action = match draft.program {
                Some(program) => {
                    let staged =
                        outputs.iter().map(|o| inputs.iter().any(|i| i.place == *o)).collect();
                    let inputs = inputs.iter().map(|i| i.place).collect();
                    Action::Program { program, inputs, outputs, staged }
                }
                None => {
                    let output = Slot { place: outputs[0], desc: node.desc }; // a kernel writes one node
                    Action::Kernel { op: node.op, attrs: node.attrs.clone(), inputs, output }
                }
            };
            let scope = self.graph.scope_path(draft.node).to_owned();
            let scratch = (at, draft.scratch);
            steps.push(Step { action, node: draft.node, name, scope, scratch });
        }
        let copy = |root: NodeId, from: Place, to: Place| Step {
            action: Action::Copy { from, to, bytes: self.graph.desc(root).bytes() },
            node: root,
            name: "store".into(),
            scope: String::new(),
            scratch: (0, 0),
        };
        for (k, (root, _)) in copies.iter().enumerate().filter(|(k, _)| bounced[*k]) {
            steps.push(copy(*root, place_of(*root), Place::Work(offsets[bounce_at + k])));
        }
        for (k, (root, buffer)) in copies.iter().enumerate() {
            let from =
                if bounced[k] { Place::Work(offsets[bounce_at + k]) } else { place_of(*root) };
            steps.push(copy(*root, from, Place::Buffer(*buffer)));
        }
        if let Some(e) = constants.refused {
            return Err(e);
        }
        Ok(Plan { steps, work_bytes, constants: constants.bytes, weights: weights.list })
    }

    /// Units as steps, programs written.
    fn drafts(&self, order: &[u32], scratch: &dyn Scratch) -> Vec<Draft> {
        let unit_of = &self.grouping.unit_of;
        // which values leave their unit
        let mut stored = vec![false; self.graph.nodes().len()];
        self.kept.iter().for_each(|r| stored[r.index()] = true);
        for (u, unit) in self.grouping.units.iter().enumerate() {
            for x in unit.nodes.iter().flat_map(|m| &self.graph.node(*m).inputs) {
                let root = self.roots[x.index()];
                let immediate = unit.kind.is_some() && self.graph.node(root).op == Op::Full;
                if unit_of[root.index()] != u as u32 && !immediate {
                    stored[root.index()] = true;
                }
            }
        }
        let mut out = Vec::with_capacity(order.len());
        for &u in order {
            let unit = &self.grouping.units[u as usize];
            let Some(&node) = unit.nodes.last() else { continue };
            if let Some(kind) = unit.kind {
                if !unit.nodes.iter().any(|m| stored[m.index()]) {
                    continue; // uniform values that live in the programs of their users
                }
                let lowered = program::lower(self.graph, self.roots, &unit.nodes, kind, |m| {
                    stored[m.index()]
                });
                let reads = lowered.inputs.iter().map(|r| (*r, self.graph.desc(*r))).collect();
                let bytes = scratch.program(&lowered.program);
                let (writes, program) = (lowered.outputs, Some(lowered.program));
                out.push(Draft { reads, writes, node, program, scratch: bytes });
            } else {
                let n = self.graph.node(node);
                let reads: Vec<(NodeId, Desc)> =
                    n.inputs.iter().map(|x| (self.roots[x.index()], self.graph.desc(*x))).collect();
                let descs: Vec<Desc> = reads.iter().map(|r| r.1).collect();
                let bytes = scratch.kernel(n.op, &n.attrs, &descs, n.desc);
                out.push(Draft { reads, writes: vec![node], node, program: None, scratch: bytes });
            }
        }
        out
    }

    /// The buffer a source is bound to.
    fn buffer_of(&self, root: NodeId) -> Option<u32> {
        let node = self.graph.node(root);
        let index = node.attrs.int(AttrKey::Index, 0) as usize;
        match node.op {
            Op::Input => self.binding.inputs.get(index).copied(),
            Op::Weight => self.binding.weights.get(index).copied().flatten(),
            _ => None,
        }
    }

    /// The last step that reads each buffer; a buffer that is an output as it was is read at the end.
    fn last_reads(&self, drafts: &[Draft]) -> HashMap<u32, usize> {
        let mut out = HashMap::new();
        for (s, draft) in drafts.iter().enumerate() {
            out.extend(draft.reads.iter().filter_map(|(r, _)| Some((self.buffer_of(*r)?, s))));
        }
        out.extend(self.kept.iter().filter_map(|r| Some((self.buffer_of(*r)?, drafts.len()))));
        out
    }

    /// Whether step `s` may compute `root` straight into `buffer`: whatever reads the buffer has run before, or reads it
    /// in the same program element by element.
    fn is_safe(
        &self,
        root: NodeId,
        buffer: u32,
        s: usize,
        draft: &Draft,
        last: Option<usize>,
    ) -> bool {
        match last {
            None => return true,
            Some(last) if last < s => return true,
            Some(last) if last > s => return false,
            Some(_) => {}
        }
        let (Some(program), Some(k)) =
            (&draft.program, draft.writes.iter().position(|w| *w == root))
        else {
            return false;
        };
        let mut here = draft.reads.iter().enumerate();
        here.all(|(j, (r, _))| self.buffer_of(*r) != Some(buffer) || program.may_overwrite(j, k))
    }

    /// The place of a value that is there before the run.
    fn bound<'g>(
        &'g self,
        root: NodeId,
        constants: &mut Constants<'g>,
        weights: &mut Weights,
    ) -> Place {
        let index = self.graph.node(root).attrs.int(AttrKey::Index, 0) as u32;
        if let Some(buffer) = self.buffer_of(root) {
            return Place::Buffer(buffer);
        }
        if self.graph.node(root).op == Op::Constant {
            return Place::Constant(constants.add(&self.graph.constants()[index as usize].bytes));
        }
        if weights.seen.insert(index) {
            weights.list.push(index);
        }
        Place::Weight(index)
    }
}

/// Constants of a plan, each once.
#[derive(Default)]
struct Constants<'g> {
    bytes: Vec<Vec<u8>>,
    index: HashMap<&'g [u8], u32>,
    /// Why one could not be kept.
    refused: Option<Error>,
}

impl<'g> Constants<'g> {
    fn add(&mut self, bytes: &'g [u8]) -> u32 {
        if let Some(i) = self.index.get(bytes) {
            return *i;
        }
        let i = self.bytes.len() as u32;
        match reserved(bytes.len(), "a constant of a plan") {
            Ok(mut own) => {
                own.extend_from_slice(bytes);
                self.bytes.push(own);
            }
            Err(e) => self.refused = Some(e),
        }
        self.index.insert(bytes, i);
        i
    }
}

/// Weights that a plan reads, each once.
#[derive(Default)]
struct Weights {
    list: Vec<u32>,
    seen: HashSet<u32>,
}

impl Plan {
    /// A table of the steps for people.
    pub fn describe(&self) -> String {
        let mut out =
            format!("{} steps, {} bytes of work memory\n", self.steps.len(), self.work_bytes);
        for (i, step) in self.steps.iter().enumerate() {
            let _ = write!(out, "{i:5} {} {}: ", step.scope, step.name);
            let _ = match &step.action {
                Action::Kernel { inputs, output, .. } => inputs
                    .iter()
                    .try_for_each(|s| write!(out, "{} {} ", s.desc, s.place))
                    .and_then(|()| writeln!(out, "-> {} {}", output.desc, output.place)),
                Action::Program { program, inputs, outputs, .. } => writeln!(
                    out,
                    "{:?} x {}, {} instructions, {} registers, {} -> {}",
                    program.kind,
                    program.elements,
                    program.code.len(),
                    program.registers,
                    list(inputs),
                    list(outputs),
                ),
                Action::Copy { from, to, bytes } => writeln!(out, "{bytes} bytes {from} -> {to}"),
            };
        }
        out
    }
}

fn list(places: &[Place]) -> String {
    places.iter().map(|p| p.to_string()).collect::<Vec<_>>().join(" ")
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Buffer(i) => write!(f, "buffer#{i}"),
            Self::Weight(i) => write!(f, "weight#{i}"),
            Self::Constant(i) => write!(f, "constant#{i}"),
            Self::Work(at) => write!(f, "work+{at}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::DType;

    struct NoScratch;

    impl Scratch for NoScratch {
        fn kernel(&self, _: Op, _: &Attrs, _: &[Desc], _: Desc) -> usize {
            0
        }

        fn program(&self, _: &Program) -> usize {
            0
        }
    }

    /// Plans with input i in buffer i and the outputs in buffers from 100.
    fn planned(graph: &Graph, outputs: &[NodeId]) -> Plan {
        let inputs: Vec<u32> = (0..graph.inputs().len() as u32).collect();
        let outputs: Vec<_> = outputs.iter().copied().zip(100..).collect();
        let binding = Binding { inputs: &inputs, outputs: &outputs, weights: &[] };
        plan(graph, &binding, &NoScratch, true).unwrap()
    }

    fn square(graph: &mut Graph, name: &str) -> NodeId {
        graph.input(name, Desc::new(DType::F32, &[8, 8]).unwrap())
    }

    fn product(graph: &mut Graph, a: NodeId, b: NodeId) -> NodeId {
        graph.emit(Op::MatMul, &[a, b], Attrs::NONE)
    }

    #[test]
    fn a_chain_is_one_step_without_work_memory() {
        let mut g = Graph::new(1, DType::F32);
        let (x, z) = (square(&mut g, "x"), square(&mut g, "z"));
        let half = g.scalar(0.5);
        let a = g.binary(Op::Mul, x, half);
        let mask = g.binary(Op::Lt, a, z);
        let b = g.emit(Op::Where, &[mask, a, z], Attrs::NONE);
        let unused = g.unary(Op::Exp, b);
        let wide = Attrs::NONE.with_int(AttrKey::DType, i64::from(DType::F32.code()));
        let c = g.emit(Op::Cast, &[b], wide);
        let plan = planned(&g, &[c]);
        assert!(!unused.is_error());
        assert_eq!((plan.steps.len(), plan.work_bytes), (1, 0), "{}", plan.describe());
    }

    #[test]
    fn a_group_never_spans_a_kernel_between_its_nodes() {
        // a + (a w): the sum needs the product, which needs a
        let mut g = Graph::new(1, DType::F32);
        let (x, w) = (square(&mut g, "x"), square(&mut g, "w"));
        let a = g.unary(Op::Exp, x);
        let m = product(&mut g, a, w);
        let sum = g.binary(Op::Add, a, m);
        let plan = planned(&g, &[sum]);
        assert_eq!(plan.steps.len(), 3, "{}", plan.describe());
    }

    #[test]
    fn a_branch_waits_for_its_only_user() {
        // silu(x) (y w): the activation runs in the program of the product's user, not before
        let mut g = Graph::new(1, DType::F32);
        let (x, y, w) = (square(&mut g, "x"), square(&mut g, "y"), square(&mut g, "w"));
        let gate = g.unary(Op::Silu, x);
        let gate = g.unary(Op::Neg, gate);
        let up = product(&mut g, y, w);
        let out = g.binary(Op::Mul, gate, up);
        let plan = planned(&g, &[out]);
        assert_eq!((plan.steps.len(), plan.work_bytes), (2, 256), "{}", plan.describe());
    }

    #[test]
    fn work_memory_is_that_of_the_widest_moment() {
        let mut g = Graph::new(1, DType::F32);
        let (mut x, w) = (square(&mut g, "x"), square(&mut g, "w"));
        for _ in 0..50 {
            x = product(&mut g, x, w);
            x = g.unary(Op::Tanh, x);
        }
        let plan = planned(&g, &[x]);
        assert_eq!((plan.steps.len(), plan.work_bytes), (100, 512));
    }

    #[test]
    fn constants_are_kept_once_and_only_if_read() {
        let mut g = Graph::new(1, DType::F32);
        let x = square(&mut g, "x");
        let row = Desc::new(DType::F32, &[8]).unwrap();
        let (a, b) = (g.constant(row, &[1; 32]), g.constant(row, &[1; 32]));
        g.constant(row, &[2; 32]);
        let y = g.binary(Op::Add, x, a);
        let z = g.binary(Op::Mul, y, b);
        assert_eq!(planned(&g, &[z]).constants, [vec![1; 32]]);
    }

    #[test]
    fn long_groups_are_cut_and_registers_are_few() {
        let mut g = Graph::new(1, DType::F32);
        let mut x = square(&mut g, "x");
        for _ in 0..300 {
            let y = g.unary(Op::Tanh, x);
            x = g.binary(Op::Add, x, y);
        }
        let plan = planned(&g, &[x]);
        assert_eq!(plan.steps.len(), 7);
        for step in &plan.steps {
            let Action::Program { program, .. } = &step.action else { panic!("{}", step.name) };
            assert!(program.registers <= 4, "{}", program.registers);
            for instr in &program.code {
                assert!(!instr.args.contains(&program::Arg::Register(instr.register)));
            }
        }
    }

    #[test]
    fn planning_a_large_graph_is_quick() {
        // a residual chain with everything kept for a pass back: long lives, as in training
        let mut g = Graph::new(1, DType::F32);
        let (mut x, w) = (square(&mut g, "x"), square(&mut g, "w"));
        let mut kept = Vec::new();
        for _ in 0..3000 {
            let m = product(&mut g, x, w);
            let a = g.unary(Op::Gelu, m);
            x = g.binary(Op::Add, x, a);
            kept.push(x);
        }
        for k in kept.into_iter().rev() {
            let m = product(&mut g, x, w);
            x = g.binary(Op::Mul, m, k);
        }
        let start = std::time::Instant::now();
        let plan = planned(&g, &[x]);
        assert_eq!(plan.steps.len(), 12_000);
        assert!(plan.work_bytes < 3010 * 256, "{}", plan.work_bytes);
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }
}
