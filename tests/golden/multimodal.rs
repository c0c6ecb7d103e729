//! A number and a token in one state: noise on the number by `ve`, a mask on the token. The network knows both, as the
//! joint law has them, and gives D of the one and logits of the other in one call; the score comes back out of
//! `to_score`, the law of the token out of the last step of `posterior`. f64, at the row's tolerance of 1e-12.

use crate::graph::{evaluate_in, process};
use crate::joint::{Joint, MASK, components};
use crate::rows::{Row, numbers};
use diffx::base::{DType, Desc};
use diffx::graph::{AttrKey, Attrs, NodeId, Op};
use diffx::sample::ProcessFn::{Posterior, ToScore};
use diffx::sample::{Eval, Network, Parts, Stats};
use serde_json::json;
use std::sync::Arc;

/// [score of the number, P(c = 1)] given both.
fn given(row: &Row, z: i32, blind: bool) -> [f64; 2] {
    let joint = Joint {
        weight: numbers(&row.params["p_c"]),
        mean: numbers(&row.params["mu"]),
        sd: row.param("s"),
        blind,
        float: DType::F64,
    };
    let parts = Parts {
        components: components(DType::F64),
        processes: vec![process("ve", &json!({})), process("mask", &json!({}))],
        stats: vec![Stats::default(); 2],
        conds: vec![],
        networks: vec![Network { slot: "base".into(), model: Arc::new(joint), lora: None }],
        guidances: vec![],
        float: DType::F64,
        weight_dtype: DType::F64,
    };
    let out = evaluate_in(&parts, 1, |f| {
        let (y, token) = (f.tensor(&[1, 1], &[row.input("y")]), f.tokens(&[1, 1], &[z]));
        let (sigma, t) = (f.tensor(&[1, 1], &[row.input("sigma")]), f.tensor(&[1, 1], &[0.6]));
        let eval = Eval { phase: 0, x: vec![y, token], sigma: vec![sigma, t], cond: None };
        let d: Vec<NodeId> = f.b.denoise(0, &[eval]).unwrap().remove(0);
        assert_eq!(f.b.graph.desc(d[1]), Desc::new(DType::F64, &[1, 1, 3]).unwrap());
        let score = f.b.process(0, ToScore, 0, &[y, d[0], sigma]).unwrap()[0];
        // the step to time 0 reveals the token by its law
        let none = f.tensor(&[1, 1], &[0.0]);
        let law = f.b.process(1, Posterior, 0, &[token, d[1], t, none]).unwrap()[0];
        let law = f.b.graph.emit(Op::Softmax, &[law], Attrs::NONE.with_int(AttrKey::Axis, -1));
        vec![score, law]
    });
    assert!(out[1][2] == 0.0, "still masked");
    [out[0][0], out[1][1]]
}

pub(crate) fn check(row: &Row) {
    let z = match row.inputs["z"].as_str().unwrap() {
        "mask" => MASK,
        token => token.parse().unwrap(),
    };
    row.agree(&given(row, z, false));
    if z != MASK {
        // a number that does not ask for its token has another score
        assert!((given(row, z, true)[0] - row.expected[0]).abs() > 0.1);
    }
}
