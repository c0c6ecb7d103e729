//! Case 1: Heun, classifier-free guidance and Doob's h-transform on its own network (guidance_samplers 1.7).

use crate::law::{moments, weighted};
use crate::rig::{self, Plugins, SEED, compile, plugins, weights};
use diffx::base::{DType, Desc};
use diffx::engine::{Engine, Job, JobOptions, OpenModel, Options, Pipeline};
use diffx::mem::{Budget, Tensor};
use diffx::sample::{Network, Stats};
use diffx::weights::{Out, write};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const N: usize = 20_000;
/// Means of the null law and of the class; guided at scale 2 the mean is 1.
const MEANS: [f32; 2] = [-0.5, 0.25];
const MEAN: f64 = 1.0;
/// The event is 1.5 standard deviations out: P = .0668, and the law's mean and variance given it.
const EVENT: f64 = MEAN + 1.5;
const P_EVENT: f64 = 0.066_807_201_268_858_07;
const GIVEN: (f64, f64) = (MEAN + 1.938_677_4, 0.149_547_1);

fn job(p: &Plugins, scale: f64, strength: Option<f64>) -> rig::Job {
    let mut parts = p.parts(p.model("doob.net", "{}"), vec![p.process("ve", "{}")]);
    parts.stats = vec![Stats { x_mean: MEAN, x_var: 1.0, w_mean: MEAN, w_var: 1.0 }];
    parts.guidances = vec![p.guidance("doob.cfg", &format!(r#"{{"scale":{scale}}}"#))];
    if let Some(s) = strength {
        parts.guidances.push(p.guidance("doob.h_transform", &format!(r#"{{"strength":{s}}}"#)));
        let model = p.model("doob.h", &format!(r#"{{"b":{EVENT}}}"#));
        parts.networks.push(Network { slot: "h".into(), model, lora: None });
    }
    let mut job =
        rig::Job::new(parts, p.sampler("doob.heun", "{}"), vec![p.knots(64, 20.0, 0.002)]);
    job.weights = weights(&[("base/mean", &MEANS), ("h/mean", &[MEAN as f32])]);
    let class = Tensor::from_f32(&[1], &[1.0], &Budget::unlimited()).unwrap();
    job.conds = vec![("class".into(), Arc::new(class))];
    job
}

#[test]
fn guided_and_conditioned_law() {
    let Some(p) = plugins("doob") else { return };

    let free = job(&p, 2.0, None).run(0, N).unwrap();
    let (mean, var) = moments(&free.values("x"));
    assert!((mean - MEAN).abs() < 0.03 && (var - 1.0).abs() < 0.05, "guided: {mean}, {var}");

    let got = job(&p, 2.0, Some(1.0)).run(0, N).unwrap();
    let x = got.values("x");
    let w: Vec<f64> = got.values("log_weight").iter().map(|l| l.exp()).collect();
    let (mean, var) = weighted(&x, &w);
    assert!((mean - GIVEN.0).abs() < 0.012, "mean {mean}, want {}", GIVEN.0);
    assert!((var - GIVEN.1).abs() < 0.008, "variance {var}, want {}", GIVEN.1);
    println!("mean {mean} and variance {var} of {GIVEN:?}");
    let inside = x.iter().filter(|x| **x >= EVENT).count() as f64 / N as f64;
    assert!(inside > 0.995, "{inside} of the samples hit the event");
    // the start tilts the prior by h, whose mean is the probability of the event
    let normaliser = w.iter().sum::<f64>() / N as f64;
    assert!((normaliser / P_EVENT - 1.0).abs() < 0.01, "P(event) {normaliser}, want {P_EVENT}");
}

#[test]
fn wrong_variants_miss_it() {
    let Some(p) = plugins("doob") else { return };
    let right = job(&p, 2.0, Some(1.0)).run(0, N).unwrap();
    // an ODE does not forget an untilted start
    let (untilted, _) = moments(&right.values("x"));
    assert!((untilted - GIVEN.0).abs() > 0.025, "untilted mean {untilted}");
    // twice the gradient makes everything feasible and the law wrong
    let (twice, _) = moments(&job(&p, 2.0, Some(2.0)).run(0, 2000).unwrap().values("x"));
    assert!(twice > GIVEN.0 + 0.2, "doubled strength: mean {twice}");
    println!("untilted mean {untilted}, doubled {twice}");
    // h was made for the guided law: under another scale it is not its h
    let (other, _) = moments(&job(&p, 1.0, Some(1.0)).run(0, 2000).unwrap().values("x"));
    assert!((other - GIVEN.0).abs() > 0.1, "scale 1: mean {other}");
}

#[test]
fn each_slot_has_its_own_parameters() {
    let Some(p) = plugins("doob") else { return };
    let mut job = job(&p, 2.0, Some(1.0));
    job.weights.remove("h/mean");
    let e = job.run(0, 8).err().unwrap();
    assert!(e.to_string().contains("h/mean"), "{e}");
}

/// From files, by name, with the guidances listed in the wrong order: the pipeline wraps them by stage.
#[test]
fn the_engine_composes_the_same() {
    let Some(p) = plugins("doob") else { return };
    let by_hand = job(&p, 2.0, Some(1.0)).run(0, 64).unwrap();

    let engine = Engine::new(Options { load_plugins: true, ..Options::default() }).unwrap();
    for case in ["ve", "doob"] {
        engine.load(&compile(case).unwrap(), None).unwrap();
    }
    let file = |name: &str, model: &str, mean: &[f32]| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("contract-{name}-{}.safetensors", std::process::id()));
        let manifest = format!(
            r#"{{"format":1,"model":{model},"components":[{{"name":"x","dims":[1],
            "process":{{"id":"org.contract.ve","config":{{}}}},"sigma_min":0.002,"sigma_max":20,
            "stats":{{"x_mean":1,"x_var":1,"w_mean":1,"w_var":1}}}}]}}"#
        );
        let metadata = BTreeMap::from([("diffx".to_owned(), manifest)]);
        let bytes: Vec<u8> = mean.iter().flat_map(|v| v.to_le_bytes()).collect();
        let desc = Desc::new(DType::F32, &[mean.len()]).unwrap();
        write(&path, &metadata, &[Out { name: "mean", desc, bytes: &bytes }]).unwrap();
        path
    };
    let base = file("base", r#"{"id":"org.contract.doob.net"}"#, &MEANS);
    let h = format!(r#"{{"id":"org.contract.doob.h","config":{{"b":{EVENT}}}}}"#);
    let h = file("h", &h, &[MEAN as f32]);
    let config = format!(
        r#"{{"guidance":[{{"id":"org.contract.doob.h_transform"}},
            {{"id":"org.contract.doob.cfg","config":{{"scale":2}}}}],
            "networks":{{"h":{{"model":"{}"}}}},
            "sampler":"org.contract.doob.heun","grid":"org.contract.geometric","steps":64}}"#,
        h.display()
    );
    let model = OpenModel::open(&engine, base.to_str().unwrap(), "").unwrap();
    let pipeline = Pipeline::new(&model, &config).unwrap();
    let class = Tensor::from_f32(&[1], &[1.0], &Budget::unlimited()).unwrap();
    let options = JobOptions {
        seed: SEED,
        first_sample: 0,
        n_samples: 64,
        n_steps: 0,
        preview_every: 0,
        inputs: vec![("class".into(), Arc::new(class))],
    };
    let job = Job::start(&pipeline, options).unwrap();
    assert!(job.wait(Duration::from_secs(600)));
    assert!(job.error().is_none(), "{:?}", job.error());
    for name in ["x", "log_weight"] {
        assert!(job.result(name).unwrap().bytes() == by_hand.bits(name), "{name}");
    }
    for path in [base, h] {
        std::fs::remove_file(path).unwrap();
    }
}
