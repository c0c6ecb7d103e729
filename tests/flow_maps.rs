//! Generators of few steps against known laws: consistency training, MeanFlow and drifting learn a normal law, whose
//! networks here have two numbers each, so that there is one right answer; their samplers then give that law in one step
//! and in several. And `fista` recovers a sparse vector from half as many measurements.

use diffx::base::philox::Stream;
use diffx::base::special::normal::ndtr;
use diffx::base::{DType, Desc, Result};
use diffx::cpu::Cpu;
use diffx::engine::recipe::Recipe;
use diffx::engine::trainer::Trainer;
use diffx::engine::{Engine, Job, JobOptions, OpenModel, Options, Pipeline, State};
use diffx::exec::{Interrupt, SessionBuilder, WeightBinding};
use diffx::graph::reference::evaluate;
use diffx::graph::{Graph, NodeId, Op, Weight, WeightInit};
use diffx::mem::{Budget, Tensor};
use diffx::plugin::Registry;
use diffx::sample::{
    Build, Component, Cond, Eval, Model, ModelInfo, ModelIo, Network, Parts, Predicts, ProcessFn,
    Program, Replay, Request, Rows, Space, Stats,
};
use diffx::train::update::lookup;
use diffx::train::{Dataset, Optimizer, Plan, Training};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Data N(.7, .25).
const MEAN: f64 = 0.7;
const STD: f64 = 0.5;

fn registry() -> Registry {
    let mut r = Registry::new(Box::new(|level, text| assert!(level > 1, "{text}")));
    let plugins = [
        diffx_models::plugin(),
        diffx_processes::plugin(),
        diffx_samplers::plugin(),
        diffx_guidance::plugin(),
        diffx_objectives::plugin(),
    ];
    for plugin in plugins {
        // Safety: a linked descriptor is a constant.
        unsafe { r.register((&raw const *plugin).cast()) }.unwrap();
    }
    r
}

/// A network of two weights, mean m and log of the deviation s.
#[derive(Clone, Copy)]
enum Two {
    /// The end of the path through w: m + (w - m) s/√(s² + sigma²).
    End,
    /// The average velocity of flow matching from t to the condition r.
    Average,
    /// m + s w
    Line,
}

impl Two {
    /// √(((1 - t) s)² + t²)
    fn spread(g: &mut Graph, t: NodeId, sd: NodeId) -> NodeId {
        let rest = g.scaled(t, -1.0);
        let rest = g.shifted(rest, 1.0);
        let data = g.mul(rest, sd);
        let (a, b) = (g.square(data), g.square(t));
        let sum = g.add(a, b);
        g.unary(Op::Sqrt, sum)
    }

    fn middle(g: &mut Graph, t: NodeId, mean: NodeId) -> NodeId {
        let rest = g.scaled(t, -1.0);
        let rest = g.shifted(rest, 1.0);
        g.mul(rest, mean)
    }
}

impl Model for Two {
    fn info(&self) -> Result<ModelInfo> {
        let space = Space::Continuous;
        let dims = vec![1];
        let x = Component { name: "x".into(), dtype: DType::F64, dims, space, classes: 0 };
        let r = Cond { name: "r".into(), desc: Desc::new(DType::F64, &[1])?, null_value: 0.0 };
        let average = matches!(self, Self::Average);
        Ok(ModelInfo {
            predicts: if average { Predicts::Velocity } else { Predicts::Denoised },
            components: vec![x],
            conds: if average { vec![r] } else { vec![] },
            slots: vec![],
        })
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        let (g, w) = (&mut b.graph, io.x[0]);
        let rows = g.desc(w).dims()[0];
        let one = Desc::new(g.float(), &[1])?;
        let mean = g.weight("mean", one, WeightInit::Zeros);
        let log = g.weight("log_std", one, WeightInit::Zeros);
        let sd = g.exp(log);
        io.out[0] = match self {
            Self::End => {
                let noise = g.scaled(io.sigma[0], 4.0);
                let sigma = g.exp(noise);
                let sigma = g.reshape(sigma, &[rows, 1]);
                let (a, b) = (g.square(sd), g.square(sigma));
                let sum = g.add(a, b);
                let root = g.unary(Op::Sqrt, sum);
                let ratio = g.div(sd, root);
                let off = g.sub(w, mean);
                let off = g.mul(off, ratio);
                g.add(mean, off)
            }
            Self::Average => {
                let (t, r) = (g.reshape(io.sigma[0], &[rows, 1]), io.cond[0]);
                let (here, there) = (Self::middle(g, t, mean), Self::middle(g, r, mean));
                let (wide, narrow) = (Self::spread(g, t, sd), Self::spread(g, r, sd));
                let ratio = g.div(narrow, wide);
                let off = g.sub(w, here);
                let off = g.mul(ratio, off);
                let moved = g.add(there, off);
                let (way, time) = (g.sub(w, moved), g.sub(t, r));
                g.div(way, time)
            }
            Self::Line => {
                let scaled = g.mul(w, sd);
                g.add(mean, scaled)
            }
        };
        Ok(())
    }
}

