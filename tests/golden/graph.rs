//! One process in f64: build a graph around its functions, run it on the CPU backend, read the numbers.

use diffx::base::{DType, Desc};
use diffx::cpu::Cpu;
use diffx::exec::{RunKey, SessionBuilder};
use diffx::graph::{AttrKey, Attrs, NodeId, Op};
use diffx::mem::Budget;
use diffx::plugin::Registry;
use diffx::sample::{Build, Component, Model, Network, Parts, Process, ProcessFn, Space, Stats};
use serde_json::Value;
use std::sync::Arc;

pub(crate) fn registry() -> Registry {
    let mut registry = Registry::new(Box::new(|_, _| {}));
    let plugins = [
        diffx_models::plugin(),
        diffx_processes::plugin(),
        diffx_guidance::plugin(),
        diffx_objectives::plugin(),
    ];
    for plugin in plugins {
        // Safety: a static of a crate linked into this test.
        unsafe { registry.register(std::ptr::from_ref(plugin).cast()) }.unwrap();
    }
    registry
}

pub(crate) fn process(id: &str, config: &Value) -> Arc<dyn Process> {
    registry().process(id, config).unwrap()
}

/// A pipeline of one vector of `size` numbers in f64, of data of mean 0 and variance `w_var` in w.
pub(crate) fn vector(
    size: i64,
    process: (&str, Value),
    model: Arc<dyn Model>,
    w_var: f64,
) -> Parts {
    let component = Component {
        name: "x".into(),
        dtype: DType::F64,
        dims: vec![size],
        space: Space::Continuous,
        classes: 0,
    };
    Parts {
        components: vec![component],
        processes: vec![self::process(process.0, &process.1)],
        stats: vec![Stats { w_var, ..Stats::default() }],
        conds: vec![],
        networks: vec![Network { slot: "base".into(), model, lora: None }],
        guidances: vec![],
        float: DType::F64,
        weight_dtype: DType::F64,
    }
}

/// Builds with `describe` and returns the values of the nodes it gives. State is [rows].
pub(crate) fn evaluate(
    process: &Arc<dyn Process>,
    rows: usize,
    describe: impl FnOnce(&mut Formula<'_, '_>) -> Vec<NodeId>,
) -> Vec<Vec<f64>> {
    evaluate_of(process, rows, &[], describe)
}

/// The same with samples of the given dims: state is [rows, dims].
pub(crate) fn evaluate_of(
    process: &Arc<dyn Process>,
    rows: usize,
    dims: &[i64],
    describe: impl FnOnce(&mut Formula<'_, '_>) -> Vec<NodeId>,
) -> Vec<Vec<f64>> {
    let parts = Parts {
        components: vec![Component {
            name: "x".into(),
            dtype: DType::F64,
            dims: dims.to_vec(),
            space: Space::Continuous,
            classes: 0,
        }],
        processes: vec![Arc::clone(process)],
        stats: vec![Stats { x_mean: 1.0, x_var: 1.0, w_mean: 1.0, w_var: 0.25 }],
        conds: vec![],
        networks: vec![],
        guidances: vec![],
        float: DType::F64,
        weight_dtype: DType::F32,
    };
    evaluate_in(&parts, rows, describe)
}

/// The same in a pipeline of any parts. Results are f64.
pub(crate) fn evaluate_in(
    parts: &Parts,
    rows: usize,
    describe: impl FnOnce(&mut Formula<'_, '_>) -> Vec<NodeId>,
) -> Vec<Vec<f64>> {
    let mut build = Build::new(parts, rows).unwrap();
    let outputs = describe(&mut Formula { b: &mut build });
    build.graph.check().unwrap();
    let mut session = SessionBuilder::new(Arc::new(Cpu::new(1)));
    let graph = &build.graph;
    let outs: Vec<_> =
        outputs.iter().map(|o| (*o, session.buffer("out", graph.desc(*o)))).collect();
    let plan = session.plan(graph, &[], &outs, &[]).unwrap();
    let mut session = session.allocate(&Budget::unlimited()).unwrap();
    session.replay(plan, RunKey { seed: 3, step: 0, first_sample: 0 }).unwrap();
    outs.iter()
        .map(|(node, buffer)| {
            let mut bytes = vec![0; graph.desc(*node).bytes()];
            session.read(*buffer, &mut bytes).unwrap();
            bytes.chunks_exact(8).map(|c| f64::from_ne_bytes(c.try_into().unwrap())).collect()
        })
        .collect()
}

/// Formulas in a build.
pub(crate) struct Formula<'a, 'b> {
    pub(crate) b: &'a mut Build<'b>,
}

impl Formula<'_, '_> {
    /// A tensor of the given values, one per row.
    pub(crate) fn values(&mut self, values: &[f64]) -> NodeId {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
        self.b.graph.constant(Desc::new(DType::F64, &[values.len()]).unwrap(), &bytes)
    }

    /// A tensor of any shape.
    pub(crate) fn tensor(&mut self, dims: &[usize], values: &[f64]) -> NodeId {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
        self.b.graph.constant(Desc::new(DType::F64, dims).unwrap(), &bytes)
    }

    /// i32 tokens.
    pub(crate) fn tokens(&mut self, dims: &[usize], values: &[i32]) -> NodeId {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
        self.b.graph.constant(Desc::new(DType::I32, dims).unwrap(), &bytes)
    }

    /// The same value in every row.
    pub(crate) fn same(&mut self, value: f64) -> NodeId {
        let rows = self.b.graph.batch();
        self.values(&vec![value; rows])
    }

    pub(crate) fn call(&mut self, f: ProcessFn, inputs: &[NodeId]) -> NodeId {
        self.b.process(0, f, 64, inputs).unwrap()[0]
    }

    pub(crate) fn unary(&mut self, op: Op, x: NodeId) -> NodeId {
        self.b.graph.unary(op, x)
    }

    pub(crate) fn ratio(&mut self, nu: f64, z: NodeId) -> NodeId {
        let attrs = Attrs::NONE.with_float(AttrKey::Nu, nu);
        self.b.graph.emit(Op::BesselRatio, &[z], attrs)
    }

    /// Derivative of each row of `y` by its own `x`.
    pub(crate) fn derivative(&mut self, y: NodeId, x: NodeId) -> NodeId {
        let rows = self.b.graph.batch();
        let ones = self.b.graph.full(1.0, DType::F64, &[rows]);
        self.b.graph.grad(y, ones, &[x])[0]
    }

    /// log of sum_i weight_i e^{terms_i}, row by row.
    pub(crate) fn log_mixture(&mut self, weights: &[f64], terms: &[NodeId]) -> NodeId {
        let rows = self.b.graph.batch();
        let g = &mut self.b.graph;
        let columns: Vec<NodeId> = terms
            .iter()
            .zip(weights)
            .map(|(t, w)| {
                let shifted = g.shifted(*t, w.ln());
                g.emit(Op::Reshape, &[shifted], Attrs::NONE.with_dims(AttrKey::Shape, &[rows, 1]))
            })
            .collect();
        let all = g.emit(Op::Concat, &columns, Attrs::NONE.with_int(AttrKey::Axis, 1));
        g.emit(Op::LogSumExp, &[all], Attrs::NONE.with_ints(AttrKey::Axes, vec![1]))
    }
}
