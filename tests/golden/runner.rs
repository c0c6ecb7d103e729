//! A sampler in f64, step by step, with the draws put in by hand: the built-in plugins build the graph of a step, the
//! reference evaluator runs it. The denoiser is the exact one of a mixture.

use diffx::base::{DType, Desc, Result};
use diffx::cpu::Cpu;
use diffx::exec::{Backend, Interrupt};
use diffx::graph::reference::{RefTensor, evaluate};
use diffx::graph::{AttrKey, Attrs, Graph, NodeId, Op};
use diffx::mem::Budget;
use diffx::plugin::Registry;
use diffx::sample::{
    Build, Component, Model, ModelInfo, ModelIo, Network, Parts, PilotRun, Predicts, ProcessFn,
    Request, Sampler, Space, Stats, StepIo,
};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// Data whose noisy marginals stay in the family of the process's transitions: component i of weight w is a transition
/// from `start` over the clock `spread`.
#[derive(Clone)]
pub(crate) enum Data {
    /// (weight, mean, standard deviation) for additive processes; points where the last is 0.
    Normal(Vec<(f64, f64, f64)>),
    /// N(mean, variance) as an affine map of coefficients: row 0 holds the constant term, the others those of the
    /// independent normals.
    Affine(f64, f64),
}

pub(crate) fn registry() -> Registry {
    let mut registry = Registry::new(Box::new(|_, _| {}));
    let plugins = [
        diffx_processes::plugin(),
        diffx_samplers::plugin(),
        diffx_grids::plugin(),
        diffx_guidance::plugin(),
    ];
    for plugin in plugins {
        // Safety: a static of a crate linked into this test.
        unsafe { registry.register(std::ptr::from_ref(plugin).cast()) }.unwrap();
    }
    registry
}

/// Knots of a built-in grid.
pub(crate) fn knots(grid: &str, config: Value, n: u32, range: (f64, f64)) -> Vec<f64> {
    registry().grid(grid, &config).unwrap().knots(n, range.0, range.1).unwrap()
}

fn component() -> Component {
    Component {
        name: "x".into(),
        dtype: DType::F64,
        dims: vec![1],
        space: Space::Continuous,
        classes: 0,
    }
}

impl Data {
    /// Per component: weight, log density at the noisy state, denoiser.
    fn parts(
        &self,
        b: &mut Build<'_>,
        w: NodeId,
        sigma: NodeId,
    ) -> Result<Vec<(f64, NodeId, NodeId)>> {
        let u = b.graph.square(sigma);
        let dims = b.graph.desc(w).dims().to_vec();
        let mut out = Vec::new();
        let list = match self {
            Self::Normal(list) => list.iter().map(|(p, m, s)| (*p, *m, s * s)).collect(),
            Self::Affine(..) => Vec::<(f64, f64, f64)>::new(),
        };
        for (weight, start, spread) in list {
            let total = b.graph.shifted(u, spread);
            let level = b.graph.unary(Op::Sqrt, total);
            let from = b.graph.full(start, DType::F64, &dims);
            let log = b.process(0, ProcessFn::LogTransition, 64, &[w, from, level])?[0];
            let g = &mut b.graph;
            let (near, far) = (g.scaled(w, spread), g.mul(u, from));
            let sum = g.add(near, far);
            out.push((weight, log, g.div(sum, total)));
        }
        Ok(out)
    }
}