fn parts(process: &str, model: Arc<dyn Model>) -> Parts {
    let info = model.info().unwrap();
    Parts {
        components: info.components,
        processes: vec![registry().process(process, &json!({})).unwrap()],
        stats: vec![Stats::default()],
        conds: info.conds,
        networks: vec![Network { slot: "base".into(), model, lora: None }],
        guidances: vec![],
        float: DType::F64,
        weight_dtype: DType::F64,
    }
}

/// Trains on data with exactly the moments of the law; the averaged weights.
fn train(
    parts: &Parts,
    objective: (&str, Value),
    steps: u32,
    batch: usize,
) -> HashMap<String, f64> {
    const N: usize = 1 << 13;
    let mut x = vec![0f32; N];
    Stream { seed: 2, purpose: 64, step: 0, ordinal: 0 }.fill_normal_f32(0, &mut x);
    let mean = x.iter().sum::<f32>() / N as f32;
    let var = x.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / N as f32;
    x.iter_mut().for_each(|x| *x = MEAN as f32 + STD as f32 * (*x - mean) / var.sqrt());
    let budget = Budget::unlimited();
    let zeros = |_: &Cond| Tensor::from_f32(&[N, 1], &vec![0.0; N], &budget).unwrap();
    let conds = parts.conds.iter().map(zeros).collect();
    let x = Tensor::from_f32(&[N, 1], &x, &budget).unwrap();
    let optimizer = Optimizer { rate: 0.02, warmup: 0, clip: 0.0, ..Optimizer::default() };
    let plan = Plan { steps, batch, seed: 3, optimizer, trained: vec!["base".into()] };
    let objective = registry().objective(objective.0, &objective.1).unwrap();
    let data = Dataset::new(vec![x], conds).unwrap();
    let (backend, none) = (Arc::new(Cpu::new(1)), HashMap::new());
    let mut training =
        Training::new(backend, parts, &*objective, plan, data, &mut lookup(&none), &budget)
            .unwrap();
    while training.done() < training.steps() {
        training.advance(&mut || Interrupt::Continue).unwrap();
    }
    let value = |b: &[u8]| f64::from_le_bytes(b[..8].try_into().unwrap());
    training.weights(true).unwrap().into_iter().map(|(n, _, b)| (n, value(&b))).collect()
}

/// Samples by a built-in sampler through these levels.
fn sample(parts: &Parts, sampler: &str, knots: &[f64], weights: &HashMap<String, f64>) -> Vec<f64> {
    let n = 40_000;
    let sampler = registry().sampler(sampler, &json!({})).unwrap();
    let rows = Arc::new(Rows::new(sampler.as_ref(), parts, &[knots.to_vec()]).unwrap());
    let mut session = SessionBuilder::new(Arc::new(Cpu::new(1)));
    let budget = Budget::unlimited();
    let bind = &mut |wanted: &[Weight]| {
        let one = |w: &Weight| {
            let tensor = Tensor::from_f64(w.desc.dims(), &[weights[&w.name]], &budget)?;
            Ok(WeightBinding::Tensor(Arc::new(tensor)))
        };
        wanted.iter().map(one).collect::<Result<Vec<_>>>()
    };
    let program =
        Program::new(parts, sampler.as_ref(), &rows, 10_000, false, &mut session, bind).unwrap();
    let mut replay = Replay::new(program, session.allocate(&budget).unwrap());
    let request =
        Request { seed: 5, first_sample: 0, n_samples: n, preview_every: 0, conds: vec![] };
    replay.begin(&rows, request, &[], &budget).unwrap();
    replay.finish().unwrap();
    let results = replay.take_results();
    let x = &results.iter().find(|(name, _)| name == "x").unwrap().1;
    x.elements::<f64>().unwrap().to_vec()
}

