//! A graph under construction together with what plugins may ask of the pipeline it belongs to: the denoiser chain,
//! networks by slot, process functions, conditions, statistics.
//!
//! Denoiser handles: 0 is the outermost of the chain; k in 1..=n_guidances+1 is the chain from the inside (1 = the
//! base network with its preconditioning, k + 1 = guidance k-1 around handle k); handles above are the unguided
//! denoisers of other network slots, made on demand.

use super::convert;
use super::held::{Held, Owner};
use super::traits::{
    Component, Cond, Guidance, Hook, Model, ModelIo, Process, ProcessFn, Space, Stats,
};
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::graph::builder::Lora;
use crate::graph::{AttrKey, Attrs, Graph, NodeId, Op};
use std::sync::Arc;

/// Most guidances around one network: each takes a few kilobytes of stack while a graph is built.
const MOST_GUIDANCES: usize = 32;

/// The least number that a guidance encodes under a process of data above 0, as a share of their mean: less than data are,
/// of which many lie a thousand times below their mean.
const LEAST_SHARE: f64 = 1e-20;

/// One evaluation of a denoiser. `cond` empty = the conditions of the job.
#[derive(Debug, Clone)]
pub struct Eval {
    pub phase: u32,
    pub x: Vec<NodeId>,
    pub sigma: Vec<NodeId>,
    pub cond: Option<Vec<NodeId>>,
}

/// A network: a model, the parameter set (slot name) it reads, and the adapter on it, if any.
#[derive(Clone)]
pub struct Network {
    pub slot: String,
    pub model: Arc<dyn Model>,
    pub lora: Option<Lora>,
}

/// The networks a pipeline or objective may name.
pub type Networks = Vec<Network>;

/// Everything fixed about a pipeline that a build may ask for.
#[derive(Clone)]
pub struct Parts {
    pub components: Vec<Component>,
    /// One per component.
    pub processes: Vec<Arc<dyn Process>>,
    pub stats: Vec<Stats>,
    pub conds: Vec<Cond>,
    pub networks: Networks,
    /// In wrapping order: the first is innermost.
    pub guidances: Vec<Arc<dyn Guidance>>,
    pub float: DType,
    /// Type of weights declared with dtype 0.
    pub weight_dtype: DType,
}

impl Parts {
    /// `rows` samples of component `c`: the graph's float type, or i32 tokens.
    pub fn state(&self, c: usize, rows: usize) -> Result<Desc> {
        let Some(component) = self.components.get(c) else {
            bail!(Invalid, "component {c} does not exist, there are {}", self.components.len());
        };
        let mut dims = vec![rows];
        for &d in &component.dims {
            let Ok(d) = usize::try_from(d) else {
                bail!(Invalid, "component {}: dimension {d} was left free", component.name);
            };
            dims.push(d);
        }
        let dtype = match component.space {
            Space::Continuous => self.float,
            Space::Discrete => DType::I32,
        };
        Desc::new(dtype, &dims)
    }

    /// What a denoiser gives for component `c`: the state's shape, or logits with the classes last.
    pub fn denoised(&self, c: usize, rows: usize) -> Result<Desc> {
        let state = self.state(c, rows)?;
        if self.components[c].space == Space::Continuous {
            return Ok(state);
        }
        let classes = self.components[c].classes as usize;
        Desc::new(self.float, &[state.dims(), &[classes]].concat())
    }

    /// Particles that interact: a multiple of every guidance's group. Batches and ranges of ids hold whole groups.
    pub fn group(&self) -> Result<usize> {
        let mut group = 1usize;
        for guidance in &self.guidances {
            let k = guidance.info(&self.components)?.group.max(1) as usize;
            let (mut a, mut b) = (group, k);
            while b != 0 {
                (a, b) = (b, a % b);
            }
            group = match (group / a).checked_mul(k) {
                Some(g) if g <= 1 << 20 => g,
                _ => bail!(
                    Plugin,
                    "groups of {group} and {k} particles have no common multiple below 2^20"
                ),
            };
        }
        Ok(group)
    }
}

