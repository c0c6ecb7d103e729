//! Geometric Brownian motion: transition density, score and Tweedie's formulas, from the process's own transition in
//! log x and gradients of the graph.

use crate::graph::{evaluate, process};
use crate::rows::Row;
use diffx::graph::Op;
use diffx::sample::ProcessFn::{Encode, LogTransition, ToScore};
use serde_json::json;

pub(crate) fn check(row: &Row) {
    if row.id.starts_with("gbm.cond") {
        conditional(row);
    } else {
        assert!(row.id.starts_with("gbm.mix"), "no reader for {}", row.id);
        mixture(row);
    }
}

/// log p(x_t | x0) and its derivative by x, at natural time t.
fn conditional(row: &Row) {
    let (mu, vol, t) = (row.param("mu"), row.param("sigma"), row.param("t"));
    let gbm = process("gbm", &json!({ "mu": mu, "sigma": vol }));
    let sigma = gbm.clock(&[t]).unwrap()[0];
    let m = (mu - 0.5 * vol * vol) * t;
    let got = evaluate(&gbm, 1, |f| {
        let x = f.same(row.input("x"));
        let x0 = f.same(row.input("x0"));
        let sigma = f.same(sigma);
        let (log_x, w0) = (f.call(Encode, &[x]), f.call(Encode, &[x0]));
        let w = f.b.graph.shifted(log_x, -m); // decode adds m
        let log_w = f.call(LogTransition, &[w, w0, sigma]);
        let score_w = f.call(ToScore, &[w, w0, sigma]);
        let g = &mut f.b.graph;
        let log_p = g.sub(log_w, log_x);
        let up = g.shifted(score_w, -1.0);
        let score = g.div(up, x);
        let by_graph = f.derivative(log_p, x);
        vec![log_p, score, by_graph]
    });
    row.agree(&[got[0][0], got[1][0]]);
    row.agree(&[got[0][0], got[2][0]]);
}

/// Lognormal mixture data at mean shift m and variance v: p, score, E[log X0 | x], E[X0 | x].
fn mixture(row: &Row) {
    let (m, v) = (row.param("m"), row.param("v"));
    let (weights, a, b) = (row.mixture("w"), row.mixture("a"), row.mixture("b"));
    let gbm = process("gbm", &json!({}));
    let w = row.input("x").ln() - m;
    // row 0 at w, row 1 at w + v for the non-local formula
    let got = evaluate(&gbm, 2, |f| {
        let x = f.values(&[w, w + v]);
        let terms: Vec<_> = a
            .iter()
            .zip(&b)
            .map(|(a, b)| {
                let (w0, sigma) = (f.same(*a), f.same((b * b + v).sqrt()));
                f.call(LogTransition, &[x, w0, sigma])
            })
            .collect();
        let log_q = f.log_mixture(&weights, &terms);
        let slope = f.derivative(log_q, x);
        let density = f.unary(Op::Exp, log_q);
        vec![density, slope]
    });
    let (q, slope, x) = (&got[0], got[1][0], row.input("x"));
    row.agree(&[q[0] / x, (slope - 1.0) / x, w + v * slope, (w + 0.5 * v).exp() * q[1] / q[0]]);
}
