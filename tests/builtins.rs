//! The built-in plugins on the real engine: they register, their formulas give the golden rows, every network and
//! objective builds, and the samplers reach laws known in closed form.
//!
//! With the null network D = c_skip w. For VE that is the exact denoiser of N(0, Var) data, for BESQ and CIR that of
//! b chi²_delta data (specs processes 1.5), so whole runs have a closed form without training.

use diffx::base::{DType, Desc, Result};
use diffx::cpu::Cpu;
use diffx::exec::{Backend, SessionBuilder, WeightBinding};
use diffx::graph::op::Op;
use diffx::graph::reference::{RefTensor, evaluate};
use diffx::graph::{NodeId, Weight};
use diffx::mem::Budget;
use diffx::plugin::{Candidate, Registry};
use diffx::sample::{
    Build, Component, Eval, Network, Parts, Process, ProcessFn, Program, Replay, Request, Rows,
    Space, Stats,
};
use diffx::train::LossIo;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

fn registry() -> Registry {
    let mut r = Registry::new(Box::new(|level, text| assert!(level > 1, "{text}")));
    let plugins = [
        diffx_models::plugin(),
        diffx_processes::plugin(),
        diffx_guidance::plugin(),
        diffx_samplers::plugin(),
        diffx_grids::plugin(),
        diffx_objectives::plugin(),
    ];
    for plugin in plugins {
        // Safety: a linked descriptor is a constant.
        unsafe { r.register((&raw const *plugin).cast()) }.unwrap();
    }
    r
}

fn parts(r: &Registry, process: (&str, Value), model: (&str, Value), stats: Stats) -> Parts {
    let model = r.model(model.0, &model.1).unwrap();
    let info = model.info().unwrap();
    Parts {
        components: info.components,
        processes: vec![r.process(process.0, &process.1).unwrap()],
        stats: vec![stats],
        conds: info.conds,
        networks: vec![Network { slot: "base".into(), model, lora: None }],
        guidances: vec![],
        float: DType::F32,
        weight_dtype: DType::F32,
    }
}

#[test]
fn every_factory_is_made_without_a_config() {
    let r = registry();
    let series = ["csdi", "tabddpm", "tabsyn", "score_transformer", "llada"];
    let pictures = ["unet2d", "songunet", "dhariwal", "autoencoder_kl"];
    let first = ["null", "mlp", "temporal", "dit", "dit_original", "sit"];
    for id in first.into_iter().chain(series).chain(pictures) {
        assert!(!r.model(id, &Value::Null).unwrap().info().unwrap().components.is_empty());
    }
    for id in [
        "ve", "edm", "vp", "sub_vp", "flow", "ou", "pfgmpp", "gbm", "besq", "cir", "mask",
        "uniform", "mirror",
    ] {
        let info = r.process(id, &Value::Null).unwrap().info(&Stats::default()).unwrap();
        assert!(info.sigma_min > 0.0 && info.sigma_max >= 1.0, "{id}");
    }
    for id in ["euler", "heun", "ancestral", "churn", "consistency", "flow_map"] {
        assert!(r.sampler(id, &Value::Null).unwrap().info(&[]).is_ok());
    }
    for id in ["edm", "geometric", "uniform"] {
        let knots = r.grid(id, &Value::Null).unwrap().knots(5, 0.1, 4.0).unwrap();
        assert_eq!((knots.len(), knots[0], knots[5]), (6, 4.0, 0.0), "{id}");
    }
    for id in ["cfg", "fista"] {
        r.guidance(id, &Value::Null).unwrap();
    }
    for id in ["dsm", "elbo", "ism", "consistency", "meanflow", "drifting"] {
        r.objective(id, &json!({})).unwrap();
    }
    let e = r.process("besq", &json!({"delta": -1})).err().unwrap();
    assert!(e.to_string().contains("delta is -1, want a number from 0 up"), "{e}");
}

/// A config of a hundred bytes would ask for gigabytes on the host, outside every budget.
#[test]
fn tables_too_large_to_compute_are_refused() {
    let r = registry();
    let wide = json!({"input_size": 8192, "patch_size": 1, "hidden_size": 1 << 20});
    let configs = [
        ("csdi", json!({"num_steps": 1_000_000, "diffusion_embedding_dim": 65536}), 65_536_000_000),
        ("dit", json!({"sample_size": 8192, "patch_size": 1}), 77_309_411_328_u64),
        ("dit_original", wide.clone(), 1 << 46),
        ("sit", wide.clone(), 1 << 46),
    ];
    for (id, config, numbers) in configs {
        let e = r.model(id, &config).err().unwrap().to_string();
        let want = format!("a table of {numbers} numbers to compute, want at most 67108864");
        assert!(e.contains(&want), "{id}: {e}");
    }
    // read from the weights, nothing is computed
    let mut stored = wide;
    stored["pos_embed"] = "stored".into();
    assert!(r.model("dit_original", &stored).is_ok());
}

