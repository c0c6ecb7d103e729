//! Compiles a case, loads it, and samples with what it brings.

use diffx::base::{DType, Result};
use diffx::cpu::Cpu;
use diffx::exec::{Backend, SessionBuilder, WeightBinding};
use diffx::graph::Weight;
use diffx::graph::builder::Lora;
use diffx::mem::{Budget, Tensor};
use diffx::plugin::{Registry, Trust};
use diffx::sample::{
    Guidance, Model, Network, Parts, Process, Program, Replay, Request, Rows, Sampler, Stats,
    Trajectory,
};
use diffx::train::Objective;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// Of every run.
pub(crate) const SEED: u64 = 11;

/// Compiles `tests/contract/NAME.c` once; none when this machine has no C compiler.
pub(crate) fn compile(name: &str) -> Option<PathBuf> {
    static DONE: Mutex<Option<HashMap<String, Option<PathBuf>>>> = Mutex::new(None);
    let mut done = DONE.lock().unwrap();
    let known = done.get_or_insert_default();
    if let Some(path) = known.get(name) {
        return path.clone();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("contract-{name}-{}.so", std::process::id()));
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"];
    let run = Command::new(&compiler)
        .args(flags)
        .args(["-fPIC", "-shared", "-I"])
        .arg(root.join("include"))
        .arg(root.join(format!("tests/contract/{name}.c")))
        .arg("-o")
        .arg(&out)
        .arg("-lm")
        .output();
    let path = match run {
        Err(e) => {
            println!("skipped: no C compiler ({compiler}: {e})");
            None
        }
        Ok(run) => {
            assert!(run.status.success(), "{name}.c: {}", String::from_utf8_lossy(&run.stderr));
            Some(out)
        }
    };
    known.insert(name.to_owned(), path.clone());
    path
}

/// A case and the ground it stands on.
pub(crate) struct Plugins(Registry);

/// The plugins of a case, or none, said out loud.
pub(crate) fn plugins(case: &str) -> Option<Plugins> {
    let mut all = Registry::new(Box::new(|level, message| println!("plugin ({level}): {message}")));
    for name in ["ve", case] {
        all.load(&compile(name)?, &Trust { allowed: true, sha256: None }).unwrap();
    }
    Some(Plugins(all))
}

impl Plugins {
    pub(crate) fn model(&self, id: &str, config: &str) -> Arc<dyn Model> {
        self.0.model(&full(id), &json(config)).unwrap()
    }

    pub(crate) fn process(&self, id: &str, config: &str) -> Arc<dyn Process> {
        self.0.process(&full(id), &json(config)).unwrap()
    }

    pub(crate) fn guidance(&self, id: &str, config: &str) -> Arc<dyn Guidance> {
        self.0.guidance(&full(id), &json(config)).unwrap()
    }

    pub(crate) fn sampler(&self, id: &str, config: &str) -> Arc<dyn Sampler> {
        self.0.sampler(&full(id), &json(config)).unwrap()
    }

    pub(crate) fn objective(&self, id: &str, config: &str) -> Arc<dyn Objective> {
        self.0.objective(&full(id), &json(config)).unwrap()
    }

    /// Geometric knots, the last 0.
    pub(crate) fn knots(&self, n: u32, hi: f64, lo: f64) -> Vec<f64> {
        let grid = self.0.grid(&full("geometric"), &json("{}")).unwrap();
        grid.knots(n, lo, hi).unwrap()
    }

    /// The parts of a pipeline around one model, with a process for each of its components.
    pub(crate) fn parts(&self, model: Arc<dyn Model>, processes: Vec<Arc<dyn Process>>) -> Parts {
        let info = model.info().unwrap();
        let stats = vec![Stats::default(); info.components.len()];
        let base = Network { slot: "base".into(), model, lora: None };
        Parts {
            components: info.components,
            processes,
            stats,
            conds: info.conds,
            networks: vec![base],
            guidances: vec![],
            float: DType::F32,
            weight_dtype: DType::F32,
        }
    }
}

fn full(id: &str) -> String {
    format!("org.contract.{id}")
}

fn json(config: &str) -> serde_json::Value {
    serde_json::from_str(config).unwrap()
}

