//! Case 7: low-rank adapters are the core's rewrite of a slot; the plugin does not know.

use crate::rig::{Job, Plugins, Weights, backend, plugins, weights, with_lora};
use diffx::graph::builder::Lora;
use diffx::mem::{Budget, Tensor};
use diffx::train::update::lookup;
use diffx::train::{Dataset, Optimizer, Plan, Schedule, Training};
use std::collections::HashMap;
use std::sync::Arc;

const IN: usize = 3;
const HIDDEN: usize = 5;
const RANK: usize = 2;
const SCALE: f64 = 0.75;

fn fill(n: usize, phase: f32) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 1.7 + phase).sin()).collect()
}

fn dense() -> Weights {
    weights(&[
        ("base/fc1.weight", &fill(IN * HIDDEN, 0.1)),
        ("base/fc1.bias", &fill(HIDDEN, 0.2)),
        ("base/fc2.weight", &fill(IN * HIDDEN, 0.3)),
    ])
}

/// Adapters of both weights; the second is used transposed, so its adapter goes from HIDDEN to IN.
fn adapters(b: f32) -> Weights {
    let scaled = |v: Vec<f32>| v.iter().map(|x| b * x).collect::<Vec<f32>>();
    weights(&[
        ("base/fc1.weight.lora_a", &fill(IN * RANK, 0.4)),
        ("base/fc1.weight.lora_b", &scaled(fill(RANK * HIDDEN, 0.5))),
        ("base/fc2.weight.lora_a", &fill(HIDDEN * RANK, 0.6)),
        ("base/fc2.weight.lora_b", &scaled(fill(RANK * IN, 0.7))),
    ])
}

fn lora(targets: &[&str]) -> Lora {
    let targets = targets.iter().map(|t| (*t).to_owned()).collect();
    Lora { rank: RANK, scale: SCALE, targets }
}

fn job(p: &Plugins, lora: Option<Lora>, all: Weights) -> Job {
    let mut parts = p.parts(p.model("lora.net", "{}"), vec![p.process("ve", "{}")]);
    with_lora(&mut parts, lora);
    let mut job = Job::new(parts, p.sampler("lora.once", "{}"), vec![vec![2.0, 1.0]]);
    job.weights = all;
    job
}

/// W + scale A B, or with A B transposed.
fn merged(all: &Weights, name: &str, rows: usize, cols: usize, transposed: bool) -> Vec<f32> {
    let (a, b) = (&all[&format!("{name}.lora_a")], &all[&format!("{name}.lora_b")]);
    let mut w = all[name].clone();
    for i in 0..rows {
        for j in 0..cols {
            let (x, y, n) = if transposed { (j, i, rows) } else { (i, j, cols) };
            let ab: f32 = (0..RANK).map(|r| a[x * RANK + r] * b[r * n + y]).sum();
            w[i * cols + j] += SCALE as f32 * ab;
        }
    }
    w
}

#[test]
fn an_adapter_of_zeros_changes_no_bit() {
    let Some(p) = plugins("lora") else { return };
    let plain = job(&p, None, dense()).run(0, 50).unwrap();
    let all: Weights = dense().into_iter().chain(adapters(0.0)).collect();
    let adapted = job(&p, Some(lora(&[])), all).run(0, 50).unwrap();
    assert!(adapted.bits("x") == plain.bits("x"));
}

#[test]
fn an_adapter_equals_the_dense_sum() {
    let Some(p) = plugins("lora") else { return };
    let all: Weights = dense().into_iter().chain(adapters(1.0)).collect();
    let got = job(&p, Some(lora(&[])), all.clone()).run(0, 50).unwrap().values("x");
    let mut sum = dense();
    sum.insert("base/fc1.weight".into(), merged(&all, "base/fc1.weight", IN, HIDDEN, false));
    sum.insert("base/fc2.weight".into(), merged(&all, "base/fc2.weight", IN, HIDDEN, true));
    let want = job(&p, None, sum).run(0, 50).unwrap().values("x");
    let plain = job(&p, None, dense()).run(0, 50).unwrap().values("x");
    let worst = |a: &[f64], b: &[f64]| {
        a.iter().zip(b).fold(0.0f64, |worst, (x, y)| worst.max((x - y).abs()))
    };
    assert!(worst(&got, &want) < 1e-5, "off by {}", worst(&got, &want));
    assert!(worst(&got, &plain) > 0.1, "the adapter does nothing");
    // only the first weight: its name holds the target
    let one = job(&p, Some(lora(&["fc1"])), all.clone()).run(0, 50).unwrap().values("x");
    let mut sum = dense();
    sum.insert("base/fc1.weight".into(), merged(&all, "base/fc1.weight", IN, HIDDEN, false));
    let want = job(&p, None, sum).run(0, 50).unwrap().values("x");
    assert!(worst(&one, &want) < 1e-5, "target fc1: off by {}", worst(&one, &want));
}

#[test]
fn only_adapters_train() {
    let Some(p) = plugins("lora") else { return };
    let mut parts = p.parts(p.model("lora.net", "{}"), vec![p.process("ve", "{}")]);
    with_lora(&mut parts, Some(lora(&[])));
    let budget = Budget::unlimited();
    let dims = |name: &str| match name {
        "fc1.weight" => vec![IN, HIDDEN],
        "fc1.bias" => vec![HIDDEN],
        _ => vec![IN, HIDDEN],
    };
    let frozen: HashMap<(String, String), Arc<Tensor>> = dense()
        .into_iter()
        .map(|(name, v)| {
            let name = name.trim_start_matches("base/").to_owned();
            let t = Tensor::from_f32(&dims(&name), &v, &budget).unwrap();
            (("base".to_owned(), name), Arc::new(t))
        })
        .collect();
    let x = Tensor::from_f32(&[64, IN], &fill(64 * IN, 0.9), &budget).unwrap();
    let plan = Plan {
        steps: 200,
        batch: 64,
        seed: 1,
        optimizer: Optimizer {
            rate: 0.02,
            warmup: 0,
            schedule: Schedule::Constant,
            ..Optimizer::default()
        },
        trained: vec!["base".into()],
    };
    let data = Dataset::new(vec![x], vec![]).unwrap();
    let objective = p.objective("lora.fit", "{}");
    let mut training =
        Training::new(backend(), &parts, &*objective, plan, data, &mut lookup(&frozen), &budget)
            .unwrap();
    let mut names: Vec<String> =
        training.weights(false).unwrap().into_iter().map(|(n, _, _)| n).collect();
    names.sort();
    let adapters: Vec<String> = ["fc1.weight", "fc2.weight"]
        .iter()
        .flat_map(|w| [format!("{w}.lora_a"), format!("{w}.lora_b")])
        .collect();
    assert_eq!(names, adapters);

    let mut losses = Vec::new();
    while training.done() < training.steps() {
        losses.extend(training.advance(&mut || diffx::exec::Interrupt::Continue).unwrap());
    }
    let (first, last) = (losses[0].loss, losses[losses.len() - 1].loss);
    assert!(last < 0.5 * first, "loss {first} to {last}");
}
