//! A registry and a pipeline of one component, small enough to build a graph by hand.

use diffx::base::{DType, Result};
use diffx::plugin::{Registry, Trust};
use diffx::sample::build::{Network, Parts};
use diffx::sample::{Build, Component, Model, ModelIo, Process, ProcessFn, Space, Stats};
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, Mutex};

pub(crate) const OPEN: Trust<'static> = Trust { allowed: true, sha256: None };

/// A registry that keeps its log.
pub(crate) fn registry() -> (Registry, Arc<Mutex<Vec<String>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&log);
    let registry = Registry::new(Box::new(move |level, text| {
        sink.lock().unwrap().push(format!("{level} {text}"));
    }));
    (registry, log)
}

pub(crate) fn loaded(file: &Path) -> Registry {
    let (mut registry, _) = registry();
    registry.load(file, &OPEN).unwrap();
    registry
}

pub(crate) fn parts() -> Parts {
    Parts {
        components: vec![Component {
            name: "x".into(),
            dtype: DType::F32,
            dims: vec![3],
            space: Space::Continuous,
            classes: 0,
        }],
        processes: Vec::new(),
        stats: vec![Stats { x_mean: 0.0, x_var: 2.5, w_mean: 0.0, w_var: 2.5 }],
        conds: Vec::new(),
        networks: Vec::new(),
        guidances: Vec::new(),
        float: DType::F32,
        weight_dtype: DType::F32,
    }
}

/// A graph with every function of a process in it, and its hash.
pub(crate) fn process_graph(process: Arc<dyn Process>) -> Result<u64> {
    let mut parts = parts();
    parts.processes.push(Arc::clone(&process));
    let mut b = Build::new(&parts, 4)?;
    for (f, _, n_in, _) in ProcessFn::ALL.iter().filter(|row| process.has(row.0)) {
        let state = diffx::base::Desc::new(DType::F32, &[4, 3])?;
        let level = diffx::base::Desc::new(DType::F32, &[4, 1])?;
        let levels_first = matches!(f, ProcessFn::Prior | ProcessFn::Precond);
        let mut inputs = Vec::new();
        for i in 0..*n_in {
            let is_state = (i == 0 && !levels_first) || (*f == ProcessFn::ToScore && i == 1);
            inputs.push(b.graph.input(&format!("{f:?}{i}"), if is_state { state } else { level }));
        }
        b.process(0, *f, 2, &inputs)?;
    }
    Ok(b.graph.hash())
}

/// Builds a model as the `base` network.
pub(crate) fn build_model(model: Arc<dyn Model>) -> Result<(u64, usize)> {
    let mut parts = parts();
    parts.networks.push(Network { slot: "base".into(), model, lora: None });
    let mut b = Build::new(&parts, 4)?;
    let x = b.graph.input("x", diffx::base::Desc::new(DType::F32, &[4, 3])?);
    let sigma = b.graph.input("sigma", diffx::base::Desc::new(DType::F32, &[4])?);
    let mut io = ModelIo {
        phase: 0,
        x: vec![x],
        sigma: vec![sigma],
        cond: Vec::new(),
        slots: Vec::new(),
        slots_out: Vec::new(),
        out: vec![diffx::graph::NodeId::ERROR],
    };
    let depth = b.graph.scope_depth();
    let built = b.network("base", &mut io);
    assert_eq!(b.graph.scope_depth(), depth, "scopes are left as they were found");
    built.map(|()| (b.graph.hash(), b.graph.nodes().len()))
}

pub(crate) fn config(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}