// ---- formulas

/// Values of a process function at one element. `draws` are the values of normal and gamma nodes.
fn formula(
    p: &Arc<dyn Process>,
    f: ProcessFn,
    stats: Stats,
    inputs: &[f64],
    draws: &[(Op, f64)],
) -> Vec<f64> {
    let component = Component {
        name: "x".into(),
        dtype: DType::F64,
        dims: vec![1],
        space: Space::Continuous,
        classes: 0,
    };
    let parts = Parts {
        components: vec![component.clone()],
        processes: vec![Arc::clone(p)],
        stats: vec![stats],
        conds: vec![],
        networks: vec![],
        guidances: vec![],
        float: DType::F64,
        weight_dtype: DType::F64,
    };
    let mut b = Build::new(&parts, 1).unwrap();
    let desc = Desc::new(DType::F64, &[1, 1]).unwrap();
    let nodes: Vec<NodeId> = inputs.iter().map(|_| b.graph.input("in", desc)).collect();
    let out = b.process(0, f, 1, &nodes).unwrap();
    let draws: HashMap<Op, f64> = draws.iter().copied().collect();
    let values = evaluate(&b.graph, &out, &|node, _| {
        let value = match nodes.iter().position(|n| std::ptr::eq(b.graph.node(*n), node)) {
            Some(i) if node.op == Op::Input => inputs[i],
            _ => draws[&node.op],
        };
        Ok(RefTensor::full(node.desc.shape, value))
    });
    values.unwrap().iter().map(|v| v.data[0]).collect()
}

/// c_skip, c_out, c_in, c_noise and 1/c_out² of Karras et al. 2022, table 1. The indices of iDDPM's levels are NumPy's.
#[test]
fn preconditionings_of_edm() {
    let r = registry();
    // sigma, c_noise of vp, ve and iddpm
    let rows = [
        (0.3, 88.087_165_160_446_67, -1.897_119_984_885_881_3, 178.0),
        (1.7, 364.135_455_186_298_43, -0.162_518_929_497_774_94, 658.0),
        (40.0, 855.264_127_273_549_1, 2.995_732_273_553_991, 983.0),
    ];
    for (s, vp, ve, index) in rows {
        let (total, root) = (s * s + 0.25, (s * s + 1.0_f64).sqrt());
        let edm = [0.25 / total, 0.5 * s / total.sqrt(), 1.0 / total.sqrt(), s.ln() / 4.0];
        let wanted = [
            ("edm", edm),
            ("vp", [1.0, -s, 1.0 / root, vp]),
            ("ve", [1.0, s, 1.0, ve]),
            ("iddpm", [1.0, -s, 1.0 / root, index]),
        ];
        for (form, want) in wanted {
            let p = r.process("edm", &json!({"precond": form})).unwrap();
            // the statistics of the data are not asked: networks come with theirs
            let stats = Stats { w_var: 7.0, ..Stats::default() };
            let found = formula(&p, ProcessFn::Precond, stats, &[s], &[]);
            let weight = 1.0 / (want[1] * want[1]);
            for (found, want) in found.iter().zip(want.iter().chain([&weight])) {
                assert!(
                    (found - want).abs() < 1e-9 * (1.0 + want.abs()),
                    "{form} {s}: {found} {want}"
                );
            }
        }
    }
}

fn golden(id: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("golden/processes.json")).unwrap();
    let rows = all["rows"].as_array().unwrap();
    rows.iter().find(|r| r["id"] == id).unwrap_or_else(|| panic!("no row {id}")).clone()
}

fn number(v: &Value) -> f64 {
    v.as_f64().unwrap()
}

fn close(got: f64, want: f64, what: &str) {
    let error = (got - want).abs() / want.abs().max(1.0);
    assert!(error < 1e-9, "{what}: {got}, want {want}");
}

