//! Case 3: block decoding with a cache, against the same decoding written out token by token without one.

use crate::rig::{Job, Plugins, Weights, plugins};
use diffx::base::philox::Stream;
use diffx::mem::{Budget, Tensor};
use std::sync::Arc;

const LENGTH: usize = 12;
const BLOCK: usize = 4;
const CLASSES: usize = 5;
const MASK: usize = 4;
const WIDTH: usize = 6;
const SAMPLES: usize = 200;

/// The network's numbers, and what tells samples apart.
struct Numbers {
    embed: Vec<f32>,
    mix: Vec<f32>,
    head: Vec<f32>,
    bias: Vec<f32>,
}

fn numbers() -> Numbers {
    let normal = |ordinal, n: usize, scale: f32| {
        let mut out = vec![0.0; n];
        Stream { seed: 5, purpose: 64, step: 0, ordinal }.fill_normal_f32(0, &mut out);
        out.iter_mut().for_each(|v| *v *= scale);
        out
    };
    Numbers {
        embed: normal(0, CLASSES * WIDTH, 1.0),
        mix: normal(1, LENGTH * LENGTH, 0.5),
        head: normal(2, WIDTH * (CLASSES - 1), 1.2),
        bias: normal(3, SAMPLES * (CLASSES - 1), 1.0),
    }
}

fn job(p: &Plugins, numbers: &Numbers, stale: u32, threshold: f64) -> Job {
    let model = p.model("block.net", &format!(r#"{{"stale":{stale}}}"#));
    let parts = p.parts(model, vec![p.process("block.mask", "{}")]);
    let sampler = p.sampler("block.blocks", &format!(r#"{{"threshold":{threshold}}}"#));
    let mut job = Job::new(parts, sampler, vec![vec![1.0, 0.0]]);
    job.batch = 64;
    job.weights = Weights::from([
        ("base/embed".into(), numbers.embed.clone()),
        ("base/mix".into(), numbers.mix.clone()),
        ("base/head".into(), numbers.head.clone()),
    ]);
    let bias =
        Tensor::from_f32(&[SAMPLES, CLASSES - 1], &numbers.bias, &Budget::unlimited()).unwrap();
    job.conds = vec![("bias".into(), Arc::new(bias))];
    job
}

/// What decoding by hand gives.
struct Decoded {
    tokens: Vec<i32>,
    /// Tokens committed in each row that committed any.
    commits: Vec<usize>,
    /// How close a confidence came to the threshold, or two confidences of a block to each other.
    margin: f64,
}

/// Probabilities of the tokens at position `i`.
fn predict(numbers: &Numbers, bias: &[f32], x: &[usize], i: usize) -> Vec<f64> {
    let mut logits: Vec<f64> = bias.iter().map(|b| f64::from(*b)).collect();
    for d in 0..WIDTH {
        let context: f64 = (0..LENGTH)
            .map(|j| {
                f64::from(numbers.mix[i * LENGTH + j]) * f64::from(numbers.embed[x[j] * WIDTH + d])
            })
            .sum();
        for (c, logit) in logits.iter_mut().enumerate() {
            *logit += context.tanh() * f64::from(numbers.head[d * (CLASSES - 1) + c]);
        }
    }
    let sum: f64 = logits.iter().map(|l| l.exp()).sum();
    logits.iter().map(|l| l.exp() / sum).collect()
}

fn decode(numbers: &Numbers, sample: usize, threshold: f64) -> Decoded {
    let bias = &numbers.bias[sample * (CLASSES - 1)..(sample + 1) * (CLASSES - 1)];
    let mut x = [MASK; LENGTH];
    let (mut commits, mut margin) = (Vec::new(), f64::INFINITY);
    for block in 0..LENGTH / BLOCK {
        let places = block * BLOCK..(block + 1) * BLOCK;
        while x[places.clone()].contains(&MASK) {
            // position, most likely token, its probability: surest first
            let mut open: Vec<(usize, usize, f64)> = places
                .clone()
                .filter(|i| x[*i] == MASK)
                .map(|i| {
                    let p = predict(numbers, bias, &x, i);
                    let best = (0..p.len()).max_by(|a, b| p[*a].total_cmp(&p[*b])).unwrap();
                    (i, best, p[best])
                })
                .collect();
            open.sort_by(|a, b| b.2.total_cmp(&a.2));
            if let [first, second, ..] = open[..] {
                margin = margin.min(first.2 - second.2);
            }
            margin = open.iter().fold(margin, |m, (_, _, p)| m.min((p - threshold).abs()));
            let sure = open.iter().filter(|(_, _, p)| *p >= threshold).count().max(1);
            for (i, token, _) in &open[..sure] {
                x[*i] = *token;
            }
            commits.push(sure);
        }
    }
    Decoded { tokens: x.map(|t| t as i32).to_vec(), commits, margin }
}

#[test]
fn cached_blocks_equal_decoding_by_hand() {
    let Some(p) = plugins("block") else { return };
    let numbers = numbers();
    let got = job(&p, &numbers, 0, 0.7).run(0, SAMPLES).unwrap();
    let mut per_row = [0usize; BLOCK + 1];
    let (mut compared, mut one_by_one) = (0, 0);
    for (s, tokens) in got.tokens("tokens").chunks(LENGTH).enumerate() {
        let want = decode(&numbers, s, 0.7);
        if want.margin < 1e-4 {
            continue; // rounding may decide a tie
        }
        assert_eq!(tokens, want.tokens, "sample {s}");
        want.commits.iter().for_each(|c| per_row[*c] += 1);
        compared += 1;
        // one token at a time gives other tokens: the order of commits is seen
        one_by_one += usize::from(decode(&numbers, s, 2.0).tokens != want.tokens);
    }
    assert!(compared > SAMPLES * 9 / 10, "only {compared} samples are clear of ties");
    println!("{compared} compared, commits per row {per_row:?}, {one_by_one} depend on order");
    assert!(per_row[1..].iter().all(|n| *n > 10), "commits per row, from 0: {per_row:?}");
    assert!(one_by_one > 10, "{one_by_one} samples depend on the order");
}

#[test]
fn a_stale_cache_is_seen() {
    let Some(p) = plugins("block") else { return };
    let numbers = numbers();
    let right = job(&p, &numbers, 0, 0.7).run(0, SAMPLES).unwrap();
    let stale = job(&p, &numbers, 1, 0.7).run(0, SAMPLES).unwrap();
    let differ = right
        .tokens("tokens")
        .chunks(LENGTH)
        .zip(stale.tokens("tokens").chunks(LENGTH))
        .filter(|(a, b)| a != b)
        .count();
    assert!(differ > 20, "only {differ} samples notice a cache that is never written");
}
