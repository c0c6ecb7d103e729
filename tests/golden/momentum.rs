//! CLD and VSMD: the flow F by perturbing unit states without noise, the covariance of the noise by unit draws, and the
//! transition density and the target against the two.

use crate::graph::{evaluate_of, process};
use crate::rows::Row;
use diffx::base::{DType, Desc};
use diffx::graph::reference::{RefTensor, evaluate};
use diffx::graph::{NodeId, Op};
use diffx::sample::ProcessFn::{LogTransition, Perturb};
use diffx::sample::{Build, Component, Parts, Process, Space, Stats};
use serde_json::json;
use std::sync::Arc;

type Matrix = [[f64; 2]; 2];

pub(crate) fn check(row: &Row) {
    let cld = row.id.starts_with("cld");
    let (p, time) = if cld {
        assert_eq!((row.param("Minv"), row.param("Gamma")), (4.0, 1.0));
        let (gamma, beta) = (row.param("gamma"), row.param("beta"));
        let p = process("cld", &json!({ "mass": 0.25, "gamma": gamma, "beta": beta }));
        (p, row.input("int_beta") / beta)
    } else {
        let (gamma, beta, c) = (row.param("gamma"), row.param("beta"), row.param("c"));
        let config = json!({ "gamma": gamma, "beta": beta, "c": c, "velocity": 0 });
        (process("vsmd", &config), row.input("t"))
    };
    let sigma = p.clock(&[time]).unwrap()[0];
    let f = flow(&p, sigma);
    let l = factor(&p, sigma);
    // S = L L'
    let s = |i: usize, j: usize| l[i][0] * l[j][0] + l[i][1] * l[j][1];
    let (xx, xv, vv) = (s(0, 0), s(0, 1), s(1, 1));
    density(&p, sigma, l);
    let mut got = vec![f[0][0], f[0][1], f[1][0], f[1][1], xx, xv, vv];
    if cld {
        let (l11, l21) = (xx.sqrt(), xv / xx.sqrt());
        let l22 = (vv - l21 * l21).sqrt();
        got.extend([l11, l21, l22, (xx / (xx * vv - xv * xv)).sqrt()]);
    } else {
        // the stiffness back from the rate of the determinant, e^{-beta k t}
        let det = f[0][0] * f[1][1] - f[0][1] * f[1][0];
        let k = -det.ln() / (row.param("beta") * time);
        got.insert(0, (1.0 - k * k) / (2.0 * row.param("gamma")));
    }
    row.agree(&got);
}

fn product(a: Matrix, b: Matrix) -> Matrix {
    let at = |i: usize, j: usize| a[i][0] * b[0][j] + a[i][1] * b[1][j];
    [[at(0, 0), at(0, 1)], [at(1, 0), at(1, 1)]]
}

fn state(values: [f64; 2]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_ne_bytes()).collect()
}

const UNITS: [[f64; 2]; 2] = [[1.0, 0.0], [0.0, 1.0]];

fn columns(c: [[f64; 2]; 2]) -> Matrix {
    [[c[0][0], c[1][0]], [c[0][1], c[1][1]]]
}

/// F: where (1, 0) and (0, 1) go without noise.
fn flow(p: &Arc<dyn Process>, sigma: f64) -> Matrix {
    columns(UNITS.map(|w0| perturbed(p, sigma, w0, [0.0; 2]).0))
}

/// L: what perturb adds to 0 for the draws (1, 0) and (0, 1).
fn factor(p: &Arc<dyn Process>, sigma: f64) -> Matrix {
    columns(UNITS.map(|draws| perturbed(p, sigma, [0.0; 2], draws).0))
}

