//! Reductions, running sums, softmax and normalisation.

use super::{Cases, Kind};
use diffx::base::DType;
use diffx::graph::{AttrKey, Attrs, Op};

const OVER_AXES: &[Op] =
    &[Op::Sum, Op::Mean, Op::ReduceMax, Op::ReduceMin, Op::Prod, Op::LogSumExp];

pub(super) fn add(cases: &mut Cases) {
    over_axes(cases);
    along_axis(cases);
    norms(cases);
}

fn over_axes(cases: &mut Cases) {
    let shapes: &[(&[usize], &[i64])] = &[
        (&[], &[]),
        (&[1], &[]),
        (&[7], &[0]),
        (&[3, 5], &[-1]),
        (&[3, 5], &[0]),
        (&[2, 3, 5], &[1]),
        (&[2, 3, 5], &[0, -1]),
        (&[2, 3, 4], &[]),
        (&[1, 2, 1, 3], &[3, 1]),
    ];
    for &op in OVER_AXES {
        for (dims, axes) in shapes {
            for keep in [0, 1] {
                let attrs =
                    Attrs::NONE.with_ints(AttrKey::Axes, *axes).with_int(AttrKey::KeepDims, keep);
                let label = format!("{dims:?} over {axes:?} keep {keep}");
                cases.add(op, &label, Kind::Smooth, |b| {
                    let x = b.spread(dims, 0.4, 1.9);
                    b.emit(op, &[x], attrs)
                });
            }
        }
        for axes in [vec![1], vec![0], vec![0, 1], vec![0, 2]] {
            cases.add(op, &format!("large over {axes:?}"), Kind::Values, |b| {
                let x = b.spread(&[3, 517, 2], 0.9, 1.1);
                b.emit(op, &[x], Attrs::NONE.with_ints(AttrKey::Axes, axes))
            });
        }
    }
    for (name, values) in [("one zero", [1.5, 0.0, -2.0, 3.0]), ("two zeros", [1.5, 0.0, 0.0, 3.0])]
    {
        cases.add(Op::Prod, name, Kind::Smooth, |b| {
            let x = b.values(b.float, &[4], &values);
            b.emit(Op::Prod, &[x], Attrs::NONE)
        });
    }
    cases.add(Op::Sum, "empty axis", Kind::Values, |b| {
        let x = b.spread(&[3, 0], 0.0, 1.0);
        b.emit(Op::Sum, &[x], Attrs::NONE.with_ints(AttrKey::Axes, [1]))
    });
    let inf = f64::INFINITY;
    cases.add(Op::LogSumExp, "infinities", Kind::Values, |b| {
        let x = b.values(b.float, &[4, 2], &[-inf, -inf, -inf, 0.5, inf, 1.0, 900.0, 901.0]);
        b.emit(Op::LogSumExp, &[x], Attrs::NONE.with_ints(AttrKey::Axes, [1]))
    });
    for op in [Op::ReduceMax, Op::ReduceMin] {
        cases.add(op, "NaN", Kind::Values, |b| {
            let x = b.values(b.float, &[2, 3], &[1.0, f64::NAN, 2.0, -inf, 5.0, inf]);
            b.emit(op, &[x], Attrs::NONE.with_ints(AttrKey::Axes, [1]))
        });
    }
    for dtype in [DType::I32, DType::I64] {
        for op in [Op::Sum, Op::ReduceMax, Op::ReduceMin] {
            cases.add(op, &format!("{dtype}"), Kind::Values, |b| {
                let x = b.whole(dtype, &[4, 9], -50, 50);
                b.emit(op, &[x], Attrs::NONE.with_ints(AttrKey::Axes, [1]))
            });
        }
    }
}

