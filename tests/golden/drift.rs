//! The drift of `drifting`, read out of the gradient of its loss by the samples; under the Gaussian kernel it is the
//! difference of two scores of `ve`. f64, at the rows' own tolerances. The population shift under the Laplace kernel is
//! no batch of equal weights: the graph integrates it over the transition of `ve`, and the objective is held to it by a
//! batch of quantiles, to 1e-3.

use crate::graph::{evaluate_in, registry, vector};
use crate::rows::{Row, numbers};
use diffx::base::special::normal::ndtri;
use diffx::base::{DType, Desc, Result};
use diffx::graph::reference::{RefTensor, evaluate};
use diffx::graph::{AttrKey, Attrs, NodeId, Op};
use diffx::sample::ProcessFn::{LogTransition, ToScore};
use diffx::sample::{Build, Eval, Model, ModelInfo, ModelIo, Predicts};
use diffx::train::LossIo;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// A generator that gives its noise, and remembers the node.
struct Same(Mutex<Option<NodeId>>);

impl Model for Same {
    fn info(&self) -> Result<ModelInfo> {
        let predicts = Predicts::Denoised;
        Ok(ModelInfo { predicts, components: vec![], conds: vec![], slots: vec![] })
    }

    fn build(&self, _: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        *self.0.lock().unwrap() = Some(io.x[0]);
        io.out[0] = io.x[0];
        Ok(())
    }
}

/// V at the first sample.
fn drift(config: Value, samples: &[f64], data: &[f64]) -> f64 {
    let rows = samples.len();
    let same = Arc::new(Same(Mutex::new(None)));
    let model: Arc<dyn Model> = Arc::<Same>::clone(&same);
    let parts = vector(1, ("ve", json!({})), model, 1.0);
    let objective = registry().objective("drifting", &config).unwrap();
    let mut b = Build::new(&parts, rows).unwrap();
    let x0 = b.graph.input("x", Desc::new(DType::F64, &[rows, 1]).unwrap());
    let mut io = LossIo { x0: vec![x0], ..LossIo::default() };
    objective.loss(&mut b, &mut io).unwrap();
    let f = same.0.lock().unwrap().unwrap();
    let one = b.graph.scalar(1.0);
    let slope = b.graph.grad(io.loss.unwrap(), one, &[f])[0];
    let out = evaluate(&b.graph, &[slope], &|node, _| match node.op {
        Op::Normal => RefTensor::new(&[rows, 1], samples.to_vec()),
        Op::Input => RefTensor::new(&[rows, 1], data.to_vec()),
        op => panic!("{} is asked for", op.name()),
    });
    // of mean |f - sg(f + V)|²
    out.unwrap()[0].data[0] * rows as f64 / -2.0
}

/// Quantiles of a normal, as many as `n`.
fn normal(mean: f64, sd: f64, n: usize) -> Vec<f64> {
    (0..n).map(|i| mean + sd * ndtri((i as f64 + 0.5) / n as f64)).collect()
}

/// Score at x of N(mean, sd²) after noise of level h, by the exact denoiser.
fn score(mean: f64, sd: f64, x: f64, h: f64) -> f64 {
    let null = registry().model("null", &json!({"dims": [1]})).unwrap();
    let parts = vector(1, ("ve", json!({"center": mean})), null, sd * sd);
    let out = evaluate_in(&parts, 1, |f| {
        let (x, h) = (f.tensor(&[1, 1], &[x]), f.tensor(&[1, 1], &[h]));
        let w = f.b.process(0, diffx::sample::ProcessFn::Encode, 0, &[x]).unwrap()[0];
        let eval = Eval { phase: 0, x: vec![w], sigma: vec![h], cond: None };
        let d = f.b.denoise(0, &[eval]).unwrap()[0][0];
        f.b.process(0, ToScore, 0, &[w, d, h]).unwrap()
    });
    out[0][0]
}

fn gauss(row: &Row) {
    let (p, q) = (numbers(&row.params["p"]), numbers(&row.params["q"]));
    let (x, h) = (row.input("x"), row.param("h"));
    row.agree(&[h * h * (score(p[0], p[1], x, h) - score(q[0], q[1], x, h))]);
    // and so is the objective's, for many samples; the first is no neighbour of its own
    let samples = [vec![x], normal(q[0], q[1], 1199)].concat();
    let data = normal(p[0], p[1], 1200);
    let v = |kernel| drift(json!({"kernel": kernel, "widths": [h]}), &samples, &data);
    assert!((v("gaussian") - row.expected[0]).abs() < 1e-3, "{}", v("gaussian"));
    assert!((v("laplace") - row.expected[0]).abs() > 1e-2);
}

fn laplace(row: &Row) {
    let samples = [vec![row.input("x")], numbers(&row.params["neg"])].concat();
    let config = json!({"widths": [row.param("tau")]});
    row.agree(&[drift(config, &samples, &numbers(&row.params["pos"]))]);
}

fn population(row: &Row) {
    let (x, tau) = (row.input("x"), row.param("tau"));
    let (mean, sd) = (0.3, 0.8); // as the row's quantity says
    // Simpson on both sides of the kernel's kink
    let (n, reach) = (4000_usize, 8.0);
    let step = reach / n as f64;
    let simpson = |i: usize| match i {
        0 => 2.0, // the end of both sides
        i if i == n => 1.0,
        i => [2.0, 4.0][i % 2],
    };
    let at = |i: i64| (x + i as f64 * step, simpson(i.unsigned_abs() as usize));
    let (y, weight): (Vec<f64>, Vec<f64>) = (-(n as i64)..=n as i64).map(at).unzip();
    let null = registry().model("null", &json!({"dims": [1]})).unwrap();
    let parts = vector(1, ("ve", json!({})), null, 1.0);
    let rows = y.len();
    let out = evaluate_in(&parts, rows, |f| {
        let points = f.tensor(&[rows, 1], &y);
        let (from, level) = (vec![mean; rows], vec![sd; rows]);
        let (from, level) = (f.tensor(&[rows, 1], &from), f.tensor(&[rows, 1], &level));
        let log = f.b.process(0, LogTransition, 0, &[points, from, level]).unwrap()[0];
        let weight = f.tensor(&[rows, 1], &weight);
        let g = &mut f.b.graph;
        let share = g.unary(Op::Log, weight);
        let here = g.shifted(points, -x);
        let far = g.unary(Op::Abs, here);
        let kernel = g.scaled(far, -1.0 / tau);
        let sum = g.add(log, share);
        let sum = g.add(sum, kernel);
        let law = g.emit(Op::Softmax, &[sum], Attrs::NONE.with_int(AttrKey::Axis, 0));
        let part = g.mul(law, here);
        vec![g.reduce(Op::Sum, part, &[0], false)]
    });
    row.agree(&out[0]);
    // the objective: its own samples on both sides of the first pull it nowhere
    let around: Vec<f64> =
        (0..300).flat_map(|i| [0.01, -0.01].map(|s| x + s * f64::from(i + 1))).collect();
    let samples = [vec![x], around].concat();
    let data = normal(mean, sd, samples.len());
    let v = drift(json!({"widths": [tau]}), &samples, &data);
    assert!((v - row.expected[0]).abs() < 1e-3, "{v}");
}

pub(crate) fn check(row: &Row) {
    match row.id.as_str() {
        "drift.gauss" => gauss(row),
        "drift.laplace" => laplace(row),
        "drift.laplace.pop" => population(row),
        id => panic!("{id} is not read"),
    }
}