/// (w, target) from w0 with these draws.
fn perturbed(
    p: &Arc<dyn Process>,
    sigma: f64,
    w0: [f64; 2],
    draws: [f64; 2],
) -> ([f64; 2], [f64; 2]) {
    let parts = Parts {
        components: vec![Component {
            name: "x".into(),
            dtype: DType::F64,
            dims: vec![2],
            space: Space::Continuous,
            classes: 0,
        }],
        processes: vec![Arc::clone(p)],
        stats: vec![Stats::default()],
        conds: vec![],
        networks: vec![],
        guidances: vec![],
        float: DType::F64,
        weight_dtype: DType::F64,
    };
    let mut b = Build::new(&parts, 1).unwrap();
    let w0 = b.graph.constant(Desc::new(DType::F64, &[1, 2]).unwrap(), &state(w0));
    let level = b.graph.full(sigma, DType::F64, &[1, 1]);
    let out: Vec<NodeId> = b.process(0, Perturb, 64, &[w0, level]).unwrap();
    let got = evaluate(&b.graph, &out, &|node, _| {
        assert_eq!(node.op, Op::Normal);
        RefTensor::new(node.desc.dims(), draws.to_vec())
    })
    .unwrap();
    let pair = |i: usize| [got[i].data[0], got[i].data[1]];
    (pair(0), pair(1))
}

/// log N(w; 0, S) in both halves together, its gradient, and the target: with F' = A F and S' = A S + S A' + Q by
/// differences in sigma, the probability flow is `A w - Q score/2`, and w - target is sigma times it.
fn density(p: &Arc<dyn Process>, sigma: f64, l: Matrix) {
    let draws = [0.7, -1.3];
    let (w, target) = perturbed(p, sigma, [0.0; 2], draws);
    let got = evaluate_of(p, 1, &[2], |f| {
        let desc = Desc::new(DType::F64, &[1, 2]).unwrap();
        let w = f.b.graph.constant(desc, &state(w));
        let zero = f.b.graph.full(0.0, DType::F64, &[1, 2]);
        let level = f.b.graph.full(sigma, DType::F64, &[1, 1]);
        let log = f.call(LogTransition, &[w, zero, level]);
        let ones = f.b.graph.full(1.0, DType::F64, &[1, 2]);
        vec![log, f.b.graph.grad(log, ones, &[w])[0]]
    });
    let log: f64 = got[0].iter().sum();
    let want = -0.5 * (draws[0] * draws[0] + draws[1] * draws[1])
        - (l[0][0] * l[1][1]).ln()
        - (2.0 * std::f64::consts::PI).ln();
    assert!((log - want).abs() < 1e-9 * want.abs().max(1.0), "{log} {want}");
    let step = 1e-4;
    let (lower, upper) = (sigma * (1.0 - step), sigma * (1.0 + step));
    // sigma d/dsigma
    let slope = |of: &dyn Fn(f64) -> Matrix| {
        let (a, b) = (of(lower), of(upper));
        [0, 1].map(|i| [0, 1].map(|j| (b[i][j] - a[i][j]) / (2.0 * step)))
    };
    let transposed = |m: Matrix| columns(m);
    let f = flow(p, sigma);
    let det = f[0][0] * f[1][1] - f[0][1] * f[1][0];
    let inverse = [[f[1][1] / det, -f[0][1] / det], [-f[1][0] / det, f[0][0] / det]];
    let a = product(slope(&|s| flow(p, s)), inverse);
    let covariance = |s: f64| {
        let l = factor(p, s);
        product(l, transposed(l))
    };
    let (s, grown) = (covariance(sigma), slope(&covariance));
    let (left, right) = (product(a, s), product(s, transposed(a)));
    for i in 0..2 {
        let q = |j: usize| grown[i][j] - left[i][j] - right[i][j];
        let want = a[i][0] * w[0] + a[i][1] * w[1] - 0.5 * (q(0) * got[1][0] + q(1) * got[1][1]);
        let moved = w[i] - target[i];
        assert!((moved - want).abs() < 1e-5 * (1.0 + want.abs()), "half {i}: {moved} {want}");
    }
}
