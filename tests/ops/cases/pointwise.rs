//! Pointwise ops: ranges inside the domain, broadcast pairs, edges, integers.

use super::{Cases, Kind};
use diffx::base::DType;
use diffx::graph::{AttrKey, Attrs, Op};

/// Op and a range inside its domain.
const UNARY: &[(Op, f64, f64)] = &[
    (Op::Neg, -3.0, 3.0),
    (Op::Abs, -3.0, 3.0),
    (Op::Sign, -3.0, 3.0),
    (Op::Recip, 0.3, 3.0),
    (Op::Recip, -3.0, -0.3),
    (Op::Square, -3.0, 3.0),
    (Op::Sqrt, 0.1, 9.0),
    (Op::Rsqrt, 0.1, 9.0),
    (Op::Exp, -4.0, 4.0),
    (Op::Exp, -80.0, 3.0),
    (Op::Expm1, -2.0, 2.0),
    (Op::Expm1, -1e-3, 1e-3),
    (Op::Log, 0.05, 9.0),
    (Op::Log1p, -0.6, 5.0),
    (Op::Log1p, -1e-3, 1e-3),
    (Op::Sin, -6.0, 6.0),
    (Op::Cos, -6.0, 6.0),
    (Op::Tanh, -4.0, 4.0),
    (Op::Sigmoid, -9.0, 9.0),
    (Op::Silu, -6.0, 6.0),
    (Op::Gelu, -5.0, 5.0),
    (Op::GeluTanh, -5.0, 5.0),
    (Op::Relu, -3.0, 3.0),
    (Op::Softplus, -9.0, 9.0),
    (Op::Erf, -3.0, 3.0),
    (Op::Floor, -5.2, 5.1),
    (Op::Ceil, -5.2, 5.1),
    (Op::Round, -5.2, 5.1),
    (Op::IsFinite, -3.0, 3.0),
    (Op::StopGradient, -3.0, 3.0),
    (Op::Lgamma, 0.2, 12.0),
    (Op::LogNdtr, -3.0, 6.0),
    (Op::LogNdtr, -40.0, -3.0),
];

/// Ops that say something at 0, infinities and large arguments.
const EDGES: &[(Op, &[f64])] = &[
    (Op::Neg, &[0.0, f64::INFINITY, f64::NAN]),
    (Op::Abs, &[0.0, f64::NEG_INFINITY, f64::NAN]),
    (Op::Sign, &[0.0, f64::INFINITY, f64::NEG_INFINITY]),
    (Op::Exp, &[0.0, -1000.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]),
    (Op::Expm1, &[0.0, -1000.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]),
    (Op::Log, &[0.0, 1.0, -1.0, f64::INFINITY, f64::NAN]),
    (Op::Log1p, &[0.0, -1.0, -2.0, f64::INFINITY, f64::NAN]),
    (Op::Sqrt, &[0.0, -1.0, f64::INFINITY, f64::NAN]),
    (Op::Rsqrt, &[0.0, f64::INFINITY, f64::NAN]),
    (Op::Recip, &[f64::INFINITY, f64::NAN]),
    (Op::Tanh, &[0.0, 1000.0, -1000.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]),
    (Op::Sigmoid, &[0.0, 1000.0, -1000.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]),
    (Op::Softplus, &[0.0, 1000.0, -1000.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]),
    (Op::Relu, &[0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]),
    (Op::Erf, &[0.0, 100.0, -100.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]),
    (Op::Silu, &[0.0, 1000.0, -80.0, f64::NAN]),
    (Op::Gelu, &[0.0, 1000.0, -1000.0, f64::NAN]),
    (Op::GeluTanh, &[0.0, 1000.0, -1000.0, f64::NAN]),
    (Op::Floor, &[-0.5, 2.0, -2.0, 1e9, f64::INFINITY, f64::NAN]),
    (Op::Ceil, &[-0.5, 2.0, -2.0, 1e9, f64::INFINITY, f64::NAN]),
    (Op::Round, &[0.5, 1.5, 2.5, -0.5, -1.5, 0.49, 1e9, f64::INFINITY, f64::NAN]),
    (Op::IsFinite, &[0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]),
    (Op::Lgamma, &[1.0, 2.0, 1e-5, 1e4, f64::INFINITY]),
    (Op::LogNdtr, &[0.0, -1e4, 40.0, 1.0]),
];

const BINARY: &[(Op, f64, f64)] = &[
    (Op::Add, -3.0, 3.0),
    (Op::Sub, -3.0, 3.0),
    (Op::Mul, -3.0, 3.0),
    (Op::Div, 0.4, 3.0),
    (Op::Pow, 0.2, 2.5),
    (Op::Min, -3.0, 3.0),
    (Op::Max, -3.0, 3.0),
    (Op::Rem, 0.6, 4.0),
];

const COMPARE: &[Op] = &[Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Gt, Op::Ge];