impl Model for Data {
    fn info(&self) -> Result<ModelInfo> {
        Ok(ModelInfo {
            predicts: Predicts::Denoised,
            components: vec![component()],
            conds: vec![],
            slots: vec![],
        })
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        let w = io.x[0];
        let rows = b.graph.desc(w).dims()[0];
        let log = b.graph.scaled(io.sigma[0], 4.0);
        let flat = b.graph.unary(Op::Exp, log);
        let dims = Attrs::NONE.with_dims(AttrKey::Shape, &[rows, 1]);
        let sigma = b.graph.emit(Op::Reshape, &[flat], dims);
        if let Self::Affine(mean, variance) = self {
            let u = b.graph.square(sigma);
            let g = &mut b.graph;
            let mut first = vec![0.0; rows];
            first[0] = *mean;
            let bytes: Vec<u8> = first.iter().flat_map(|v: &f64| v.to_ne_bytes()).collect();
            let constant = g.constant(Desc::new(DType::F64, &[rows, 1])?, &bytes);
            let (near, far) = (g.scaled(w, *variance), g.mul(u, constant));
            let (sum, total) = (g.add(near, far), g.shifted(u, *variance));
            io.out[0] = g.div(sum, total);
            return Ok(());
        }
        let parts = self.parts(b, w, sigma)?;
        let g = &mut b.graph;
        let logs: Vec<NodeId> = parts.iter().map(|(p, l, _)| g.shifted(*l, p.ln())).collect();
        let all = g.emit(Op::Concat, &logs, Attrs::NONE.with_int(AttrKey::Axis, 1));
        let axes = Attrs::NONE.with_ints(AttrKey::Axes, vec![1]).with_int(AttrKey::KeepDims, 1);
        let norm = g.emit(Op::LogSumExp, &[all], axes);
        let mut d = g.scalar(0.0);
        for (log, (.., own)) in logs.iter().zip(&parts) {
            let gap = g.sub(*log, norm);
            let share = g.unary(Op::Exp, gap);
            let part = g.mul(share, *own);
            d = g.add(d, part);
        }
        io.out[0] = d;
        Ok(())
    }
}

struct Stage {
    graph: Graph,
    inputs: HashMap<NodeId, Source>,
    outputs: Vec<NodeId>,
}

#[derive(Clone, Copy)]
enum Source {
    State,
    Coeff(usize),
    Slot(usize),
}

/// A process, a sampler and data.
pub(crate) struct Runner {
    pub(crate) parts: Parts,
    sampler: Arc<dyn Sampler>,
}

/// What stands between the engine and a run by hand.
pub(crate) struct Hands<'a> {
    /// The values of the next draw node of this op.
    pub(crate) draw: &'a mut dyn FnMut(Op) -> Vec<f64>,
    /// Replaces the state after step k.
    pub(crate) instead: &'a dyn Fn(usize) -> Option<Vec<f64>>,
}

impl Runner {
    pub(crate) fn new(process: (&str, Value), sampler: (&str, Value), data: &Data) -> Self {
        let r = registry();
        let parts = Parts {
            components: vec![component()],
            processes: vec![r.process(process.0, &process.1).unwrap()],
            stats: vec![Stats::default()],
            conds: vec![],
            networks: vec![Network {
                slot: "base".into(),
                model: Arc::new(data.clone()),
                lora: None,
            }],
            guidances: vec![],
            float: DType::F64,
            weight_dtype: DType::F64,
        };
        Self { parts, sampler: r.sampler(sampler.0, &sampler.1).unwrap() }
    }

    /// What a pilot of `n` samples from the prior measures between these levels.
    pub(crate) fn pilot(&self, levels: &[f64], n: usize, seed: u64) -> Vec<f64> {
        let request =
            Request { seed, first_sample: 0, n_samples: n, preview_every: 0, conds: vec![] };
        let knots = [levels.to_vec()];
        let run = PilotRun { parts: &self.parts, knots: &knots, request, nulls: &[], batch: n };
        let backend: Arc<dyn Backend> = Arc::new(Cpu::new(1));
        let none = &mut |_: &[diffx::graph::Weight]| Ok(vec![]);
        let go_on = &mut || Interrupt::Continue;
        run.run(&backend, &Budget::unlimited(), none, go_on).unwrap().remove(0)
    }

    /// The state after each step of a run without draws.
    pub(crate) fn ode(&self, levels: &[f64], x: &[f64]) -> Vec<Vec<f64>> {
        let mut draw = |op: Op| -> Vec<f64> { panic!("a draw of {op:?} in an ODE") };
        self.run(levels, x, &mut Hands { draw: &mut draw, instead: &|_| None })
    }

