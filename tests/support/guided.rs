//! Pipelines given an event whose network is `null`, exact for normal data under additive processes and for Gamma data
//! under BESQ and CIR, and what is measured of their samples.

#[path = "model.rs"]
pub(crate) mod model;

use diffx::base::Result;
use diffx::base::special::normal::ndtr;
use diffx::engine::{Engine, Job, JobOptions, OpenModel, Options, Pipeline, Setting};
use diffx::sample::Stats;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn engine() -> Arc<Engine> {
    Engine::new(Options { threads: 2, ..Options::default() }).unwrap()
}

/// A model of `dims` numbers whose data have these statistics.
pub(crate) fn exact(
    engine: &Arc<Engine>,
    name: &str,
    process: &str,
    dims: &[i64],
    stats: Stats,
) -> Arc<OpenModel> {
    let path = model::temporary(&format!("{name}.safetensors"));
    let mut manifest = model::manifest(dims, process);
    manifest.model = Setting::of("null");
    manifest.components[0].stats = stats;
    model::save(&path, &manifest).unwrap();
    let open = OpenModel::open(engine, path.to_str().unwrap(), "").unwrap();
    std::fs::remove_file(path).unwrap();
    open
}

pub(crate) fn normal(engine: &Arc<Engine>, name: &str, dims: &[i64]) -> Arc<OpenModel> {
    exact(engine, name, "ve", dims, Stats::default())
}

pub(crate) struct Got {
    pub(crate) x: Vec<f64>,
    pub(crate) inside: Vec<bool>,
    pub(crate) log_weight: Vec<f64>,
    pub(crate) draws: Vec<i32>,
}

pub(crate) fn run(model: &Arc<OpenModel>, config: &Value, n: usize) -> Result<Got> {
    seeded(model, config, n, 11)
}

pub(crate) fn seeded(model: &Arc<OpenModel>, config: &Value, n: usize, seed: u64) -> Result<Got> {
    let mut config = config.clone();
    config["dtype"] = json!("f64");
    let pipeline = Pipeline::new(model, &config.to_string())?;
    let options = JobOptions { seed, n_samples: n, ..JobOptions::default() };
    let job = Job::start(&pipeline, options)?;
    assert!(job.wait(Duration::from_secs(600)));
    let doubles = |name: &str| job.result(name).map(|t| t.elements::<f64>().unwrap().to_vec());
    let draws = job.result("draws").map(|t| t.elements::<i32>().unwrap().to_vec());
    Ok(Got {
        x: doubles("x")?,
        inside: job.result("feasible")?.bytes().iter().map(|b| *b != 0).collect(),
        log_weight: doubles("log_weight")?,
        draws: draws.unwrap_or_default(),
    })
}

pub(crate) fn moments(x: &[f64]) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    (mean, x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n)
}

pub(crate) fn share(of: &[bool]) -> f64 {
    of.iter().filter(|b| **b).count() as f64 / of.len() as f64
}

/// Kolmogorov's distance to a distribution function.
pub(crate) fn distance(x: &[f64], cdf: impl Fn(f64) -> f64) -> f64 {
    let mut x = x.to_vec();
    x.sort_by(f64::total_cmp);
    let n = x.len() as f64;
    let gap = |(i, x): (usize, &f64)| {
        let f = cdf(*x);
        (f - i as f64 / n).abs().max((f - (i + 1) as f64 / n).abs())
    };
    x.iter().enumerate().map(gap).fold(0.0, f64::max)
}

/// Kolmogorov's distance of two samples, and what it is at most in 99 of 100 cases where their laws are one.
pub(crate) fn two(a: &[f64], b: &[f64]) -> (f64, f64) {
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    a.sort_by(f64::total_cmp);
    b.sort_by(f64::total_cmp);
    let (n, m) = (a.len() as f64, b.len() as f64);
    let below = |v: &[f64], x: f64| v.partition_point(|y| *y <= x) as f64;
    let gap = |x: &f64| (below(&a, *x) / n - below(&b, *x) / m).abs();
    (a.iter().chain(&b).map(gap).fold(0.0, f64::max), 1.63 * (1.0 / n + 1.0 / m).sqrt())
}

/// N(0, 1) given x >= a.
pub(crate) fn tail(a: f64) -> impl Fn(f64) -> f64 {
    move |x| 1.0 - ndtr(-x.max(a)) / ndtr(-a)
}

/// log exp-mean: the estimate of the probability of the event.
pub(crate) fn probability(log_weight: &[f64]) -> f64 {
    log_weight.iter().map(|l| l.exp()).sum::<f64>() / log_weight.len() as f64
}

pub(crate) const GRID: &str = r#"{"id":"geometric","config":{"to_zero":false}}"#;

pub(crate) fn config(guidance: Value, sampler: Value, steps: u32) -> Value {
    let grid: Value = serde_json::from_str(GRID).unwrap();
    json!({"guidance": guidance, "sampler": sampler, "grid": grid, "steps": steps, "batch": 4096})
}
