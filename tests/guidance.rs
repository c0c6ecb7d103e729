//! Guidance in whole runs: samples given an event, at their laws, by name and from JSON. The network is `null`, which is
//! exact for normal data under additive processes and for Gamma data under BESQ and CIR.

#[path = "support/guided.rs"]
#[allow(dead_code)]
mod guided;

use diffx::base::special::normal::{ndtr, ndtri};
use diffx::base::{DType, Result, Status};
use diffx::cpu::Cpu;
use diffx::engine::recipe::Recipe;
use diffx::engine::trainer::Trainer;
use diffx::engine::{Job, JobOptions, Pipeline};
use diffx::exec::{Interrupt, SessionBuilder};
use diffx::graph::{AttrKey, Attrs, Op};
use diffx::mem::{Budget, Tensor};
use diffx::plugin::Registry;
use diffx::sample::{
    Build, Component, Model, ModelInfo, ModelIo, Network, Parts, Predicts, Program, Replay,
    Request, Rows, Space, Stats,
};
use guided::{
    Got, config, distance, engine, exact, model, moments, normal, probability, run, share, tail,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// An event of probability 3.17e-5: of the model's own samples one in 31 574 is inside.
#[test]
fn a_rare_event_always() {
    let engine = engine();
    let model = normal(&engine, "rare", &[1]);
    let doob = |extra: Value| {
        let mut settings = json!({"event": "x >= 4", "redraws": 64});
        settings.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!([{"id": "doob", "config": settings}])
    };
    let sampler = json!({"id": "sde_dpmpp_2m"});
    let n = 32_768;
    let mut it = config(doob(json!({})), sampler.clone(), 100);
    it["sigma_min"] = json!(1e-4);
    let got = run(&model, &it, n).unwrap();
    let (mean, var) = moments(&got.x);
    let ks = distance(&got.x, tail(4.0));
    let draws = got.draws.iter().sum::<i32>() as f64 / n as f64;
    let p = probability(&got.log_weight);
    println!(
        "P(x >= 4): mean {mean:.4} of 4.2256, variance {var:.5} of .04667, KS {ks:.4}, {draws:.4} draws, P {p:.3e}"
    );
    assert!(got.inside.iter().all(|b| *b) && got.x.iter().all(|x| *x >= 4.0));
    assert!((mean - 4.225_607).abs() < 0.005 && (var - 0.046_673).abs() < 0.003 && ks < 0.01);
    assert!(got.draws.iter().all(|d| *d >= 1) && draws < 1.2);
    assert!((p / 3.167_12e-5 - 1.0).abs() < 0.02, "{p}");

    // without a redraw some are outside, and are said to be
    let mut raw = it.clone();
    raw["guidance"] = doob(json!({"redraws": 0}));
    let raw = run(&model, &raw, 8192).unwrap();
    let inside = share(&raw.inside);
    println!("without redraws {inside:.4} are inside");
    assert!(raw.draws.is_empty() && inside > 0.9 && inside < 1.0);
    assert!(raw.inside.iter().zip(&raw.x).all(|(b, x)| *b == (*x >= 4.0)));
}

/// Fact 3: a strength of 2 makes everything feasible and the law wrong. Fact 2: an ODE never forgets an untilted start.
#[test]
fn wrong_strength_and_untilted_start_are_other_laws() {
    let engine = engine();
    let model = normal(&engine, "wrong", &[1]);
    let at = |extra: Value, sampler: Value, top: f64| {
        let mut settings = json!({"event": "x >= 1.5"});
        settings.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let steps = if sampler["id"] == "ddim" { 400 } else { 80 }; // it is of first order
        let mut it = config(json!([{"id": "doob", "config": settings}]), sampler, steps);
        (it["sigma_min"], it["sigma_max"]) = (json!(1e-4), json!(top));
        run(&model, &it, 16_384).unwrap()
    };
    let sde = || json!({"id": "sde_dpmpp_2m"});
    let ode = || json!({"id": "heun"});
    // the level of s = 3 in the golden rows A5, A6: sqrt(e^{2s} - 1)
    let far = 402.428_8f64.sqrt();
    let exact = 1.938_677;
    for (name, got) in [
        ("SDE", at(json!({}), sde(), far)),
        ("SDE, untilted", at(json!({"start": 1}), sde(), far)),
        ("ODE", at(json!({}), ode(), far)),
        // the h of the process itself is right at any stochasticity (fact 1)
        ("half the noise", at(json!({}), json!({"id": "ddim", "config": {"eta": 0.5}}), far)),
    ] {
        let (mean, var) = moments(&got.x);
        println!("{name}: mean {mean:.4} of {exact:.4}, variance {var:.4} of .1495");
        assert!((mean - exact).abs() < 0.012 && (var - 0.149_55).abs() < 0.008, "{name}");
        assert!(share(&got.inside) == 1.0, "{name}");
    }
    let mean = |g: Got| moments(&g.x).0;
    let untilted = mean(at(json!({"start": 1, "redraws": 0}), ode(), far));
    assert!((untilted - 1.898).abs() < 0.012, "an ODE with an untilted start: {untilted}");
    for (strength, want) in [(2.0, 2.2716), (4.0, 2.6325)] {
        let got = at(json!({"strength": strength, "redraws": 0}), sde(), far);
        let (inside, mean) = (share(&got.inside), mean(got));
        println!("strength {strength}: mean {mean:.4}, inside {inside:.4}");
        assert!(inside > 0.999 && (mean - want).abs() < 0.03, "strength {strength}: {mean} (A7)");
    }
    let weak = at(json!({"strength": 0.5, "redraws": 0}), sde(), far);
    let (inside, mean) = (share(&weak.inside), mean(weak));
    println!("strength .5: mean {mean:.4}, inside {inside:.4}");
    assert!(mean < 1.8 && inside < 0.999, "{mean}, {inside}");
}

/// With `strength` a run sets out from given data: so do all the draws that h chooses from, none of them from the prior.
#[test]
fn a_tilted_start_from_given_data() {
    let engine = engine();
    let model = normal(&engine, "given", &[1]);
    let n = 512;
    let run = |guidance: Value| {
        let mut it = config(guidance, json!("ancestral"), 40);
        (it["strength"], it["dtype"]) = (json!(0.5), json!("f64"));
        (it["sigma_min"], it["sigma_max"]) = (json!(1e-3), json!(40.0));
        let pipeline = Pipeline::new(&model, &it.to_string()).unwrap();
        let given = vec![0.0f64; n].iter().flat_map(|_| 3f64.to_ne_bytes()).collect::<Vec<_>>();
        let desc = diffx::base::Desc::new(DType::F64, &[n, 1]).unwrap();
        let x = Tensor::from_bytes(desc, &given, engine.budget()).unwrap();
        let inputs = vec![("start.x".to_owned(), Arc::new(x))];
        let options = JobOptions { seed: 5, n_samples: n, inputs, ..JobOptions::default() };
        let job = Job::start(&pipeline, options).unwrap();
        assert!(job.wait(Duration::from_secs(600)));
        job.result("x").unwrap().elements::<f64>().unwrap().to_vec()
    };
    let (free, _) = moments(&run(json!([])));
    // h is 1 everywhere: eight draws of the data's noise are as good as one
    let all = json!([{"id": "doob", "config": {"event": "x >= -50"}}]);
    let (every, _) = moments(&run(all));
    println!(
        "half of the steps from 3: mean {free:.3}, with eight draws to choose from {every:.3}"
    );
    assert!(free > 2.5 && (every - free).abs() < 0.05);
}

/// Geometric Brownian motion from 100 to at least 160 after a year (A10), CIR with Feller's condition violated.
#[test]
fn positive_processes() {
    let engine = engine();
    // log x of a year: mean log 100 + .03, standard deviation .2
    let reference = 100.0 * 0.03f64.exp();
    let stats = Stats { x_mean: 105.0, x_var: 450.0, w_mean: 0.0, w_var: 0.04 };
    let gbm = format!(r#"gbm:{{"sigma":0.2,"reference":{reference}}}"#);
    let model = exact(&engine, "gbm", &gbm, &[1], stats);
    let doob = json!([{"id": "doob", "config": {"event": "x >= 160"}}]);
    let mut it = config(doob, json!({"id": "sde_dpmpp_2m"}), 80);
    it["sigma_min"] = json!(2e-5);
    let got = run(&model, &it, 32_768).unwrap();
    let (mean, p) = (moments(&got.x).0, probability(&got.log_weight));
    println!("GBM: mean {mean:.3} of 172.019, P {p:.5} of .01390");
    assert!(got.inside.iter().all(|b| *b) && got.x.iter().all(|x| *x >= 160.0));
    assert!((mean - 172.0194).abs() < 0.4 && (p / 0.013_902_8 - 1.0).abs() < 0.03);

    // stationary CIR: Gamma of dimension 16/9 and mean .04
    let cir = r#"cir:{"kappa":1,"theta":0.04,"sigma":0.3}"#;
    let stats = Stats { x_mean: 0.04, x_var: 0.0018, w_mean: 0.18, w_var: 0.008 };
    let model = exact(&engine, "cir", cir, &[1], stats);
    let law = json!({"event": "x >= 0.15", "h": "gamma", "dimension": 16.0 / 9.0});
    let doob = json!([{"id": "doob", "config": law}]);
    let n = 3072;
    let got = run(&model, &config(doob, json!("ancestral"), 100), n).unwrap();
    // Gamma of shape 8/9 and scale .045, given at least .15: its density is smooth from there on
    let over = |from: f64| {
        let (steps, h) = (400, 40.0 / 400.0);
        let f = |t: f64| t.powf(-1.0 / 9.0) * (-t).exp();
        let sum: f64 = (0..steps)
            .map(|i| from + h * f64::from(i))
            .map(|t| h / 6.0 * (f(t) + 4.0 * f(t + 0.5 * h) + f(t + h)))
            .sum();
        sum
    };
    let edge = over(0.15 / 0.045);
    let ks = distance(&got.x, |x| 1.0 - over(x.max(0.15) / 0.045) / edge);
    // the same by rejection, for its price
    let reject = json!([{"id": "reject", "config": {"event": "x >= 0.15", "redraws": 600}}]);
    let brute = run(&model, &config(reject, json!("ancestral"), 20), 192).unwrap();
    let draws = brute.draws.iter().map(|d| f64::from(*d)).sum::<f64>() / 192.0;
    let ours = got.draws.iter().map(|d| f64::from(*d)).sum::<f64>() / n as f64;
    let p = probability(&got.log_weight);
    println!("CIR: KS {ks:.4}, P {p:.5} of .02820, {ours:.3} draws; by rejection {draws:.1}");
    assert!(got.inside.iter().chain(&brute.inside).all(|b| *b));
    assert!((p / 0.028_199_5 - 1.0).abs() < 0.02, "P {p}");
    assert!((p * draws - 1.0).abs() < 0.25, "one in {draws}, P {p}");
    assert!(ks < 0.03, "{ks}"); // 1.63/sqrt(3072)
}

/// Under a mirror map every sample is within the bounds and the law has no atom there (compare `constraints_on_the_state`).
#[test]
fn a_mirror_map_keeps_within_bounds() {
    let engine = engine();
    let sd: f64 = 1.6;
    let stats = Stats { x_mean: 3.5, x_var: 0.5, w_mean: 0.0, w_var: sd * sd };
    let logit = |x: f64| ((x - 2.0) / (5.0 - x)).ln();
    let cases: [(&str, f64, f64, &dyn Fn(f64) -> f64); 4] = [
        (r#"{"low":2,"high":5}"#, 2.0, 5.0, &|x| ndtr(logit(x) / sd)),
        (r#"{"low":1}"#, 1.0, f64::INFINITY, &|x| ndtr((x - 1.0).ln() / sd)),
        (r#"{"high":3,"map":"softplus","scale":2}"#, f64::NEG_INFINITY, 3.0, &|x| {
            ndtr(-((0.5 * (3.0 - x)).exp_m1()).ln() / sd)
        }),
        (r#"{"low":-1,"map":"softplus","center":2}"#, -1.0, f64::INFINITY, &|x| {
            ndtr(((x + 1.0).exp_m1().ln() - 2.0) / sd)
        }),
    ];
    for (json, low, high, law) in cases {
        let model = exact(&engine, "mirror", &format!("mirror:{json}"), &[1], stats);
        let got = run(&model, &config(json!([]), json!("heun"), 40), 4096).unwrap();
        let ks = distance(&got.x, law);
        println!("{json}: KS {ks:.4}");
        assert!(got.x.iter().all(|x| *x >= low && *x <= high) && ks < 0.025, "{json}: {ks}");
    }
    // guidance stands in the same coordinate
    let model = exact(&engine, "mirror", r#"mirror:{"low":2,"high":5}"#, &[1], stats);
    let doob = json!([{"id": "doob", "config": {"event": "x >= 4.8"}}]);
    let got = run(&model, &config(doob, json!({"id": "sde_dpmpp_2m"}), 60), 4096).unwrap();
    let (p, edge) = (probability(&got.log_weight), ndtr(-logit(4.8) / sd));
    let ks = distance(&got.x, |x| 1.0 - ndtr(-logit(x.max(4.8)) / sd) / edge);
    println!("x >= 4.8 of 2 to 5: P {p:.5} of {edge:.5}, KS {ks:.4}");
    assert!(got.inside.iter().all(|b| *b) && got.x.iter().all(|x| (4.8..=5.0).contains(x)));
    assert!((p / edge - 1.0).abs() < 0.05 && ks < 0.03);
}

/// A sum over part of a sample, and two constraints at once: h of the first is exact, of both it is not, and still every
/// sample is inside.
#[test]
fn events_of_several_numbers() {
    let engine = engine();
    let model = normal(&engine, "several", &[16]);
    let run = |event: &str, n: usize| {
        let doob = json!([{"id": "doob", "config": {"event": event}}]);
        let mut it = config(doob, json!({"id": "sde_dpmpp_2m"}), 60);
        it["sigma_min"] = json!(1e-3);
        run(&model, &it, n).unwrap()
    };
    let got = run("sum(x[-10:]) <= -9", 8192);
    let sums: Vec<f64> = got.x.chunks(16).map(|x| -x[6..].iter().sum::<f64>()).collect();
    let rest: Vec<f64> = got.x.chunks(16).map(|x| x[..6].iter().sum::<f64>()).collect();
    assert!(got.inside.iter().all(|b| *b) && sums.iter().all(|s| *s >= 9.0));
    let scaled: Vec<f64> = sums.iter().map(|s| s / 10f64.sqrt()).collect();
    let ks = distance(&scaled, tail(9.0 / 10f64.sqrt()));
    let other = distance(&rest, |x| ndtr(x / 6f64.sqrt()));
    println!("sum of ten: KS {ks:.4}, of the other six {other:.4}");
    assert!(ks < 0.02 && other < 0.02);

    let got = run("max(x) >= 3 and sum(x) <= 0", 2048);
    let draws = got.draws.iter().sum::<i32>() as f64 / 2048.0;
    println!("two at once: {draws:.3} draws");
    assert!(share(&got.inside) == 1.0);
    for x in got.x.chunks(16) {
        assert!(x.iter().copied().fold(f64::MIN, f64::max) >= 3.0 && x.iter().sum::<f64>() <= 0.0);
    }
}

/// The bits of a sample are its own: whatever batch it is drawn in, and when its job was saved and resumed on the way.
#[test]
fn redrawn_samples_do_not_depend_on_the_batch() {
    let engine = engine();
    let model = normal(&engine, "bits", &[2]);
    let reject = json!([{"id": "reject", "config": {"event": "x[0] >= 1", "redraws": 200}}]);
    for (guidance, sampler) in [
        (json!([{"id": "doob", "config": {"event": "x[0] >= 1", "strength": 0.3}}]), "ancestral"),
        (reject, "heun"),
    ] {
        let it = |batch: usize| {
            let json =
                json!({"guidance": guidance, "sampler": sampler, "steps": 12, "batch": batch});
            Pipeline::new(&model, &json.to_string()).unwrap()
        };
        let options = |first, n| JobOptions {
            seed: 3,
            first_sample: first,
            n_samples: n,
            ..JobOptions::default()
        };
        let bits = |job: &Arc<Job>| {
            assert!(job.wait(Duration::from_secs(600)));
            assert!(job.error().is_none(), "{:?}", job.error());
            ["x", "feasible", "log_weight", "draws"]
                .map(|name| job.result(name).unwrap().bytes().to_vec())
        };
        let whole = bits(&Job::start(&it(64), options(0, 60)).unwrap());
        let turns: Vec<i32> =
            whole[3].chunks(4).map(|b| i32::from_ne_bytes(b.try_into().unwrap())).collect();
        assert!(turns.iter().any(|d| *d > 2) && turns.contains(&1), "{sampler}: {turns:?}");
        let small = bits(&Job::start(&it(7), options(0, 60)).unwrap());
        assert!(small == whole, "{sampler}: batches of 7");
        let part = bits(&Job::start(&it(64), options(30, 30)).unwrap());
        assert!(part[0] == whole[0][30 * 8..], "{sampler}: from sample 30");
    }
}

/// h learned by the martingale loss from samples of the model's law alone: from its labels, no path is simulated.
#[test]
fn a_learned_h() {
    let engine = engine();
    let model = normal(&engine, "learned", &[1]);
    let n = 65_536;
    let stream = diffx::base::philox::Stream { seed: 4, purpose: 70, step: 0, ordinal: 0 };
    let data: Vec<f32> = (0..n).map(|i| stream.normal_f32(i as u64)).collect();
    let data = Arc::new(Tensor::from_f32(&[n, 1], &data, engine.budget()).unwrap());
    let recipe = json!({
        "model": {"id": "mlp", "config": {"dims": [1], "width": 32, "depth": 2, "predicts": "value", "out": 1}},
        "process": {"id": "ve", "config": {"center": 0}},
        "objective": {"id": "cdg", "config": {"event": "x >= 1.5"}},
        "steps": 1000, "batch": 512, "rate": 0.004, "seed": 1, "ema": 0.99
    });
    let recipe = Recipe::parse(&recipe.to_string()).unwrap();
    let mut trainer = Trainer::with_tables(&engine, recipe, vec![("x".into(), data)]).unwrap();
    while trainer.training().done() < trainer.training().steps() {
        trainer.advance(&mut || Interrupt::Continue).unwrap();
    }
    let path = model::temporary("learned-h.safetensors");
    trainer.save(&path).unwrap();
    let law = |h: &str| {
        let doob = json!([{"id": "doob", "config": {"event": "x >= 1.5", "h": h}}]);
        let mut it = config(doob, json!({"id": "sde_dpmpp_2m"}), 80);
        it["networks"] = json!({"h": {"model": path}});
        it["sigma_min"] = json!(2e-3);
        run(&model, &it, 4096).unwrap()
    };
    let got = law("network");
    let (mean, var) = moments(&got.x);
    let (p, ks) = (probability(&got.log_weight), distance(&got.x, tail(1.5)));
    let draws = got.draws.iter().map(|d| f64::from(*d)).sum::<f64>() / got.x.len() as f64;
    println!(
        "learned h: mean {mean:.4} of 1.9387, variance {var:.4} of .1495, KS {ks:.4}, P {p:.4} of .0668, \
         {draws:.3} draws"
    );
    std::fs::remove_file(path).unwrap();
    assert!(got.inside.iter().all(|b| *b) && draws < 2.0);
    assert!((mean - 1.938_677).abs() < 0.03 && (var - 0.149_55).abs() < 0.03 && ks < 0.04);
    assert!((p / 0.066_807 - 1.0).abs() < 0.15, "{p}");
}

/// Particles whose twist is only h of a normal posterior, for data that are normal: weights say P(event) and the law.
#[test]
fn steered_particles() {
    let engine = engine();
    let model = normal(&engine, "steered", &[1]);
    let steer = |settings: Value, n: usize| {
        let guidance = json!([{"id": "steer", "config": settings}]);
        let got = run(&model, &config(guidance, json!("ancestral"), 60), n).unwrap();
        let w: Vec<f64> = got.log_weight.iter().map(|l| l.exp()).collect();
        let total = w.iter().sum::<f64>();
        let mean = w.iter().zip(&got.x).map(|(w, x)| w * x).sum::<f64>() / total;
        (total / n as f64, mean, got)
    };
    let (p, mean, got) = steer(json!({"event": "x >= 2.5", "particles": 64}), 16_384);
    println!("x >= 2.5: P {p:.5} of .00621, mean {mean:.4} of 2.8227 (B6)");
    assert!((p / 0.006_209_67 - 1.0).abs() < 0.12 && (mean - 2.822_74).abs() < 0.03);
    let inside = share(&got.inside);
    println!("{inside:.3} of the particles are inside");
    assert!(inside > 0.5);
    // outside of the event a sample weighs nothing
    assert!(got.inside.iter().zip(&got.log_weight).all(|(b, l)| *b == (*l > -1e20)));
    // without resampling and twist there is nothing to steer: one sample in 161 is inside, and the estimate is coarse
    let free = run(&model, &config(json!([]), json!("ancestral"), 60), 16_384).unwrap();
    assert!((free.x.iter().filter(|x| **x >= 2.5).count() as f64 / 16_384.0) < 0.012);
    // a reward: N(0, 1) tilted by exp(2 x) is N(2, 1), of mean weight e^2
    let (z, mean, _) = steer(json!({"reward": "x", "scale": 2, "particles": 32}), 16_384);
    println!("tilted: Z {z:.3} of 7.389, mean {mean:.4} of 2");
    assert!((z / 7.389 - 1.0).abs() < 0.1 && (mean - 2.0).abs() < 0.06);
    let odd = Pipeline::new(&model, r#"{"guidance":[{"id":"steer"}],"steps":4}"#).err().unwrap();
    assert!(odd.to_string().contains("steer needs an event"), "{odd}");
}

/// Projection leaves an atom (B4), replaced numbers come out as they were given, and a constraint stands beside another
/// guidance.
#[test]
fn constraints_on_the_state() {
    let engine = engine();
    let model = normal(&engine, "state", &[1]);
    let project = json!([{"id": "project", "config": {"low": 1.5, "when": "end"}}]);
    let got = run(&model, &config(project, json!("heun"), 40), 16_384).unwrap();
    let atom = got.x.iter().filter(|x| **x == 1.5).count() as f64 / 16_384.0;
    let mean = moments(&got.x).0;
    println!(
        "projected: atom {atom:.4} of .93319, mean {mean:.4} of 1.5293; given the event 1.9387"
    );
    assert!((atom - 0.933_19).abs() < 0.008 && (mean - 1.529_31).abs() < 0.005);

    let model = normal(&engine, "replaced", &[3]);
    let guidance = json!([
        {"id": "replace", "config": {"at": [2], "values": [0.75]}},
        {"id": "doob", "config": {"event": "x[0] >= 1"}}
    ]);
    let got = run(&model, &config(guidance, json!("ancestral"), 40), 2048).unwrap();
    assert!(got.x.chunks(3).all(|x| x[2] == 0.75 && x[0] >= 1.0));
    let first: Vec<f64> = got.x.chunks(3).map(|x| x[0]).collect();
    assert!(distance(&first, tail(1.0)) < 0.04);
    let middle: Vec<f64> = got.x.chunks(3).map(|x| x[1]).collect();
    assert!(distance(&middle, ndtr) < 0.04);
}

/// Two normal numbers of correlation .9.
struct Correlated;

impl Model for Correlated {
    fn info(&self) -> Result<ModelInfo> {
        let component = Component {
            name: "x".into(),
            dtype: DType::F64,
            dims: vec![2],
            space: Space::Continuous,
            classes: 0,
        };
        Ok(ModelInfo {
            predicts: Predicts::Denoised,
            components: vec![component],
            conds: vec![],
            slots: vec![],
        })
    }

    /// Their mean and half difference have variances 1.9 and .1, twice over: each shrinks by its own.
    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        let g = &mut b.graph;
        let rows = g.desc(io.x[0]).dims()[0];
        let log = g.scaled(io.sigma[0], 8.0);
        let square = g.exp(log);
        let u = g.emit(Op::Reshape, &[square], Attrs::NONE.with_dims(AttrKey::Shape, &[rows, 1]));
        let axes = Attrs::NONE.with_ints(AttrKey::Axes, vec![1]).with_int(AttrKey::KeepDims, 1);
        let both = g.emit(Op::Mean, &[io.x[0]], axes);
        let apart = g.sub(io.x[0], both);
        let mut parts = Vec::new();
        for (part, variance) in [(both, 1.9), (apart, 0.1)] {
            let (near, total) = (g.scaled(part, variance), g.shifted(u, variance));
            parts.push(g.div(near, total));
        }
        io.out[0] = g.add(parts[0], parts[1]);
        Ok(())
    }
}

/// The logit of class 1 of two equally likely classes, N(1, 1) and N(-1, 1), at its input, which a guidance scales to the
/// root mean square of the noisy state: `2 w/(1 + sigma^2)`.
struct Odds;

impl Model for Odds {
    fn info(&self) -> Result<ModelInfo> {
        let info = Halves.info()?;
        Ok(ModelInfo { predicts: Predicts::Value, ..info })
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        let g = &mut b.graph;
        let rows = g.desc(io.x[0]).dims()[0];
        let log = g.scaled(io.sigma[0], 8.0);
        let square = g.exp(log);
        let u = g.emit(Op::Reshape, &[square], Attrs::NONE.with_dims(AttrKey::Shape, &[rows, 1]));
        // the input is w / sqrt(u + 2)
        let (size, one) = (g.shifted(u, 2.0), g.shifted(u, 1.0));
        let size = g.unary(Op::Sqrt, size);
        let w = g.mul(io.x[0], size);
        let twice = g.scaled(w, 2.0);
        io.out[0] = g.div(twice, one);
        Ok(())
    }
}

/// D of both classes together: `(w + u tanh(w/(1 + u)))/(1 + u)`.
struct Halves;

impl Model for Halves {
    fn info(&self) -> Result<ModelInfo> {
        let mut info = Correlated.info()?;
        info.components[0].dims = vec![1];
        Ok(info)
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        let g = &mut b.graph;
        let rows = g.desc(io.x[0]).dims()[0];
        let log = g.scaled(io.sigma[0], 8.0);
        let square = g.exp(log);
        let u = g.emit(Op::Reshape, &[square], Attrs::NONE.with_dims(AttrKey::Shape, &[rows, 1]));
        let one = g.shifted(u, 1.0);
        let far = g.div(io.x[0], one);
        let side = g.unary(Op::Tanh, far);
        let pull = g.mul(u, side);
        let sum = g.add(io.x[0], pull);
        io.out[0] = g.div(sum, one);
        Ok(())
    }
}

/// A classifier at strength 1 leaves the class, N(1, 1); at 3 more than that.
#[test]
fn a_classifier() {
    let law = |strength: f64, class: u32| {
        let mut registry = Registry::new(Box::new(|_, _| {}));
        let plugins =
            [diffx_samplers::plugin(), diffx_processes::plugin(), diffx_guidance::plugin()];
        for plugin in plugins {
            // Safety: a static of a crate linked into this test.
            unsafe { registry.register(std::ptr::from_ref(plugin).cast()) }.unwrap();
        }
        let config = json!({"strength": strength, "class": class});
        let slot =
            |slot: &str, model: Arc<dyn Model>| Network { slot: slot.into(), model, lora: None };
        let parts = Parts {
            components: Halves.info().unwrap().components,
            processes: vec![registry.process("ve", &Value::Null).unwrap()],
            stats: vec![Stats { x_mean: 0.0, x_var: 2.0, w_mean: 0.0, w_var: 2.0 }],
            conds: vec![],
            networks: vec![slot("base", Arc::new(Halves)), slot("classifier", Arc::new(Odds))],
            guidances: vec![registry.guidance("classifier", &config).unwrap()],
            float: DType::F64,
            weight_dtype: DType::F64,
        };
        let sampler = registry.sampler("heun", &Value::Null).unwrap();
        let levels = (0..=60).map(|k| 100.0 * 1e-5f64.powf(f64::from(k) / 60.0)).collect();
        let rows = Arc::new(Rows::new(&*sampler, &parts, &[levels]).unwrap());
        let mut session = SessionBuilder::new(Arc::new(Cpu::new(2)));
        let none = &mut |_: &[diffx::graph::Weight]| Ok(vec![]);
        let n = 8192;
        let program = Program::new(&parts, &*sampler, &rows, n, false, &mut session, none).unwrap();
        let mut run = Replay::new(program, session.allocate(&Budget::unlimited()).unwrap());
        let request =
            Request { seed: 2, first_sample: 0, n_samples: n, preview_every: 0, conds: vec![] };
        run.begin(&rows, request, &[], &Budget::unlimited()).unwrap();
        run.finish().unwrap();
        run.take_results().remove(0).1.elements::<f64>().unwrap().to_vec()
    };
    // D of a class is that of a normal law: the ODE from N(0, 100²) brings it back but for 1 in 10^4
    for (class, mean) in [(1, 1.0), (0, -1.0)] {
        let ks = distance(&law(1.0, class), |x| ndtr(x - mean));
        println!("class {class}: KS {ks:.4}");
        assert!(ks < 0.025);
    }
    let more = moments(&law(3.0, 1)).0;
    assert!(more > 1.3, "{more}");
}

/// B3: the free number of a pair whose other is put back at every level sees it only through D; going through each
/// level again and again mends the mean. The golden moments are exact for this chain.
#[test]
fn replacement_and_its_repeats() {
    let registry = || {
        let mut registry = Registry::new(Box::new(|_, _| {}));
        let plugins =
            [diffx_samplers::plugin(), diffx_processes::plugin(), diffx_guidance::plugin()];
        for plugin in plugins {
            // Safety: a static of a crate linked into this test.
            unsafe { registry.register(std::ptr::from_ref(plugin).cast()) }.unwrap();
        }
        registry
    };
    // alpha-bar of 1000 linear betas from 1e-4 to .02 at 100 of the times, as levels of VE, and 0
    let mut product = 1.0;
    let bars: Vec<f64> = (0..1000)
        .map(|i| {
            product *= 1.0 - (1e-4 + (0.02 - 1e-4) * f64::from(i) / 999.0);
            product
        })
        .collect();
    let at = |i: usize| bars[(999.0 * i as f64 / 99.0).round_ties_even() as usize];
    let mut levels: Vec<f64> = (0..100).rev().map(|i| ((1.0 - at(i)) / at(i)).sqrt()).collect();
    levels.push(0.0);
    for (repeats, mean, variance) in [(1, 0.922_193, 0.288_225), (5, 1.273_680, 0.163_046)] {
        let r = registry();
        let known = json!({"at": [1], "values": [1.5]});
        let parts = Parts {
            components: Correlated.info().unwrap().components,
            processes: vec![r.process("ve", &Value::Null).unwrap()],
            stats: vec![Stats::default()],
            conds: vec![],
            networks: vec![Network {
                slot: "base".into(),
                model: Arc::new(Correlated),
                lora: None,
            }],
            guidances: vec![r.guidance("replace", &known).unwrap()],
            float: DType::F64,
            weight_dtype: DType::F64,
        };
        let small = json!({"variance": "small", "repeats": repeats});
        let sampler = r.sampler("ancestral", &small).unwrap();
        let rows = Arc::new(Rows::new(&*sampler, &parts, &[levels.clone()]).unwrap());
        let mut session = SessionBuilder::new(Arc::new(Cpu::new(2)));
        let none = &mut |_: &[diffx::graph::Weight]| Ok(vec![]);
        let n = 8192;
        let program = Program::new(&parts, &*sampler, &rows, n, false, &mut session, none).unwrap();
        let session = session.allocate(&Budget::unlimited()).unwrap();
        let mut run = Replay::new(program, session);
        let request =
            Request { seed: 9, first_sample: 0, n_samples: n, preview_every: 0, conds: vec![] };
        run.begin(&rows, request, &[], &Budget::unlimited()).unwrap();
        run.finish().unwrap();
        let x = run.take_results().remove(0).1.elements::<f64>().unwrap().to_vec();
        assert!(x.chunks(2).all(|x| x[1] == 1.5));
        let free: Vec<f64> = x.chunks(2).map(|x| x[0]).collect();
        let got = moments(&free);
        println!("{repeats} times through each level: {got:.4?} of {mean:.4}, {variance:.4} (B3)");
        assert!((got.0 - mean).abs() < 0.022 && (got.1 - variance).abs() < 0.015);
    }
}

/// Known numbers are put back as they were given: through the logarithm of `gbm` and back in f32 they are others.
#[test]
fn replaced_numbers_are_those_given() {
    let engine = engine();
    let stats = Stats { x_mean: 45.0, x_var: 100.0, w_mean: 0.0, w_var: 0.04 };
    let model = exact(&engine, "given", r#"gbm:{"sigma":0.2,"reference":33}"#, &[4], stats);
    let known = json!({"at": [3, 1, 2], "values": [40.0, 47.3, 51.9]});
    let it =
        json!({"guidance": [{"id": "replace", "config": known}], "steps": 4, "sampler": "heun"});
    let pipeline = Pipeline::new(&model, &it.to_string()).unwrap();
    let options = JobOptions { seed: 1, n_samples: 8, ..JobOptions::default() };
    let job = Job::start(&pipeline, options).unwrap();
    assert!(job.wait(Duration::from_secs(600)));
    let x = job.result("x").unwrap().elements::<f32>().unwrap().to_vec();
    assert!(x.chunks(4).all(|x| x[1..] == [47.3f32, 51.9, 40.0]), "{x:?}");
}

/// D of position and velocity is not w + sigma^2 score: what adds to the score or bounds D is refused there. What only
/// looks at samples is not; a constant is compared with each half in its own coordinate.
#[test]
fn processes_whose_d_is_not_the_score() {
    let engine = engine();
    for process in ["cld", "vsmd", "pfgmpp"] {
        let model = exact(&engine, process, process, &[2], Stats::default());
        let make = |guidance: &Value, sampler: &str| {
            let json = json!({"guidance": [guidance], "sampler": sampler, "steps": 4});
            Pipeline::new(&model, &json.to_string())
        };
        for guidance in [
            json!({"id": "doob", "config": {"event": "x[0] >= 1"}}),
            json!({"id": "dps", "config": {"at": [0], "values": [1.0]}}),
        ] {
            let e = make(&guidance, "euler").err().unwrap();
            assert!(e.to_string().contains("in which D tells the score"), "{process}: {e}");
        }
        let bounds = |when| json!({"id": "project", "config": {"low": 0.5, "when": when}});
        let coupled = process != "pfgmpp";
        match make(&bounds("prediction"), "euler") {
            Err(e) => assert!(coupled && e.to_string().contains("couples the numbers"), "{e}"),
            Ok(_) => assert!(!coupled, "{process}: bounds on D"),
        }
        let n = 64;
        let got =
            run(&model, &json!({"guidance": [bounds("end")], "sampler": "euler", "steps": 4}), n);
        assert!(got.unwrap().x.iter().all(|x| *x >= 0.5), "{process}");
        if coupled {
            let steer = json!({"id": "steer", "config": {"event": "x[0] >= 1", "particles": 64}});
            let it = json!({"guidance": [steer], "sampler": "churn", "steps": 20});
            let got = run(&model, &it, 4096).unwrap();
            let told = |(x, b): (&[f64], &bool)| *b == (x[0] >= 1.0);
            assert!(got.x.chunks(2).zip(&got.inside).all(told), "{process}");
            println!("{process}: {:.3} of the particles are inside", share(&got.inside));
            assert!(share(&got.inside) > 0.4, "{process}");
        }
    }
}

#[test]
fn what_cannot_be_is_said() {
    let engine = engine();
    let model = normal(&engine, "said", &[4]);
    let fails = |guidance: Value, sampler: &str| {
        let json = json!({"guidance": [guidance], "sampler": sampler, "steps": 4});
        let e = Pipeline::new(&model, &json.to_string()).err().unwrap();
        assert!(
            matches!(e.status, Status::Invalid | Status::Unsupported | Status::NotFound),
            "{e}"
        );
        e.to_string()
    };
    let doob = |settings: Value| json!({"id": "doob", "config": settings});
    for (guidance, sampler, want) in [
        (doob(json!({})), "heun", "doob needs an event, as in \"max(x) >= 40\""),
        (doob(json!({"event": "max(y) > 1"})), "heun", "column 5: no component y, there are: x"),
        (doob(json!({"event": "x > 1"})), "heun", "4 numbers where one is wanted"),
        (doob(json!({"event": "sum(x)"})), "heun", "event is a number, want a condition"),
        (doob(json!({"event": "1 > 2"})), "heun", "reads no component"),
        (doob(json!({"event": "max(x) > 1", "h": "network"})), "heun", "needs a network h"),
        (doob(json!({"event": "max(x) > 1", "h": "gamma"})), "heun", "one number per sample"),
        (doob(json!({"event": "sum(x) > 1", "h": "gamma"})), "heun", "knows events like x >= 0.15"),
        (doob(json!({"event": "max(x) > 1"})), "adaptive_sde", "want one without control"),
        (json!({"id": "reject"}), "heun", "reject needs an event"),
    ] {
        let e = fails(guidance, sampler);
        assert!(e.contains(want), "{e}, want {want}");
    }
    // an event that cannot be: the job ends, and says that no sample is inside
    let reject =
        json!([{"id": "reject", "config": {"event": "max(x) > 1 and max(x) < 0", "redraws": 5}}]);
    let got = run(&model, &json!({"guidance": reject, "steps": 4}), 3).unwrap();
    assert_eq!(got.inside, [false; 3]);
    assert_eq!(got.draws, [6; 3]);
    // and quantiles of the tail are as they should be for the tests above
    assert!((ndtri(ndtr(-4.0)) + 4.0).abs() < 1e-9);
}