const PAIRS: &[(&[usize], &[usize])] = &[
    (&[], &[]),
    (&[7], &[7]),
    (&[3, 5], &[5]),
    (&[3, 1], &[1, 5]),
    (&[2, 3, 5], &[3, 1]),
    (&[], &[4]),
    (&[1, 1], &[1]),
    (&[2, 1, 2, 1, 3], &[3, 1, 2, 1]),
    (&[2, 2, 1, 2, 1, 1, 2, 1], &[2]),
];

pub(super) fn add(cases: &mut Cases) {
    unary(cases);
    with_attributes(cases);
    binary(cases);
    integers(cases);
    casts(cases);
    chains(cases);
}

fn unary(cases: &mut Cases) {
    let shapes: &[&[usize]] = &[&[], &[1], &[7], &[3, 5], &[0, 3]];
    for &(op, lo, hi) in UNARY {
        for dims in shapes {
            cases.add(op, &format!("{dims:?} in {lo}..{hi}"), Kind::Smooth, |b| {
                let x = b.spread(dims, lo, hi);
                b.graph.unary(op, x)
            });
        }
        cases.add(op, &format!("large in {lo}..{hi}"), Kind::Values, |b| {
            let x = b.spread(&[3, 1367], lo, hi);
            b.graph.unary(op, x)
        });
    }
    for &(op, values) in EDGES {
        cases.add(op, "edges", Kind::Values, |b| {
            let x = b.values(b.float, &[values.len()], values);
            b.graph.unary(op, x)
        });
    }
}

fn with_attributes(cases: &mut Cases) {
    for order in [0, 1, 2, 3, 5] {
        let attrs = Attrs::NONE.with_int(AttrKey::Order, order);
        for (n, kind) in [(9, Kind::Smooth), (401, Kind::Values)] {
            cases.add(Op::Polygamma, &format!("order {order} [{n}]"), kind, |b| {
                let x = b.spread(&[n], 0.8, 12.0);
                b.emit(Op::Polygamma, &[x], attrs.clone())
            });
        }
    }
    for nu in [-0.5, 0.0, 0.5, 1.0, 1.7, 24.0] {
        let attrs = Attrs::NONE.with_float(AttrKey::Nu, nu);
        for (lo, hi) in [(1e-3, 0.4), (0.2, 30.0), (25.0, 900.0)] {
            for (n, kind) in [(11, Kind::Smooth), (701, Kind::Values)] {
                for op in [Op::BesselRatio, Op::LogIve] {
                    cases.add(op, &format!("nu {nu} [{n}] in {lo}..{hi}"), kind, |b| {
                        let z = b.spread(&[n], lo, hi);
                        b.emit(op, &[z], attrs.clone())
                    });
                }
            }
        }
        cases.add(Op::BesselRatio, &format!("nu {nu} edges"), Kind::Values, |b| {
            let z = b.values(b.float, &[4], &[0.0, 1e-30, 1e6, 1e20]);
            b.emit(Op::BesselRatio, &[z], attrs.clone())
        });
    }
}

fn binary(cases: &mut Cases) {
    for (a, b) in PAIRS {
        for &(op, lo, hi) in BINARY {
            cases.add(op, &format!("{a:?} {b:?}"), Kind::Smooth, |bench| {
                let x = bench.spread(a, lo, hi);
                let y = bench.spread(b, lo + 0.11, hi + 0.13);
                bench.graph.binary(op, x, y)
            });
        }
        for &op in COMPARE {
            cases.add(op, &format!("{a:?} {b:?}"), Kind::Values, |bench| {
                let x = bench.whole(bench.float, a, -2, 2);
                let y = bench.whole(bench.float, b, -2, 2);
                bench.graph.binary(op, x, y)
            });
        }
        for op in [Op::And, Op::Or] {
            cases.add(op, &format!("{a:?} {b:?}"), Kind::Values, |bench| {
                let x = bench.whole(DType::Bool, a, 0, 1);
                let y = bench.whole(DType::Bool, b, 0, 1);
                bench.graph.binary(op, x, y)
            });
        }
        cases.add(Op::Where, &format!("{a:?} {b:?}"), Kind::Smooth, |bench| {
            let c = bench.whole(DType::Bool, a, 0, 1);
            let x = bench.spread(b, -3.0, 3.0);
            let y = bench.spread(a, -3.0, 3.0);
            bench.emit(Op::Where, &[c, x, y], Attrs::NONE)
        });
    }
    for &(op, lo, hi) in BINARY {
        for (a, b) in [(&[5, 333][..], &[5, 333][..]), (&[5, 333], &[333]), (&[5, 333], &[5, 1])] {
            cases.add(op, &format!("large {a:?} {b:?}"), Kind::Values, |bench| {
                let x = bench.spread(a, lo, hi);
                let y = bench.spread(b, lo, hi);
                bench.graph.binary(op, x, y)
            });
        }
        cases.add(op, "with a scalar", Kind::Smooth, |bench| {
            let x = bench.spread(&[3, 3], lo, hi);
            let s = bench.graph.scalar(1.5);
            bench.graph.binary(op, x, s)
        });
    }
    for op in [Op::Min, Op::Max] {
        cases.add(op, "ties and NaN", Kind::Values, |b| {
            let x = b.values(b.float, &[4], &[1.0, f64::NAN, 2.0, f64::INFINITY]);
            let y = b.values(b.float, &[4], &[1.0, 1.0, f64::NAN, 0.0]);
            b.graph.binary(op, x, y)
        });
    }
    cases.add(Op::Pow, "edges", Kind::Values, |b| {
        let x = b.values(b.float, &[5], &[0.0, -2.0, -2.0, 0.0, 1.0]);
        let y = b.values(b.float, &[5], &[0.0, 2.0, 3.0, 2.0, f64::INFINITY]);
        b.graph.binary(Op::Pow, x, y)
    });
    cases.add(Op::Rem, "signs", Kind::Values, |b| {
        let x = b.values(b.float, &[4], &[5.5, -5.5, 5.5, -5.5]);
        let y = b.values(b.float, &[4], &[2.0, 2.0, -2.0, -2.0]);
        b.graph.binary(Op::Rem, x, y)
    });
}

