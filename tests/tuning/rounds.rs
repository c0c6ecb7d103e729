//! One round of NFT with `old` held where it was has a closed form (specs objectives 2.3): for an advantage linear in x0 the
//! velocity moves by -Cov(x0 | x_t) a / (5 b t), a the slope over the deviation of the rewards.

use crate::mixture::{MEANS, SHARES, SLOPE, SPREAD};
use crate::reference;
use crate::rig::{drive, engine, file, linear, open, rows, temporary};
use diffx::base::philox::Stream;
use diffx::engine::tuner::Tuner;
use diffx::engine::{Evaluation, Pipeline};
use diffx::mem::{Budget, Tensor};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

const POINTS: usize = 4096;

/// What D of such a round gains at w: Cov(x0 | w) a / 5.
fn gained(w: &[f64], sigma: f64, deviation: f64) -> [f64; 2] {
    let (s2, v) = (SPREAD * SPREAD, SPREAD * SPREAD + sigma * sigma);
    let log = |k: usize| {
        let far: f64 = (0..2).map(|d| (w[d] - MEANS[k][d]).powi(2)).sum();
        SHARES[k].ln() - far / (2.0 * v)
    };
    let most = (0..4).map(log).fold(f64::NEG_INFINITY, f64::max);
    let raw: Vec<f64> = (0..4).map(|k| (log(k) - most).exp()).collect();
    let total: f64 = raw.iter().sum();
    let mean_of = |k: usize, d: usize| MEANS[k][d] + s2 / v * (w[d] - MEANS[k][d]);
    let mean = |d: usize| (0..4).map(|k| raw[k] / total * mean_of(k, d)).sum::<f64>();
    let of = |d: usize| {
        let between: f64 = (0..4)
            .map(|k| {
                let along: f64 = (0..2).map(|e| (mean_of(k, e) - mean(e)) * SLOPE[e]).sum();
                raw[k] / total * (mean_of(k, d) - mean(d)) * along
            })
            .sum();
        (s2 * sigma * sigma / v * SLOPE[d] + between) / deviation / 5.0
    };
    [of(0), of(1)]
}

/// The standard deviation of the reward under the mixture.
fn deviation() -> f64 {
    let along = |m: &[f64; 2]| crate::mixture::reward(m);
    let mean: f64 = MEANS.iter().zip(SHARES).map(|(m, s)| s * along(m)).sum();
    let between: f64 = MEANS.iter().zip(SHARES).map(|(m, s)| s * (along(m) - mean).powi(2)).sum();
    let within: f64 = SLOPE.iter().map(|c| c * c * SPREAD * SPREAD).sum();
    (between + within).sqrt()
}

/// Relative error and cosine of the velocity's move, at times spread over 0.05 .. 0.95 and states of the mixture.
fn compared(before: &Path, after: &Path) -> (f64, f64) {
    let engine = engine();
    let (mut times, mut noise) = (vec![0f32; POINTS], vec![0f32; 2 * POINTS]);
    let stream = |ordinal| Stream { seed: 4, purpose: 64, step: 0, ordinal };
    stream(0).fill_uniform_f32(0, &mut times);
    stream(1).fill_normal_f32(0, &mut noise);
    let t = |i: usize| 0.05 + 0.9 * f64::from(times[i]);
    let sigma: Vec<f64> = (0..POINTS).map(|i| t(i) / (1.0 - t(i))).collect();
    let w: Vec<f64> = (0..2 * POINTS)
        .map(|i| {
            let k = [0, 0, 0, 0, 1, 2, 2, 2, 3, 3][i / 2 % 10]; // the shares of the mixture
            MEANS[k][i % 2] + SPREAD.hypot(sigma[i / 2]) * f64::from(noise[i])
        })
        .collect();
    let tensor = |dims: &[usize], v: &[f64]| {
        let narrow: Vec<f32> = v.iter().map(|v| *v as f32).collect();
        Arc::new(Tensor::from_f32(dims, &narrow, &Budget::unlimited()).unwrap())
    };
    let inputs = [
        ("x".to_owned(), tensor(&[POINTS, 2], &w)),
        ("sigma".to_owned(), tensor(&[POINTS], &sigma)),
    ];
    let denoised = |path: &Path| {
        let pipeline = Pipeline::new(&open(&engine, path), "{}").unwrap();
        let e = Evaluation { slot: "", phase: 0, inputs: &inputs, outputs: &["x".to_owned()] };
        rows(&pipeline.evaluate(&e).unwrap()[0])
    };
    let (then, now) = (denoised(before), denoised(after));
    let (mut wrong, mut all, mut own, mut along) = (0.0, 0.0, 0.0, 0.0);
    for i in 0..POINTS {
        let want = gained(&w[2 * i..2 * i + 2], sigma[i], deviation());
        for d in 0..2 {
            let (got, want) = ((now[2 * i + d] - then[2 * i + d]) / t(i), want[d] / t(i));
            wrong += (got - want).powi(2);
            all += want * want;
            own += got * got;
            along += got * want;
        }
    }
    (f64::sqrt(wrong / all), along / f64::sqrt(all * own))
}

/// A round of so many updates, each on samples of its own.
fn round(updates: u32, seed: u64) -> (f64, f64) {
    let engine = engine();
    let path = file(&engine, &format!("round-{seed}.safetensors"), "mixture", &[2], seed);
    let config = json!({
        "objective": {"id": "nft", "config": {"estimator": "uniform", "kl": 0.0}},
        "rollout": crate::suite::ode(20), "actor": "ref", "old": {"rate": 1.0, "most": 1.0},
        "rounds": updates, "samples": 256, "rate": 2e-3, "schedule": "cosine", "floor": 0.05, "ema": 0.99,
        "seed": seed,
    });
    let mut tuner = Tuner::new(&open(&engine, &path), &config.to_string()).unwrap();
    drive(&mut tuner, &linear);
    let out = temporary(&format!("round-{seed}.tuned.safetensors"));
    tuner.save(&out).unwrap();
    let (error, cosine) = compared(&path, &out);
    for path in [path, out] {
        std::fs::remove_file(path).unwrap();
    }
    println!(
        "one round of nft, seed {seed}, {updates} updates: error {error:.4}, cosine {cosine:.4}"
    );
    (error, cosine)
}

#[test]
fn a_round_of_nft_comes_to_its_closed_form() {
    let (error, cosine) = round(400, 1);
    assert!(error < 0.2 && cosine > 0.98, "{error}, {cosine}");
}

/// `cargo test --release --test tuning many_rounds -- --ignored --nocapture`: a row of docs/objectives.md.
#[test]
#[ignore = "three runs of a minute"]
fn many_rounds() {
    let got: Vec<(f64, f64)> = (1..=3).map(|seed| round(3000, seed)).collect();
    let want = reference::of("base.one_iteration_nft", "rel_err");
    println!("| `nft`, one round | 3000 | {got:.3?} | {want} | 0.08 |");
    assert!(got.iter().all(|(error, _)| *error < 0.08), "{got:?}");
}