/// A graph under construction. Reached by C plugins as the opaque `dfx_graph *`.
pub struct Build<'a> {
    pub graph: Graph,
    pub parts: &'a Parts,
    /// [batch, ...] nodes of the job's conditions and of their null values.
    pub cond: Vec<NodeId>,
    pub null_cond: Vec<NodeId>,
    /// Tensors that live across steps, as they stand now.
    pub(super) held: Vec<Held>,
    /// Held tensors are inputs of the graph (a step), not their initial values (a start, a loss).
    pub(super) persistent: bool,
    /// The form of each guidance in this graph; empty = 0.
    pub(super) variants: Vec<u32>,
    /// Networks behind the handles above the chain.
    extra: Vec<usize>,
    /// Handles of the chain below this may be called; guards against a guidance that calls itself.
    limit: u32,
    /// Clean coordinates of the data a run sets out from, which stand in the place of a prior; else empty.
    pub(super) outset: Vec<NodeId>,
    /// A guidance is building: what it encodes need not be data.
    pub(super) guiding: bool,
}

impl<'a> Build<'a> {
    /// An empty graph of `batch` rows whose conditions are null until the owner sets `cond`.
    pub fn new(parts: &'a Parts, batch: usize) -> Result<Self> {
        let mut graph = Graph::new(batch, parts.float);
        let mut null_cond = Vec::with_capacity(parts.conds.len());
        for cond in &parts.conds {
            let dims = [&[batch], cond.desc.dims()].concat();
            null_cond.push(graph.full(cond.null_value, cond.desc.dtype, &dims));
        }
        graph.check()?;
        Ok(Self {
            graph,
            parts,
            cond: null_cond.clone(),
            null_cond,
            held: Vec::new(),
            persistent: false,
            variants: Vec::new(),
            extra: Vec::new(),
            limit: u32::MAX,
            outset: Vec::new(),
            guiding: false,
        })
    }

    /// Several evaluations as one batch through the denoiser of handle `d`.
    pub fn denoise(&mut self, d: u32, evals: &[Eval]) -> Result<Vec<Vec<NodeId>>> {
        self.graph.check()?;
        if evals.is_empty() {
            bail!(Invalid, "denoise: no evaluations");
        }
        for eval in evals {
            self.check_eval(eval)?;
        }
        let outermost = self.parts.guidances.len() as u32 + 1;
        if d == 0 {
            let out = self.denoise(outermost, evals)?;
            return self.at_least_zero(out);
        }
        let handle = d;
        if handle > outermost {
            let Some(&network) = self.extra.get((handle - outermost - 1) as usize) else {
                bail!(Invalid, "denoise: there is no denoiser {d}");
            };
            return self.unguided(network, evals);
        }
        if handle >= self.limit {
            bail!(
                Plugin,
                "denoise: a guidance called denoiser {d}, which contains the guidance itself"
            );
        }
        if handle == 1 {
            let base = self.network_index("base")?;
            return self.unguided(base, evals);
        }
        self.guided(handle, evals)
    }

    /// Whether a component's coordinate is at least 0: that of positive data whose noise is not additive is a root of
    /// the data, and squaring a negative one would mirror it.
    pub(super) fn positive(&self, c: usize) -> Result<bool> {
        let info = self.parts.processes[c].info(&self.parts.stats[c])?;
        Ok(info.space == Space::Continuous && info.positive && !info.additive)
    }

    /// Networks and guidance may leave the range of the data; what a sampler sees of them does not.
    fn at_least_zero(&mut self, mut out: Vec<Vec<NodeId>>) -> Result<Vec<Vec<NodeId>>> {
        for c in 0..self.parts.components.len() {
            if self.positive(c)? {
                let zero = self.graph.scalar(0.0);
                for row in &mut out {
                    row[c] = self.graph.binary(Op::Max, row[c], zero);
                }
            }
        }
        Ok(out)
    }

