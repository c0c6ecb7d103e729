//! What a network may predict, through the engine's denoiser: one point x_t = a x0 + s eps, a network that gives its
//! noise, velocity, v, score or x0 as a constant, and D = x0 from each of them.

use crate::graph::process;
use crate::rows::Row;
use diffx::base::{DType, Result};
use diffx::graph::reference::{RefTensor, evaluate};
use diffx::graph::{AttrKey, Attrs, NodeId, Op};
use diffx::sample::ProcessFn::{Decode, ToScore};
use diffx::sample::{
    Build, Component, Eval, Model, ModelInfo, ModelIo, Network, Parts, Predicts, Space, Stats,
};
use serde_json::json;
use std::sync::Arc;

/// Predicts `value` and a multiple of what it is given, which the row takes out again: so its input counts too.
struct Constant {
    predicts: Predicts,
    value: f64,
    input: f64,
}

fn component() -> Component {
    Component {
        name: "x".into(),
        dtype: DType::F64,
        dims: vec![1],
        space: Space::Continuous,
        classes: 0,
    }
}

impl Model for Constant {
    fn info(&self) -> Result<ModelInfo> {
        let (predicts, components) = (self.predicts, vec![component()]);
        Ok(ModelInfo { predicts, components, conds: vec![], slots: vec![] })
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        let off = b.graph.shifted(io.x[0], -self.input);
        let doubled = b.graph.scaled(off, 2.0);
        io.out[0] = b.graph.shifted(doubled, self.value);
        Ok(())
    }
}

/// [x, D, (w - D)/sigma, score in x] of the state with signal a and noise a sigma.
fn denoised(id: &str, network: Constant, w: f64, sigma: f64) -> [f64; 4] {
    let parts = Parts {
        components: vec![component()],
        processes: vec![process(id, &json!({}))],
        stats: vec![Stats::default()],
        conds: vec![],
        networks: vec![Network { slot: "base".into(), model: Arc::new(network), lora: None }],
        guidances: vec![],
        float: DType::F64,
        weight_dtype: DType::F64,
    };
    let mut b = Build::new(&parts, 1).unwrap();
    let x = b.graph.full(w, DType::F64, &[1, 1]);
    let level = b.graph.full(sigma, DType::F64, &[1]);
    let eval = Eval { phase: 0, x: vec![x], sigma: vec![level], cond: None };
    let d = b.denoise(0, &[eval]).unwrap()[0][0];
    let shaped = Attrs::NONE.with_dims(AttrKey::Shape, &[1, 1]);
    let level = b.graph.emit(Op::Reshape, &[level], shaped);
    let data = b.process(0, Decode, 64, &[x, level]).unwrap()[0];
    let score = b.process(0, ToScore, 64, &[x, d, level]).unwrap()[0];
    let out: Vec<NodeId> = vec![data, d, score];
    let got = evaluate(&b.graph, &out, &|node, _| -> Result<RefTensor> {
        panic!("{} is asked for", node.op.name())
    })
    .unwrap();
    let [data, d, score] = [0, 1, 2].map(|i: usize| got[i].data[0]);
    [data, d, (w - d) / sigma, score * w / data]
}

/// [x_t, v or u, x0, eps, score in x]
pub(crate) fn check(row: &Row) {
    let (x0, eps) = (row.input("x0"), row.input("eps"));
    let (id, a, s) = match row.id.as_str() {
        "conv.vp" => ("vp", row.param("alpha"), row.param("sigma")),
        _ => ("flow", 1.0 - row.param("t"), row.param("t")),
    };
    let (w, sigma) = (x0 + s / a * eps, s / a);
    let (own, velocity) = match id {
        "vp" => (Predicts::V, a * eps - s * x0),
        _ => (Predicts::Velocity, eps - x0),
    };
    for (predicts, value, input) in [
        (own, velocity, a * w),
        (Predicts::Noise, eps, w),
        (Predicts::Denoised, x0, w),
        (Predicts::Score, -eps / sigma, w),
    ] {
        let [x, d, noise, score] = denoised(id, Constant { predicts, value, input }, w, sigma);
        row.agree(&[x, velocity, d, noise, score]);
        // a network that is read as something else gives another D
        let wrong = if predicts == Predicts::Noise { own } else { Predicts::Noise };
        let [_, d, ..] = denoised(id, Constant { predicts: wrong, value, input: w }, w, sigma);
        assert!((d - x0).abs() > 1e-3, "{predicts:?} as {wrong:?}");
    }
}
