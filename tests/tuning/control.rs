//! Deterministic adjoint matching on a normal of the line (specs objectives 2.6): the control of least energy moves the mean
//! by s (pi/2 - atan(s tau0/(1 - tau0))), tau0 where the trained steps begin, and leaves the deviation; the tilt would
//! move it by s².

use crate::normal;
use crate::reference;
use crate::rig::{drive, engine, file, open, rows, temporary};
use diffx::engine::tuner::Tuner;
use diffx::engine::{Job, JobOptions, Pipeline};
use diffx::mem::{Budget, Tensor};
use diffx::train::Reward;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Steps of Euler's method: its error in the deviation is 1/STEPS.
const STEPS: usize = 150;

/// Shift of the mean and ratio of the deviations, by the same draws of the prior.
fn moved(tau0: f64, rounds: u32, seed: u64) -> (f64, f64) {
    let engine = engine();
    let tag = format!("line-{}-{seed}", (10.0 * tau0) as u32);
    let path = file(&engine, &format!("{tag}.safetensors"), "normal", &[1], seed);
    let mut objective = json!({"deterministic": true});
    if tau0 > 0.0 {
        objective["last"] = json!(((1.0 - tau0) * STEPS as f64).round() as usize);
    }
    let config = json!({
        "objective": {"id": "adjoint_matching", "config": objective},
        "rollout": {"sampler": "euler", "grid": "flow_time", "steps": STEPS}, "rounds": rounds, "samples": 64,
        "rate": 3e-3, "schedule": "cosine", "floor": 0.05, "ema": 0.99, "seed": seed,
    });
    let mut tuner = Tuner::new(&open(&engine, &path), &config.to_string()).unwrap();
    let judge = |x: &Tensor| {
        let n = x.dims()[0];
        let ones = Tensor::from_f32(&[n, 1], &vec![1.0; n], &Budget::unlimited()).unwrap();
        Reward { values: rows(x), valid: vec![], grads: vec![("x".into(), Arc::new(ones))] }
    };
    drive(&mut tuner, &judge);
    let out = temporary(&format!("{tag}.tuned.safetensors"));
    tuner.save(&out).unwrap();
    let moments = |path: &Path| {
        let sampler = json!({"sampler": "euler", "steps": STEPS}).to_string();
        let pipeline = Pipeline::new(&open(&engine, path), &sampler).unwrap();
        let options = JobOptions { seed: 3, n_samples: 20_000, ..JobOptions::default() };
        let job = Job::start(&pipeline, options).unwrap();
        assert!(job.wait(Duration::from_secs(600)));
        let x = rows(&job.result("x").unwrap());
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let var = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64;
        (mean, var.sqrt())
    };
    let (before, after) = (moments(&path), moments(&out));
    for path in [path, out] {
        std::fs::remove_file(path).unwrap();
    }
    assert!((before.0 - normal::MEAN).abs() < 0.02, "{before:?}");
    let (shift, spread) = (after.0 - before.0, after.1 / before.1);
    println!(
        "ode adjoint matching: from {tau0}, seed {seed}, {rounds} updates: shift {shift:.4}, want {:.4}; deviation times {spread:.4}",
        exact(tau0)
    );
    (shift, spread)
}

fn exact(tau0: f64) -> f64 {
    let s = normal::SPREAD;
    s * (std::f64::consts::FRAC_PI_2 - (s * tau0 / (1.0 - tau0)).atan())
}

#[test]
fn deterministic_adjoint_matching_moves_the_mean() {
    let (shift, spread) = moved(0.0, 300, 1);
    assert!((shift / exact(0.0) - 1.0).abs() < 0.02, "shift {shift}, want {}", exact(0.0));
    assert!((spread - 1.0).abs() < 0.01, "deviation times {spread}");
    assert!((shift / normal::SPREAD.powi(2) - 1.0).abs() > 1.0, "the tilt's shift is another");
}

/// Steps before the trained ones keep to the reference, also where the network would carry the control on.
#[test]
fn a_truncated_adjoint_moves_the_mean_less() {
    let (shift, spread) = moved(0.5, 400, 1);
    assert!((shift / exact(0.5) - 1.0).abs() < 0.08, "shift {shift}, want {}", exact(0.5));
    assert!((spread - 1.0).abs() < 0.01, "deviation times {spread}");
}

#[test]
fn the_shift_is_that_of_the_reference() {
    for tau0 in [0.0, 0.5, 0.8] {
        let row = format!("odeam.tau0_{tau0:.1}");
        let want = reference::of(&row, "shift_closed_form");
        assert!((exact(tau0) - want).abs() < 1e-4, "{tau0}: {}, want {want}", exact(tau0));
    }
}

/// `cargo test --release --test tuning controls -- --ignored --nocapture`: rows of docs/objectives.md.
#[test]
#[ignore = "nine runs of half a minute"]
fn controls() {
    for (tau0, slack) in [(0.0, 0.02), (0.5, 0.08), (0.8, 0.08)] {
        let got: Vec<(f64, f64)> = (1..=3).map(|seed| moved(tau0, 800, seed)).collect();
        let list = |f: &dyn Fn(&(f64, f64)) -> f64| {
            got.iter().map(|g| format!("{:.3}", f(g))).collect::<Vec<_>>().join(", ")
        };
        println!(
            "| {tau0} | {:.4} | {} | {:.4} | {} |",
            exact(tau0),
            list(&|g| g.0),
            reference::of(&format!("odeam.tau0_{tau0:.1}"), "shift"),
            list(&|g| g.1),
        );
        for (shift, spread) in got {
            assert!((shift / exact(tau0) - 1.0).abs() < slack, "{tau0}: shift {shift}");
            assert!((spread - 1.0).abs() < 0.01, "{tau0}: deviation times {spread}");
        }
    }
}