fn integers(cases: &mut Cases) {
    let whole = [
        Op::Add,
        Op::Sub,
        Op::Mul,
        Op::Div,
        Op::Rem,
        Op::Min,
        Op::Max,
        Op::Eq,
        Op::Ne,
        Op::Lt,
        Op::Le,
        Op::Gt,
        Op::Ge,
    ];
    for dtype in [DType::I32, DType::I64] {
        for op in whole {
            cases.add(op, &format!("{dtype}"), Kind::Values, |b| {
                let x = b.whole(dtype, &[3, 7], -5, 5);
                let y = b.whole(dtype, &[7], -3, 3);
                b.graph.binary(op, x, y)
            });
        }
        for op in [Op::Neg, Op::Abs, Op::Sign] {
            cases.add(op, &format!("{dtype}"), Kind::Values, |b| {
                let x = b.whole(dtype, &[9], -5, 5);
                b.graph.unary(op, x)
            });
        }
        cases.add(Op::Where, &format!("{dtype}"), Kind::Values, |b| {
            let c = b.whole(DType::Bool, &[9], 0, 1);
            let x = b.whole(dtype, &[9], -5, 5);
            let y = b.graph.scalar(7.0);
            b.emit(Op::Where, &[c, x, y], Attrs::NONE)
        });
    }
    cases.add(Op::Not, "[2,5]", Kind::Values, |b| {
        let x = b.whole(DType::Bool, &[2, 5], 0, 1);
        b.graph.unary(Op::Not, x)
    });
}

fn casts(cases: &mut Cases) {
    let values =
        [0.0, 1.0, -1.5, 2.5, 100.75, -200.0, 3.2e9, -3.2e9, 7e-5, f64::INFINITY, f64::NAN];
    for &to in DType::ALL {
        let attrs = Attrs::NONE.with_int(AttrKey::DType, i64::from(to.code()));
        // i64::MAX is not exact in the reference; leave infinity out there
        let values = if to == DType::I64 { &values[..9] } else { &values[..] };
        cases.add(Op::Cast, &format!("float to {to}"), Kind::Values, |b| {
            let x = b.values(b.float, &[values.len()], values);
            b.emit(Op::Cast, &[x], attrs.clone())
        });
        for &from in DType::ALL {
            cases.add(Op::Cast, &format!("{from} to {to}"), Kind::Values, |b| {
                let top = if from == DType::Bool { 1 } else { 100 };
                let x = b.whole(from, &[3, 7], 0, top);
                b.emit(Op::Cast, &[x], attrs.clone())
            });
        }
    }
    cases.add(Op::Cast, "float to f64", Kind::Smooth, |b| {
        let x = b.spread(&[5], -2.0, 2.0);
        b.emit(Op::Cast, &[x], Attrs::NONE.with_int(AttrKey::DType, 7))
    });
}

/// Several ops in a row: what fusion makes one kernel of.
fn chains(cases: &mut Cases) {
    for (dims, kind) in [(&[3, 5][..], Kind::Smooth), (&[7, 1234], Kind::Values)] {
        let last = dims[1];
        cases.add(Op::Mul, &format!("chain over {dims:?}"), kind, |b| {
            let x = b.spread(dims, -2.0, 2.0);
            let scale = b.spread(&[last], 0.5, 1.5);
            let shift = b.spread(&[dims[0], 1], -1.0, 1.0);
            let g = &mut b.graph;
            let s = g.binary(Op::Mul, x, scale);
            let t = g.binary(Op::Add, s, shift);
            let u = g.unary(Op::Silu, t);
            let one = g.scalar(1.0);
            let v = g.binary(Op::Add, u, one);
            let w = g.unary(Op::Tanh, v);
            let cond = g.binary(Op::Gt, x, shift);
            let half = g.scalar(0.5);
            let h = g.binary(Op::Mul, w, half);
            let c = g.emit(Op::Where, &[cond, w, h], Attrs::NONE);
            g.binary(Op::Mul, c, t)
        });
    }
}