    pub(crate) fn run(&self, levels: &[f64], x: &[f64], hands: &mut Hands<'_>) -> Vec<Vec<f64>> {
        let info = self.sampler.info(&self.parts.components).unwrap();
        let plan = self.sampler.plan(&[levels.to_vec()]).unwrap();
        let mut stages: HashMap<u32, Stage> = HashMap::new();
        let mut x = x.to_vec();
        let mut slots: Vec<Vec<f64>> = info.slots.iter().map(|s| vec![s.init; x.len()]).collect();
        let mut states = Vec::new();
        for (k, variant) in plan.variants.iter().enumerate() {
            let row = &plan.rows[k * info.n_coeff..][..info.n_coeff];
            let stage = stages
                .entry(*variant)
                .or_insert_with(|| self.stage(*variant, info.n_coeff, info.slots.len(), x.len()));
            let mut values = stage.step(row, &x, &slots, hands).into_iter();
            x = values.next().unwrap();
            slots = values.collect();
            if let Some(other) = (hands.instead)(k) {
                x = other;
            }
            states.push(x.clone());
        }
        states
    }

    fn stage(&self, variant: u32, n_coeff: usize, n_slots: usize, rows: usize) -> Stage {
        let mut b = Build::new(&self.parts, rows).unwrap();
        for (node, cond) in b.cond.iter_mut().zip(&self.parts.conds) {
            // a run is of class 1
            *node = b.graph.full(1.0, DType::F64, &[&[rows], cond.desc.dims()].concat());
        }
        let mut inputs = HashMap::new();
        let state = Desc::new(DType::F64, &[rows, 1]).unwrap();
        let mut input = |b: &mut Build<'_>, desc, source: Source| {
            let node = b.graph.input(&format!("in{}", inputs.len()), desc);
            inputs.insert(node, source);
            node
        };
        let x = vec![input(&mut b, state, Source::State)];
        let scalar = Desc::new(DType::F64, &[]).unwrap();
        let coeff = (0..n_coeff).map(|k| input(&mut b, scalar, Source::Coeff(k))).collect();
        let slots: Vec<_> = (0..n_slots).map(|k| input(&mut b, state, Source::Slot(k))).collect();
        let mut io = StepIo {
            variant,
            x,
            coeff,
            slots_out: slots.clone(),
            slots,
            next: vec![NodeId::ERROR],
            control: None,
            denoised: vec![None],
        };
        self.sampler.step(&mut b, &mut io).unwrap();
        b.graph.check().unwrap();
        let outputs = [&io.next[..], &io.slots_out[..]].concat();
        Stage { graph: b.graph, inputs, outputs }
    }
}

impl Stage {
    fn step(
        &self,
        row: &[f64],
        x: &[f64],
        slots: &[Vec<f64>],
        hands: &mut Hands<'_>,
    ) -> Vec<Vec<f64>> {
        let rows = x.len();
        let column = |v: &[f64]| RefTensor::new(&[rows, 1], v.to_vec()).unwrap();
        let mut bound: HashMap<*const _, RefTensor> = HashMap::new();
        for (node, source) in &self.inputs {
            let value = match source {
                Source::State => column(x),
                Source::Coeff(k) => RefTensor::scalar(row[*k]),
                Source::Slot(k) => column(&slots[*k]),
            };
            bound.insert(std::ptr::from_ref(self.graph.node(*node)), value);
        }
        // in the order they were emitted
        for node in self.graph.nodes() {
            if matches!(node.op, Op::Normal | Op::Gamma | Op::Poisson) {
                bound.insert(std::ptr::from_ref(node), column(&(hands.draw)(node.op)));
            }
        }
        let out = evaluate(&self.graph, &self.outputs, &|node, _| {
            Ok(bound[&std::ptr::from_ref(node)].clone())
        });
        out.unwrap().into_iter().map(|t| t.data).collect()
    }
}