    /// The form that the guidance around denoiser `inner` has in this graph.
    pub fn variant(&self, inner: u32) -> u32 {
        let at = (inner as usize).checked_sub(1);
        at.and_then(|i| self.variants.get(i)).copied().unwrap_or(0)
    }

    /// Handle of the unguided denoiser of a network slot.
    pub fn denoiser_of(&mut self, slot: &str) -> Result<u32> {
        let network = self.network_index(slot)?;
        if slot == "base" {
            return Ok(1);
        }
        let first = self.parts.guidances.len() as u32 + 2;
        let at = self.extra.iter().position(|n| *n == network).unwrap_or_else(|| {
            self.extra.push(network);
            self.extra.len() - 1
        });
        Ok(first + at as u32)
    }

    /// The network of a slot itself, without preconditioning. Its persistent slots are filled in here.
    pub fn network(&mut self, slot: &str, io: &mut ModelIo) -> Result<()> {
        let index = self.network_index(slot)?;
        let rows = match io.x.first() {
            Some(x) if self.graph.is_valid(*x) && self.graph.desc(*x).shape.rank() > 0 => {
                self.graph.desc(*x).shape.dim(0)
            }
            _ => bail!(Invalid, "network {slot}: the first input is no tensor with a batch axis"),
        };
        let lanes = self.lanes_for(index, rows)?;
        self.build_network(index, lanes, io)
    }

    /// A function of the process of a component.
    pub fn process(
        &mut self,
        component: usize,
        f: ProcessFn,
        purpose: u8,
        inputs: &[NodeId],
    ) -> Result<Vec<NodeId>> {
        let Some(process) = self.parts.processes.get(component).cloned() else {
            bail!(
                Invalid,
                "component {component} does not exist, there are {}",
                self.parts.processes.len()
            );
        };
        let (_, name, n_in, n_out) = *f.row();
        if inputs.len() != n_in {
            bail!(Invalid, "process {name}: takes {n_in} inputs, got {}", inputs.len());
        }
        // whoever draws where a run sets out from draws what it sets out from
        if let (ProcessFn::Prior, Some(w0)) = (f, self.outset.get(component)) {
            let given = [*w0, inputs[0]]; // as many as were checked
            let mut noised = self.process(component, ProcessFn::Perturb, purpose, &given)?;
            noised.truncate(1);
            return Ok(noised);
        }
        let parts = self.parts;
        let held = match f {
            ProcessFn::Encode if self.guiding => vec![self.in_range(component, inputs[0])?],
            _ => inputs.to_vec(),
        };
        let out = process.call(
            self,
            f,
            purpose,
            &parts.components[component],
            &parts.stats[component],
            &held,
        )?;
        self.graph.check()?;
        if out.len() != n_out || out.iter().any(|n| !self.graph.is_valid(*n)) {
            bail!(Plugin, "process {name}: gave {} nodes, want {n_out} valid ones", out.len());
        }
        Ok(out)
    }

    /// Numbers that a guidance makes, as far as the process has a coordinate for them: data above 0 has none for what is
    /// not, and a sparse or bounded sample may be 0.
    fn in_range(&mut self, c: usize, x: NodeId) -> Result<NodeId> {
        let info = self.parts.processes[c].info(&self.parts.stats[c])?; // it was found above
        if info.space != Space::Continuous || !info.positive || !self.graph.is_valid(x) {
            return Ok(x);
        }
        let mean = self.parts.stats[c].x_mean;
        let unit = if mean > 0.0 && mean.is_finite() { mean } else { 1.0 };
        let least = self.graph.scalar((LEAST_SHARE * unit).max(f64::from(f32::MIN_POSITIVE)));
        Ok(self.graph.binary(Op::Max, x, least))
    }

    // ---- inside

    fn network_index(&self, slot: &str) -> Result<usize> {
        match self.parts.networks.iter().position(|n| n.slot == slot) {
            Some(i) => Ok(i),
            None => {
                let names: Vec<&str> =
                    self.parts.networks.iter().map(|n| n.slot.as_str()).collect();
                bail!(NotFound, "no network slot named {slot}; there are: {}", names.join(", "))
            }
        }
    }

