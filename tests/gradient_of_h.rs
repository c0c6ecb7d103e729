//! The gradient of log h as a network of its own (`cdg_gradient`): targets of one batch against their closed forms, and
//! guidance by what is learned from them beside the golden rows A8 and A9 of the specification.

#[path = "support/guided.rs"]
#[allow(dead_code)]
mod guided;

use diffx::base::special::normal::{log_ndtr, ndtr};
use diffx::base::{DType, Desc, Result};
use diffx::cpu::Cpu;
use diffx::engine::recipe::Recipe;
use diffx::engine::trainer::Trainer;
use diffx::engine::{Engine, Evaluation, Pipeline};
use diffx::exec::{Interrupt, RunKey, SessionBuilder};
use diffx::graph::{AttrKey, Attrs, Graph, NodeId, Op};
use diffx::mem::{Budget, Tensor};
use diffx::plugin::Registry;
use diffx::sample::{
    Build, Component, Model, ModelInfo, ModelIo, Network, Parts, Predicts, Space, Stats,
};
use diffx::train::LossIo;
use guided::{config, engine, model, moments, normal, run, share};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

type Output = Box<dyn Fn(&mut Graph, &ModelIo) -> NodeId + Send + Sync>;

/// A network whose output is a formula, and where it stood in the graph.
struct Formula {
    dims: i64,
    output: Output,
    node: Mutex<NodeId>,
}

impl Model for Formula {
    fn info(&self) -> Result<ModelInfo> {
        let component = Component {
            name: "x".into(),
            dtype: DType::F64,
            dims: vec![self.dims],
            space: Space::Continuous,
            classes: 0,
        };
        Ok(ModelInfo {
            predicts: Predicts::Value,
            components: vec![component],
            conds: vec![],
            slots: vec![],
        })
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        io.out[0] = (self.output)(&mut b.graph, io);
        *self.node.lock().unwrap() = io.out[0];
        Ok(())
    }
}

fn formula(dims: i64, output: Output) -> Arc<Formula> {
    Arc::new(Formula { dims, output, node: Mutex::new(NodeId::ERROR) })
}

/// The weighted target of each row, `[rows, dims]`: of a network that says 0 the loss has the gradient
/// `-2 weight target/(rows dims)`.
fn targets(dims: usize, rows: usize, settings: &Value, log_odds: Output) -> Vec<f64> {
    let mut r = Registry::new(Box::new(|level, text| assert!(level > 1, "{text}")));
    for plugin in [diffx_processes::plugin(), diffx_objectives::plugin()] {
        // Safety: a static of a crate linked into this test.
        unsafe { r.register(std::ptr::from_ref(plugin).cast()) }.unwrap();
    }
    let d = dims as i64;
    let base = formula(d, Box::new(move |g, _| g.full(0.0, DType::F64, &[rows, dims])));
    let h = formula(d, log_odds);
    let info = base.info().unwrap();
    let network = |slot: &str, model: &Arc<Formula>| Network {
        slot: slot.into(),
        model: Arc::clone(model) as Arc<dyn Model>,
        lora: None,
    };
    let parts = Parts {
        components: info.components,
        processes: vec![r.process("ve", &json!({"center": 0})).unwrap()],
        stats: vec![Stats::default()],
        conds: vec![],
        networks: vec![network("base", &base), network("h", &h)],
        guidances: vec![],
        float: DType::F64,
        weight_dtype: DType::F64,
    };
    let objective = r.objective("cdg_gradient", settings).unwrap();
    let mut b = Build::new(&parts, rows).unwrap();
    let attrs = Attrs::NONE.with_dims(AttrKey::Shape, &[rows, dims]).with_int(AttrKey::Purpose, 64);
    let x0 = b.graph.emit(Op::Normal, &[], attrs);
    let mut io = LossIo { x0: vec![x0], metrics: vec![NodeId::ERROR; 2], ..LossIo::default() };
    objective.loss(&mut b, &mut io).unwrap();
    let one = b.graph.scalar(1.0);
    let said = *base.node.lock().unwrap();
    let gradient = b.graph.grad(io.loss.unwrap(), one, &[said])[0];
    b.graph.check().unwrap();
    let g = &b.graph;
    let mut session = SessionBuilder::new(Arc::new(Cpu::new(2)));
    let out = session.buffer("out", g.desc(gradient));
    let plan = session.plan(g, &[], &[(gradient, out)], &[]).unwrap();
    let mut session = session.allocate(&Budget::unlimited()).unwrap();
    session.replay(plan, RunKey { seed: 3, step: 0, first_sample: 0 }).unwrap();
    let mut bytes = vec![0; g.desc(gradient).bytes()];
    session.read(out, &mut bytes).unwrap();
    let scale = -0.5 * (rows * dims) as f64;
    bytes.chunks_exact(8).map(|c| scale * f64::from_ne_bytes(c.try_into().unwrap())).collect()
}

