//! Model files for tests: a network of the built-in plugins with weights drawn by address, so that every run of a test
//! has the same file.
#![allow(dead_code)]

use diffx::base::philox::Stream;
use diffx::base::{DType, Result};
use diffx::engine::manifest::{KEY, Manifest, Part};
use diffx::engine::{Engine, Options, Setting};
use diffx::graph::NodeId;
use diffx::sample::{Build, Component, ModelIo, Network, Parts, Stats};
use diffx::weights::{Out, write};
use serde_json::Map;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file name of this test process.
pub(crate) fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("diffx-{}-{name}", std::process::id()))
}

pub(crate) fn engine(threads: usize) -> Arc<Engine> {
    Engine::new(Options { threads, ..Options::default() }).unwrap()
}

pub(crate) fn manifest(dims: &[i64], process: &str) -> Manifest {
    let list: Vec<String> = dims.iter().map(i64::to_string).collect();
    let model = format!("mlp:{{\"dims\":[{}],\"width\":32,\"depth\":2}}", list.join(","));
    Manifest {
        model: Setting::parse(&model).unwrap(),
        components: vec![Part {
            name: "x".into(),
            dims: dims.to_vec(),
            process: Setting::parse(process).unwrap(),
            stats: Stats { x_mean: 1.0, x_var: 1.0, w_mean: 0.9, w_var: 0.2 }, // of something positive
            sigma_min: None,
            sigma_max: None,
        }],
        networks: BTreeMap::new(),
        sampler: None,
        grid: None,
        guidance: vec![],
        steps: Some(12),
        pilot: None,
        data: Map::new(),
        provenance: Map::new(),
    }
}

/// Writes the file: each weight is normal with standard deviation 0.1, small enough that denoised values of a positive
/// process stay positive.
pub(crate) fn save(path: &Path, manifest: &Manifest) -> Result<()> {
    let engine = engine(1);
    let model = engine.model(&manifest.model)?;
    let info = model.info()?;
    let components: Vec<Component> = info
        .components
        .iter()
        .zip(&manifest.components)
        .map(|(c, p)| Component { dims: p.dims.clone(), dtype: DType::F32, ..c.clone() })
        .collect();
    let processes = manifest.components.iter().map(|p| engine.process(&p.process));
    let parts = Parts {
        components,
        processes: processes.collect::<Result<_>>()?,
        stats: manifest.components.iter().map(|p| p.stats).collect(),
        conds: info.conds.clone(),
        networks: vec![Network { slot: "base".into(), model, lora: None }],
        guidances: vec![],
        float: DType::F32,
        weight_dtype: DType::F32,
    };
    let mut b = Build::new(&parts, 1)?;
    let n = parts.components.len();
    let mut io = ModelIo {
        phase: 0,
        x: vec![],
        sigma: vec![],
        cond: b.cond.clone(),
        slots: vec![],
        slots_out: vec![],
        out: vec![NodeId::ERROR; n],
    };
    for c in 0..n {
        let desc = parts.state(c, 1)?;
        io.x.push(b.graph.full(0.0, desc.dtype, desc.dims()));
        io.sigma.push(b.graph.full(0.0, DType::F32, &[1]));
    }
    b.network("base", &mut io)?;
    let mut tensors: Vec<(String, diffx::base::Desc, Vec<u8>)> = Vec::new();
    for (i, w) in b.graph.weights().iter().enumerate() {
        let stream = Stream { seed: 99, purpose: 5, step: i as u32, ordinal: 0 };
        let n = w.desc.shape.elements() as u64;
        let bytes = (0..n).flat_map(|e| (0.1 * stream.normal_f32(e)).to_ne_bytes()).collect();
        tensors.push((w.name.clone(), w.desc, bytes));
    }
    let outs: Vec<Out<'_>> =
        tensors.iter().map(|(name, desc, bytes)| Out { name, desc: *desc, bytes }).collect();
    write(path, &BTreeMap::from([(KEY.to_owned(), manifest.to_json())]), &outs)
}
