//! PFGM++: the Student-t transition, its score by the graph's gradient, and denoisers of atoms and of Cauchy data.

use crate::graph::{evaluate, evaluate_of, process};
use crate::rows::{Row, numbers};
use diffx::base::{DType, Desc};
use diffx::graph::Op;
use diffx::sample::ProcessFn::LogTransition;
use serde_json::json;

pub(crate) fn check(row: &Row) {
    match row.id.split('.').nth(1).unwrap() {
        "cond" => conditional(row),
        "D" => atoms(row),
        "cauchy" => cauchy(row),
        _ => panic!("no reader for {}", row.id),
    }
}

/// log p(x | y) of a sample, summed over its coordinates, and its derivatives by x and by sigma.
fn transition(d: f64, x: &[f64], y: &[f64], sigma: f64) -> (f64, Vec<f64>, f64) {
    let p = process("pfgmpp", &json!({ "augmented": d }));
    let n = x.len();
    let got = evaluate_of(&p, 1, &[n as i64], |f| {
        let column =
            |values: &[f64]| -> Vec<u8> { values.iter().flat_map(|v| v.to_ne_bytes()).collect() };
        let state = Desc::new(DType::F64, &[1, n]).unwrap();
        let x = f.b.graph.constant(state, &column(x));
        let y = f.b.graph.constant(state, &column(y));
        let level = Desc::new(DType::F64, &[1, 1]).unwrap();
        let sigma = f.b.graph.constant(level, &column(&[sigma]));
        let share = f.call(LogTransition, &[x, y, sigma]);
        let g = &mut f.b.graph;
        let ones = g.full(1.0, DType::F64, &[1, n]);
        let slopes = g.grad(share, ones, &[x, sigma]);
        vec![share, slopes[0], slopes[1]]
    });
    (got[0].iter().sum(), got[1].clone(), got[2][0])
}

fn conditional(row: &Row) {
    let (x, y) = (numbers(&row.inputs["x"]), numbers(&row.inputs["y"]));
    let d = row.param("D");
    let (log, score, _) = transition(d, &x, &y, row.param("r") / d.sqrt());
    row.agree(&[&[log], &score[..]].concat());
}

/// E[y | x] by the weights the transition gives the points, and dx/dr = (x - E)/r.
fn atoms(row: &Row) {
    let (d, r, x) = (row.param("D"), row.param("r"), row.input("x"));
    let (points, weights) = (numbers(&row.params["points"]), numbers(&row.params["weights"]));
    let p = process("pfgmpp", &json!({ "augmented": d }));
    let got = evaluate(&p, 3, |f| {
        let (y, x, sigma) = (f.values(&points), f.same(x), f.same(r / d.sqrt()));
        let log = f.call(LogTransition, &[x, y, sigma]);
        vec![f.unary(Op::Exp, log)]
    });
    let share: Vec<f64> = got[0].iter().zip(&weights).map(|(p, w)| p * w).collect();
    let total: f64 = share.iter().sum();
    let mean = share.iter().zip(&points).map(|(p, y)| p * y).sum::<f64>() / total;
    row.agree(&[mean, (x - mean) / r]);
}

/// Cauchy(r0) data at D = 1 is a Cauchy law of scale R = r0 + r. The potential of the field is (p/R)^{1/3} in two
/// dimensions, and E[y | x] = x - r (d/dx)/(d/dr) of it.
fn cauchy(row: &Row) {
    let (r0, r) = (row.param("r0"), row.param("r"));
    let x = numbers(&row.inputs["x"]);
    let scale = r0 + r;
    let (_, score, slope) = transition(row.param("D"), &x, &[0.0; 2], scale);
    let by_scale = slope - 1.0 / scale;
    let mean: Vec<f64> = x.iter().zip(&score).map(|(x, s)| x - r * s / by_scale).collect();
    row.agree(&[&mean[..], &score[..]].concat());
}