/// Kolmogorov-Smirnov distance from N(mean, std²); 0.0097 is its 99.9 % point for 40 000 draws.
fn distance(mut x: Vec<f64>, mean: f64, std: f64) -> f64 {
    x.sort_by(f64::total_cmp);
    let n = x.len() as f64;
    let gap = |(i, x): (usize, &f64)| (ndtr((x - mean) / std) - (i as f64 + 0.5) / n).abs();
    x.iter().enumerate().map(gap).fold(0.0, f64::max)
}

const EXACT: f64 = 0.0105;

fn near(what: &str, weights: &HashMap<String, f64>, tolerance: f64) {
    let (mean, std) = (weights["mean"], weights["log_std"].exp());
    println!("{what}: learned mean {mean:.4}, deviation {std:.4}");
    let good = (mean - MEAN).abs() < tolerance && (std - STD).abs() < tolerance;
    assert!(good, "{what}: {mean}, {std}");
}

fn known() -> HashMap<String, f64> {
    HashMap::from([("mean".to_owned(), MEAN), ("log_std".to_owned(), STD.ln())])
}

#[test]
fn consistency_training_finds_the_end_of_the_path() {
    let parts = parts("ve", Arc::new(Two::End));
    // a gap of 1/512, and none
    for (what, config) in [
        ("gap", json!({"stage": 8})),
        ("tangent", json!({"tangent": true})),
        ("huber", json!({"stage": 8, "huber": 0.1})),
    ] {
        let found = train(&parts, ("consistency", config), 1500, 512);
        near(what, &found, 0.02);
        let d = distance(sample(&parts, "consistency", &[80.0, 0.0], &found), MEAN, STD);
        println!("consistency, {what}, one step: KS {d:.4}");
        assert!(d < 0.03, "{what}: {d}");
    }
    // the sampler with the exact network: any number of steps
    for knots in [&[80.0, 0.0][..], &[80.0, 0.8, 0.0], &[80.0, 5.0, 1.0, 0.3, 0.0]] {
        let d = distance(sample(&parts, "consistency", knots, &known()), MEAN, STD);
        println!("consistency, {} steps: KS {d:.4}", knots.len() - 1);
        assert!(d < EXACT, "{knots:?}: {d}");
    }
    // a sampler that takes D for a mean makes one step of each, so its law is too wide or too narrow
    let d = distance(sample(&parts, "ancestral", &[80.0, 0.8, 0.0], &known()), MEAN, STD);
    assert!(d > 0.03, "{d}");
}

#[test]
fn mean_flow_finds_the_average_velocity() {
    let parts = parts("flow", Arc::new(Two::Average));
    // the closed form divides by t - r, so no rows have them equal
    let found = train(&parts, ("meanflow", json!({"equal": 0.0})), 1500, 512);
    near("meanflow", &found, 0.02);
    let far = 1000.0;
    for knots in [&[far, 0.0][..], &[far, 1.0, 0.0], &[far, 4.0, 1.0, 0.25, 0.0]] {
        let steps = knots.len() - 1;
        let learned = distance(sample(&parts, "flow_map", knots, &found), MEAN, STD);
        let exact = distance(sample(&parts, "flow_map", knots, &known()), MEAN, STD);
        println!("flow_map, {steps} steps: KS {learned:.4}, with the exact velocity {exact:.4}");
        assert!(exact < EXACT && learned < 0.03, "{knots:?}: {exact}, {learned}");
    }
    // Euler tells the network r = 0 at every step: it leads to the data, and no step may stop before
    let d = distance(sample(&parts, "euler", &[far, 1.0, 0.0], &known()), MEAN, STD);
    assert!(d > 0.03, "{d}");
}