    fn check_eval(&self, eval: &Eval) -> Result<()> {
        let n = self.parts.components.len();
        if eval.x.len() != n || eval.sigma.len() != n {
            bail!(
                Invalid,
                "denoise: an evaluation has {} states and {} levels, want {n} of each",
                eval.x.len(),
                eval.sigma.len()
            );
        }
        let rows = self.rows_of(eval)?;
        for (c, x) in eval.x.iter().enumerate() {
            self.want(*x, self.parts.state(c, rows)?, "denoise: state", c)?;
        }
        for (c, sigma) in eval.sigma.iter().enumerate() {
            if !self.graph.is_valid(*sigma) || self.graph.desc(*sigma).dtype != self.parts.float {
                bail!(Invalid, "denoise: level {c} is no {} tensor", self.parts.float);
            }
        }
        let conds = eval.cond.as_ref().unwrap_or(&self.cond);
        if conds.len() != self.parts.conds.len() {
            bail!(Invalid, "denoise: {} conditions, want {}", conds.len(), self.parts.conds.len());
        }
        for (node, cond) in conds.iter().zip(&self.parts.conds) {
            let want = Desc::new(cond.desc.dtype, &[&[rows], cond.desc.dims()].concat())?;
            if !self.graph.is_valid(*node) || self.graph.desc(*node) != want {
                bail!(Invalid, "denoise: condition {} is not {want}", cond.name);
            }
        }
        Ok(())
    }

    fn rows_of(&self, eval: &Eval) -> Result<usize> {
        match eval.x.first() {
            Some(x) if self.graph.is_valid(*x) && self.graph.desc(*x).shape.rank() > 0 => {
                Ok(self.graph.desc(*x).shape.dim(0))
            }
            _ => bail!(Invalid, "denoise: the first state is no tensor with a batch axis"),
        }
    }

    /// Fails unless `node` exists and is `want`; `what` and the component name the place.
    pub(super) fn want(&self, node: NodeId, want: Desc, what: &str, c: usize) -> Result<()> {
        self.graph.check()?;
        let name = self.parts.components.get(c).map_or("", |c| c.name.as_str());
        if !self.graph.is_valid(node) {
            bail!(Plugin, "{what} {name}: no node was given, want {want}");
        }
        let found = self.graph.desc(node);
        if found != want {
            bail!(Plugin, "{what} {name}: is {found}, want {want}");
        }
        Ok(())
    }

    fn guided(&mut self, handle: u32, evals: &[Eval]) -> Result<Vec<Vec<NodeId>>> {
        if self.parts.guidances.len() > MOST_GUIDANCES {
            bail!(
                Invalid,
                "{} guidances around each other, want at most {MOST_GUIDANCES}",
                self.parts.guidances.len()
            );
        }
        let index = handle as usize - 2;
        let guidance = Arc::clone(&self.parts.guidances[index]);
        if !guidance.has(Hook::Wrap) {
            return self.denoise(handle - 1, evals);
        }
        let info = guidance.info(&self.parts.components)?;
        let slots = self.hold(Owner::Guidance(index), &info.slots)?;
        let mut slots_out = slots.clone();
        let before = std::mem::replace(&mut self.limit, handle);
        let was = std::mem::replace(&mut self.guiding, true);
        let out = guidance.wrap(self, handle - 1, evals, &slots, &mut slots_out);
        (self.limit, self.guiding) = (before, was);
        let out = out?;
        self.graph.check()?;
        if out.len() != evals.len() {
            bail!(
                Plugin,
                "guidance {index}: gave {} results for {} evaluations",
                out.len(),
                evals.len()
            );
        }
        for (eval, result) in evals.iter().zip(&out) {
            let rows = self.rows_of(eval)?;
            if result.len() != self.parts.components.len() {
                bail!(Plugin, "guidance {index}: gave {} components", result.len());
            }
            for (c, node) in result.iter().enumerate() {
                self.want(*node, self.parts.denoised(c, rows)?, "guidance: denoised", c)?;
            }
        }
        self.keep(&Owner::Guidance(index), &slots_out)?;
        Ok(out)
    }