#[test]
fn bessel_formulas_give_the_golden_rows() {
    let r = registry();
    for id in ["0.5", "1", "2", "3", "4", "7.3"] {
        let row = golden(&format!("besq.cond.{id}"));
        let delta = number(&row["params"]["delta"]);
        let sigma = number(&row["params"]["u"]).sqrt();
        let (x0, x) = (number(&row["inputs"]["x0"]), number(&row["inputs"]["x"]));
        let want: Vec<f64> = (0..3).map(|i| number(&row["expected"][i])).collect();
        let p = r.process("besq", &json!({ "delta": delta })).unwrap();
        let call = |f, inputs: &[f64]| formula(&p, f, Stats::default(), inputs, &[])[0];
        let (w0, w) = (call(ProcessFn::Encode, &[x0]), x.sqrt());
        // densities of r = √x: p(x) 2r, and d/dr of its log
        let log = call(ProcessFn::LogTransition, &[w, w0, sigma]);
        close(log, want[0] + (2.0 * w).ln(), &format!("{id}: log transition"));
        let score = call(ProcessFn::ToScore, &[w, want[2], sigma]);
        close(score, want[1] * 2.0 * w + 1.0 / w, &format!("{id}: score"));
        close(call(ProcessFn::Decode, &[w, sigma]), x, "decode");
        // draws that lead exactly to x
        let u = sigma * sigma;
        let draws = match delta {
            d if d < 1.0 => vec![(Op::Poisson, 1.0), (Op::Gamma, x / (2.0 * u))],
            1.0 => vec![(Op::Normal, (w - w0) / sigma)],
            // (r0 + s xi)² + 2 s² g, with 2 s² g = x / 10
            _ => vec![
                (Op::Normal, ((0.9 * x).sqrt() - w0) / sigma),
                (Op::Gamma, 0.1 * x / (2.0 * u)),
            ],
        };
        let got = formula(&p, ProcessFn::Perturb, Stats::default(), &[w0, sigma], &draws);
        close(got[0], w, &format!("{id}: perturb"));
        close(got[1], want[2], &format!("{id}: target"));
        // the ancestral draw about mu with variance v is the same draw
        let got = formula(&p, ProcessFn::Ancestral, Stats::default(), &[w0, u], &draws);
        close(got[0], w, &format!("{id}: ancestral"));
        let hat =
            formula(&p, ProcessFn::Renoise, Stats::default(), &[w0, 1.0, (1.0 + u).sqrt()], &draws);
        close(hat[0], w, &format!("{id}: renoise"));
    }
}

#[test]
fn a_start_at_zero_has_the_gamma_density() {
    let p = registry().process("besq", &json!({"delta": 5})).unwrap();
    let (u, r) = (0.7f64, 1.3f64);
    // Gamma(5/2, scale 2u) at x = r², times 2r
    let log_gamma = (0.75 * std::f64::consts::PI.sqrt()).ln();
    let x = r * r;
    let want = 1.5 * x.ln() - x / (2.0 * u) - log_gamma - 2.5 * (2.0 * u).ln() + (2.0 * r).ln();
    let got = formula(&p, ProcessFn::LogTransition, Stats::default(), &[r, 0.0, u.sqrt()], &[]);
    close(got[0], want, "log transition from 0");
}

#[test]
fn cir_is_besq_through_its_clock() {
    let r = registry();
    let row = golden("cir.cond.0.6");
    let p = r.process(
        "cir",
        &row["params"].as_object().map_or(
            Value::Null,
            |o| json!({"kappa": o["kappa"], "theta": o["theta"], "sigma": o["sigma"]}),
        ),
    );
    let p = p.unwrap();
    let (kappa, t) = (number(&row["params"]["kappa"]), number(&row["params"]["t"]));
    let (x0, x) = (number(&row["inputs"]["x0"]), number(&row["inputs"]["x"]));
    let want: Vec<f64> = (0..6).map(|i| number(&row["expected"][i])).collect();
    let sigma = p.clock(&[t]).unwrap()[0];
    let grow = (kappa * t).exp();
    close(sigma * sigma / grow, want[1], "c");
    let w = (x * grow).sqrt();
    let call = |f, inputs: &[f64]| formula(&p, f, Stats::default(), inputs, &[])[0];
    close(call(ProcessFn::Decode, &[w, sigma]), x, "decode");
    // w = √x e^{kappa t/2}: p(w) = p(x) 2 x / w
    let log = call(ProcessFn::LogTransition, &[w, x0.sqrt(), sigma]);
    close(log, want[3] + (2.0 * x / w).ln(), "log transition");
    // the target in x-space is e^{-kappa t/2} times ours
    let draws = [
        (Op::Normal, ((0.9 * w * w).sqrt() - x0.sqrt()) / sigma),
        (Op::Gamma, 0.1 * w * w / (2.0 * sigma * sigma)),
    ];
    let got = formula(&p, ProcessFn::Perturb, Stats::default(), &[x0.sqrt(), sigma], &draws);
    close(got[0], w, "perturb");
    close(got[1], want[5] * grow.sqrt(), "target");
}