#[test]
fn drifting_moves_a_generator_to_the_data() {
    let parts = parts("ve", Arc::new(Two::Line));
    for config in [
        json!({"widths": [0.5]}),
        json!({"kernel": "gaussian", "widths": [0.7]}),
        json!({"widths": [0.5, 2.0], "relative": true}),
    ] {
        let found = train(&parts, ("drifting", config.clone()), 800, 128);
        near(&config.to_string(), &found, 0.02);
        let d = distance(sample(&parts, "euler", &[1.0, 0.0], &found), MEAN, STD);
        println!("drifting, one step: KS {d:.4}");
        assert!(d < 0.03, "{config}: {d}");
    }
}

/// A gap that f32 does not hold in t would be 0/0; the least that it holds is trained on.
#[test]
fn gaps_below_the_precision_are_refused() {
    let engine = Engine::new(Options { threads: 1, ..Options::default() }).unwrap();
    let x = Arc::new(Tensor::from_f32(&[4, 1], &[-1.0, 0.0, 1.0, 2.0], engine.budget()).unwrap());
    let first = |config: Value| {
        let recipe = json!({
            "process": "ve", "objective": {"id": "consistency", "config": config}, "batch": 64, "steps": 3,
            "model": {"id": "mlp", "config": {"dims": [1], "width": 8, "depth": 1}},
        });
        let recipe = Recipe::parse(&recipe.to_string())?;
        let mut trainer = Trainer::with_tables(&engine, recipe, vec![("x".into(), x.clone())])?;
        trainer.advance(&mut || Interrupt::Continue)?;
        Ok(())
    };
    for config in [json!({"q": 256, "stage": 6}), json!({"stage": 30})] {
        let e: diffx::base::Error = first(config).unwrap_err();
        assert!(e.to_string().contains("the precision of f32"), "{e}");
    }
    first(json!({"stage": 22, "k": 0})).unwrap();
    first(json!({"stage": 40, "tangent": true})).unwrap();
}

/// .4 N(-1, .25²) + .6 N(1, .25²): its distribution function.
fn two_lobes(x: f64) -> f64 {
    0.4 * ndtr((x + 1.0) / 0.25) + 0.6 * ndtr((x - 1.0) / 0.25)
}

/// Distance from the two lobes of what a recipe learns, sampled by its own sampler in so many steps.
fn learned(recipe: Value, pipeline: Value, steps: &[u32]) -> Vec<f64> {
    const N: usize = 8192;
    let engine = Engine::new(Options { threads: 2, ..Options::default() }).unwrap();
    let mut x = vec![0f32; N];
    Stream { seed: 9, purpose: 64, step: 0, ordinal: 0 }.fill_normal_f32(0, &mut x);
    let lobe = |(i, x): (usize, &f32)| 0.25 * x + if i % 5 < 2 { -1.0 } else { 1.0 };
    let x: Vec<f32> = x.iter().enumerate().map(lobe).collect();
    let budget = Budget::unlimited();
    let table = |v: &[f32]| Arc::new(Tensor::from_f32(&[N, 1], v, &budget).unwrap());
    let mut tables = vec![("x".into(), table(&x))];
    if recipe["objective"]["id"] == "meanflow" {
        tables.push(("r".into(), table(&[0.0; N])));
    }
    let mut all = json!({
        "batch": 256, "rate": 0.003, "warmup": 50, "ema": 0.99, "seed": 3, "grid": "edm",
        "model": {"id": "mlp", "config": {"dims": [1], "width": 48, "depth": 2}},
    });
    all.as_object_mut().unwrap().extend(recipe.as_object().unwrap().clone());
    let recipe = Recipe::parse(&all.to_string()).unwrap();
    let mut trainer = Trainer::with_tables(&engine, recipe, tables).unwrap();
    while trainer.training().done() < trainer.training().steps() {
        trainer.advance(&mut || Interrupt::Continue).unwrap();
    }
    let objective = all["objective"]["id"].as_str().unwrap();
    let name = format!("diffx-flow-map-{}-{objective}.safetensors", std::process::id());
    let path = std::env::temp_dir().join(name);
    trainer.save(&path).unwrap();
    let model = OpenModel::open(&engine, path.to_str().unwrap(), "").unwrap();
    std::fs::remove_file(path).unwrap();
    let far = |n: &u32| {
        let mut config = pipeline.clone();
        config["steps"] = json!(n);
        let pipeline = Pipeline::new(&model, &config.to_string()).unwrap();
        let options = JobOptions { seed: 4, n_samples: 20_000, ..JobOptions::default() };
        let job = Job::start(&pipeline, options).unwrap();
        assert!(job.wait(Duration::from_secs(3600)));
        assert_eq!(job.progress().state, State::Done, "{:?}", job.error());
        let x = job.result("x").unwrap();
        let mut x: Vec<f64> = x.elements::<f32>().unwrap().iter().map(|x| f64::from(*x)).collect();
        x.sort_by(f64::total_cmp);
        let n = x.len() as f64;
        let gap = |(i, x): (usize, &f64)| (two_lobes(*x) - (i as f64 + 0.5) / n).abs();
        x.iter().enumerate().map(gap).fold(0.0, f64::max)
    };
    let found: Vec<f64> = steps.iter().map(far).collect();
    println!("learned by {objective} in {steps:?} steps: KS {found:.3?}");
    found
}