    /// The network of one slot with the conversions of its processes around it: all evaluations as one batch.
    fn unguided(&mut self, network: usize, evals: &[Eval]) -> Result<Vec<Vec<NodeId>>> {
        let parts = self.parts;
        let info = parts.networks[network].model.info()?;
        let mut counts = Vec::with_capacity(evals.len());
        for eval in evals {
            if eval.phase != evals[0].phase {
                bail!(Invalid, "denoise: evaluations of one batch must be of one phase");
            }
            counts.push(self.rows_of(eval)?);
        }
        let rows: usize = counts.iter().sum();
        let mut given = Vec::with_capacity(parts.components.len());
        for c in 0..parts.components.len() {
            let xs: Vec<NodeId> = evals.iter().map(|e| e.x[c]).collect();
            let mut sigmas = Vec::with_capacity(evals.len());
            for (eval, n) in evals.iter().zip(&counts) {
                sigmas.push(convert::level_rows(&mut self.graph, eval.sigma[c], *n)?);
            }
            let (x, sigma) = (self.concat(&xs), self.concat(&sigmas));
            given.push(convert::before(self, c, info.predicts, x, sigma)?);
        }
        let mut cond = Vec::with_capacity(info.conds.len());
        for want in &info.conds {
            let at = parts
                .conds
                .iter()
                .position(|c| c.name == want.name && c.desc.dims() == want.desc.dims());
            cond.push(match at {
                Some(i) => {
                    let nodes: Vec<NodeId> =
                        evals.iter().map(|e| e.cond.as_ref().unwrap_or(&self.cond)[i]).collect();
                    self.concat(&nodes)
                }
                // a second network may know a condition the base does not
                None => {
                    let dims = [&[rows], want.desc.dims()].concat();
                    let dtype = want.desc.dtype;
                    let dtype = if dtype.is_float() { parts.float } else { dtype };
                    self.graph.full(want.null_value, dtype, &dims)
                }
            });
        }
        let mut io = ModelIo {
            phase: evals[0].phase,
            x: given.iter().map(|g| g.x).collect(),
            sigma: given.iter().map(|g| g.noise).collect(),
            cond,
            slots: Vec::new(),
            slots_out: Vec::new(),
            out: vec![NodeId::ERROR; parts.components.len()],
        };
        if !info.slots.is_empty() && counts.iter().any(|n| *n != self.graph.batch()) {
            bail!(Unsupported, "denoise: a model with a cache evaluates whole batches only");
        }
        self.build_network(network, evals.len(), &mut io)?;
        let mut out = vec![Vec::with_capacity(parts.components.len()); evals.len()];
        for (c, given) in given.iter().enumerate() {
            let node = self.as_float(io.out.get(c).copied().unwrap_or(NodeId::ERROR));
            let node = self.prediction(node, parts.denoised(c, rows)?);
            self.want(node, parts.denoised(c, rows)?, "network output", c)?;
            let d = convert::after(&mut self.graph, given, node);
            let mut start = 0;
            for (result, n) in out.iter_mut().zip(&counts) {
                result.push(self.block(d, start, *n));
                start += n;
            }
        }
        self.graph.check()?;
        Ok(out)
    }

    /// How many batches of `rows` rows a network with a cache sees; each keeps a cache of its own.
    fn lanes_for(&self, network: usize, rows: usize) -> Result<usize> {
        let info = self.parts.networks[network].model.info()?;
        let batch = self.graph.batch().max(1);
        if !info.slots.is_empty() && !rows.is_multiple_of(batch) {
            bail!(Unsupported, "a model with a cache takes multiples of {batch} rows, got {rows}");
        }
        Ok(if info.slots.is_empty() { 1 } else { rows / batch })
    }

