//! Laws given an event where h is learned, telescoped or only a twist, and constraints beside other guidance: KS against
//! exact laws or against rejection. What closed forms of h give is in `guidance.rs`.

#[path = "support/guided.rs"]
#[allow(dead_code)]
mod guided;

use diffx::base::DType;
use diffx::base::special::normal::ndtr;
use diffx::cpu::Cpu;
use diffx::engine::recipe::Recipe;
use diffx::engine::trainer::Trainer;
use diffx::engine::{Engine, Pipeline};
use diffx::exec::{Interrupt, SessionBuilder};
use diffx::graph::{AttrKey, Attrs, Op};
use diffx::mem::{Budget, Tensor};
use diffx::plugin::Registry;
use diffx::sample::{
    Build, Component, Cond, Model, ModelInfo, ModelIo, Network, Parts, Predicts, Program, Replay,
    Request, Rows, Space, Stats,
};
use guided::{
    Got, config, distance, engine, exact, model, moments, normal, probability, run, seeded, share,
    tail, two,
};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

/// h of `event` learned by `cdg` from samples `[n, dims]`, as a model file. The process is given whole: what a trainer
/// fills in of it from the data, as the centre of `ve`, is another for samples given an event.
fn learn(
    engine: &Arc<Engine>,
    name: &str,
    setup: (&str, usize, f64),
    data: &[f64],
    event: &str,
) -> PathBuf {
    let (process, dims, unit) = setup;
    let n = data.len() / dims;
    let data: Vec<f32> = data.iter().map(|x| *x as f32).collect();
    let data = Arc::new(Tensor::from_f32(&[n, dims], &data, engine.budget()).unwrap());
    let recipe = json!({
        "model": {"id": "mlp", "config": {"dims": [dims], "width": 32, "depth": 2, "predicts": "value", "out": 1}},
        "process": process,
        "objective": {"id": "cdg", "config": {"event": event, "unit": unit}},
        "steps": 1000, "batch": 512, "rate": 0.004, "seed": 1, "ema": 0.99
    });
    let recipe = Recipe::parse(&recipe.to_string()).unwrap();
    let mut trainer = Trainer::with_tables(engine, recipe, vec![("x".into(), data)]).unwrap();
    while trainer.training().done() < trainer.training().steps() {
        trainer.advance(&mut || Interrupt::Continue).unwrap();
    }
    let path = model::temporary(&format!("{name}.safetensors"));
    trainer.save(&path).unwrap();
    path
}

fn mean_draws(got: &Got) -> f64 {
    got.draws.iter().map(|d| f64::from(*d)).sum::<f64>() / got.draws.len() as f64
}

