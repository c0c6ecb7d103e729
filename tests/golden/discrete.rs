//! Token processes: ratios, weight and posterior of `mask` and `uniform`, and the dualities of both with a Gaussian
//! latent, read out of their ratios. All rows in f64, at the row's own tolerance.

use crate::graph::{evaluate_in, process};
use crate::rows::{Row, numbers};
use diffx::base::DType;
use diffx::graph::{AttrKey, Attrs, NodeId, Op};
use diffx::sample::ProcessFn::{LossWeight, Posterior, ToScore};
use diffx::sample::{Component, Parts, ProcessFn, Space, Stats};
use serde_json::{Value, json};

/// A law over the classes whose logits are known; 0 is written as a logit that never wins.
fn logits(law: &[f64]) -> Vec<f64> {
    law.iter().map(|p| if *p > 0.0 { p.ln() } else { -1e30 }).collect()
}

/// What a function of the process gives of one token at the times.
fn of(id: &str, config: Value, law: &[f64], z: i32, f: ProcessFn, times: &[f64]) -> Vec<f64> {
    let parts = Parts {
        components: vec![Component {
            name: "x".into(),
            dtype: DType::I32,
            dims: vec![],
            space: Space::Discrete,
            classes: law.len() as u32,
        }],
        processes: vec![process(id, &config)],
        stats: vec![Stats::default()],
        conds: vec![],
        networks: vec![],
        guidances: vec![],
        float: DType::F64,
        weight_dtype: DType::F64,
    };
    let out = evaluate_in(&parts, 1, |b| {
        let token = b.tokens(&[1], &[z]);
        let row = b.tensor(&[1, law.len()], &logits(law));
        let times: Vec<NodeId> = times.iter().map(|t| b.values(&[*t])).collect();
        let mut inputs = if f == LossWeight { vec![] } else { vec![token, row] };
        inputs.extend(times);
        let out = b.call(f, &inputs);
        if f != Posterior {
            return vec![out];
        }
        vec![b.b.graph.emit(Op::Softmax, &[out], Attrs::NONE.with_int(AttrKey::Axis, -1))]
    });
    out.into_iter().next().unwrap()
}

fn absorb(row: &Row) {
    let (t, p) = (row.input("t"), row.input("p"));
    let noise = || json!({"least": 1e-3});
    let ratio = |config| of("mask", config, &[1.0 - p, p, 0.0], 2, ToScore, &[t])[1].exp();
    let weight = of("mask", noise(), &[1.0, 0.0], 0, LossWeight, &[t])[0];
    row.agree(&[ratio(noise()), weight]);
    // without the share that is kept at the end it is another ratio
    assert!((ratio(json!({})) / row.expected[0] - 1.0).abs() > 1e-3);
    // a revealed token goes nowhere
    assert_eq!(of("mask", noise(), &[1.0 - p, p, 0.0], 0, ToScore, &[t]), [0.0, -1e30, -1e30]);
}

fn uniform_posterior(row: &Row) {
    let (late, early) = (1.0 - row.param("alpha_t"), 1.0 - row.param("alpha_s"));
    let x = numbers(&row.inputs["x"]);
    assert_eq!(row.param("K") as usize, x.len());
    let at = |z, times: [f64; 2]| of("uniform", json!({}), &x, z, Posterior, &times);
    let z = row.input("z_t") as i32;
    row.agree(&at(z, [late, early]));
    // another token or time is another law
    for other in [at(z + 1, [late, early]), at(z, [late, early + 0.01])] {
        assert!(other.iter().zip(&row.expected).any(|(a, b)| (a - b).abs() > 1e-3));
    }
    // the same law as Bayes' rule on the joint law of the two times, which the ratios of each time give:
    // q(z_s) q(z_t | z_s) with the kernel between the two from alpha_t / alpha_s
    let ratios = of("uniform", json!({}), &x, z, ToScore, &[early]);
    let kernel = row.param("alpha_t") / row.param("alpha_s");
    let stay = |y: usize| if y == z as usize { kernel } else { 0.0 };
    let joint: Vec<f64> = ratios
        .iter()
        .enumerate()
        .map(|(y, r)| r.exp() * (stay(y) + (1.0 - kernel) / x.len() as f64))
        .collect();
    let total: f64 = joint.iter().sum();
    row.agree(&joint.iter().map(|p| p / total).collect::<Vec<_>>());
}

/// alpha of the masked and of the uniform process that is the argmax of a latent of signal alpha_tilde.
fn duality(row: &Row) {
    let k = row.param("K") as usize;
    let signal = row.input("alpha_tilde");
    // of (1 - t) e_x + t xi, with the signal to noise ratio of alpha~ e_x + sqrt(1 - alpha~^2) xi
    let t = 1.0 / (1.0 + signal / (1.0 - signal * signal).sqrt());
    let config = || json!({"schedule": "argmax"});
    let mut first = vec![0.0; k + 1];
    first[0] = 1.0;
    let masked = of("mask", config(), &first, k as i32, ToScore, &[t])[0].exp(); // alpha / (1 - alpha)
    let other = of("uniform", config(), &first[..k], 0, ToScore, &[t])[1].exp();
    let uniform = (1.0 - other) / (1.0 + (k as f64 - 1.0) * other);
    row.agree(&[masked / (1.0 + masked), uniform]);
    // the linear schedule has another alpha
    let linear = of("mask", json!({}), &first, k as i32, ToScore, &[t])[0].exp();
    assert!((linear / (1.0 + linear) / row.expected[0] - 1.0).abs() > 1e-2);
}

pub(crate) fn check(row: &Row) {
    match row.id.as_str() {
        "absorb.ratio" => absorb(row),
        "uniform.post" => uniform_posterior(row),
        id if id.starts_with("duo.") => duality(row),
        id => panic!("{id} is not read"),
    }
}
