//! One forward of a network, or of the complete denoiser, with named tensors in and out, and gradients by inputs and
//! weights. A network alone needs no process: a model is asked for it, in any of its forms and at the sizes given.

use super::{Engine, OpenModel, Pipeline};
use crate::bail;
use crate::base::{DType, Desc, Result, Shape};
use crate::exec::{RunKey, SessionBuilder, WeightBinding};
use crate::graph::{NodeId, Op, Weight};
use crate::mem::Tensor;
use crate::sample::classes;
use crate::sample::{Build, Eval, ModelIo, Network, Parts, Stats};
use std::collections::HashSet;
use std::sync::Arc;

/// What to evaluate.
pub struct Evaluation<'a> {
    /// Network slot, or empty for the denoiser of the pipeline with its guidances.
    pub slot: &'a str,
    /// Form of the network (`dfx_model_io.phase`); of the denoiser always 0.
    pub phase: u32,
    /// Components by name, `sigma` or `sigma.NAME` (`[rows]`; of the denoiser the level, of a network its noise input),
    /// conditions by name (null if absent), `cotangent.NAME` of outputs (ones if absent).
    pub inputs: &'a [(String, Arc<Tensor>)],
    /// `NAME` of a component, `grad.NAME` of an input, or `grad.weight.NAME` of a weight of the network.
    pub outputs: &'a [String],
}

/// A value, or a gradient by its number.
enum Wanted {
    Value(NodeId),
    Gradient(usize),
}

impl Pipeline {
    /// The outputs asked for, in their order.
    pub fn evaluate(&self, e: &Evaluation<'_>) -> Result<Vec<Tensor>> {
        evaluate(&self.engine, &self.parts, e, &|weights| self.bind(weights))
    }
}

impl OpenModel {
    /// The same of one network of the file alone, at the sizes of the inputs, and in the given type of floats. A noise
    /// input that is not given is 0.
    pub fn evaluate(&self, e: &Evaluation<'_>, float: DType) -> Result<Vec<Tensor>> {
        let sizes = |name: &str| {
            let input = e.inputs.iter().find(|(n, _)| n == name);
            input.and_then(|(_, t)| t.dims().get(1..).map(<[usize]>::to_vec))
        };
        let parts = self.alone(e.slot, float, &sizes)?;
        evaluate(&self.engine, &parts, e, &|weights| {
            let wanted: Vec<&Weight> = weights.iter().collect();
            let tensors = self.bind(e.slot, &wanted)?;
            Ok(tensors.into_iter().map(WeightBinding::Tensor).collect())
        })
    }

    /// What one forward of a network takes, at the sizes of the file. Reads no weight.
    pub fn plan(&self, slot: &str, rows: usize, float: DType) -> Result<Planned> {
        let known = &self.manifest.components;
        let sizes = |name: &str| {
            let part = known.iter().find(|p| p.name == name)?;
            part.dims.iter().map(|d| usize::try_from(*d).ok()).collect()
        };
        let parts = self.alone(slot, float, &sizes)?;
        let mut b = Build::new(&parts, rows)?;
        let mut io = ModelIo {
            phase: 0,
            x: Vec::new(),
            sigma: Vec::new(),
            cond: b.cond.clone(),
            slots: Vec::new(),
            slots_out: Vec::new(),
            out: vec![NodeId::ERROR; parts.components.len()],
        };
        for (c, component) in parts.components.iter().enumerate() {
            io.x.push(b.graph.input(&component.name, parts.state(c, rows)?));
            io.sigma.push(b.graph.full(0.0, float, &[rows]));
        }
        b.network(slot, &mut io)?;
        let mut session = SessionBuilder::new(Arc::clone(self.engine.backend()));
        let buffer = |session: &mut SessionBuilder, node: NodeId| {
            session.buffer("state", b.graph.desc(node))
        };
        let inputs: Vec<_> = io.x.iter().map(|x| buffer(&mut session, *x)).collect();
        let outputs: Vec<_> = io.out.iter().map(|y| (*y, buffer(&mut session, *y))).collect();
        let (mut weights, mut parameters, mut weight_bytes) = (Vec::new(), 0u64, 0u64);
        for w in b.graph.weights() {
            parameters = parameters.saturating_add(w.desc.shape.elements() as u64);
            weight_bytes = weight_bytes.saturating_add(w.desc.bytes() as u64);
            weights.push(WeightBinding::Buffer(session.buffer(&w.name, w.desc)));
        }
        session.plan(&b.graph, &inputs, &outputs, &weights)?;
        let wanted: Vec<&Weight> = b.graph.weights().iter().collect();
        let work_bytes = session.bytes().saturating_sub(weight_bytes);
        let fault = self.check(slot, &wanted).err().map(|e| e.message);
        Ok(Planned { parameters, weight_bytes, work_bytes, fault })
    }