/// The mean over groups of `repeats` rows of the cosine between their mean target and a direction.
fn cosine(targets: &[f64], direction: &[f64], repeats: usize) -> f64 {
    let d = direction.len();
    let size = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let groups = targets.chunks_exact(repeats * d);
    let n = groups.len() as f64;
    let of = |group: &[f64]| {
        let mut mean = vec![0.0; d];
        for row in group.chunks_exact(d) {
            mean.iter_mut().zip(row).for_each(|(m, t)| *m += t);
        }
        let along: f64 = mean.iter().zip(direction).map(|(m, a)| m * a).sum();
        along / (size(&mean) * size(direction))
    };
    groups.map(of).sum::<f64>() / n
}

/// A9, fact 5: after R repeats a covariation in n dimensions points along the gradient by `1/sqrt(1 + (n + 1)/R)`; h itself,
/// differentiated, by 1. Here log h is linear, so that every row of a batch is a repeat.
#[test]
fn what_a_covariation_tells_of_the_gradient() {
    // columns of the golden row: dimensions, repeats, measured there, predicted
    let rows = [
        (16, 1, 4096, 0.235_130_041_031, 0.235_702_260_396),
        (16, 64, 64, 0.906_091_596_744, 0.888_888_888_889),
        (256, 64, 16, 0.458_511_533_285, 0.446_516_457_749),
        (784, 64, 8, 0.266_375_610_246, 0.274_559_289_222),
        (784, 1024, 1, 0.752_746_674_922, 0.752_368_656_916),
    ];
    for (dims, repeats, groups, measured, predicted) in rows {
        let n = repeats * groups;
        let direction: Vec<f64> = (0..dims).map(|i| ((i * i + 1) as f64).sin()).collect();
        let slope = 0.05 / direction.iter().map(|a| a * a).sum::<f64>().sqrt();
        let along: Vec<f64> = direction.iter().map(|a| a * slope).collect();
        let odds = || -> Output {
            let along = along.clone();
            Box::new(move |g, io| {
                let desc = Desc::new(DType::F64, &[along.len(), 1]).unwrap();
                let bytes: Vec<u8> = along.iter().flat_map(|a| a.to_ne_bytes()).collect();
                let a = g.constant(desc, &bytes);
                let at = g.matmul(io.x[0], a, false, false);
                g.shifted(at, -20.0)
            })
        };
        let level = json!([0.01, 0.010_000_1]);
        let covary = json!({"target": "covariation", "unit": 1, "range": level});
        let got = cosine(&targets(dims, n, &covary, odds()), &direction, repeats);
        println!("{dims} dimensions, {repeats} repeats: cosine {got:.4} of {predicted:.4}");
        assert!((got - predicted).abs() < 0.05 && (got - measured).abs() < 0.05, "{got} (A9)");
        let distil = json!({"unit": 1, "range": level});
        let exact = cosine(&targets(dims, n.min(64), &distil, odds()), &direction, 1);
        assert!((exact - 1.0).abs() < 1e-6, "{exact}");
    }
}