    fn build_network(&mut self, index: usize, lanes: usize, io: &mut ModelIo) -> Result<()> {
        let network = &self.parts.networks[index];
        let info = network.model.info()?;
        let mut by_lane = Vec::new();
        if !info.slots.is_empty() {
            for lane in 0..lanes {
                by_lane.push(self.hold(Owner::Network { index, lane }, &info.slots)?);
            }
        }
        io.slots = (0..info.slots.len())
            .map(|s| {
                let nodes: Vec<NodeId> = by_lane.iter().map(|l| l[s]).collect();
                self.concat(&nodes)
            })
            .collect();
        io.slots_out = io.slots.clone();
        let before = self.graph.enter_slot(&network.slot, network.lora.clone());
        let depth = self.graph.scope_depth();
        if network.slot != "base" {
            self.graph.push_scope(&network.slot);
        }
        let built = network.model.build(self, io);
        self.graph.truncate_scopes(depth);
        self.graph.leave_slot(before);
        built?; // of a plugin: its sticky error, with its name before it
        self.graph.check()?;
        if io.slots_out.len() != info.slots.len() {
            bail!(
                Plugin,
                "network {}: {} slots, want {}",
                network.slot,
                io.slots_out.len(),
                info.slots.len()
            );
        }
        let batch = self.graph.batch();
        for lane in 0..by_lane.len() {
            let mut nodes = Vec::with_capacity(info.slots.len());
            for s in 0..info.slots.len() {
                let node = io.slots_out[s];
                if !self.graph.is_valid(node) {
                    bail!(
                        Plugin,
                        "network {}: slot {} was left empty",
                        network.slot,
                        info.slots[s].name
                    );
                }
                nodes.push(if lanes == 1 { node } else { self.block(node, lane * batch, batch) });
            }
            self.keep(&Owner::Network { index, lane }, &nodes)?;
        }
        Ok(())
    }

    /// The first half of the channels (axis 1) of an output that has twice as many as are wanted: the other half is what
    /// the network learned of its variance, which a denoiser has no place for.
    fn prediction(&mut self, node: NodeId, want: Desc) -> NodeId {
        if !self.graph.is_valid(node) || want.dims().len() < 2 {
            return node;
        }
        let mut twice = want.dims().to_vec();
        twice[1] *= 2;
        match self.graph.desc(node).dims() == twice {
            true => self.graph.slice_axis(node, 1, 0, want.dims()[1]),
            false => node,
        }
    }

    fn as_float(&mut self, node: NodeId) -> NodeId {
        let float = self.parts.float;
        if !self.graph.is_valid(node) || self.graph.desc(node).dtype == float {
            return node;
        }
        let attrs = Attrs::NONE.with_int(AttrKey::DType, i64::from(float.code()));
        self.graph.emit(Op::Cast, &[node], attrs)
    }

    /// One after another along axis 0; a single one is itself.
    pub(super) fn concat(&mut self, nodes: &[NodeId]) -> NodeId {
        match nodes {
            [one] => *one,
            many => self.graph.emit(Op::Concat, many, Attrs::NONE.with_int(AttrKey::Axis, 0)),
        }
    }

    /// Rows `start .. start + n` of axis 0; all of them are the node itself.
    pub(super) fn block(&mut self, node: NodeId, start: usize, n: usize) -> NodeId {
        if !self.graph.is_valid(node) || self.graph.desc(node).shape.rank() == 0 {
            return NodeId::ERROR;
        }
        let dims = self.graph.desc(node).dims().to_vec();
        if start == 0 && n == dims[0] {
            return node;
        }
        let (mut from, mut to) = (vec![0; dims.len()], dims);
        (from[0], to[0]) = (start, start + n);
        let attrs = Attrs::NONE.with_dims(AttrKey::Start, &from).with_dims(AttrKey::Stop, &to);
        self.graph.emit(Op::Slice, &[node], attrs)
    }
}