    /// One network without processes, at sizes that are known of components and conditions by name.
    fn alone(
        &self,
        slot: &str,
        float: DType,
        sizes: &dyn Fn(&str) -> Option<Vec<usize>>,
    ) -> Result<Parts> {
        let Some(network) = self.network(slot) else {
            let slots: Vec<&str> = self.networks().map(|n| n.0).collect();
            bail!(NotFound, "eval: no network {slot:?}; there are: {}", slots.join(", "));
        };
        let info = network.info()?;
        let mut components = info.components;
        for c in &mut components {
            if let Some(dims) = sizes(&c.name) {
                c.dims = dims.iter().map(|d| *d as i64).collect();
            }
        }
        let mut conds = info.conds;
        for c in &mut conds {
            if c.desc.dtype.is_float() {
                c.desc.dtype = float;
            }
            if let Some(dims) = sizes(&c.name) {
                c.desc.shape = Shape::new(&dims)?;
            }
        }
        Ok(Parts {
            stats: vec![Stats::default(); components.len()],
            components,
            processes: Vec::new(),
            conds,
            networks: vec![Network {
                slot: slot.to_owned(),
                model: Arc::clone(network),
                lora: None,
            }],
            guidances: Vec::new(),
            float,
            weight_dtype: float,
        })
    }
}

/// What one forward of a network takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Numbers in its weights.
    pub parameters: u64,
    /// Of the weights in the type of the arithmetic, and of everything else.
    pub weight_bytes: u64,
    pub work_bytes: u64,
    /// What the file lacks of them.
    pub fault: Option<String>,
}

type Bind<'a> = dyn Fn(&[Weight]) -> Result<Vec<WeightBinding>> + 'a;

