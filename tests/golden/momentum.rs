//! CLD and VSMD: the flow F by decoding unit states, the covariance of the noise by perturbing with unit draws, and the
//! transition density against the two.

use crate::graph::{evaluate_of, process};
use crate::rows::Row;
use diffx::base::{DType, Desc};
use diffx::graph::reference::{RefTensor, evaluate};
use diffx::graph::{NodeId, Op};
use diffx::sample::ProcessFn::{Decode, LogTransition, Perturb};
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
    // S = F C F', C = L L'
    let fl = product(f, l);
    let s = |i: usize, j: usize| fl[i][0] * fl[j][0] + fl[i][1] * fl[j][1];
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

/// F: what decode makes of (1, 0) and (0, 1).
fn flow(p: &Arc<dyn Process>, sigma: f64) -> Matrix {
    let got = evaluate_of(p, 1, &[2], |f| {
        let desc = Desc::new(DType::F64, &[1, 2]).unwrap();
        let level = f.b.graph.full(sigma, DType::F64, &[1, 1]);
        [[1.0, 0.0], [0.0, 1.0]]
            .map(|v| {
                let w = f.b.graph.constant(desc, &state(v));
                f.call(Decode, &[w, level])
            })
            .to_vec()
    });
    [[got[0][0], got[1][0]], [got[0][1], got[1][1]]]
}

/// L: what perturb adds to 0 for the draws (1, 0) and (0, 1).
fn factor(p: &Arc<dyn Process>, sigma: f64) -> Matrix {
    let columns = [[1.0, 0.0], [0.0, 1.0]].map(|draws| perturbed(p, sigma, draws).0);
    [[columns[0][0], columns[1][0]], [columns[0][1], columns[1][1]]]
}

/// (w, target) from w0 = 0 with these draws.
fn perturbed(p: &Arc<dyn Process>, sigma: f64, draws: [f64; 2]) -> ([f64; 2], [f64; 2]) {
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
    let w0 = b.graph.full(0.0, DType::F64, &[1, 2]);
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

/// log N(w; 0, L L') in both halves together, its gradient, and the target: w - D is what the score along c moves.
fn density(p: &Arc<dyn Process>, sigma: f64, l: Matrix) {
    let draws = [0.7, -1.3];
    let (w, target) = perturbed(p, sigma, draws);
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
    // dC/dsigma / 2 = h is rank one; w - target = -sigma h score
    let (a, b) = (factor(p, sigma * (1.0 - 1e-4)), factor(p, sigma * (1.0 + 1e-4)));
    let square = |l: Matrix, i: usize, j: usize| l[i][0] * l[j][0] + l[i][1] * l[j][1];
    for i in 0..2 {
        let speed = |j| (square(b, i, j) - square(a, i, j)) / (4.0 * 1e-4);
        let pull = -(speed(0) * got[1][0] + speed(1) * got[1][1]);
        let moved = w[i] - target[i];
        assert!((moved - pull).abs() < 1e-5 * (1.0 + pull.abs()), "half {i}: {moved} {pull}");
    }
}