pub(crate) fn with_lora(parts: &mut Parts, lora: Option<Lora>) {
    parts.networks[0].lora = lora;
}

/// Weights by `slot/name`.
pub(crate) type Weights = HashMap<String, Vec<f32>>;

pub(crate) fn weights(list: &[(&str, &[f32])]) -> Weights {
    list.iter().map(|(n, v)| ((*n).to_owned(), v.to_vec())).collect()
}

pub(crate) fn bind(all: &Weights, wanted: &[Weight]) -> Result<Vec<WeightBinding>> {
    wanted
        .iter()
        .map(|w| {
            let key = format!("{}/{}", w.slot, w.name);
            let Some(values) = all.get(&key) else {
                return Err(diffx::base::Error::new(diffx::base::Status::NotFound, key));
            };
            let tensor = match w.desc.dtype {
                DType::F64 => {
                    let wide: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
                    Tensor::from_f64(w.desc.dims(), &wide, &Budget::unlimited())?
                }
                _ => Tensor::from_f32(w.desc.dims(), values, &Budget::unlimited())?,
            };
            Ok(WeightBinding::Tensor(Arc::new(tensor)))
        })
        .collect()
}

pub(crate) fn backend() -> Arc<dyn Backend> {
    Arc::new(Cpu::new(2))
}

/// A pipeline to sample from.
pub(crate) struct Job {
    pub(crate) parts: Parts,
    pub(crate) sampler: Arc<dyn Sampler>,
    pub(crate) knots: Vec<Vec<f64>>,
    pub(crate) weights: Weights,
    pub(crate) conds: Vec<(String, Arc<Tensor>)>,
    pub(crate) batch: usize,
}

impl Job {
    pub(crate) fn new(parts: Parts, sampler: Arc<dyn Sampler>, knots: Vec<Vec<f64>>) -> Self {
        Self { parts, sampler, knots, weights: Weights::new(), conds: vec![], batch: 4096 }
    }

    fn begin(&self, first: u64, n: usize) -> Result<Replay> {
        let rows = Arc::new(Rows::new(&*self.sampler, &self.parts, &self.knots)?);
        let mut session = SessionBuilder::new(backend());
        let mut binder = |w: &[Weight]| bind(&self.weights, w);
        let program = Program::new(
            &self.parts,
            &*self.sampler,
            &rows,
            self.batch,
            false,
            &mut session,
            &mut binder,
        )?;
        let mut replay = Replay::new(program, session.allocate(&Budget::unlimited())?);
        let nulls: Vec<_> =
            self.parts.conds.iter().map(|c| (c.name.clone(), c.null_value)).collect();
        let request = Request {
            seed: SEED,
            first_sample: first,
            n_samples: n,
            preview_every: 0,
            conds: self.conds.clone(),
        };
        replay.begin(&rows, request, &nulls, &Budget::unlimited())?;
        Ok(replay)
    }

    /// Samples `first .. first + n`.
    pub(crate) fn run(&self, first: u64, n: usize) -> Result<Samples> {
        let mut replay = self.begin(first, n)?;
        replay.finish()?;
        Ok(Samples(replay.take_results()))
    }

    /// The states the first batch passes through.
    pub(crate) fn record(&self, n: usize) -> Result<Trajectory> {
        let mut replay = self.begin(0, n)?;
        let mut trajectory = Trajectory::new(&replay, &Budget::unlimited())?;
        trajectory.record(&mut replay, &mut || diffx::exec::Interrupt::Continue)?;
        Ok(trajectory)
    }
}

/// The results of a run, by name.
pub(crate) struct Samples(Vec<(String, Tensor)>);

impl Samples {
    fn tensor(&self, name: &str) -> &Tensor {
        &self.0.iter().find(|(n, _)| n == name).unwrap().1
    }
    pub(crate) fn bits(&self, name: &str) -> &[u8] {
        self.tensor(name).bytes()
    }
    pub(crate) fn values(&self, name: &str) -> Vec<f64> {
        self.tensor(name).elements::<f32>().unwrap().iter().map(|v| f64::from(*v)).collect()
    }
    pub(crate) fn tokens(&self, name: &str) -> &[i32] {
        self.tensor(name).elements::<i32>().unwrap()
    }
}
