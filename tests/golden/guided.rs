//! More of `guidance.json` through the plugins: what an SDE forgets of a start that is not tilted (A5), the BESQ bridge
//! to 0 (A12), the ratio of two token models (B5).

use crate::doob::{Shrink, carried, close, log_h, parts};
use crate::graph::evaluate_in;
use crate::rows::numbers;
use crate::runner::{Data, Hands, Runner, knots, registry};
use diffx::base::philox::Stream;
use diffx::base::{DType, Desc, Result};
use diffx::graph::Op;
use diffx::sample::{
    Build, Component, Eval, Model, ModelInfo, ModelIo, Network, Parts, Predicts, Space, Stats,
};
use serde_json::{Value, json};
use std::sync::Arc;

#[test]
fn golden_a5_what_an_sde_forgets_of_its_start() {
    let row = &carried()["A5_untilted_start_bias"];
    let (n, exact) = (8192, 1.938_677);
    for row in row["expected"].as_array().unwrap().iter().take(3) {
        let [s, mean, var, _] = numbers(row)[..] else { panic!("a row") };
        let top = f64::exp_m1(2.0 * s).sqrt();
        let levels = knots("geometric", json!({"to_zero": false}), 80, (1e-3, top));
        let data = Data::Normal(vec![(1.0, 0.0, 1.0)]);
        let mut run = Runner::new(("ve", Value::Null), ("sde_dpmpp_2m", Value::Null), &data);
        let config = json!({"event": "x >= 1.5"});
        run.parts.guidances = vec![registry().guidance("doob", &config).unwrap()];
        // the start is that of the unguided process at its level, N(0, e^2s)
        let mut step = 0;
        let mut normals = || -> Vec<f64> {
            step += 1;
            let stream = Stream { seed: 8, purpose: 71, step, ordinal: 0 };
            (0..n).map(|i| f64::from(stream.normal_f32(i))).collect()
        };
        let start: Vec<f64> = normals().iter().map(|z| s.exp() * z).collect();
        let mut draw = |_: Op| normals();
        let mut hands = Hands { draw: &mut draw, instead: &|_| None };
        let x = run.run(&levels, &start, &mut hands).pop().unwrap();
        let got = x.iter().sum::<f64>() / n as f64;
        let got_var = x.iter().map(|x| (x - got).powi(2)).sum::<f64>() / n as f64;
        let error = 4.0 * (var / n as f64).sqrt();
        println!(
            "golden A5, s = {s}: mean {got:.4} of {mean:.4}, variance {got_var:.4} of {var:.4}"
        );
        assert!((got - mean).abs() < error && (got_var - var).abs() < 0.012, "s = {s}");
        // near the data too little noise is left to forget it
        assert!(s > 1.5 || got < exact - 0.02);
    }
}

/// Data of dimension delta and mean delta u0 are the process at time u0 from 0, so its reverse from clock s is the bridge
/// that is at 0 after s + u0. The mean of the data given the state is the integral of h over all thresholds.
#[test]
fn golden_a12_the_bridge_to_0() {
    let row = &carried()["A12_besq_bridge_to_0"];
    let input = |name: &str| row["inputs"][name].as_f64().unwrap();
    let (delta, x, total, t) = (input("delta"), input("x0"), input("T"), input("t"));
    let u0 = total - t;
    let mean_of = |dimension: f64| {
        let at = |a: f64| {
            let config = json!({"event": format!("x >= {a}"), "h": "gamma", "dimension": dimension, "start": 1});
            let mean = delta * u0;
            let stats = Stats { x_mean: mean, x_var: mean * mean, w_mean: 0.9, w_var: 0.2 };
            let besq = ("besq", json!({"delta": delta}));
            let parts = parts(besq, Shrink(vec![(0.0, u0)]), stats, ("doob", config));
            log_h(&parts, &[x.sqrt()], &[t.sqrt()]).0[0].exp()
        };
        // Simpson's rule; h of 0 is 1, and e^-24 is left of the tail
        let (n, step) = (160, 0.08);
        let inner: f64 =
            (1..n).map(|i| if i % 2 == 1 { 4.0 } else { 2.0 } * at(step * f64::from(i))).sum();
        step / 3.0 * (1.0 + inner)
    };
    let want = row["expected"]["exact"].as_f64().unwrap();
    let got = mean_of(delta);
    println!("golden A12: {got:.6} of {want}");
    close(got, want, 1e-4, "mean of the bridge");
    assert!((mean_of(3.0) - want).abs() > 0.02, "another dimension is another bridge");
}

/// Logits that do not depend on anything.
struct Letters(Vec<f64>);

fn token() -> Component {
    Component {
        name: "x".into(),
        dtype: DType::I32,
        dims: vec![],
        space: Space::Discrete,
        classes: 4,
    }
}

impl Model for Letters {
    fn info(&self) -> Result<ModelInfo> {
        Ok(ModelInfo {
            predicts: Predicts::Logits,
            components: vec![token()],
            conds: vec![],
            slots: vec![],
        })
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|p| p.ln().max(-1e30).to_ne_bytes()).collect();
        io.out[0] = b.graph.constant(Desc::new(DType::F64, &[1, 4])?, &bytes);
        Ok(())
    }
}

#[test]
fn golden_b5_the_ratio_of_two_token_models() {
    let row = &carried()["B5_rfg_logits"];
    // the last class is the mask
    let law = |name: &str| [numbers(&row["inputs"][name]), vec![0.0]].concat();
    let slot = |slot: &str, law: Vec<f64>| Network {
        slot: slot.into(),
        model: Arc::new(Letters(law)),
        lora: None,
    };
    let of = |scale: f64| {
        let r = registry();
        let parts = Parts {
            components: vec![token()],
            processes: vec![r.process("mask", &Value::Null).unwrap()],
            stats: vec![Stats::default()],
            conds: vec![],
            networks: vec![slot("base", law("p_policy")), slot("bad", law("p_ref"))],
            guidances: vec![r.guidance("autoguidance", &json!({"scale": scale})).unwrap()],
            float: DType::F64,
            weight_dtype: DType::F64,
        };
        let logits = evaluate_in(&parts, 1, |f| {
            let (x, level) = (f.tokens(&[1], &[3]), f.values(&[0.7]));
            let eval = Eval { phase: 0, x: vec![x], sigma: vec![level], cond: None };
            vec![f.b.denoise(0, &[eval]).unwrap()[0][0]]
        })
        .remove(0);
        let all: f64 = logits.iter().map(|l| l.exp()).sum();
        logits.iter().take(3).map(|l| l.exp() / all).collect::<Vec<f64>>()
    };
    let mut n = 0;
    for (weight, want) in row["expected"].as_object().unwrap() {
        // p^(1 + w) / q^w
        let got = of(1.0 + weight.parse::<f64>().unwrap());
        for (got, want) in got.iter().zip(numbers(want)) {
            close(*got, want, 1e-11, "share of a token");
        }
        n += 1;
    }
    assert_eq!(n, 4);
    // w alone as the scale is another law
    assert!((of(0.5)[0] - 0.779_705_780_228).abs() > 0.05);
    println!("golden B5: {n} weights agree");
}