#[test]
fn gaussian_formulas_give_the_golden_rows() {
    let r = registry();
    let ve = r.process("ve", &Value::Null).unwrap();
    for sigma in ["0.002", "0.5", "80.0"] {
        let row = golden(&format!("edm.precond.{sigma}"));
        let stats = Stats { w_var: 0.25, ..Stats::default() };
        let level = number(&row["inputs"]["sigma"]);
        let got = formula(&ve, ProcessFn::Precond, stats, &[level], &[]);
        for (k, got) in got.iter().enumerate() {
            close(*got, number(&row["expected"][k]), &format!("precond {sigma}, {k}"));
        }
    }
    for x in ["0.3", "1.7", "6.0"] {
        let row = golden(&format!("gbm.cond.{x}"));
        let params = &row["params"];
        let config = json!({"mu": params["mu"], "sigma": params["sigma"]});
        let p = r.process("gbm", &config).unwrap();
        let sigma = p.clock(&[number(&params["t"])]).unwrap()[0];
        let (x0, x) = (number(&row["inputs"]["x0"]), number(&row["inputs"]["x"]));
        let (s, mu) = (number(&params["sigma"]), number(&params["mu"]));
        let m = (mu - 0.5 * s * s) * number(&params["t"]);
        let call = |f, inputs: &[f64]| formula(&p, f, Stats::default(), inputs, &[])[0];
        let (w0, w) = (call(ProcessFn::Encode, &[x0]), x.ln() - m);
        close(call(ProcessFn::Decode, &[w, sigma]), x, "decode");
        // p(x) = p(w) / x, and x d/dx log p(x) = d/dw log p(w) - 1
        let log = call(ProcessFn::LogTransition, &[w, w0, sigma]);
        close(log - x.ln(), number(&row["expected"][0]), "log transition");
        let score = call(ProcessFn::ToScore, &[w, w0, sigma]);
        close((score - 1.0) / x, number(&row["expected"][1]), "score");
    }
}

#[test]
fn mask_posterior_is_a_law_and_reveals_for_good() {
    let r = registry();
    let p = r.process("mask", &Value::Null).unwrap();
    let component = Component {
        name: "x".into(),
        dtype: DType::I32,
        dims: vec![2],
        space: Space::Discrete,
        classes: 4,
    };
    let parts = Parts {
        components: vec![component],
        processes: vec![p],
        stats: vec![Stats::default()],
        conds: vec![],
        networks: vec![],
        guidances: vec![],
        float: DType::F64,
        weight_dtype: DType::F64,
    };
    let law = |s: f64| {
        let mut b = Build::new(&parts, 1).unwrap();
        let z = b.graph.input("z", Desc::new(DType::I32, &[1, 2]).unwrap());
        let logits = b.graph.input("l", Desc::new(DType::F64, &[1, 2, 4]).unwrap());
        let time = Desc::new(DType::F64, &[1, 1]).unwrap();
        let (t, next) = (b.graph.input("t", time), b.graph.input("s", time));
        let out = b.process(0, ProcessFn::Posterior, 2, &[z, logits, t, next]).unwrap();
        let bound = [
            (z, RefTensor::new(&[1, 2], vec![3.0, 1.0]).unwrap()),
            (logits, RefTensor::new(&[1, 2, 4], [0.0, 1.0, 2.0, 9.0].repeat(2)).unwrap()),
            (t, RefTensor::new(&[1, 1], vec![0.8]).unwrap()),
            (next, RefTensor::new(&[1, 1], vec![s]).unwrap()),
        ];
        let values = evaluate(&b.graph, &out, &|node, _| {
            let at = bound.iter().find(|(n, _)| std::ptr::eq(b.graph.node(*n), node)).unwrap();
            Ok(at.1.clone())
        });
        values.unwrap()[0].data.iter().map(|l| l.exp()).collect::<Vec<f64>>()
    };
    let got = law(0.2);
    let z: f64 = [0.0f64, 1.0, 2.0].iter().map(|l| l.exp()).sum();
    for k in 0..3 {
        close(got[k], 0.75 * (k as f64).exp() / z, "revealed");
    }
    close(got[3], 0.25, "still masked");
    assert_eq!(got[4..], [0.0, 1.0, 0.0, 0.0], "a revealed token stays");
    assert_eq!(law(0.0)[3], 0.0, "the last step reveals everything");
}

