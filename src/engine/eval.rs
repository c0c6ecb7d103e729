//! One forward of a network, or of the complete denoiser, with named tensors in and out, and gradients.

use super::Pipeline;
use crate::bail;
use crate::base::{Desc, Result};
use crate::exec::{RunKey, SessionBuilder};
use crate::graph::{NodeId, Op};
use crate::mem::Tensor;
use crate::sample::{Build, Eval, ModelIo};
use std::collections::HashSet;
use std::sync::Arc;

/// What to evaluate.
pub struct Evaluation<'a> {
    /// Network slot, or empty for the denoiser of the pipeline with its guidances.
    pub slot: &'a str,
    /// Components by name, `sigma` or `sigma.NAME` (`[rows]`; of the denoiser the level, of a network its noise input),
    /// conditions by name (null if absent), `cotangent.NAME` of outputs (ones if absent).
    pub inputs: &'a [(String, Arc<Tensor>)],
    /// `NAME` of a component, or `grad.NAME` of an input.
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
        let parts = &self.parts;
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
                    phase: 0,
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
            let of = name.strip_prefix("grad.").and_then(|n| given.iter().find(|g| g.0 == n));
            let Some((_, node, _)) = of else {
                bail!(NotFound, "eval: no output {name}; there are components and grad.INPUT");
            };
            if !b.graph.desc(*node).dtype.is_compute_float() {
                bail!(Invalid, "eval: {name}: the input is no float");
            }
            wanted.push((name, Wanted::Gradient(by.len())));
            by.push(*node);
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
        self.run_once(&b, &given, &results)
    }

    fn run_once(
        &self,
        b: &Build<'_>,
        given: &[(String, NodeId, Arc<Tensor>)],
        results: &[(&String, NodeId)],
    ) -> Result<Vec<Tensor>> {
        let budget = self.engine.budget();
        let mut session = SessionBuilder::new(Arc::clone(self.engine.backend()));
        let inputs: Vec<_> = given.iter().map(|(n, _, t)| session.buffer(n, t.desc())).collect();
        let outputs: Vec<_> = results
            .iter()
            .map(|(n, node)| (*node, session.buffer(n, b.graph.desc(*node))))
            .collect();
        let weights = self.bind(b.graph.weights())?;
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
}
