//! An engine with the test models, files of them, and a tuning driven from the first round to the last.

use crate::mixture::{self, Mixture, reward};
use crate::normal::Normal;
use diffx::base::DType;
use diffx::engine::manifest::{KEY, Manifest, Part};
use diffx::engine::tuner::Tuner;
use diffx::engine::{Engine, JobOptions, OpenModel, Options, Pipeline, Scoring, Setting};
use diffx::graph::NodeId;
use diffx::mem::{Budget, Tensor};
use diffx::sample::{Build, Component, ModelIo, Network, Parts, Stats};
use diffx::train::parameter::Parameter;
use diffx::train::{Report, Reward};
use diffx::weights::{Out, write};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

diffx_plugin::diffx_plugin! {
    id: "org.tuning",
    version: "1.0.0",
    license: "MIT",
    models: [Mixture, Normal],
    objectives: [crate::probe::Probe, crate::probe::Levels],
}

pub(crate) fn engine() -> Arc<Engine> {
    engine_with(Options { threads: 2, ..Options::default() })
}

pub(crate) fn engine_with(options: Options) -> Arc<Engine> {
    let engine = Engine::new(options).unwrap();
    // Safety: a static of this program.
    unsafe { engine.register(std::ptr::from_ref(plugin()).cast()) }.unwrap();
    engine
}

pub(crate) fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("diffx-tuning-{}-{name}", std::process::id()))
}

/// A file of a model under rectified flow, with first weights of a seed.
pub(crate) fn file(
    engine: &Arc<Engine>,
    name: &str,
    model: &str,
    dims: &[i64],
    seed: u64,
) -> PathBuf {
    let path = temporary(name);
    let manifest = Manifest {
        model: Setting::parse(model).unwrap(),
        components: vec![Part {
            name: "x".into(),
            dims: dims.to_vec(),
            process: Setting::parse("flow").unwrap(),
            stats: Stats { x_mean: 0.0, x_var: 1.0, w_mean: 0.0, w_var: 1.0 },
            sigma_min: Some(0.002),
            sigma_max: Some(1000.0),
        }],
        networks: BTreeMap::new(),
        sampler: Some(Setting::parse("heun").unwrap()),
        grid: Some(Setting::parse("flow_time").unwrap()),
        guidance: vec![],
        steps: Some(20),
        pilot: None,
        data: serde_json::Map::new(),
        provenance: serde_json::Map::new(),
    };
    let network = engine.model(&manifest.model).unwrap();
    let info = network.info().unwrap();
    let fill = |c: &Component| Component { dims: dims.to_vec(), dtype: DType::F32, ..c.clone() };
    let parts = Parts {
        components: info.components.iter().map(fill).collect(),
        processes: vec![engine.process(&Setting::of("flow")).unwrap()],
        stats: vec![manifest.components[0].stats],
        conds: info.conds.clone(),
        networks: vec![Network { slot: "base".into(), model: network, lora: None }],
        guidances: vec![],
        float: DType::F32,
        weight_dtype: DType::F32,
    };
    let mut b = Build::new(&parts, 1).unwrap();
    let desc = parts.state(0, 1).unwrap();
    let mut io = ModelIo {
        phase: 0,
        x: vec![b.graph.full(0.0, desc.dtype, desc.dims())],
        sigma: vec![b.graph.full(0.0, DType::F32, &[1])],
        cond: b.cond.clone(),
        slots: vec![],
        slots_out: vec![],
        out: vec![NodeId::ERROR],
    };
    b.network("base", &mut io).unwrap();
    let mut tensors = Vec::new();
    for w in b.graph.weights() {
        let mut bytes = vec![0; w.desc.bytes()];
        Parameter::of(w).unwrap().initial(seed, 0, &mut bytes).unwrap();
        tensors.push((w.name.clone(), w.desc, bytes));
    }
    let outs: Vec<Out<'_>> =
        tensors.iter().map(|(name, desc, bytes)| Out { name, desc: *desc, bytes }).collect();
    write(&path, &BTreeMap::from([(KEY.to_owned(), manifest.to_json())]), &outs).unwrap();
    path
}

pub(crate) fn open(engine: &Arc<Engine>, path: &Path) -> Arc<OpenModel> {
    OpenModel::open(engine, path.to_str().unwrap(), "").unwrap()
}

/// Rows of f32 as f64.
pub(crate) fn rows(t: &Tensor) -> Vec<f64> {
    t.elements::<f32>().unwrap().iter().map(|v| f64::from(*v)).collect()
}

/// The linear reward of the plane, with its gradient.
pub(crate) fn linear(x: &Tensor) -> Reward {
    let values = rows(x).chunks(2).map(reward).collect();
    let n = x.dims()[0];
    let slope: Vec<f32> = mixture::SLOPE.iter().map(|v| *v as f32).collect();
    let grads = Tensor::from_f32(&[n, 2], &slope.repeat(n), &Budget::unlimited()).unwrap();
    Reward { values, valid: vec![], grads: vec![("x".into(), Arc::new(grads))] }
}

/// Every round of a tuning; what its last update said.
pub(crate) fn drive(tuner: &mut Tuner, judge: &dyn Fn(&Tensor) -> Reward) -> Option<Report> {
    let mut last = None;
    for _ in tuner.tuning().done().0..tuner.tuning().plan().rounds {
        tuner.rollout(&[]).unwrap();
        let x = tuner.result(Some("x")).unwrap();
        tuner.reward(judge(&x)).unwrap();
        for _ in 0..tuner.left() {
            last = Some(tuner.advance().unwrap());
        }
    }
    last
}

/// What a law of the plane is worth.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Worth {
    pub(crate) reward: f64,
    /// To the model as it was.
    pub(crate) kl: f64,
    pub(crate) regret: f64,
}

impl Worth {
    /// KL over the least there is for as much reward.
    pub(crate) fn overhead(&self) -> f64 {
        self.kl / mixture::least_kl(self.reward)
    }
}

/// By the log-likelihood of the probability flow at samples of it.
pub(crate) fn worth(engine: &Arc<Engine>, path: &Path, n: usize) -> Worth {
    let model = open(engine, path);
    let pipeline = Pipeline::new(&model, r#"{"steps":40,"grid":"edm","sigma_max":80}"#).unwrap();
    let options = JobOptions { seed: 77, n_samples: n, ..JobOptions::default() };
    let job = diffx::engine::Job::start(&pipeline, options).unwrap();
    assert!(job.wait(std::time::Duration::from_secs(600)));
    let x = job.result("x").unwrap();
    let scoring = Scoring {
        inputs: &[("x".to_owned(), Arc::clone(&x))],
        steps: 32,
        probes: 0,
        seed: 0,
        first_sample: 0,
    };
    let log_p = pipeline.score(&scoring).unwrap();
    let log_p = log_p.elements::<f64>().unwrap();
    let x = rows(&x);
    let mean = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
    let at = |i: usize| &x[2 * i..2 * i + 2];
    Worth {
        reward: mean(&|i| reward(at(i))),
        kl: mean(&|i| log_p[i] - mixture::tilted(at(i), 0.0)),
        regret: mean(&|i| log_p[i] - mixture::tilted(at(i), 1.0)),
    }
}
