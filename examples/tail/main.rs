//! VIX scenarios tuned to their tail under a budget of KL: four objectives, as many evaluations of the network each. The
//! reward is the logarithm of the largest close of the next 32 days; what a budget of KL can bring at most is the tilt of the
//! model's own law, known from its samples. Prints the table of docs/objectives.md and draws its picture.
//!
//! usage: tail DATA_FOLDER OUT_FOLDER [TRAINING_STEPS] [THOUSAND_EVALUATIONS] [AT_ONCE]

#[path = "../../src/command/chart/canvas.rs"]
#[allow(dead_code)] // the command draws more
mod canvas;
mod frontier;
mod picture;
#[path = "../../src/command/chart/ticks.rs"]
mod ticks;

use diffx::base::Result;
use diffx::engine::recipe::Recipe;
use diffx::engine::trainer::Trainer;
use diffx::engine::tuner::Tuner;
use diffx::engine::{Engine, Job, JobOptions, OpenModel, Options, Pipeline, Scoring, State};
use diffx::exec::Interrupt;
use diffx::mem::Tensor;
use diffx::train::Reward;
use diffx::weights::convert;
use diffx::{bail, fail};
use frontier::Frontier;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Samples of a rollout and of its update.
const SAMPLES: usize = 64;
/// Steps of every rollout.
const STEPS: usize = 12;
/// Levels per sample of the losses that noise final samples.
const DRAWS: usize = 4;
/// Samples a tuned law is judged by.
const JUDGED: usize = 512;
/// What one nat of KL costs in reward, from a small budget of KL to a large one.
const PRICES: [f64; 3] = [0.3, 0.15, 0.075];

/// A way to tune: its objective at a price, its rollouts, and evaluations of the network per sample of an update.
struct Method {
    name: &'static str,
    objective: fn(f64, f64) -> Value,
    rollout: &'static str,
    evaluations: usize,
}

/// Noise of the reverse SDE, for what is about steps; few accurate steps of the ODE for what is about final samples.
const SDE: &str = r#"{"sampler": "ddim:{\"eta\":1}", "grid": "flow_time"}"#;
const ODE: &str = r#"{"sampler": "unipc", "grid": "uniform_lambda"}"#;

/// Price and deviation of the reward to an objective. `nft` has standardised advantages and no price: the weight of its
/// KL that stands where a price would.
const METHODS: [Method; 4] = [
    Method {
        name: "elbo_pg",
        objective: |price, _| {
            json!({"id": "elbo_pg", "config": {
                "anchor": "ref", "estimator": "exact", "own": 1.0, "draws": DRAWS, "beta": price,
            }})
        },
        rollout: ODE,
        evaluations: STEPS + 3 * DRAWS,
    },
    Method {
        name: "flow_grpo",
        objective: |price, _| {
            json!({"id": "flow_grpo", "config": {
                "kl": 1.0, "kl_in": "reward", "reduce": "sum", "advantage": "mean", "beta": price,
                "advantage_clip": 1e9, "clip": 1e9,
            }})
        },
        rollout: SDE,
        evaluations: 4 * STEPS,
    },
    Method {
        name: "nft",
        objective: |price, deviation| {
            json!({"id": "nft", "config": {
                "estimator": "uniform", "draws": DRAWS, "kl": price / deviation,
            }})
        },
        rollout: ODE,
        evaluations: STEPS + 3 * DRAWS,
    },
    Method {
        name: "adjoint_matching",
        objective: |price, _| json!({"id": "adjoint_matching", "config": {"beta": price}}),
        rollout: SDE,
        evaluations: 4 * STEPS,
    },
];

/// A law that was tuned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) method: usize,
    pub(crate) price: f64,
    pub(crate) reward: f64,
    pub(crate) kl: f64,
    /// Standard errors of the two.
    pub(crate) errors: [f64; 2],
}

