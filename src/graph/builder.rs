//! The graph under construction: emit with sticky errors and scope paths, declare inputs, weights and constants.
//!
//! A bad call returns [`NodeId::ERROR`], every op on it returns it again, and the first failure (op, shapes, scope
//! path) is what [`Graph::check`] reports: a plugin need not test each call.

use super::attr::{Attrs, Value};
use super::node::{Constant, Input, Node, NodeId, Weight, WeightInit};
use super::op::{AttrKey, Class, Op};
use super::scope::Scopes;
use super::{grad, infer, jvp};
use crate::base::{DType, Desc, Error, Result};
use crate::mem::reserved;
use crate::{bail, fail};
use std::collections::HashMap;

/// Most nodes in one graph: 2^20, several times the training of the largest network we know of; with its plans it is some
/// 1.2 GB.
pub const MAX_NODES: usize = 1 << 20;

/// Most weights of one graph, and the bytes of their names together.
pub const MAX_WEIGHTS: usize = 1 << 20;
const MAX_WEIGHT_NAMES: usize = 64 << 20;

/// Most bytes of all constants of one graph.
pub const MAX_CONSTANTS: usize = 256 << 20;

/// Low-rank adapters for the weights of one network slot: a matmul by a matching rank-2 weight gains `(x A) B * scale`.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    pub rank: usize,
    pub scale: f64,
    /// Weight names that gain an adapter contain one of these; empty = every matmul weight.
    pub targets: Vec<String>,
}

/// A graph being built, or built.
#[derive(Debug, Clone)]
pub struct Graph {
    nodes: Vec<Node>,
    inputs: Vec<Input>,
    weights: Vec<Weight>,
    constants: Vec<Constant>,
    weight_index: HashMap<(String, String), usize>,
    /// Bytes of the names of weights, and of constants.
    name_bytes: usize,
    constant_bytes: usize,
    most_nodes: usize,
    scopes: Scopes,
    error: Option<Error>,
    ordinals: [u32; 256],
    float: DType,
    batch: usize,
    slot: String,
    lora: Option<Lora>,
}

impl Graph {
    /// `batch` rows (the length of axis 0 of random nodes); `float` is the type of state and coefficients, f32 or f64.
    pub fn new(batch: usize, float: DType) -> Self {
        let error = Node {
            op: Op::Full,
            inputs: Vec::new(),
            attrs: Attrs::NONE,
            desc: Desc::scalar(float),
            scope: 0,
        };
        Self {
            nodes: vec![error],
            inputs: Vec::new(),
            weights: Vec::new(),
            constants: Vec::new(),
            weight_index: HashMap::new(),
            name_bytes: 0,
            constant_bytes: 0,
            most_nodes: MAX_NODES,
            scopes: Scopes::new(),
            error: None,
            ordinals: [0; 256],
            float,
            batch,
            slot: "base".into(),
            lora: None,
        }
    }

    /// The same with another end than `MAX_NODES`.
    pub fn with_most_nodes(self, most_nodes: usize) -> Self {
        Self { most_nodes: most_nodes.min(MAX_NODES), ..self }
    }

    // ---- reading

