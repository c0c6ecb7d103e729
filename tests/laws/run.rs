//! Whole runs through plugins, the sampling loop and the CPU backend, and the distance of samples from a law.

use crate::oracle::{Exact, Marginal, Oracle};
use diffx::base::DType;
use diffx::cpu::Cpu;
use diffx::exec::{Backend, Interrupt, SessionBuilder};
use diffx::mem::{Budget, Tensor};
use diffx::plugin::Registry;
use diffx::sample::{
    Component, Network, Parts, Process, Program, Replay, Request, Rows, Scheme, Simulation, Space,
    Stats, knots,
};
use serde_json::Value;
use std::sync::Arc;

/// Where a run begins.
pub(crate) enum Start {
    /// The oracle's exact law at the largest level.
    Marginal,
    /// The process's own prior for data of these statistics.
    Prior(Stats),
}

/// A process and a sampler around an oracle.
pub(crate) struct Setup<'a> {
    pub(crate) process: (&'a str, Value),
    pub(crate) sampler: (&'a str, Value),
    pub(crate) steps: u32,
    /// Smallest and largest noise level.
    pub(crate) range: (f64, f64),
    pub(crate) start: Start,
    pub(crate) oracle: Arc<dyn Oracle>,
}

/// The range of levels a process has for data of these statistics.
pub(crate) fn range(id: &str, config: &Value, stats: &Stats) -> (f64, f64) {
    let info = registry().process(id, config).unwrap().info(stats).unwrap();
    (info.sigma_min, info.sigma_max)
}

pub(crate) fn registry() -> Registry {
    let mut registry = Registry::new(Box::new(|_, _| {}));
    let plugins = [diffx_processes::plugin(), diffx_samplers::plugin(), diffx_grids::plugin()];
    for plugin in plugins {
        // Safety: a static of a crate linked into this test.
        unsafe { registry.register(std::ptr::from_ref(plugin).cast()) }.unwrap();
    }
    registry
}

fn parts(process: Arc<dyn Process>) -> Parts {
    Parts {
        components: vec![Component {
            name: "x".into(),
            dtype: DType::F32,
            dims: vec![1],
            space: Space::Continuous,
            classes: 0,
        }],
        processes: vec![process],
        stats: vec![Stats { x_mean: 2.0, x_var: 2.0, w_mean: 1.4, w_var: 0.3 }],
        conds: vec![],
        networks: vec![],
        guidances: vec![],
        float: DType::F32,
        weight_dtype: DType::F32,
    }
}

impl Setup<'_> {
    /// Decoded samples.
    pub(crate) fn sample(&self, n: usize, seed: u64) -> Vec<f64> {
        let registry = registry();
        let mut parts = parts(registry.process(self.process.0, &self.process.1).unwrap());
        let model = Arc::new(Exact(Arc::clone(&self.oracle)));
        parts.networks.push(Network { slot: "base".into(), model, lora: None });
        match self.start {
            Start::Marginal => parts.guidances.push(Arc::new(Marginal(Arc::clone(&self.oracle)))),
            Start::Prior(stats) => parts.stats = vec![stats],
        }
        let sampler = registry.sampler(self.sampler.0, &self.sampler.1).unwrap();
        let grid = registry.grid("edm", &Value::Object(Default::default())).unwrap();
        let knots = knots(grid.as_ref(), self.steps, &[self.range]).unwrap();
        let rows = Arc::new(Rows::new(sampler.as_ref(), &parts, &knots).unwrap());
        let mut session = SessionBuilder::new(Arc::new(Cpu::new(2)));
        let program =
            Program::new(&parts, sampler.as_ref(), &rows, 10_000, false, &mut session, &mut |_| {
                Ok(vec![])
            })
            .unwrap();
        let budget = Budget::unlimited();
        let mut replay = Replay::new(program, session.allocate(&budget).unwrap());
        let request =
            Request { seed, first_sample: 0, n_samples: n, preview_every: 0, conds: vec![] };
        replay.begin(&rows, request, &[], &budget).unwrap();
        replay.finish().unwrap();
        let results = replay.take_results();
        let x = &results.iter().find(|(name, _)| name == "x").unwrap().1;
        x.elements::<f32>().unwrap().iter().map(|x| f64::from(*x)).collect()
    }
}

/// Largest distance between the empirical distribution and `cdf`.
pub(crate) fn distance(mut samples: Vec<f64>, cdf: impl Fn(f64) -> f64) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    let n = samples.len() as f64;
    let gap = |(i, x): (usize, &f64)| {
        let p = cdf(*x);
        (p - i as f64 / n).abs().max((p - (i + 1) as f64 / n).abs())
    };
    samples.iter().enumerate().map(gap).fold(0.0, f64::max)
}

/// Exact paths from x0: the values at each time.
pub(crate) fn simulate(
    id: &str,
    config: &Value,
    x0: f64,
    times: &[f64],
    n: usize,
) -> Vec<Vec<f64>> {
    paths(id, config, x0, times, Scheme::Exact, n)
}

/// Paths from x0: the values at each time.
pub(crate) fn paths(
    id: &str,
    config: &Value,
    x0: f64,
    times: &[f64],
    scheme: Scheme,
    n: usize,
) -> Vec<Vec<f64>> {
    let mut parts = parts(registry().process(id, config).unwrap());
    parts.float = DType::F64;
    let budget = Budget::unlimited();
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(2));
    let x0 = Tensor::from_f64(&[1], &[x0], &budget).unwrap();
    let paths = Simulation {
        parts: &parts,
        x0: &x0,
        times,
        keep: &[],
        scheme,
        n_samples: n,
        seed: 5,
        first_sample: 0,
    };
    let out = paths.run(&backend, &budget, &mut || Interrupt::Continue).unwrap();
    let values: &[f64] = out.elements().unwrap();
    (0..times.len())
        .map(|t| values.iter().skip(t).step_by(times.len()).copied().collect())
        .collect()
}