fn main() -> std::process::ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("tail: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(args: Vec<String>) -> Result<()> {
    let [data, out, rest @ ..] = args.as_slice() else {
        bail!(
            Invalid,
            "usage: tail DATA_FOLDER OUT_FOLDER [TRAINING_STEPS] [THOUSAND_EVALUATIONS] [AT_ONCE]"
        );
    };
    let number = |i: usize, default: usize| rest.get(i).map_or(Some(default), |v| v.parse().ok());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (Some(steps), Some(thousands), Some(at_once)) =
        (number(0, 1500), number(1, 200), number(2, cores))
    else {
        bail!(Invalid, "the numbers are {rest:?}, want whole ones");
    };
    let out = Path::new(out);
    let base = out.join("vix-gbm.safetensors");
    if !base.exists() {
        let engine = Engine::new(Options::default())?;
        train(&engine, &Path::new(data).join("vix-daily.csv"), steps, &base)?;
    }
    let world = World::of(base.clone(), Options::default())?;
    let (samples, _) = world.drawn(&world.base, 2048)?;
    let frontier = Frontier::of(&samples.iter().map(|x| reward(x)).collect::<Vec<_>>());
    eprintln!("the model: mean reward {:.4}, deviation {:.4}", frontier.mean, frontier.deviation);
    // a run has a thread to itself, so its numbers do not depend on how many go on
    let runs: Vec<(usize, f64)> =
        (0..METHODS.len()).flat_map(|m| PRICES.map(|price| (m, price))).collect();
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Point)>> {
        let world = World::of(base.clone(), Options { threads: 1, ..Options::default() })?;
        let mut done = Vec::new();
        while let Some((method, price)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (began, m) = (Instant::now(), &METHODS[*method]);
            let tuned = world.tuned(m, *price, thousands * 1000, &frontier, out)?;
            let (reward, kl, errors) = world.judged(&tuned)?;
            let seconds = began.elapsed().as_secs_f64();
            eprintln!("{} {price}: {seconds:.0} s, reward {reward:.3}, KL {kl:.2}", m.name);
            let at = runs.iter().position(|r| r == &(*method, *price)).unwrap_or(0);
            done.push((at, Point { method: *method, price: *price, reward, kl, errors }));
        }
        Ok(done)
    };
    let mut done = Vec::new();
    std::thread::scope(|s| -> Result<()> {
        let workers: Vec<_> = (0..at_once.max(1)).map(|_| s.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(points) => done.extend(points?),
                Err(_) => bail!(Internal, "a run panicked"),
            }
        }
        Ok(())
    })?;
    done.sort_by_key(|(at, _)| *at);
    let points: Vec<Point> = done.into_iter().map(|(_, p)| p).collect();
    println!(
        "| objective | price of a nat | mean of log max | KL, nats | least KL for it | times |"
    );
    println!("|---|---|---|---|---|---|");
    for p in &points {
        let least = frontier.least_kl(p.reward);
        println!(
            "| `{}` | {} | {:.3} ± {:.3} | {:.2} ± {:.2} | {least:.2} | {:.2} |",
            METHODS[p.method].name,
            p.price,
            p.reward,
            p.errors[0],
            p.kl,
            p.errors[1],
            p.kl / least,
        );
    }
    picture::draw(&out.join("tail.png"), &frontier, &points, &METHODS.map(|m| m.name))
}

/// The largest close, in logarithms.
fn reward(x: &[f32]) -> f64 {
    f64::from(x[peak(x)]).ln()
}

fn peak(x: &[f32]) -> usize {
    let mut at = 0;
    for (i, v) in x.iter().enumerate() {
        at = if *v > x[at] { i } else { at };
    }
    at
}

/// The recipe of models/vix.json with a smaller network, and under geometric Brownian motion: its steps are Gaussian in the
/// logarithm, as half of the objectives want.
fn train(engine: &Arc<Engine>, csv: &Path, steps: usize, out: &Path) -> Result<()> {
    let text = include_str!("../../models/vix.json");
    let mut recipe: Value = serde_json::from_str(text).map_err(|e| fail!(Format, "{e}"))?;
    recipe["data"]["path"] = json!(csv);
    recipe["model"]["config"] = json!({"width": 16, "depth": 1, "heads": 2});
    recipe["process"] = json!("gbm");
    recipe["steps"] = json!(steps);
    recipe["dtype"] = json!("f32");
    let mut trainer = Trainer::new(engine, Recipe::parse(&recipe.to_string())?)?;
    while trainer.training().done() < trainer.training().steps() {
        trainer.advance(&mut || Interrupt::Continue)?;
    }
    trainer.save(out)
}

/// The model as it was, the past its futures set out from, and the levels all runs go through.
struct World {
    engine: Arc<Engine>,
    base: PathBuf,
    history: Vec<f32>,
    sigma_max: f64,
}

impl World {
    fn of(base: PathBuf, options: Options) -> Result<Self> {
        let engine = Engine::new(options)?;
        let model = open(&engine, &base)?;
        let shown = model.manifest.data.get("history_values").and_then(Value::as_array);
        let Some(shown) = shown else { bail!(Format, "the model shows no history") };
        let shown: Vec<f32> = shown.iter().filter_map(Value::as_f64).map(|v| v as f32).collect();
        let Some(part) = model.manifest.components.first() else { bail!(Format, "no component") };
        let sigma_max = 20.0 * part.stats.w_var.sqrt();
        Ok(Self { engine, base, history: shown, sigma_max })
    }

    /// The past, once for each of `n` futures.
    fn inputs(&self, n: usize) -> Result<Vec<(String, Arc<Tensor>)>> {
        let dims = [n, self.history.len(), 1];
        let past = Tensor::from_f32(&dims, &self.history.repeat(n), self.engine.budget())?;
        Ok(vec![("history".to_owned(), Arc::new(past))])
    }