/// Through the engine as a user has it, with a built-in network; a single step of a denoiser gives their mean alone.
#[test]
fn networks_learn_two_lobes_in_one_step() {
    let consistency = json!({
        "process": "ve", "objective": {"id": "consistency", "config": {"stage": 4}},
        "sampler": "consistency", "steps": 2500,
    });
    let found = learned(consistency, json!({"sigma_max": 20.0}), &[1, 2]);
    assert!(found.iter().all(|d| *d < 0.1), "{found:?}");
    let mlp =
        json!({"dims": [1], "width": 48, "depth": 2, "conds": {"r": 1}, "predicts": "velocity"});
    let mean_flow = json!({
        "process": "flow", "objective": {"id": "meanflow", "config": {"mean": 0.0, "std": 2.0, "equal": 0.5, "power": 0.0}},
        "model": {"id": "mlp", "config": mlp}, "sampler": "flow_map", "steps": 2500,
    });
    // the slope of the average velocity between two narrow lobes is more than so small a network learns so soon
    let found = learned(mean_flow, json!({}), &[1, 16]);
    assert!(found[0] < 0.25 && found[1] < 0.08, "{found:?}");
    let drifting = json!({
        "process": "ve", "objective": {"id": "drifting", "config": {"widths": [0.3, 1.0]}},
        "sampler": "euler", "steps": 2000,
    });
    let found = learned(drifting, json!({"sigma_max": 1.0}), &[1]);
    assert!(found[0] < 0.1, "{found:?}");
    let denoiser = json!({
        "process": "ve", "objective": {"id": "dsm", "config": {}}, "sampler": "euler", "steps": 500,
    });
    assert!(learned(denoiser, json!({}), &[1])[0] > 0.3);
}