/// Between any two levels, not only close ones: weighted by h, the mean of `sigma grad log h` is
/// `sigma E[x0 | event]/(1 + sigma^2)` for N(0, 1).
#[test]
fn covariations_at_any_distance() {
    let edge = 1.5;
    let odds = || -> Output {
        Box::new(move |g, io| {
            // x is w/sqrt(1 + sigma^2), the noise input ln(sigma)/4
            let rows = g.desc(io.x[0]).dims()[0];
            let log = g.scaled(io.sigma[0], 4.0);
            let log = g.reshape(log, &[rows, 1]);
            let sigma = g.exp(log);
            let square = g.mul(sigma, sigma);
            let total = g.shifted(square, 1.0);
            let root = g.unary(Op::Sqrt, total);
            let far = g.scaled(root, -edge);
            let above = g.add(io.x[0], far);
            let z = g.div(above, sigma);
            let inside = g.unary(Op::LogNdtr, z);
            let minus = g.scaled(z, -1.0);
            let outside = g.unary(Op::LogNdtr, minus);
            g.sub(inside, outside)
        })
    };
    let n = 200_000;
    let given = (-0.5 * edge * edge - log_ndtr(-edge)).exp() / std::f64::consts::TAU.sqrt();
    for (sigma, lower) in [(0.5, 0.9), (0.5, 0.3), (2.0, 0.7), (2.0, 0.05)] {
        let want = sigma * given / (1.0 + sigma * sigma);
        let mean = |settings: Value| {
            let t = targets(1, n, &settings, odds());
            let mean = t.iter().sum::<f64>() / n as f64;
            let var = t.iter().map(|t| (t - mean) * (t - mean)).sum::<f64>() / n as f64;
            (mean, (var / n as f64).sqrt())
        };
        let range = json!([sigma, sigma * 1.000_000_1]);
        let (got, error) =
            mean(json!({"target": "covariation", "lower": lower, "unit": 1, "range": range}));
        println!("from {sigma} to {:.3}: {got:.4} +- {error:.4} of {want:.4}", sigma * lower);
        // the weights are divided by their mean over the batch, whose error comes to it
        assert!((got - want).abs() < 4.0 * error + 0.01 * want && error < 0.02 * want, "{lower}");
        let (exact, _) = mean(json!({"unit": 1, "range": range}));
        assert!((exact / want - 1.0).abs() < 0.02, "{exact}, {want}");
    }
}

/// A model file of a network trained by `objective` on samples of one number.
fn learn(
    engine: &Arc<Engine>,
    name: &str,
    data: &Arc<Tensor>,
    objective: Value,
    h: Option<&PathBuf>,
) -> Result<PathBuf> {
    let mut recipe = json!({
        "model": {"id": "mlp", "config": {"dims": [1], "width": 32, "depth": 2, "predicts": "value", "out": 1}},
        "process": {"id": "ve", "config": {"center": 0}},
        "objective": objective,
        "steps": 1500, "batch": 512, "rate": 0.004, "seed": 1, "ema": 0.99
    });
    if let Some(h) = h {
        recipe["networks"] = json!({"h": {"model": h}});
    }
    let recipe = Recipe::parse(&recipe.to_string())?;
    let tables = vec![("x".to_owned(), Arc::clone(data))];
    let mut trainer = Trainer::with_tables(engine, recipe, tables)?;
    while trainer.training().done() < trainer.training().steps() {
        trainer.advance(&mut || Interrupt::Continue)?;
    }
    let path = model::temporary(&format!("{name}.safetensors"));
    trainer.save(&path)?;
    Ok(path)
}