/// `x >= 4` under N(0, 1), of which 65 536 samples hold two: h learned level by level (A14), each from samples given the
/// last level. One level alone has nothing to learn from.
#[test]
fn a_rare_event_by_telescoped_levels() {
    let engine = engine();
    let model = normal(&engine, "telescoped", &[1]);
    let levels = [1.5, 2.5, 3.3, 4.0];
    let sampler = || json!({"id": "sde_dpmpp_2m"});
    let mut it = config(json!([]), sampler(), 80);
    it["sigma_min"] = json!(2e-3);
    let n = 16_384;
    let mut data = run(&model, &it, n).unwrap().x;
    assert!(data.iter().filter(|x| **x >= 4.0).count() < 5);
    let (mut slots, mut networks, mut product) = (Vec::new(), json!({}), 1.0f64);
    for (i, level) in levels.iter().enumerate() {
        let event = format!("x >= {level}");
        let positive = data.iter().filter(|x| **x >= *level).count() as f64 / data.len() as f64;
        product *= positive;
        let path = learn(
            &engine,
            &format!("telescope-{i}"),
            (r#"ve:{"center":0}"#, 1, 1.0),
            &data,
            &event,
        );
        slots.push(format!("h{i}"));
        networks[format!("h{i}")] = json!({"model": path});
        let doob = json!({"event": event, "h": "network", "slot": slots.join(","), "unit": 1, "redraws": 0});
        it["guidance"] = json!([{"id": "doob", "config": doob}]);
        it["networks"] = networks.clone();
        let next = run(&model, &it, if i == 3 { 4096 } else { n }).unwrap();
        let inside = share(&next.inside);
        println!("{event}: {positive:.4} of the last level; guided {inside:.4} are inside");
        assert!(inside > 0.6 && positive > 0.02, "{event}: {inside}, {positive}");
        data = next.x.into_iter().zip(next.inside).filter(|(_, b)| *b).map(|(x, _)| x).collect();
    }
    let n = 4096;
    it["guidance"][0]["config"]["redraws"] = json!(64);
    it["batch"] = json!(512); // a turn runs a whole batch
    let got = run(&model, &it, n).unwrap();
    let (mean, var) = moments(&got.x);
    let (ks, p, draws) =
        (distance(&got.x, tail(4.0)), probability(&got.log_weight), mean_draws(&got));
    println!(
        "telescoped: mean {mean:.4} +- {:.4} of 4.2256, variance {var:.4} of .0467, KS {ks:.4}, P {product:.3e} by the levels, {p:.3e} by h at the prior, {draws:.3} draws",
        (var / n as f64).sqrt()
    );
    assert!(got.inside.iter().all(|b| *b) && got.x.iter().all(|x| *x >= 4.0) && draws < 6.0);
    // the prototype of the golden row has 78 % inside, and mean 4.202 of those
    assert!((mean - 4.225_607).abs() < 0.03 && ks < 0.06, "{mean}, {ks}");
    // what the levels say together, and what h of all of them says at the prior, which is where log_weight is from
    assert!((product / 3.167_12e-5).ln().abs() < 0.3, "{product}");
    assert!((p / 3.167_12e-5).ln().abs() < 0.4, "{p}");
    // the last h alone, without those it was learned beside, is of another law
    it["guidance"][0]["config"]["slot"] = json!("h3");
    it["guidance"][0]["config"]["redraws"] = json!(0);
    let alone = run(&model, &it, 2048).unwrap();
    assert!(share(&alone.inside) < 0.9, "{}", share(&alone.inside));
    for network in networks.as_object().unwrap().values() {
        std::fs::remove_file(network["model"].as_str().unwrap()).unwrap();
    }
}

/// The host says which examples are in the event, in a table beside them: the same h as by an event that says so, to the
/// bit. Under it `doob` wants no event, and leaves the judging to the host.
#[test]
fn an_event_that_only_the_host_can_tell() {
    let engine = engine();
    let model = normal(&engine, "labels", &[1]);
    let n = 4096;
    let stream = diffx::base::philox::Stream { seed: 6, purpose: 70, step: 0, ordinal: 0 };
    let data: Vec<f32> = (0..n).map(|i| stream.normal_f32(i as u64)).collect();
    let inside: Vec<f32> = data.iter().map(|x| if *x >= 1.0 { 1.0 } else { 0.0 }).collect();
    let table = |dims: &[usize], values: &[f32]| {
        Arc::new(Tensor::from_f32(dims, values, engine.budget()).unwrap())
    };
    let trainer = |objective: Value, worth: Option<Arc<Tensor>>| {
        let recipe = json!({
            "model": {"id": "mlp", "config": {"dims": [1], "width": 16, "depth": 1, "predicts": "value", "out": 1}},
            "process": r#"ve:{"center":0}"#, "objective": {"id": "cdg", "config": objective},
            "steps": 120, "batch": 128, "rate": 0.01, "seed": 1, "data": {"held_out": 0.25}
        });
        let mut tables = vec![("x".to_owned(), table(&[n, 1], &data))];
        tables.extend(worth.map(|t| ("reward".to_owned(), t)));
        Trainer::with_tables(&engine, Recipe::parse(&recipe.to_string()).unwrap(), tables)
    };
    let trained = |objective: Value, worth: Option<Arc<Tensor>>| {
        let mut trainer = trainer(objective, worth).unwrap();
        while trainer.training().done() < trainer.training().steps() {
            trainer.advance(&mut || Interrupt::Continue).unwrap();
        }
        let held = trainer.measure().unwrap().unwrap();
        (trainer.training().weights(false).unwrap(), held.loss, trainer)
    };
    let by_event = trained(json!({"event": "x >= 1"}), None);
    let labelled = || json!({"labels": true});
    for dims in [vec![n], vec![n, 1]] {
        let by_host = trained(labelled(), Some(table(&dims, &inside)));
        assert!(by_host.0 == by_event.0 && by_host.1 == by_event.1);
    }
    // whole numbers say the same; other labels are another h
    let bytes: Vec<u8> = inside.iter().flat_map(|v| (*v as i32).to_ne_bytes()).collect();
    let whole = diffx::base::Desc::new(DType::I32, &[n]).unwrap();
    let whole = Arc::new(Tensor::from_bytes(whole, &bytes, engine.budget()).unwrap());
    assert!(trained(labelled(), Some(whole)).0 == by_event.0);
    let all = trained(labelled(), Some(table(&[n], &vec![1.0; n])));
    assert!(all.0 != by_event.0);

    let path = model::temporary("labels-h.safetensors");
    by_event.2.save(&path).unwrap();
    let law = |doob: Value| {
        let mut it = config(json!([{"id": "doob", "config": doob}]), json!("ancestral"), 40);
        it["networks"] = json!({"h": {"model": path}});
        run(&model, &it, 512)
    };
    let told = law(json!({"h": "network", "event": "x >= 1", "redraws": 0})).unwrap();
    let host = law(json!({"h": "network"})).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(host.x == told.x && host.log_weight == told.log_weight && host.draws.is_empty());
    assert!(host.inside.iter().all(|b| *b) && told.inside.iter().any(|b| !*b));
    let share = host.x.iter().filter(|x| **x >= 1.0).count() as f64 / 512.0;
    println!("by labels of the host: {share:.3} inside");
    assert!(share > 0.75, "{share}");

    let refused = |objective: Value, worth: Option<Arc<Tensor>>| {
        let e = trainer(objective, worth).err().unwrap();
        assert!(!e.message.contains('\n'));
        e.message
    };
    let said = refused(labelled(), None);
    assert!(said.contains("want a table reward; there are: x"), "{said}");
    let said = refused(labelled(), Some(table(&[n, 2], &[&inside[..], &inside].concat())));
    assert!(said.contains("table reward is f32[4096,2]"), "{said}");
    let mut odd = inside.clone();
    odd[7] = f32::NAN;
    assert!(refused(labelled(), Some(table(&[n], &odd))).contains("example 7 is NaN"));
    let said = refused(json!({}), None);
    assert!(said.contains("cdg needs an event") && said.contains("a table reward"), "{said}");
}

/// Learned h under GBM, CIR with Feller's condition violated, and BESQ, whose reverse is its bridge to 0: against the
/// model's own samples that happen to be in the event.
#[test]
fn learned_h_of_positive_processes() {
    let engine = engine();
    let reference = 100.0 * 0.03f64.exp();
    let gbm = format!(r#"gbm:{{"sigma":0.2,"reference":{reference}}}"#);
    let cases = [
        (
            "gbm",
            gbm.as_str(),
            Stats { x_mean: 105.0, x_var: 450.0, w_mean: 0.0, w_var: 0.04 },
            "x >= 140",
            140.0,
            0.2,
            "sde_dpmpp_2m",
        ),
        (
            "cir",
            r#"cir:{"kappa":1,"theta":0.04,"sigma":0.3}"#,
            Stats { x_mean: 0.04, x_var: 0.0018, w_mean: 0.18, w_var: 0.008 },
            "x >= 0.12",
            0.12,
            0.2,
            "ancestral",
        ),
        (
            "besq",
            r#"besq:{"delta":2}"#,
            Stats { x_mean: 2.0, x_var: 4.0, w_mean: 1.253, w_var: 0.43 },
            "x >= 6",
            6.0,
            1.414,
            "ancestral",
        ),
    ];
    for (name, process, stats, event, edge, unit, sampler) in cases {
        let model = exact(&engine, &format!("learned-{name}"), process, &[1], stats);
        let free = config(json!([]), json!(sampler), 100);
        let data = seeded(&model, &free, 32_768, 1).unwrap().x;
        let brute: Vec<f64> = seeded(&model, &free, 65_536, 2)
            .unwrap()
            .x
            .into_iter()
            .filter(|x| *x >= edge)
            .collect();
        let p = brute.len() as f64 / 65_536.0;
        let path = learn(&engine, &format!("learned-{name}"), (process, 1, unit), &data, event);
        let doob = json!({"event": event, "h": "network", "unit": unit});
        let mut it = config(json!([{"id": "doob", "config": doob}]), json!(sampler), 100);
        it["networks"] = json!({"h": {"model": path}});
        it["batch"] = json!(512); // a turn runs a whole batch
        let got = run(&model, &it, 4096).unwrap();
        let (ks, most) = two(&got.x, &brute);
        let (said, draws) = (probability(&got.log_weight), mean_draws(&got));
        println!(
            "{name}: KS {ks:.4}, at 1 % {most:.4}, P {said:.4} of {p:.4}, {draws:.2} draws; by rejection {:.1}",
            1.0 / p
        );
        assert!(got.inside.iter().all(|b| *b) && got.x.iter().all(|x| *x >= edge), "{name}");
        assert!(ks < most && draws < 4.0, "{name}: KS {ks}, {draws} draws");
        assert!((said / p).ln().abs() < 0.25, "{name}: {said}, {p}");
        if name == "besq" {
            // as a twist
            let steer = json!({"event": event, "h": "network", "unit": unit, "particles": 128, "finish": "draw"});
            it["guidance"] = json!([{"id": "steer", "config": steer}]);
            let got = run(&model, &it, 8192).unwrap();
            // an eighth of each group, which has ancestors in common
            let thin: Vec<f64> = got.x.iter().step_by(8).copied().collect();
            let (ks, most) = two(&thin, &brute);
            println!("{name} steered: KS {ks:.4}, at 1 % {most:.4}");
            assert!(got.inside.iter().all(|b| *b) && ks < most, "{name} steered: {ks}");
        }
        std::fs::remove_file(path).unwrap();
        // the test sees another law: the same samples a twentieth further from the edge
        let other: Vec<f64> = got.x.iter().map(|x| edge + 1.2 * (x - edge)).collect();
        assert!(two(&other, &brute).0 > most, "{name}");
    }
}

/// Outside of a disc of radius 4 two independent normal numbers have `P = e^-8` and mean square 18 (A13): their square is
/// BESQ of dimension 2, where h is closed.
#[test]
fn outside_of_a_disc() {
    let engine = engine();
    let stats = Stats { x_mean: 2.0, x_var: 4.0, w_mean: 1.253, w_var: 0.43 };
    let model = exact(&engine, "disc", r#"besq:{"delta":2}"#, &[1], stats);
    let law = |dimension: f64| {
        let doob = json!({"event": "x >= 16", "h": "gamma", "dimension": dimension, "mean": 2});
        run(&model, &config(json!([{"id": "doob", "config": doob}]), json!("ancestral"), 120), 4096)
            .unwrap()
    };
    let got = law(2.0);
    let (mean, p) = (moments(&got.x).0, probability(&got.log_weight));
    let ks = distance(&got.x, |x| 1.0 - (-0.5 * (x - 16.0).max(0.0)).exp());
    println!(
        "disc: mean square {mean:.3} of 18, KS {ks:.4}, P {p:.4e} of 3.3546e-4, {:.2} draws",
        mean_draws(&got)
    );
    assert!(got.inside.iter().all(|b| *b));
    assert!((mean - 18.0).abs() < 0.2 && (p / 3.354_626e-4 - 1.0).abs() < 0.03 && ks < 0.03);
    // h of another dimension says another probability
    assert!((probability(&law(3.0).log_weight) / 3.354_626e-4 - 1.0).abs() > 0.2);
}

/// A learned h as a twist: whatever it is worth, the weights put it right, and groups drawn anew by them are in the event.
#[test]
fn particles_by_a_learned_twist() {
    let engine = engine();
    let dims = 8;
    let model = normal(&engine, "twist", &[dims as i64]);
    let free = config(json!([]), json!("ancestral"), 60);
    let data = seeded(&model, &free, 16_384, 3).unwrap().x;
    let path = learn(&engine, "twist", (r#"ve:{"center":0}"#, dims, 1.0), &data, "max(x) >= 3");
    let k = 64;
    let steer = |finish: &str, event: &str, n: usize| {
        let steer = json!({"event": event, "h": "network", "unit": 1, "particles": k, "finish": finish, "redraws": 20});
        let mut it = config(json!([{"id": "steer", "config": steer}]), json!("ancestral"), 60);
        it["networks"] = json!({"h": {"model": path}});
        run(&model, &it, n).unwrap()
    };
    let got = steer("draw", "max(x) >= 3", 16_384);
    // P = 1 - Phi(3)^8; the largest given that it is above 3
    let below = ndtr(3.0).powi(8);
    let largest = |x: &[f64]| x.iter().copied().fold(f64::MIN, f64::max);
    // neighbours of a group may be copies of one: an eighth of them
    let thin: Vec<&[f64]> = got.x.chunks(dims).step_by(8).collect();
    let top: Vec<f64> = thin.iter().map(|x| largest(x)).collect();
    let ks = distance(&top, |x| ((ndtr(x.max(3.0)).powi(8) - below) / (1.0 - below)).max(0.0));
    // each number is the largest or is not
    let q = 1.0 - below;
    let first: Vec<f64> = thin.iter().map(|x| x[0]).collect();
    let rest = ndtr(3.0).powi(7);
    let law = |x: f64| {
        let outside = ndtr(x.min(3.0)) * (1.0 - rest); // another one is above 3
        (outside + (ndtr(x) - ndtr(3.0)).max(0.0)) / q
    };
    let other = distance(&first, law);
    let p = got.log_weight.chunks(k).map(|l| l[0].exp()).sum::<f64>() / (16_384 / k) as f64;
    println!(
        "twist: KS of the largest {ks:.4}, of the first {other:.4} (1 % level of 2048: .036), P {p:.5} of {q:.5}"
    );
    assert!(got.inside.iter().all(|b| *b) && top.iter().all(|x| *x >= 3.0));
    assert!(ks < 0.06 && other < 0.06 && (p / q).ln().abs() < 0.15);
    // of weighted particles some are outside, and weigh nothing
    let weighed = steer("weigh", "max(x) >= 3", 2048);
    let inside = share(&weighed.inside);
    println!("weighed: {inside:.3} of the particles are inside");
    assert!(inside < 1.0 && weighed.draws.is_empty());
    assert!(weighed.inside.iter().zip(&weighed.log_weight).all(|(b, l)| *b == (*l > -1e20)));
    // an event that none of a group reaches: it is run again as a whole, and marked in the end
    let never = steer("draw", "max(x) >= 9", 128);
    assert!(never.draws.iter().all(|d| *d == 21) && never.inside.iter().all(|b| !*b));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn what_particles_cannot_is_said() {
    let engine = engine();
    let model = normal(&engine, "cannot", &[1]);
    let fails = |guidance: Value| {
        let json = json!({"guidance": guidance, "sampler": "ancestral", "steps": 4});
        Pipeline::new(&model, &json.to_string()).err().unwrap().to_string()
    };
    let steer = |extra: Value| {
        let mut config = json!({"event": "x >= 1", "particles": 8});
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"id": "steer", "config": config})
    };
    let e = fails(json!([steer(json!({"h": "network"}))]));
    assert!(e.contains("needs a network h"), "{e}");
    let reject = json!({"id": "reject", "config": {"event": "x >= 1"}});
    let e = fails(json!([steer(json!({"finish": "draw"})), reject]));
    assert!(e.contains("particles in groups of 8 cannot"), "{e}");
    let e = fails(json!([steer(json!({"slot": "h,"}))]));
    assert!(e.contains("want names with commas between, each once"), "{e}");
}

/// The share inside before anything is drawn again, by the last level alone (A4): `f(edge) sigma_min/sqrt(2 pi)` are
/// outside in the coordinate of the golden rows, which shrinks.
#[test]
fn what_a_finite_grid_misses() {
    let engine = engine();
    let model = normal(&engine, "misses", &[1]);
    let n = 16_384;
    let share_at = |s: f64, grid: &str| {
        let doob = json!([{"id": "doob", "config": {"event": "x >= 1.5", "redraws": 0}}]);
        let mut it = config(doob, json!({"id": "sde_dpmpp_2m"}), 100);
        it["grid"]["id"] = json!(grid);
        (it["sigma_min"], it["sigma_max"]) = (json!(f64::exp_m1(2.0 * s).sqrt()), json!(20.06));
        let x = run(&model, &it, n).unwrap().x;
        x.iter().filter(|x| **x * (-s).exp() >= 1.5).count() as f64 / n as f64
    };
    let rows = [
        (1e-2, 0.891_008_183_14, 0.891_166_472_514),
        (1e-3, 0.965_423_839_869, 0.965_428_880_136),
        (1e-4, 0.989_062_572_738, 0.989_062_732_235),
        (1e-5, 0.996_541_171_564, 0.996_541_176_608),
    ];
    // density of the law given the event, at its edge
    let edge = (-1.5f64 * 1.5 / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() / ndtr(-1.5);
    for (s, want, about) in rows {
        let sd = (-f64::exp_m1(-2.0 * s)).sqrt();
        let formula = 1.0 - edge * sd / (2.0 * std::f64::consts::PI).sqrt();
        assert!((formula - about).abs() < 1e-3 * sd, "{formula}, {about}");
        let got = share_at(s, "geometric");
        let error = 4.0 * (want * (1.0 - want) / n as f64).sqrt();
        println!("down to s = {s}: {got:.4} of {want:.4} inside");
        assert!((got - want).abs() < error + 0.002, "s = {s}: {got}, want {want} (A4)");
    }
    let uniform = share_at(1e-3, "uniform");
    println!("on a uniform grid {uniform:.4}");
    assert!(uniform < 0.93);
}

/// Reflection keeps every sample above its bound, and the law is another one (B7): the score knows nothing of the bound.
#[test]
fn reflected_states() {
    let engine = engine();
    let n = 16_384;
    for (var, low, mean, variance, given) in
        [(1.0, 1.5, 1.825_305, 0.097_866, 1.938_677), (0.25, 0.75, 0.908_841, 0.023_498, 0.969_339)]
    {
        let stats = Stats { x_mean: 0.0, x_var: var, w_mean: 0.0, w_var: var };
        let model = exact(&engine, "reflected", "ve", &[1], stats);
        let project = json!([{"id": "project", "config": {"low": low, "when": "reflect"}}]);
        let mut it = config(project, json!("em"), 400);
        (it["sigma_min"], it["sigma_max"]) = (json!(0.014_142), json!(20.06));
        let got = run(&model, &it, n).unwrap();
        let (m, v) = moments(&got.x);
        println!(
            "reflected at {low}: {m:.4} of {mean:.4}, {v:.4} of {variance:.4}; given the event {given:.4}"
        );
        assert!(got.x.iter().all(|x| *x >= low));
        let error = 4.0 * (variance / n as f64).sqrt();
        assert!((m - mean).abs() < 0.012 + error && (v - variance).abs() < 0.012);
        assert!((m - given).abs() > 0.04);
    }
}

/// Self-guidance by quantiles tilts by the exponential of a line on either side of what was measured: N(0, 1) far below
/// it becomes N(scale kappa, 1), far above N(scale (kappa - 1), 1); with a kappa for each sample those are spread evenly.
#[test]
fn quantile_self_guidance() {
    let engine = engine();
    let model = normal(&engine, "quantile", &[1]);
    let n = 16_384;
    let law = |value: f64, kappa: Option<f64>| {
        let mut dps = json!({"at": [0], "values": [value], "form": "quantile", "scale": 2});
        if let Some(kappa) = kappa {
            dps["kappa"] = json!(kappa);
        }
        let mut it = config(json!([{"id": "dps", "config": dps}]), json!("heun"), 60);
        it["sigma_max"] = json!(800); // an ODE does not forget where it began
        run(&model, &it, n).unwrap().x
    };
    for (value, kappa, mean) in [(60.0, 0.9, 1.8), (-60.0, 0.9, -0.2), (60.0, 0.1, 0.2)] {
        let x = law(value, Some(kappa));
        let ks = distance(&x, |x| ndtr(x - mean));
        println!("kappa {kappa} of {value}: KS {ks:.4}");
        assert!(ks < 0.016, "kappa {kappa} of {value}: {ks}"); // 1 % level .0127, and the grid
        assert!(distance(&x, ndtr) > 0.05);
    }
    let (mean, var) = moments(&law(60.0, None));
    println!("of all quantiles: mean {mean:.4} of 1, variance {var:.4} of {:.4}", 1.0 + 4.0 / 12.0);
    assert!((mean - 1.0).abs() < 0.04 && (var - 4.0 / 3.0).abs() < 0.06);
    // between the two the median of N(0, 1) stays where it is
    let mean = moments(&law(0.0, Some(0.5))).0;
    assert!(mean.abs() < 0.03, "{mean}");
}

/// N(0, 1.25), or N(1, .25) of class 1.
struct Classes;

impl Model for Classes {
    fn info(&self) -> diffx::base::Result<ModelInfo> {
        let desc = diffx::base::Desc::new(DType::F64, &[1])?;
        Ok(ModelInfo {
            predicts: Predicts::Denoised,
            components: vec![Component {
                name: "x".into(),
                dtype: DType::F64,
                dims: vec![1],
                space: Space::Continuous,
                classes: 0,
            }],
            conds: vec![Cond { name: "class".into(), desc, null_value: 0.0 }],
            slots: vec![],
        })
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> diffx::base::Result<()> {
        let g = &mut b.graph;
        let rows = g.desc(io.x[0]).dims()[0];
        let log = g.scaled(io.sigma[0], 8.0);
        let square = g.exp(log);
        let u = g.emit(Op::Reshape, &[square], Attrs::NONE.with_dims(AttrKey::Shape, &[rows, 1]));
        let mut d = Vec::new();
        for (mean, variance) in [(0.0, 1.25), (1.0, 0.25)] {
            let centred = g.shifted(io.x[0], -mean);
            let (near, total) = (g.scaled(centred, variance), g.shifted(u, variance));
            let shrunk = g.div(near, total);
            d.push(g.shifted(shrunk, mean));
        }
        let gap = g.sub(d[1], d[0]);
        let part = g.mul(io.cond[0], gap);
        io.out[0] = g.add(d[0], part);
        Ok(())
    }
}

/// Beside classifier-free guidance a constraint holds in every sample all the same; at scale 1 the law is that of the
/// class given the event, at 3 it is another.
#[test]
fn a_constraint_beside_classifier_free_guidance() {
    let law = |scale: f64| {
        let mut registry = Registry::new(Box::new(|_, _| {}));
        let plugins =
            [diffx_samplers::plugin(), diffx_processes::plugin(), diffx_guidance::plugin()];
        for plugin in plugins {
            // Safety: a static of a crate linked into this test.
            unsafe { registry.register(std::ptr::from_ref(plugin).cast()) }.unwrap();
        }
        let guidances = vec![
            registry.guidance("cfg", &json!({"scale": scale})).unwrap(),
            registry.guidance("doob", &json!({"event": "x >= 1.5"})).unwrap(),
        ];
        let info = Classes.info().unwrap();
        let parts = Parts {
            components: info.components,
            processes: vec![registry.process("ve", &Value::Null).unwrap()],
            stats: vec![Stats::default()],
            conds: info.conds,
            networks: vec![Network { slot: "base".into(), model: Arc::new(Classes), lora: None }],
            guidances,
            float: DType::F64,
            weight_dtype: DType::F64,
        };
        let sampler = registry.sampler("sde_dpmpp_2m", &Value::Null).unwrap();
        let levels = (0..=80).map(|k| 80.0 * (1e-3f64 / 80.0).powf(f64::from(k) / 80.0)).collect();
        let rows = Arc::new(Rows::new(&*sampler, &parts, &[levels]).unwrap());
        let mut session = SessionBuilder::new(Arc::new(Cpu::new(2)));
        let none = &mut |_: &[diffx::graph::Weight]| Ok(vec![]);
        let n = 8192;
        let program = Program::new(&parts, &*sampler, &rows, n, false, &mut session, none).unwrap();
        let mut run = Replay::new(program, session.allocate(&Budget::unlimited()).unwrap());
        let class = Tensor::from_f32(&[1], &[1.0], &Budget::unlimited()).unwrap();
        let class =
            diffx::weights::convert::convert(class, DType::F64, &Budget::unlimited()).unwrap();
        let conds = vec![("class".to_owned(), Arc::new(class))];
        let request = Request { seed: 6, first_sample: 0, n_samples: n, preview_every: 0, conds };
        let nulls = [("class".to_owned(), 0.0)];
        run.begin(&rows, request, &nulls, &Budget::unlimited()).unwrap();
        run.finish().unwrap();
        let results = run.take_results();
        let of = |name: &str| &results.iter().find(|r| r.0 == name).unwrap().1;
        let inside = of("feasible").bytes().iter().all(|b| *b != 0);
        let draws =
            of("draws").elements::<i32>().unwrap().iter().map(|d| f64::from(*d)).sum::<f64>();
        (of("x").elements::<f64>().unwrap().to_vec(), inside, draws / n as f64)
    };
    // x >= 1.5 is z >= 1 of the class
    let class = |x: &[f64]| distance(x, |x| tail(1.0)((x - 1.0) / 0.5));
    let (x, inside, draws) = law(1.0);
    println!("the class itself: KS {:.4}, {draws:.3} draws", class(&x));
    assert!(inside && x.iter().all(|x| *x >= 1.5));
    assert!(class(&x) < 0.02);
    let (x, inside, draws) = law(3.0);
    println!(
        "guided by 3: KS {:.4} from the class, mean {:.3}, {draws:.3} draws",
        class(&x),
        moments(&x).0
    );
    assert!(inside && x.iter().all(|x| *x >= 1.5));
    assert!(class(&x) > 0.05);
}
