//! CIR through its map to squared Bessel: clock, decode, transition density, score, target, moments, Tweedie.

use crate::graph::{evaluate, process};
use crate::rows::Row;
use diffx::graph::Op;
use diffx::sample::ProcessFn::{Decode, LogTransition, ToScore};
use serde_json::json;

pub(crate) fn check(row: &Row) {
    match row.id.split('.').nth(1).unwrap() {
        "cond" => conditional(row),
        "moments" => moments(row),
        "gamma0" => gamma_data(row),
        _ => panic!("no reader for {}", row.id),
    }
}

struct Cir {
    kappa: f64,
    theta: f64,
    vol: f64,
    t: f64,
    /// Squared noise level at t, from the process's own clock.
    u: f64,
    process: std::sync::Arc<dyn diffx::sample::Process>,
}

impl Cir {
    fn new(row: &Row) -> Self {
        let [kappa, theta, vol, t] = ["kappa", "theta", "sigma", "t"].map(|n| row.param(n));
        let process = process("cir", &json!({ "kappa": kappa, "theta": theta, "sigma": vol }));
        let sigma = process.clock(&[t]).unwrap()[0];
        Self { kappa, theta, vol, t, u: sigma * sigma, process }
    }

    fn delta(&self) -> f64 {
        4.0 * self.kappa * self.theta / (self.vol * self.vol)
    }

    /// e^{-kappa t}
    fn decay(&self) -> f64 {
        (-self.kappa * self.t).exp()
    }

    /// The process's coordinate of a value at time t.
    fn w(&self, x: f64) -> f64 {
        (x / self.decay()).sqrt()
    }

    /// c(t): x_t / c is noncentral chi-square.
    fn c(&self) -> f64 {
        self.u * self.decay()
    }

    /// d/dx log p(x) from d/dw log p(w): w = sqrt(x e^{kappa t}).
    fn score_in_x(&self, x: f64, score_w: f64) -> f64 {
        score_w * self.w(x) / (2.0 * x) - 0.5 / x
    }
}

fn conditional(row: &Row) {
    let (cir, x, x0) = (Cir::new(row), row.input("x"), row.input("x0"));
    let nu = 0.5 * cir.delta() - 1.0;
    let got = evaluate(&cir.process, 1, |f| {
        let (w, w0, sigma) = (f.same(cir.w(x)), f.same(x0.sqrt()), f.same(cir.u.sqrt()));
        let back = f.call(Decode, &[w, sigma]);
        let log_w = f.call(LogTransition, &[w, w0, sigma]);
        let g = &mut f.b.graph;
        let product = g.mul(w, w0);
        let z = g.scaled(product, 1.0 / cir.u);
        let ratio = f.ratio(nu, z);
        let target = f.b.graph.mul(w0, ratio);
        let score = f.call(ToScore, &[w, target, sigma]);
        let by_graph = f.derivative(log_w, w);
        vec![back, log_w, score, target, by_graph]
    });
    assert!((got[0][0] / x - 1.0).abs() < 1e-14, "decode gives {} for {x}", got[0][0]);
    // dw/dx = w / 2x
    let log_p = got[1][0] + (cir.w(x) / (2.0 * x)).ln();
    let target_x = got[3][0] * cir.decay().sqrt();
    for score in [got[2][0], got[4][0]] {
        let ncp = x0 * cir.decay() / cir.c();
        row.agree(&[cir.delta(), cir.c(), ncp, log_p, cir.score_in_x(x, score), target_x]);
    }
}

fn moments(row: &Row) {
    let cir = Cir::new(row);
    let (delta, c) = (cir.delta(), cir.c());
    let ncp = row.input("x0") * cir.decay() / c;
    let stationary = cir.vol * cir.vol / (2.0 * cir.kappa);
    row.agree(&[c * (delta + ncp), 2.0 * c * c * (delta + 2.0 * ncp), 0.5 * delta, stationary]);
}

/// Data 0.03 chi^2_delta: a transition from 0 over the clock u + 0.03.
fn gamma_data(row: &Row) {
    let (cir, x) = (Cir::new(row), row.input("x"));
    let (delta, c) = (cir.delta(), cir.c());
    let got = evaluate(&cir.process, 1, |f| {
        let x = f.same(x);
        let g = &mut f.b.graph;
        let grown = g.scaled(x, 1.0 / cir.decay());
        let w = g.unary(Op::Sqrt, grown);
        let (w0, sigma) = (f.same(0.0), f.same((cir.u + 0.03).sqrt()));
        let log_w = f.call(LogTransition, &[w, w0, sigma]);
        let ratio = f.b.graph.div(w, x);
        let log_dw = f.unary(Op::Log, ratio);
        let log_p = f.b.graph.add(log_w, log_dw);
        let score = f.derivative(log_p, x);
        let slope = f.derivative(score, x);
        vec![score, slope]
    });
    let (s, slope) = (got[0][0], got[1][0]);
    let grown = x
        + c * (4.0 - delta)
        + (4.0 * c * x + 2.0 * c * c * (4.0 - delta)) * s
        + 4.0 * c * c * x * (slope + s * s);
    row.agree(&[s, grown / cir.decay()]);
}