fn along_axis(cases: &mut Cases) {
    let shapes: &[(&[usize], i64)] =
        &[(&[1], 0), (&[7], -1), (&[3, 5], 0), (&[3, 5], 1), (&[2, 3, 4], 1), (&[2, 1, 3], 1)];
    for &(dims, axis) in shapes {
        let at = Attrs::NONE.with_int(AttrKey::Axis, axis);
        for op in [Op::ArgMax, Op::ArgMin] {
            for keep in [0, 1] {
                cases.add(op, &format!("{dims:?} axis {axis} keep {keep}"), Kind::Values, |b| {
                    let x = b.whole(b.float, dims, -2, 2);
                    b.emit(op, &[x], at.clone().with_int(AttrKey::KeepDims, keep))
                });
            }
        }
        for flags in 0..4 {
            let attrs = at
                .clone()
                .with_int(AttrKey::Reverse, flags & 1)
                .with_int(AttrKey::Exclusive, flags >> 1);
            let label = format!("{dims:?} axis {axis} flags {flags}");
            cases.add(Op::CumSum, &label, Kind::Smooth, |b| {
                let x = b.spread(dims, -2.0, 2.0);
                b.emit(Op::CumSum, &[x], attrs)
            });
        }
        for op in [Op::Softmax, Op::LogSoftmax] {
            cases.add(op, &format!("{dims:?} axis {axis}"), Kind::Smooth, |b| {
                let x = b.spread(dims, -3.0, 3.0);
                b.emit(op, &[x], at.clone())
            });
        }
    }
    let last = Attrs::NONE.with_int(AttrKey::Axis, -1);
    for op in [Op::Softmax, Op::LogSoftmax, Op::CumSum, Op::ArgMax, Op::ArgMin] {
        for axis in [0, 1] {
            cases.add(op, &format!("large axis {axis}"), Kind::Values, |b| {
                let x = b.spread(&[37, 259], -3.0, 3.0);
                b.emit(op, &[x], Attrs::NONE.with_int(AttrKey::Axis, axis))
            });
        }
    }
    let inf = f64::INFINITY;
    cases.add(Op::Softmax, "rows of -inf", Kind::Values, |b| {
        let x = b.values(b.float, &[3, 3], &[-inf, -inf, -inf, 0.0, -inf, 1.0, 900.0, 901.0, 0.0]);
        b.emit(Op::Softmax, &[x], last.clone())
    });
    cases.add(Op::LogSoftmax, "with -inf", Kind::Values, |b| {
        let x = b.values(b.float, &[2, 3], &[0.0, -inf, 1.0, 900.0, 901.0, 0.0]);
        b.emit(Op::LogSoftmax, &[x], last.clone())
    });
    for dtype in [DType::I32, DType::I64] {
        for op in [Op::ArgMax, Op::ArgMin, Op::CumSum] {
            cases.add(op, &format!("{dtype}"), Kind::Values, |b| {
                let x = b.whole(dtype, &[4, 9], -50, 50);
                b.emit(op, &[x], last.clone())
            });
        }
    }
}

fn norms(cases: &mut Cases) {
    let eps = Attrs::NONE.with_float(AttrKey::Epsilon, 1e-3);
    let parameter = |b: &mut super::Bench, half: bool, n: usize, i: usize| {
        let dtype = match (half, i) {
            (false, _) => b.float,
            (true, 0) => DType::BF16,
            (true, _) => DType::F16,
        };
        b.spread_as(dtype, &[n], 0.5, 1.5)
    };
    for (op, parameters) in [(Op::LayerNorm, 2), (Op::RmsNorm, 1)] {
        let shapes: &[(&[usize], Kind)] = &[
            (&[5], Kind::Smooth),
            (&[3, 4], Kind::Smooth),
            (&[2, 1, 7], Kind::Smooth),
            (&[2, 0, 4], Kind::Values),
            (&[9, 131], Kind::Values),
            (&[3, 1024], Kind::Values),
        ];
        for &(dims, kind) in shapes {
            for used in 0..=parameters {
                for half in [false, true] {
                    if half && used == 0 {
                        continue;
                    }
                    let label = format!("{dims:?} with {used} parameters, half {half}");
                    cases.add(op, &label, kind, |b| {
                        let mut all = vec![b.spread(dims, -2.0, 3.0)];
                        for i in 0..used {
                            all.push(parameter(b, half, dims[dims.len() - 1], i));
                        }
                        b.emit(op, &all, eps.clone())
                    });
                }
            }
        }
    }
    let shapes: &[(&[usize], i64, Kind)] = &[
        (&[1, 4], 2, Kind::Smooth),
        (&[2, 4, 3], 2, Kind::Smooth),
        (&[2, 6, 2, 1], 3, Kind::Smooth),
        (&[1, 3, 2, 2], 1, Kind::Smooth),
        (&[1, 2, 3], 2, Kind::Smooth),
        (&[3, 16, 7, 9], 4, Kind::Values),
    ];
    for &(dims, groups, kind) in shapes {
        for used in 0..=2 {
            for half in [false, true] {
                let label = format!("{dims:?} groups {groups}, {used} parameters, half {half}");
                cases.add(Op::GroupNorm, &label, kind, |b| {
                    let mut all = vec![b.spread(dims, -2.0, 3.0)];
                    for i in 0..used {
                        all.push(parameter(b, half, dims[1], i));
                    }
                    b.emit(Op::GroupNorm, &all, eps.clone().with_int(AttrKey::Groups, groups))
                });
            }
        }
    }
}