    fn rollout(&self, settings: &str) -> Result<Value> {
        let mut v: Value = serde_json::from_str(settings).map_err(|e| fail!(Format, "{e}"))?;
        v["steps"] = json!(STEPS);
        v["sigma_max"] = json!(self.sigma_max);
        Ok(v)
    }

    /// A file of the model tuned by so many evaluations of its network.
    fn tuned(
        &self,
        m: &Method,
        price: f64,
        evaluations: usize,
        frontier: &Frontier,
        out: &Path,
    ) -> Result<PathBuf> {
        let rounds = evaluations / (SAMPLES * m.evaluations);
        let config = json!({
            "objective": (m.objective)(price, frontier.deviation), "rollout": self.rollout(m.rollout)?,
            "rounds": rounds.max(1), "samples": SAMPLES, "rate": 1e-3, "schedule": "cosine", "warmup": 10,
            "ema": 0.95, "seed": 1,
        });
        let mut tuner = Tuner::new(&open(&self.engine, &self.base)?, &config.to_string())?;
        for _ in 0..tuner.tuning().plan().rounds {
            tuner.rollout(&self.inputs(SAMPLES)?)?;
            tuner.reward(judge(&*tuner.result(None)?, &self.engine)?)?;
            for _ in 0..tuner.left() {
                tuner.advance()?;
            }
        }
        let path = out.join(format!("vix-{}-{price}.safetensors", m.name));
        tuner.save(&path)?;
        Ok(path)
    }

    /// Samples of a law by Heun's method, and the tensor of them.
    fn drawn(&self, path: &Path, n: usize) -> Result<(Vec<Vec<f32>>, Arc<Tensor>)> {
        let job = Job::start(
            &self.pipeline(path)?,
            JobOptions { seed: 9, n_samples: n, inputs: self.inputs(n)?, ..JobOptions::default() },
        )?;
        while !job.wait(Duration::from_secs(60)) {}
        if let (true, Some(e)) = (job.progress().state != State::Done, job.error()) {
            return Err(e);
        }
        let x = job.result("x")?;
        let days = x.dims().get(1).copied().unwrap_or(1);
        Ok((x.elements::<f32>()?.chunks(days).map(<[f32]>::to_vec).collect(), x))
    }

    fn pipeline(&self, path: &Path) -> Result<Arc<Pipeline>> {
        let config =
            json!({"sampler": "heun", "grid": "edm", "steps": 20, "sigma_max": self.sigma_max});
        Pipeline::new(&open(&self.engine, path)?, &config.to_string())
    }

    /// Mean reward of a law, its KL to the model as it was, and their standard errors. Log-densities are those of the
    /// probability flow; both models get the same random directions for the divergence.
    fn judged(&self, path: &Path) -> Result<(f64, f64, [f64; 2])> {
        let (samples, x) = self.drawn(path, JUDGED)?;
        let mut inputs = self.inputs(JUDGED)?;
        inputs.push(("x".to_owned(), x));
        let scoring = Scoring { inputs: &inputs, steps: 16, probes: 1, seed: 3, first_sample: 0 };
        let now = convert::to_f64(&self.pipeline(path)?.score(&scoring)?)?;
        let then = convert::to_f64(&self.pipeline(&self.base)?.score(&scoring)?)?;
        let rewards: Vec<f64> = samples.iter().map(|x| reward(x)).collect();
        let ratios: Vec<f64> = now.iter().zip(&then).map(|(a, b)| a - b).collect();
        let ((reward, e), (kl, f)) = (mean(&rewards), mean(&ratios));
        Ok((reward, kl, [e, f]))
    }
}

/// Mean and standard error.
fn mean(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let var = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    (mean, (var / n).sqrt())
}

/// Rewards of samples and their gradient: 1/x at the peak.
fn judge(x: &Tensor, engine: &Engine) -> Result<Reward> {
    let days = x.dims().get(1).copied().unwrap_or(1);
    let mut slopes = vec![0.0; x.elements::<f32>()?.len()];
    let mut values = Vec::new();
    for (x, slope) in x.elements::<f32>()?.chunks(days).zip(slopes.chunks_mut(days)) {
        values.push(reward(x));
        slope[peak(x)] = 1.0 / x[peak(x)];
    }
    let grads = Arc::new(Tensor::from_f32(x.dims(), &slopes, engine.budget())?);
    Ok(Reward { values, valid: vec![], grads: vec![("x".into(), grads)] })
}

fn open(engine: &Arc<Engine>, path: &Path) -> Result<Arc<OpenModel>> {
    let Some(text) = path.to_str() else { bail!(Invalid, "OUT_FOLDER is no UTF-8 text") };
    OpenModel::open(engine, text, "")
}
