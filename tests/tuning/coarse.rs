//! A rollout too coarse to give draws of the model is told, where the objective takes its samples for such: finding by a
//! normal law, whose width after Heun's method, Euler's and UniPC has numbers of its own.

use crate::rig::{engine_with, file, open};
use diffx::engine::Options;
use diffx::engine::tuner::Tuner;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// What a tuner of these settings warns of.
fn told(objective: &str, rollout: &Value) -> Vec<String> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&lines);
    let log = move |level: i32, text: &str| {
        if level == 1 {
            to.lock().unwrap().push(text.to_owned());
        }
    };
    let engine = engine_with(Options {
        threads: 2,
        log: Some(Arc::new(log)),
        log_anywhere: true,
        ..Options::default()
    });
    let path = file(&engine, "coarse.safetensors", "mixture:{\"width\":8}", &[2], 3);
    let config = json!({"objective": objective, "samples": 8, "rounds": 1, "rollout": rollout});
    let tuner = Tuner::new(&open(&engine, &path), &config.to_string()).unwrap();
    std::fs::remove_file(path).unwrap();
    drop(tuner);
    lines.lock().unwrap().clone()
}

fn from_1000(sampler: &str, steps: u32) -> Value {
    json!({"sampler": sampler, "grid": "flow_time", "steps": steps, "sigma_max": 1000.0})
}

#[test]
fn coarse_rollouts_are_told() {
    // the widths of the linear recursions of N(0, 1)
    for (sampler, steps, width) in [("heun", 12, 1.402), ("heun", 20, 1.082), ("euler", 12, 0.898)]
    {
        let lines = told("nft", &from_1000(sampler, steps));
        let [line] = lines.as_slice() else { panic!("{sampler} {steps}: {lines:?}") };
        let said = line.split(" times").next().and_then(|l| l.rsplit(' ').next());
        let said: f64 = said.unwrap().parse().unwrap();
        assert!((said - width).abs() < 0.03 * width, "{sampler} {steps}: {line}, want {width}");
        assert!(line.starts_with(&format!("the rollout's {steps} steps are coarse")), "{line}");
    }
    for (objective, rollout) in [
        ("nft", from_1000("heun", 60)),
        ("elbo_pg", crate::suite::ode(12)),
        ("flow_grpo", from_1000("ddim:{\"eta\":1}", 12)), // judges the steps it made
        // a guidance changes what normals know nothing of
        ("nft", json!({"steps": 8, "guidance": ["reject:{\"event\":\"x[0] >= 0.5\"}"]})),
    ] {
        assert_eq!(told(objective, &rollout), Vec::<String>::new(), "{objective} {rollout}");
    }
}
