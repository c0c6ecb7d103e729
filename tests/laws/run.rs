//! Whole runs through plugins, the sampling loop and the CPU backend, and the distance of samples from a law.

use crate::oracle::{Exact, Marginal, Oracle};
use diffx::base::{DType, Desc, Result};
use diffx::cpu::Cpu;
use diffx::exec::{Backend, Interrupt, SessionBuilder};
use diffx::graph::{AttrKey, Attrs, Graph, Op, Weight};
use diffx::mem::{Budget, Tensor};
use diffx::plugin::Registry;
use diffx::sample::{
    Build, Component, Guidance, Model, ModelInfo, ModelIo, Network, Parts, Process, ProcessFn,
    Program, Replay, Request, Rows, Scheme, Simulation, Space, Stats, knots,
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

const STATS: Stats = Stats { x_mean: 2.0, x_var: 2.0, w_mean: 1.4, w_var: 0.3 };

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
        stats: vec![STATS],
        conds: vec![],
        networks: vec![],
        guidances: vec![],
        float: DType::F32,
        weight_dtype: DType::F32,
    }
}

impl Setup<'_> {
    /// Decoded samples.
    pub(crate) fn sample(self, n: usize, seed: u64) -> Vec<f64> {
        let (stats, guidance): (_, Option<Arc<dyn Guidance>>) = match self.start {
            Start::Marginal => (STATS, Some(Arc::new(Marginal(Arc::clone(&self.oracle))))),
            Start::Prior(stats) => (stats, None),
        };
        Run {
            process: self.process,
            sampler: self.sampler,
            steps: self.steps,
            range: self.range,
            stats,
            model: Arc::new(Exact(self.oracle)),
            guidance,
            dims: vec![1],
            float: DType::F32,
        }
        .sample(n, seed)
    }
}

/// A process and a sampler around any model.
pub(crate) struct Run<'a> {
    pub(crate) process: (&'a str, Value),
    pub(crate) sampler: (&'a str, Value),
    pub(crate) steps: u32,
    pub(crate) range: (f64, f64),
    pub(crate) stats: Stats,
    pub(crate) model: Arc<dyn Model>,
    pub(crate) guidance: Option<Arc<dyn Guidance>>,
    pub(crate) dims: Vec<i64>,
    pub(crate) float: DType,
}

impl Run<'_> {
    /// Decoded samples, one after another.
    pub(crate) fn sample(self, n: usize, seed: u64) -> Vec<f64> {
        let float = self.float;
        let (rows, mut replay) = self.plan().unwrap();
        let budget = Budget::unlimited();
        let request =
            Request { seed, first_sample: 0, n_samples: n, preview_every: 0, conds: vec![] };
        replay.begin(&rows, request, &[], &budget).unwrap();
        replay.finish().unwrap();
        let results = replay.take_results();
        let x = &results.iter().find(|(name, _)| name == "x").unwrap().1;
        match float {
            DType::F64 => x.elements::<f64>().unwrap().to_vec(),
            _ => x.elements::<f32>().unwrap().iter().map(|x| f64::from(*x)).collect(),
        }
    }

    /// Why the process does not do what the sampler asks.
    pub(crate) fn refused(self) -> String {
        self.plan().err().unwrap().to_string()
    }

    fn plan(self) -> Result<(Arc<Rows>, Replay)> {
        let registry = registry();
        let mut parts = parts(registry.process(self.process.0, &self.process.1).unwrap());
        parts.components[0].dims = self.dims;
        parts.components[0].dtype = self.float;
        (parts.float, parts.weight_dtype) = (self.float, self.float);
        parts.networks.push(Network { slot: "base".into(), model: self.model, lora: None });
        parts.guidances.extend(self.guidance);
        parts.stats = vec![self.stats];
        let sampler = registry.sampler(self.sampler.0, &self.sampler.1).unwrap();
        let grid = registry.grid("edm", &Value::Object(Default::default())).unwrap();
        let knots = knots(grid.as_ref(), self.steps, &[self.range]).unwrap();
        let rows = Arc::new(Rows::new(sampler.as_ref(), &parts, &knots)?);
        let mut session = SessionBuilder::new(Arc::new(Cpu::new(2)));
        let none = &mut |_: &[Weight]| Ok(vec![]);
        let program =
            Program::new(&parts, sampler.as_ref(), &rows, 10_000, false, &mut session, none)?;
        let replay = Replay::new(program, session.allocate(&Budget::unlimited())?);
        Ok((rows, replay))
    }
}