// ---- whole runs

fn no_weights(w: &[Weight]) -> Result<Vec<WeightBinding>> {
    assert!(w.is_empty());
    Ok(vec![])
}

fn run(
    r: &Registry,
    process: (&str, Value),
    sampler: (&str, Value),
    stats: Stats,
    steps: u32,
    n: usize,
) -> Vec<f64> {
    let parts = parts(r, process, ("null", json!({"dims": [4]})), stats);
    let info = parts.processes[0].info(&stats).unwrap();
    let grid = r.grid("edm", &Value::Null).unwrap();
    let knots = grid.knots(steps, info.sigma_min, info.sigma_max).unwrap();
    let sampler = r.sampler(sampler.0, &sampler.1).unwrap();
    let rows = Arc::new(Rows::new(&*sampler, &parts, &[knots]).unwrap());
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(1));
    let mut session = SessionBuilder::new(backend);
    let program =
        Program::new(&parts, &*sampler, &rows, 512, false, &mut session, &mut no_weights).unwrap();
    let mut replay = Replay::new(program, session.allocate(&Budget::unlimited()).unwrap());
    let request =
        Request { seed: 3, first_sample: 0, n_samples: n, preview_every: 0, conds: vec![] };
    replay.begin(&rows, request, &[], &Budget::unlimited()).unwrap();
    replay.finish().unwrap();
    let results = replay.take_results();
    let x = &results.iter().find(|(name, _)| name == "x").unwrap().1;
    x.elements::<f32>().unwrap().iter().map(|v| f64::from(*v)).collect()
}

/// Largest distance between an empirical distribution and a law.
fn kolmogorov(mut x: Vec<f64>, cdf: impl Fn(f64) -> f64) -> f64 {
    x.sort_by(f64::total_cmp);
    let n = x.len() as f64;
    x.iter()
        .enumerate()
        .map(|(i, x)| {
            let f = cdf(*x);
            (f - i as f64 / n).abs().max((f - (i + 1) as f64 / n).abs())
        })
        .fold(0.0, f64::max)
}

/// P(chi²_3 <= x), by its elementary form.
fn chi2_3(x: f64) -> f64 {
    let h = (x / 2.0).sqrt();
    diffx::base::special::normal::erf(h) - 2.0 / std::f64::consts::PI.sqrt() * h * (-h * h).exp()
}