#[test]
fn fista_recovers_a_sparse_vector() {
    const D: usize = 40;
    const M: usize = 20;
    let mut draws = vec![0f32; M * D];
    Stream { seed: 7, purpose: 64, step: 0, ordinal: 0 }.fill_normal_f32(0, &mut draws);
    let matrix: Vec<f64> = draws.iter().map(|a| f64::from(*a) / (M as f64).sqrt()).collect();
    let mut truth = [0.0; D];
    (truth[3], truth[17], truth[31]) = (1.5, -1.0, 2.0);
    let measured: Vec<f64> =
        matrix.chunks(D).map(|row| row.iter().zip(truth).map(|(a, x)| a * x).sum()).collect();
    let r = registry();
    let solve = |iterations: usize, y: Option<&[f64]>| {
        let mut config = json!({
            "matrix": matrix, "rows": M, "lambda": 1e-3, "iterations": iterations
        });
        if let Some(y) = y {
            config["measured"] = json!(y);
        }
        let model = Measured { dims: D as i64, y: M };
        let mut parts = parts("ve", Arc::new(model));
        parts.guidances.push(r.guidance("fista", &config).unwrap());
        let mut b = Build::new(&parts, 2).unwrap();
        let start = b.graph.full(0.3, DType::F64, &[2, D]);
        let sigma = b.graph.full(1.0, DType::F64, &[2]);
        let eval = Eval { phase: 0, x: vec![start], sigma: vec![sigma], cond: None };
        let d = b.denoise(0, &[eval]).unwrap()[0][0];
        let out = evaluate(&b.graph, &[d], &|node, _| panic!("{} is asked for", node.op.name()));
        out.unwrap().remove(0).data
    };
    let error = |x: &[f64]| {
        let far: f64 = x.iter().zip(truth).map(|(a, b)| (a - b).powi(2)).sum();
        (far / truth.iter().map(|x| x * x).sum::<f64>()).sqrt()
    };
    let (few, many) = (solve(5, Some(&measured)), solve(400, Some(&measured)));
    println!("fista: error {:.4} after 5, {:.5} after 400", error(&few[..D]), error(&many[..D]));
    assert_eq!(many[..D], many[D..], "two samples of one start");
    assert!(error(&many[..D]) < 0.01 && error(&few[..D]) > 0.1);
    // the condition is the same measurement
    assert_eq!(solve(5, None), solve(5, Some(&[0.5; M])));
}

/// A sparse sample has zeros, which data above 0 have no coordinate for: they come as near to it as the process goes.
#[test]
fn fista_keeps_to_what_a_process_has() {
    for (process, least) in [("gbm", 1e-20), ("cir", 1e-20), ("ve", f64::NEG_INFINITY)] {
        // the first number is measured as 2, the second as none, the third as one that cannot be
        let config = json!({
            "matrix": [1, 0, 0, 0, 1, 0, 0, 0, 1], "rows": 3, "measured": [2, 0, -1], "iterations": 60
        });
        let mut parts = parts(process, Arc::new(Measured { dims: 3, y: 3 }));
        parts.guidances.push(registry().guidance("fista", &config).unwrap());
        let mut b = Build::new(&parts, 1).unwrap();
        let start = b.graph.full(0.3, DType::F64, &[1, 3]);
        let sigma = b.graph.full(1.0, DType::F64, &[1]);
        let eval = Eval { phase: 0, x: vec![start], sigma: vec![sigma], cond: None };
        let d = b.denoise(0, &[eval]).unwrap()[0][0];
        let clean = b.graph.full(0.0, DType::F64, &[1, 1]);
        let x = match process {
            "ve" => d,
            _ => b.process(0, ProcessFn::Decode, 0, &[d, clean]).unwrap()[0],
        };
        let out = evaluate(&b.graph, &[x], &|node, _| panic!("{} is asked for", node.op.name()));
        let got = out.unwrap().remove(0).data;
        println!("{process}: {got:?}");
        assert!((got[0] - 1.99).abs() < 1e-3, "{process}: {got:?}");
        for (x, want) in got[1..].iter().zip([0.0_f64, -0.99]) {
            assert!(
                (x - want.max(least)).abs() < 1e-3 && *x >= 0.999 * least,
                "{process}: {got:?}"
            );
        }
    }
}

/// D = w, with a condition y of 0.5.
struct Measured {
    dims: i64,
    y: usize,
}

impl Model for Measured {
    fn info(&self) -> Result<ModelInfo> {
        let (space, dims) = (Space::Continuous, vec![self.dims]);
        let desc = Desc::new(DType::F64, &[self.y])?;
        Ok(ModelInfo {
            predicts: Predicts::Denoised,
            components: vec![Component {
                name: "x".into(),
                dtype: DType::F64,
                dims,
                space,
                classes: 0,
            }],
            conds: vec![Cond { name: "y".into(), desc, null_value: 0.5 }],
            slots: vec![],
        })
    }

    fn build(&self, _: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        io.out[0] = io.x[0];
        Ok(())
    }
}