/// The denoiser of point masses of equal weight: the weights that the transition of the process itself gives them.
pub(crate) struct Atoms(pub(crate) Vec<f64>);

impl Model for Atoms {
    fn info(&self) -> Result<ModelInfo> {
        Exact(Arc::new(crate::oracle::LogNormalMixture::GOLDEN)).info()
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        let (rows, points) = (b.graph.desc(io.x[0]).dims()[0], self.0.len());
        let reshape = |g: &mut Graph, x, dims: &[usize]| {
            g.emit(Op::Reshape, &[x], Attrs::NONE.with_dims(AttrKey::Shape, dims))
        };
        let wide = |g: &mut Graph, x, from: &[usize]| {
            let x = reshape(g, x, from);
            let dims = Attrs::NONE.with_dims(AttrKey::Shape, &[rows, points]);
            let x = g.emit(Op::BroadcastTo, &[x], dims);
            reshape(g, x, &[rows * points, 1])
        };
        let g = &mut b.graph;
        let log = g.scaled(io.sigma[0], 4.0);
        let sigma = g.unary(Op::Exp, log);
        let bytes: Vec<u8> = self.0.iter().flat_map(|p| (*p as f32).to_ne_bytes()).collect();
        let at = g.constant(Desc::new(DType::F32, &[1, points])?, &bytes);
        let inputs =
            [wide(g, io.x[0], &[rows, 1]), wide(g, at, &[1, points]), wide(g, sigma, &[rows, 1])];
        let log = b.process(0, ProcessFn::LogTransition, 64, &inputs)?[0];
        let g = &mut b.graph;
        let log = reshape(g, log, &[rows, points]);
        let share = g.emit(Op::Softmax, &[log], Attrs::NONE.with_int(AttrKey::Axis, 1));
        let part = g.mul(share, at);
        io.out[0] = g.reduce(Op::Sum, part, &[1], true);
        Ok(())
    }
}

/// What a process says when it is asked for its prior.
pub(crate) fn refusal(id: &str, config: &Value) -> String {
    let parts = parts(registry().process(id, config).unwrap());
    let mut b = Build::new(&parts, 1).unwrap();
    let level = b.graph.full(1.0, DType::F32, &[1, 1]);
    b.process(0, ProcessFn::Prior, 1, &[level]).unwrap_err().to_string()
}

/// Largest distance between the empirical distribution and `cdf`.
pub(crate) fn distance(mut samples: Vec<f64>, cdf: impl Fn(f64) -> f64) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    assert!(samples.iter().all(|x| x.is_finite()), "a sample is no number");
    let n = samples.len() as f64;
    let gap = |(i, x): (usize, &f64)| {
        let p = cdf(*x);
        assert!((0.0..=1.0 + 1e-9).contains(&p), "the distribution function is {p} at {x}");
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
    simulate_from(id, config, x0, times, n, 5)
}

/// The same for any seed.
pub(crate) fn simulate_from(
    id: &str,
    config: &Value,
    x0: f64,
    times: &[f64],
    n: usize,
    seed: u64,
) -> Vec<Vec<f64>> {
    simulated((id, config), x0, times, Scheme::Exact, n, seed)
}

/// Paths from x0 by any scheme.
pub(crate) fn paths(
    id: &str,
    config: &Value,
    x0: f64,
    times: &[f64],
    scheme: Scheme,
    n: usize,
) -> Vec<Vec<f64>> {
    simulated((id, config), x0, times, scheme, n, 5)
}

fn simulated(
    (id, config): (&str, &Value),
    x0: f64,
    times: &[f64],
    scheme: Scheme,
    n: usize,
    seed: u64,
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
        seed,
        first_sample: 0,
    };
    let out = paths.run(&backend, &budget, &mut || Interrupt::Continue).unwrap();
    let values: &[f64] = out.elements().unwrap();
    (0..times.len())
        .map(|t| values.iter().skip(t).step_by(times.len()).copied().collect())
        .collect()
}