fn samplers() -> [(&'static str, Value); 4] {
    [
        ("euler", Value::Null),
        ("heun", Value::Null),
        ("ancestral", Value::Null),
        ("churn", Value::Null),
    ]
}

#[test]
fn every_sampler_reaches_gaussian_data() {
    let r = registry();
    let stats = Stats { x_var: 0.49, w_var: 0.49, ..Stats::default() };
    for sampler in samplers() {
        let name = sampler.0;
        let x = run(&r, ("ve", Value::Null), sampler, stats, 128, 4096);
        let cdf = |x: f64| 0.5 * (1.0 + diffx::base::special::normal::erf(x / 0.7 / 2f64.sqrt()));
        // 16384 draws: 0.0127 is exceeded once in a hundred by the exact law
        let limit = if name == "euler" { 0.03 } else { 0.0127 };
        let ks = kolmogorov(x, cdf);
        assert!(ks < limit, "{name}: KS {ks}");
    }
}

#[test]
fn every_sampler_reaches_positive_data() {
    let r = registry();
    // X0 = b chi²_3 with b = 0.5: mean 1.5, variance 1.5; Var(√X0) = b (3 - 8/pi)
    let w_var = 0.5 * (3.0 - 8.0 / std::f64::consts::PI);
    let stats = Stats { x_mean: 1.5, x_var: 1.5, w_mean: 0.0, w_var };
    for process in [("besq", json!({"delta": 3})), ("cir", json!({"kappa": 0.7, "theta": 1.5}))] {
        for sampler in samplers() {
            let name = format!("{} {}", process.0, sampler.0);
            let limit = if sampler.0 == "euler" { 0.03 } else { 0.0127 };
            let x = run(&r, process.clone(), sampler, stats, 128, 4096);
            assert!(x.iter().all(|x| *x >= 0.0));
            let ks = kolmogorov(x, |x| chi2_3(x / 0.5));
            assert!(ks < limit, "{name}: KS {ks}");
        }
    }
}

// ---- networks and objective

#[test]
fn networks_build_under_guidance_and_loss() {
    let r = registry();
    let stats = Stats { x_mean: 20.0, x_var: 60.0, w_mean: 4.4, w_var: 0.7 };
    let temporal =
        json!({"window": 8, "history": 5, "width": 16, "history_log": true, "history_mean": 3.0});
    for (model, config) in
        [("temporal", temporal), ("mlp", json!({"dims": [3, 2], "conds": {"y": 4}}))]
    {
        let mut parts = parts(&r, ("cir", Value::Null), (model, config), stats);
        let cfg = json!({"scale": 2.5, "interval": [0.1, 3.0], "rescale": 0.7});
        parts.guidances = vec![r.guidance("cfg", &cfg).unwrap()];
        let mut b = Build::new(&parts, 6).unwrap();
        let x = b.graph.input("x", parts.state(0, 6).unwrap());
        let sigma = b.graph.scalar(0.5);
        let eval = Eval { phase: 0, x: vec![x], sigma: vec![sigma], cond: None };
        let d = b.denoise(0, &[eval]).unwrap();
        assert_eq!(b.graph.desc(d[0][0]), parts.state(0, 6).unwrap(), "{model}");
        let names: Vec<String> = b.graph.weights().iter().map(|w| w.name.clone()).collect();
        assert!(names.iter().any(|n| n.starts_with("blocks.0.")), "{names:?}");

        parts.guidances.clear();
        let mut b = Build::new(&parts, 6).unwrap();
        let x0 = b.graph.input("x0", parts.state(0, 6).unwrap());
        let dsm = r.objective("dsm", &json!({"cond_dropout": 0.1})).unwrap();
        let mut io = LossIo { x0: vec![x0], metrics: vec![NodeId::ERROR; 2], ..LossIo::default() };
        dsm.loss(&mut b, &mut io).unwrap();
        let loss = io.loss.unwrap();
        assert_eq!(b.graph.desc(loss).shape.rank(), 0);
        let one = b.graph.scalar(1.0);
        let weights: Vec<NodeId> = b.graph.weights().iter().map(|w| w.node).collect();
        b.graph.grad(loss, one, &weights);
        b.graph.check().unwrap();
    }
}

/// One plugin in the place of another of its id; one that does not fit leaves things as they were.
#[test]
fn a_plugin_takes_the_place_of_one_of_its_id() {
    let mut r = registry();
    let ids = |r: &Registry| -> Vec<String> {
        let list = r.list();
        list.as_array().unwrap().iter().map(|p| p["id"].as_str().unwrap().to_owned()).collect()
    };
    let linked = |plugin: &'static diffx_plugin::abi::Plugin| {
        // Safety: a descriptor that lives for good.
        unsafe { Candidate::linked((&raw const *plugin).cast()) }.unwrap()
    };
    let (six, before) = (ids(&r), r.factories().count());
    let old = r.grid("edm", &Value::Null).unwrap();
    let (source, _, replaced) = r.replace(linked(diffx_grids::plugin())).unwrap();
    assert_eq!((source, replaced, r.factories().count()), (7, true, before));
    assert_eq!(r.plugin_id(7), Some("org.diffx.grids"));
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    assert_eq!(sorted(ids(&r)), sorted(six));
    let knots = |grid: Arc<dyn diffx::sample::Grid>| grid.knots(4, 0.01, 10.0).unwrap();
    assert_eq!(knots(old), knots(r.grid("edm", &Value::Null).unwrap()));
    // calls itself the grids and brings the samplers, which are there already
    let (grids, samplers) = (diffx_grids::plugin(), diffx_samplers::plugin());
    let (n_factories, factories) = (samplers.n_factories, samplers.factories);
    let mixed = Box::leak(Box::new(diffx_plugin::abi::Plugin { n_factories, factories, ..*grids }));
    let said = r.replace(linked(mixed)).unwrap_err().message;
    assert!(said.contains("is registered already, by plugin org.diffx.samplers"), "{said}");
    assert_eq!(r.factories().count(), before);
    assert!(r.grid("edm", &Value::Null).is_ok() && r.sampler("euler", &Value::Null).is_ok());
}