fn evaluate(
    engine: &Engine,
    parts: &Parts,
    e: &Evaluation<'_>,
    bind: &Bind<'_>,
) -> Result<Vec<Tensor>> {
    let Some(first) = parts.components.first() else { bail!(Internal, "no component") };
    let rows = match e.inputs.iter().find(|(n, _)| *n == first.name) {
        Some((_, t)) if !t.dims().is_empty() => t.dims()[0],
        _ => bail!(Invalid, "eval: input {} is missing or has no axis of rows", first.name),
    };
    let mut b = Build::new(parts, rows)?;
    let mut given: Vec<(String, NodeId, Arc<Tensor>)> = Vec::new();
    let mut input = |b: &mut Build<'_>, name: &str, want: Desc| -> Result<Option<NodeId>> {
        let Some((_, t)) = e.inputs.iter().find(|(n, _)| n == name) else { return Ok(None) };
        if t.desc() != want {
            bail!(Invalid, "eval: input {name} is {}, want {want}", t.desc());
        }
        if let Some((_, node, _)) = given.iter().find(|g| g.0 == name) {
            return Ok(Some(*node));
        }
        let node = b.graph.input(name, want);
        given.push((name.to_owned(), node, Arc::clone(t)));
        Ok(Some(node))
    };
    let (mut x, mut sigma) = (Vec::new(), Vec::new());
    let per_row = Desc::new(parts.float, &[rows])?;
    for (c, component) in parts.components.iter().enumerate() {
        match input(&mut b, &component.name, parts.state(c, rows)?)? {
            Some(node) => x.push(node),
            None => bail!(Invalid, "eval: input {} is missing", component.name),
        }
        let own = input(&mut b, &format!("sigma.{}", component.name), per_row)?;
        match own.map_or_else(|| input(&mut b, "sigma", per_row), |n| Ok(Some(n)))? {
            Some(node) => sigma.push(node),
            None if parts.processes.is_empty() => {
                sigma.push(b.graph.full(0.0, parts.float, &[rows]));
            }
            None => bail!(Invalid, "eval: input sigma is missing"),
        }
    }
    for (i, cond) in parts.conds.iter().enumerate() {
        let want = Desc::new(cond.desc.dtype, &[&[rows], cond.desc.dims()].concat())?;
        if let Some(node) = input(&mut b, &cond.name, want)? {
            b.cond[i] = node;
        }
    }
    let out = match e.slot {
        "" => b.denoise(0, &[Eval { phase: 0, x, sigma, cond: None }])?.swap_remove(0),
        slot => {
            let mut io = ModelIo {
                phase: e.phase,
                x,
                sigma,
                cond: b.cond.clone(),
                slots: Vec::new(),
                slots_out: Vec::new(),
                out: vec![NodeId::ERROR; parts.components.len()],
            };
            b.network(slot, &mut io)?;
            io.out
        }
    };
    let mut cotangents = Vec::new();
    for (node, component) in out.iter().zip(&parts.components) {
        if !b.graph.is_valid(*node) {
            bail!(Plugin, "eval: the network left {} empty", component.name);
        }
        let desc = b.graph.desc(*node);
        let own = input(&mut b, &format!("cotangent.{}", component.name), desc)?;
        cotangents.push(own.unwrap_or_else(|| b.graph.full(1.0, desc.dtype, desc.dims())));
    }
    for (cond, node) in parts.conds.iter().zip(&b.cond) {
        let told = given.iter().find(|g| g.1 == *node);
        if let (Some((name, _, t)), Some(n)) = (told, classes::known(&b, *node, cond.null_value)) {
            classes::check(name, t, n)?;
        }
    }
    for (name, _) in e.inputs {
        if !given.iter().any(|g| g.0 == *name) {
            bail!(NotFound, "eval: there is no input named {name}");
        }
    }

    // all gradients of an output in one walk: one walk each would take time that grows with their square
    let mut wanted: Vec<(&String, Wanted)> = Vec::new();
    let mut by: Vec<NodeId> = Vec::new();
    let mut names = HashSet::new();
    for name in e.outputs {
        if !names.insert(name) {
            bail!(Invalid, "eval: output {name} is asked for twice");
        }
        if let Some(i) = parts.components.iter().position(|c| c.name == *name) {
            wanted.push((name, Wanted::Value(out[i])));
            continue;
        }
        let Some(node) = name.strip_prefix("grad.").and_then(|n| differentiated(&b, &given, n))
        else {
            bail!(
                NotFound,
                "eval: no output {name}; there are components, grad.INPUT and grad.weight.NAME"
            );
        };
        if !b.graph.desc(node).dtype.is_compute_float() {
            bail!(Invalid, "eval: {name}: is no float");
        }
        wanted.push((name, Wanted::Gradient(by.len())));
        by.push(node);
    }
    let mut sums: Vec<Option<NodeId>> = vec![None; by.len()];
    if !by.is_empty() {
        for (y, cotangent) in out.iter().zip(&cotangents) {
            let grads = b.graph.grad(*y, *cotangent, &by);
            for (sum, grad) in sums.iter_mut().zip(grads) {
                *sum = Some(sum.map_or(grad, |s| b.graph.binary(Op::Add, s, grad)));
            }
        }
    }
    let node = |w: &Wanted| match w {
        Wanted::Value(node) => *node,
        Wanted::Gradient(k) => sums.get(*k).copied().flatten().unwrap_or(NodeId::ERROR),
    };
    let results: Vec<_> = wanted.iter().map(|(name, w)| (*name, node(w))).collect();
    b.graph.check()?;
    run_once(engine, &b, &given, &results, bind)
}

/// An input, or a weight as `weight.NAME`.
fn differentiated(
    b: &Build<'_>,
    given: &[(String, NodeId, Arc<Tensor>)],
    name: &str,
) -> Option<NodeId> {
    let input = given.iter().find(|g| g.0 == name).map(|g| g.1);
    input.or_else(|| {
        let name = name.strip_prefix("weight.")?;
        b.graph.weights().iter().find(|w| w.name == name).map(|w| w.node)
    })
}

fn run_once(
    engine: &Engine,
    b: &Build<'_>,
    given: &[(String, NodeId, Arc<Tensor>)],
    results: &[(&String, NodeId)],
    bind: &Bind<'_>,
) -> Result<Vec<Tensor>> {
    let budget = engine.budget();
    let mut session = SessionBuilder::new(Arc::clone(engine.backend()));
    let inputs: Vec<_> = given.iter().map(|(n, _, t)| session.buffer(n, t.desc())).collect();
    let outputs: Vec<_> =
        results.iter().map(|(n, node)| (*node, session.buffer(n, b.graph.desc(*node)))).collect();
    let weights = bind(b.graph.weights())?;
    let plan = session.plan(&b.graph, &inputs, &outputs, &weights)?;
    let mut session = session.allocate(budget)?;
    for (id, (_, _, t)) in inputs.iter().zip(given) {
        session.write(*id, t.bytes())?;
    }
    session.replay(plan, RunKey { seed: 0, step: 0, first_sample: 0 })?;
    let mut out = Vec::new();
    for (node, id) in &outputs {
        let mut tensor = Tensor::new(b.graph.desc(*node), budget)?;
        session.read(*id, tensor.bytes_mut())?;
        out.push(tensor);
    }
    Ok(out)
}