/// A8: N(0, 1) given x >= 1.5 by an h learned from 20 000 samples, differentiated, distilled, and by covariations. The golden
/// row fits cubics level by level between neighbours of 60 levels; networks across levels should do no worse.
#[test]
fn guidance_by_a_learned_gradient() {
    let engine = engine();
    let model = normal(&engine, "gradient", &[1]);
    let n = 20_000;
    let stream = diffx::base::philox::Stream { seed: 8, purpose: 70, step: 0, ordinal: 0 };
    let data: Vec<f32> = (0..n).map(|i| stream.normal_f32(i as u64)).collect();
    let data = Arc::new(Tensor::from_f32(&[n, 1], &data, engine.budget()).unwrap());
    let cdg = json!({"id": "cdg", "config": {"event": "x >= 1.5", "unit": 1}});
    let h = learn(&engine, "gradient-h", &data, cdg, None).unwrap();
    let by = |target: &str| json!({"id": "cdg_gradient", "config": {"target": target, "unit": 1}});
    let distilled = learn(&engine, "gradient-q", &data, by("distil"), Some(&h)).unwrap();
    let covaried = learn(&engine, "gradient-c", &data, by("covariation"), Some(&h)).unwrap();
    // without its h there is nothing to learn from
    let e = learn(&engine, "gradient-none", &data, by("distil"), None).unwrap_err();
    assert!(e.message.contains("needs a network h"), "{e}");

    // columns: hit, mean and relative error of the gradient of h in the golden row
    let cases = [
        ("differentiated", None, 0.971_925, 1.901_467, 0.134_985),
        ("distilled", Some(&distilled), 0.971_925, 1.901_467, 0.134_985),
        ("by covariations", Some(&covaried), 0.791_95, 1.932_904, 0.910_428),
    ];
    for (name, gradient, hit, mean, error) in cases {
        let mut doob = json!({"event": "x >= 1.5", "h": "network", "unit": 1, "redraws": 0});
        let mut networks = json!({"h": {"model": h}});
        if let Some(path) = gradient {
            doob["gradient"] = json!("q");
            networks["q"] = json!({"model": path});
        }
        let mut it = config(json!([{"id": "doob", "config": doob}]), json!("sde_dpmpp_2m"), 60);
        it["networks"] = networks;
        // s of 3 and 1e-3 in the golden row: sigma^2 = e^(2s) - 1
        it["sigma_max"] = json!(20.06);
        it["sigma_min"] = json!(0.0447);
        let got = run(&model, &it, 8192).unwrap();
        let (m, v) = moments(&got.x);
        let inside = share(&got.inside);
        let off = error_of_gradient(&model, &it);
        println!(
            "{name}: {inside:.3} inside, mean {m:.4} of 1.9387, variance {v:.4}, gradient off by {off:.3}; \
             golden {hit:.3}, {mean:.4}, {error:.3}"
        );
        let most = f64::min(error + 0.1, 0.8); // no gradient at all is off by 1
        assert!(inside > hit - 0.1 && (m - mean).abs() < 0.1 && off < most, "{name} (A8)");
    }
    for path in [h, distilled, covaried] {
        std::fs::remove_file(path).unwrap();
    }
}

/// The relative error of grad h over unguided states of 60 levels, in the golden row's coordinate; h itself is exact here.
fn error_of_gradient(model: &Arc<diffx::engine::OpenModel>, config: &Value) -> f64 {
    let mut config = config.clone();
    config["dtype"] = json!("f64");
    let pipeline = Pipeline::new(model, &config.to_string()).unwrap();
    let (mut w, mut levels) = (Vec::new(), Vec::new());
    let (per, edge) = (64, 1.5);
    for k in 0..60 {
        let s = 3.0 * (1e-3f64 / 3.0).powf(f64::from(k) / 60.0);
        for i in 0..per {
            // quantiles of N(0, 1)
            let y = diffx::base::special::normal::ndtri((f64::from(i) + 0.5) / f64::from(per));
            w.push(y * s.exp());
            levels.push((2.0 * s).exp_m1().sqrt());
        }
    }
    let rows = w.len();
    let tensor = |x: &[f64], dims: &[usize]| {
        let mut t =
            Tensor::new(Desc::new(DType::F64, dims).unwrap(), &Budget::unlimited()).unwrap();
        for (to, x) in t.bytes_mut().chunks_exact_mut(8).zip(x) {
            to.copy_from_slice(&x.to_ne_bytes());
        }
        Arc::new(t)
    };
    let inputs =
        [("x".to_owned(), tensor(&w, &[rows, 1])), ("sigma".to_owned(), tensor(&levels, &[rows]))];
    let e = Evaluation { slot: "", phase: 0, inputs: &inputs, outputs: &["x".to_owned()] };
    let out = pipeline.evaluate(&e).unwrap();
    let guided = out[0].elements::<f64>().unwrap();
    let (mut off, mut size) = (0.0, 0.0);
    for ((d, w), s) in guided.iter().zip(&w).zip(&levels) {
        let total = 1.0 + s * s;
        let z = (w / total - edge) / (s / total.sqrt());
        let (h, rate) = (ndtr(z), (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt());
        let want = rate / (s * total.sqrt());
        let got = h * (d - w / total) / (s * s);
        // by y = w e^-s
        off += (got - want).powi(2) * total;
        size += want * want * total;
    }
    (off / size).sqrt()
}