    /// All nodes; index 0 is the error node.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    pub fn desc(&self, id: NodeId) -> Desc {
        self.nodes[id.index()].desc
    }

    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    pub fn weights(&self) -> &[Weight] {
        &self.weights
    }

    pub fn constants(&self) -> &[Constant] {
        &self.constants
    }

    pub fn float(&self) -> DType {
        self.float
    }

    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Whether `id` is a node of this graph that is not the error node.
    pub fn is_valid(&self, id: NodeId) -> bool {
        !id.is_error() && id.index() < self.nodes.len()
    }

    pub fn scope_path(&self, id: NodeId) -> &str {
        self.scopes.path(self.nodes[id.index()].scope)
    }

    // ---- errors

    /// The first failure, if there was one.
    pub fn check(&self) -> Result<()> {
        self.error.clone().map_or(Ok(()), Err)
    }

    pub fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    /// Records the first failure with the scope path before it, and returns the error node.
    pub fn fail(&mut self, error: Error) -> NodeId {
        if self.error.is_none() {
            let path = self.scopes.path(self.scopes.current());
            self.error = Some(if path.is_empty() { error } else { error.within(path) });
        }
        NodeId::ERROR
    }

    // ---- scopes and slots

    pub fn push_scope(&mut self, name: &str) {
        if let Err(e) = self.scopes.push(name) {
            self.fail(e);
        }
    }

    /// A pop without a push is a sticky error.
    pub fn pop_scope(&mut self) {
        if !self.scopes.pop() {
            self.fail(fail!(Plugin, "pop of a scope that was never pushed"));
        }
    }

    /// How deep the scope stack is; a build call must leave it as it found it.
    pub fn scope_depth(&self) -> usize {
        self.scopes.depth()
    }

    pub fn truncate_scopes(&mut self, depth: usize) {
        self.scopes.truncate(depth);
    }

    /// Weights declared from now on belong to `slot`, with `lora` on their matmuls. Returns what was set before.
    pub fn enter_slot(&mut self, slot: &str, lora: Option<Lora>) -> (String, Option<Lora>) {
        (
            std::mem::replace(&mut self.slot, slot.to_owned()),
            std::mem::replace(&mut self.lora, lora),
        )
    }

    pub fn leave_slot(&mut self, before: (String, Option<Lora>)) {
        (self.slot, self.lora) = before;
    }

    // ---- sources

    /// Declares a tensor the caller binds for each run.
    pub fn input(&mut self, name: &str, desc: Desc) -> NodeId {
        let attrs = Attrs::NONE.with_int(AttrKey::Index, self.inputs.len() as i64);
        let node = self.append(Op::Input, Vec::new(), attrs, desc);
        if node.is_error() {
            return node;
        }
        self.inputs.push(Input { name: name.to_owned(), desc, node });
        node
    }

    /// Makes inputs `prefix0`, `prefix1`, .. of the standard normals, in the order in which they were asked for: somebody
    /// else draws. An error names another law that is drawn.
    pub fn give_normals(&mut self, prefix: &str) -> Result<()> {
        let mut given = 0;
        for i in 0..self.nodes.len() {
            let node = &mut self.nodes[i];
            if node.op.class() != Class::Random {
                continue;
            }
            if node.op != Op::Normal {
                bail!(Unsupported, "{}: drawn here, and only normals can be given", node.op.name());
            }
            node.op = Op::Input;
            node.attrs = Attrs::NONE.with_int(AttrKey::Index, self.inputs.len() as i64);
            let (name, desc) = (format!("{prefix}{given}"), node.desc);
            self.inputs.push(Input { name, desc, node: NodeId(i as u32) });
            given += 1;
        }
        Ok(())
    }

    /// Declares a parameter of the current slot. The same name again gives the same node if the shapes agree.
    pub fn weight(&mut self, name: &str, desc: Desc, init: WeightInit) -> NodeId {
        if self.has_failed() {
            return NodeId::ERROR;
        }
        let key = (self.slot.clone(), name.to_owned());
        if let Some(&i) = self.weight_index.get(&key) {
            if self.weights[i].desc == desc {
                return self.weights[i].node;
            }
            let before = self.weights[i].desc;
            return self
                .fail(fail!(Plugin, "weight {name}: declared as {before} and again as {desc}"));
        }
        let index = self.weights.len();
        self.name_bytes += key.0.len() + name.len();
        if index >= MAX_WEIGHTS || self.name_bytes > MAX_WEIGHT_NAMES {
            return self.fail(fail!(
                NoMemory,
                "weight {name} is one too many: a graph may have {MAX_WEIGHTS}, with names of {MAX_WEIGHT_NAMES} \
                 bytes together"
            ));
        }
        let attrs = Attrs::NONE.with_int(AttrKey::Index, index as i64);
        let node = self.append(Op::Weight, Vec::new(), attrs, desc);
        if node.is_error() {
            return node;
        }
        let (slot, name) = (key.0.clone(), name.to_owned());
        self.weights.push(Weight { slot, name, desc, init, adapter: false, node });
        self.weight_index.insert(key, index);
        node
    }

    /// A tensor known now. `bytes` must be exactly as long as `desc` says.
    pub fn constant(&mut self, desc: Desc, bytes: &[u8]) -> NodeId {
        if bytes.len() != desc.bytes() {
            return self.fail(fail!(
                Invalid,
                "constant {desc}: want {} bytes, got {}",
                desc.bytes(),
                bytes.len()
            ));
        }
        if self.has_failed() {
            return NodeId::ERROR;
        }
        self.constant_bytes = self.constant_bytes.saturating_add(bytes.len());
        if self.constant_bytes > MAX_CONSTANTS {
            return self.fail(fail!(
                NoMemory,
                "constant {desc} is too much: those of a graph may have {MAX_CONSTANTS} bytes, make it a weight"
            ));
        }
        let mut own = match reserved(bytes.len(), "a constant") {
            Ok(own) => own,
            Err(e) => return self.fail(e),
        };
        own.extend_from_slice(bytes);
        let attrs = Attrs::NONE.with_int(AttrKey::Index, self.constants.len() as i64);
        let node = self.append(Op::Constant, Vec::new(), attrs, desc);
        if !node.is_error() {
            self.constants.push(Constant { desc, bytes: own });
        }
        node
    }

    /// A scalar of the graph's float type. As an operand beside another float type it takes that type.
    pub fn scalar(&mut self, value: f64) -> NodeId {
        self.full(value, self.float, &[])
    }

    pub fn full(&mut self, value: f64, dtype: DType, dims: &[usize]) -> NodeId {
        let attrs = Attrs::NONE
            .with_float(AttrKey::Value, value)
            .with_dims(AttrKey::Shape, dims)
            .with_int(AttrKey::DType, i64::from(dtype.code()));
        self.emit(Op::Full, &[], attrs)
    }

    // ---- ops

    /// Applies an op. Checks arity, attributes, types and shapes; see the op table for meanings.
    pub fn emit(&mut self, op: Op, inputs: &[NodeId], attrs: Attrs) -> NodeId {
        if self.has_failed() {
            return NodeId::ERROR;
        }
        match self.try_emit(op, inputs, attrs) {
            Ok(id) => id,
            Err(e) => self.fail(e),
        }
    }

    pub fn unary(&mut self, op: Op, x: NodeId) -> NodeId {
        self.emit(op, &[x], Attrs::NONE)
    }

    pub fn binary(&mut self, op: Op, a: NodeId, b: NodeId) -> NodeId {
        self.emit(op, &[a, b], Attrs::NONE)
    }

    /// Gradients of <y, cotangent> by each of `xs`, as nodes of this graph (zeros where y does not depend on x).
    pub fn grad(&mut self, y: NodeId, cotangent: NodeId, xs: &[NodeId]) -> Vec<NodeId> {
        if !self.all_valid(Op::Grad, &[&[y, cotangent][..], xs].concat()) {
            return vec![NodeId::ERROR; xs.len()];
        }
        // adapters belong to the matmuls of the network, not to those of its gradient
        let lora = self.lora.take();
        let found = grad::gradient(self, y, cotangent, xs);
        self.lora = lora;
        match found {
            Ok(out) if !self.has_failed() => out,
            Ok(_) => vec![NodeId::ERROR; xs.len()],
            Err(e) => {
                self.fail(e);
                vec![NodeId::ERROR; xs.len()]
            }
        }
    }

    /// Directional derivative of y when each x moves along its tangent.
    pub fn jvp(&mut self, y: NodeId, xs: &[NodeId], tangents: &[NodeId]) -> NodeId {
        if !self.all_valid(Op::Jvp, &[&[y][..], xs, tangents].concat()) {
            return NodeId::ERROR;
        }
        let lora = self.lora.take();
        let found = jvp::directional(self, y, xs, tangents);
        self.lora = lora;
        match found {
            Ok(id) => id,
            Err(e) => self.fail(e),
        }
    }

    /// A hash of ops, edges, attributes and shapes: equal graphs have equal hashes, across runs and machines.
    pub fn hash(&self) -> u64 {
        let mut h = Fnv::default();
        for node in &self.nodes[1..] {
            h.word(u64::from(node.op.code()));
            node.inputs.iter().for_each(|i| h.word(u64::from(i.0)));
            for (key, value) in node.attrs.iter() {
                h.word(key as u64);
                match value {
                    Value::Int(v) => h.word(*v as u64),
                    Value::Float(v) => h.word(v.to_bits()),
                    Value::Ints(v) => v.iter().for_each(|v| h.word(*v as u64)),
                }
            }
            h.word(u64::from(node.desc.dtype.code()));
            node.desc.dims().iter().for_each(|d| h.word(*d as u64));
        }
        for c in &self.constants {
            c.bytes.iter().for_each(|b| h.word(u64::from(*b)));
        }
        for w in &self.weights {
            w.slot.bytes().chain(w.name.bytes()).for_each(|b| h.word(u64::from(b)));
        }
        h.0
    }

    // ---- inside

    fn try_emit(&mut self, op: Op, inputs: &[NodeId], mut attrs: Attrs) -> Result<NodeId> {
        let info = op.info();
        let (fewest, most) = info.arity;
        if inputs.len() < fewest || inputs.len() > most {
            bail!(Invalid, "{}: takes {fewest} to {most} inputs, got {}", info.name, inputs.len());
        }
        if let Some(bad) = inputs.iter().find(|i| !self.is_valid(**i)) {
            bail!(Invalid, "{}: input node {} does not exist in this graph", info.name, bad.0);
        }
        match op {
            Op::Input | Op::Weight | Op::Constant => {
                bail!(Invalid, "{}: declared by its own call, not emitted", info.name)
            }
            Op::Grad => {
                let out = self.grad(inputs[0], inputs[1], &inputs[2..]);
                return Ok(out[0]);
            }
            Op::Jvp => {
                let n = (inputs.len() - 1) / 2;
                if inputs.len() != 1 + 2 * n {
                    bail!(Invalid, "jvp: takes y, n inputs and n tangents, got {}", inputs.len());
                }
                return Ok(self.jvp(inputs[0], &inputs[1..=n], &inputs[1 + n..]));
            }
            _ => {}
        }
        for key in info.required {
            if !attrs.has(*key) {
                bail!(Invalid, "{}: needs the attribute {}", info.name, key.name());
            }
        }
        for (key, value) in attrs.iter() {
            if !info.required.contains(&key) && !info.optional.contains(&key) {
                bail!(Invalid, "{}: has no attribute {}", info.name, key.name());
            }
            if value.kind() != key.kind() {
                bail!(
                    Invalid,
                    "{}: attribute {} is {:?}, want {:?}",
                    info.name,
                    key.name(),
                    value.kind(),
                    key.kind()
                );
            }
        }
        let mut inputs = inputs.to_vec();
        if info.class == Class::Pointwise && inputs.len() > 1 {
            self.adapt_scalars(&mut inputs);
        }
        let descs: Vec<Desc> = inputs.iter().map(|i| self.desc(*i)).collect();
        let desc = infer::infer(op, &descs, &mut attrs, self.float, self.batch)?;
        if info.class == Class::Random {
            self.number_draw(op, &mut attrs)?;
        }
        let adapter = if op == Op::MatMul { self.adapter_for(&inputs) } else { None };
        let Some(lora) = adapter else {
            return Ok(self.append(op, inputs, attrs, desc));
        };
        self.with_adapter(lora, &inputs, attrs, desc)
    }

    /// Rank-0 `full` nodes are weak: beside another type they are emitted again in that type. Among weak ones alone, one
    /// that is not of the graph's float type was made so on purpose and decides.
    fn adapt_scalars(&mut self, inputs: &mut [NodeId]) {
        let weak = |g: &Self, i: NodeId| {
            let n = g.node(i);
            n.op == Op::Full && n.desc.shape.rank() == 0
        };
        let strong = inputs
            .iter()
            .find(|i| !weak(self, **i) && self.desc(**i).dtype != DType::Bool)
            .or_else(|| {
                let chosen = |dtype| dtype != self.float && dtype != DType::Bool;
                inputs.iter().find(|i| chosen(self.desc(**i).dtype))
            })
            .map(|i| self.desc(*i).dtype);
        let Some(want) = strong else { return };
        for i in inputs.iter_mut() {
            if weak(self, *i) && self.desc(*i).dtype != want && self.desc(*i).dtype != DType::Bool {
                let value = self.node(*i).attrs.float(AttrKey::Value, 0.0);
                if want.is_float() || value.fract() == 0.0 {
                    *i = self.full(value, want, &[]);
                }
            }
        }
    }

    fn number_draw(&mut self, op: Op, attrs: &mut Attrs) -> Result<()> {
        let purpose = attrs.int(AttrKey::Purpose, 0);
        let Some(next) = usize::try_from(purpose).ok().and_then(|p| self.ordinals.get_mut(p))
        else {
            bail!(Invalid, "{}: purpose {purpose} is outside 0..=255", op.name());
        };
        if *next > u32::from(u16::MAX) {
            bail!(Unsupported, "{}: more than 65536 draws of purpose {purpose}", op.name());
        }
        attrs.set(AttrKey::Ordinal, Value::Int(i64::from(*next)));
        *next += 1;
        Ok(())
    }

    fn adapter_for(&self, inputs: &[NodeId]) -> Option<Lora> {
        let lora = self.lora.as_ref()?;
        let w = self.node(inputs[1]);
        if w.op != Op::Weight || w.desc.shape.rank() != 2 {
            return None;
        }
        let name = &self.weights[w.attrs.int(AttrKey::Index, 0) as usize].name;
        let hit = lora.targets.is_empty() || lora.targets.iter().any(|t| name.contains(t.as_str()));
        hit.then(|| lora.clone())
    }

    /// `act(x W + b + scale (x A) B)` for `act(x W + b)`.
    fn with_adapter(
        &mut self,
        lora: Lora,
        inputs: &[NodeId],
        attrs: Attrs,
        desc: Desc,
    ) -> Result<NodeId> {
        let (x, w) = (inputs[0], self.node(inputs[1]));
        let name = self.weights[w.attrs.int(AttrKey::Index, 0) as usize].name.clone();
        let (rows, cols) = (w.desc.dims()[0], w.desc.dims()[1]);
        let (k, n) = if attrs.flag(AttrKey::TransB) { (cols, rows) } else { (rows, cols) };
        let act = attrs.int(AttrKey::Activation, 0);
        let mut plain = attrs.clone();
        plain.set(AttrKey::Activation, Value::Int(0));
        let base = self.append(Op::MatMul, inputs.to_vec(), plain, desc);
        let float = self.desc(x).dtype;
        let before = self.lora.take(); // the adapter's own matmuls gain none
        let spread = WeightInit::Normal(1.0 / (k as f64).sqrt());
        let a = self.weight(&format!("{name}.lora_a"), Desc::new(float, &[k, lora.rank])?, spread);
        let b = self.weight(
            &format!("{name}.lora_b"),
            Desc::new(float, &[lora.rank, n])?,
            WeightInit::Zeros,
        );
        for w in self.weights.iter_mut().filter(|w| w.node == a || w.node == b) {
            w.adapter = true;
        }
        let trans = Attrs::NONE.with_int(AttrKey::TransA, attrs.int(AttrKey::TransA, 0));
        let low = self.emit(Op::MatMul, &[x, a], trans);
        let high = self.emit(Op::MatMul, &[low, b], Attrs::NONE);
        let scale = self.scalar(lora.scale);
        let scaled = self.binary(Op::Mul, high, scale);
        let mut out = self.binary(Op::Add, base, scaled);
        if let Some(act) = Op::from_code(act as u32) {
            out = self.unary(act, out);
        }
        self.lora = before;
        Ok(out)
    }

    fn all_valid(&mut self, op: Op, ids: &[NodeId]) -> bool {
        if self.has_failed() {
            return false;
        }
        if let Some(bad) = ids.iter().find(|i| !self.is_valid(**i)).copied() {
            self.fail(fail!(Invalid, "{}: node {} does not exist in this graph", op.name(), bad.0));
            return false;
        }
        true
    }

    fn append(&mut self, op: Op, inputs: Vec<NodeId>, attrs: Attrs, desc: Desc) -> NodeId {
        let scope = self.scopes.current();
        let most = self.most_nodes;
        if self.nodes.len() >= most {
            return self
                .fail(fail!(NoMemory, "graph has {most} nodes, the most one graph may have"));
        }
        if self.nodes.try_reserve(1).is_err() {
            return self.fail(fail!(
                NoMemory,
                "no memory for more than {} nodes",
                self.nodes.len()
            ));
        }
        self.nodes.push(Node { op, inputs, attrs, desc, scope });
        NodeId(self.nodes.len() as u32 - 1)
    }
}

/// FNV-1a over 64-bit words.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn word(&mut self, w: u64) {
        for b in w.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Status;

    fn refused(g: &Graph, want: &str) {
        let e = g.check().unwrap_err();
        assert!(e.status == Status::NoMemory && e.message.contains(want), "{e}");
    }

    #[test]
    fn every_kind_of_node_counts() {
        let scalar = Desc::scalar(DType::F32);
        let emits: [&mut dyn FnMut(&mut Graph, usize) -> NodeId; 4] = [
            &mut |g, i| g.input(&i.to_string(), scalar),
            &mut |g, i| g.weight(&i.to_string(), scalar, WeightInit::Zeros),
            &mut |g, _| g.constant(scalar, &[0; 4]),
            &mut |g, _| g.scalar(1.0),
        ];
        for emit in emits {
            let mut g = Graph::new(1, DType::F32).with_most_nodes(100);
            for i in 0..99 {
                emit(&mut g, i);
            }
            g.check().unwrap();
            emit(&mut g, 99);
            refused(&g, "graph has 100 nodes");
            assert_eq!(g.nodes.len(), 100);
            assert!(g.inputs.len() + g.weights.len() + g.constants.len() <= 99);
        }
    }

    #[test]
    fn constants_and_weights_have_an_end() {
        let mut g = Graph::new(1, DType::F32);
        let bytes = vec![0; MAX_CONSTANTS / 8];
        let desc = Desc::new(DType::U8, &[bytes.len()]).unwrap();
        for _ in 0..8 {
            g.constant(desc, &bytes);
        }
        g.check().unwrap();
        g.constant(desc, &bytes);
        refused(&g, "those of a graph may have 268435456 bytes");
        let mut g = Graph::new(1, DType::F32);
        let (scalar, long) = (Desc::scalar(DType::F32), "w".repeat(1 << 20));
        for i in 0..64 {
            g.weight(&format!("{i}{long}"), scalar, WeightInit::Zeros);
        }
        refused(&g, "a graph may have 1048576, with names of 67108864 bytes");
    }
}
