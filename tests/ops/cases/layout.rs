//! Ops that move elements, and patterns.

use super::{Bench, Cases, Kind};
use diffx::base::DType;
use diffx::graph::{AttrKey, Attrs, NodeId, Op};

/// Op, shape of x, attributes.
fn rows() -> Vec<(Op, Vec<usize>, Attrs)> {
    let ints = |key, list: &[i64]| Attrs::NONE.with_ints(key, list);
    let shape = |list: &[i64]| ints(AttrKey::Shape, list);
    let slice = |start: &[i64], stop: &[i64], step: &[i64]| {
        let attrs = ints(AttrKey::Start, start).with_ints(AttrKey::Stop, stop);
        if step.is_empty() { attrs } else { attrs.with_ints(AttrKey::Step, step) }
    };
    let pad = |lo: &[i64], hi: &[i64], value: f64| {
        ints(AttrKey::Lo, lo).with_ints(AttrKey::Hi, hi).with_float(AttrKey::Value, value)
    };
    vec![
        (Op::Reshape, vec![2, 6], shape(&[3, 4])),
        (Op::Reshape, vec![2, 6], shape(&[-1])),
        (Op::Reshape, vec![1], shape(&[])),
        (Op::Reshape, vec![], shape(&[1, 1, -1])),
        (Op::Reshape, vec![2, 0], shape(&[0, 5])),
        (Op::Transpose, vec![], ints(AttrKey::Perm, &[])),
        (Op::Transpose, vec![3, 4], ints(AttrKey::Perm, &[1, 0])),
        (Op::Transpose, vec![2, 3, 4], ints(AttrKey::Perm, &[2, 0, 1])),
        (Op::Transpose, vec![2, 3, 1, 2], ints(AttrKey::Perm, &[0, -1, 1, 2])),
        (Op::Transpose, vec![37, 67], ints(AttrKey::Perm, &[1, 0])),
        (Op::Transpose, vec![3, 17, 4, 16], ints(AttrKey::Perm, &[0, 2, 1, 3])),
        (Op::BroadcastTo, vec![], shape(&[2, 3])),
        (Op::BroadcastTo, vec![3], shape(&[2, 3])),
        (Op::BroadcastTo, vec![3, 1], shape(&[2, 3, 4])),
        (Op::BroadcastTo, vec![1, 5], shape(&[7, 5])),
        (Op::BroadcastTo, vec![1, 5], shape(&[0, 5])),
        (Op::Slice, vec![7], slice(&[1], &[6], &[])),
        (Op::Slice, vec![7], slice(&[-3], &[i64::MAX], &[])),
        (Op::Slice, vec![7], slice(&[1], &[7], &[3])),
        (Op::Slice, vec![3, 8], slice(&[0, 1], &[3, 8], &[2, 2])),
        (Op::Slice, vec![2, 3, 4], slice(&[0, 2, 0], &[2, 3, -1], &[])),
        (Op::Slice, vec![5], slice(&[4], &[2], &[])),
        (Op::Slice, vec![19, 64], slice(&[0, 32], &[19, 64], &[])),
        (Op::Pad, vec![3], pad(&[1], &[2], 0.0)),
        (Op::Pad, vec![2, 3], pad(&[0, 1], &[2, 0], -1.5)),
        (Op::Pad, vec![], pad(&[], &[], 0.0)),
        (Op::Pad, vec![1, 2, 2], pad(&[0, 1, 1], &[0, 1, 1], 0.0)),
        (Op::Flip, vec![5], ints(AttrKey::Axes, &[0])),
        (Op::Flip, vec![2, 3, 4], ints(AttrKey::Axes, &[-1, 0])),
        (Op::Flip, vec![2, 3], ints(AttrKey::Axes, &[])),
    ]
}

pub(super) fn add(cases: &mut Cases) {
    for (op, dims, attrs) in rows() {
        let small = dims.iter().product::<usize>() < 100;
        let kind = if small { Kind::Smooth } else { Kind::Values };
        cases.add(op, &format!("{dims:?} {attrs:?}"), kind, |b| {
            let x = b.spread(&dims, -2.0, 2.0);
            b.emit(op, &[x], attrs.clone())
        });
        for dtype in [DType::I32, DType::I64, DType::U8, DType::Bool, DType::BF16] {
            if !small || attrs.float(AttrKey::Value, 0.0) != 0.0 {
                continue;
            }
            let top = if dtype == DType::Bool { 1 } else { 100 };
            cases.add(op, &format!("{dims:?} {attrs:?} of {dtype}"), Kind::Values, |b| {
                let x = b.whole(dtype, &dims, 0, top);
                b.emit(op, &[x], attrs.clone())
            });
        }
    }
    concat(cases);
    patterns(cases);
}

fn concat(cases: &mut Cases) {
    let rows: &[(&[&[usize]], i64)] = &[
        (&[&[3]], 0),
        (&[&[3], &[1], &[4]], 0),
        (&[&[2, 3], &[2, 1]], -1),
        (&[&[2, 3], &[1, 3], &[0, 3]], 0),
        (&[&[2, 1, 2], &[2, 3, 2]], 1),
    ];
    for &(parts, axis) in rows {
        let join = |b: &mut Bench, parts: &[NodeId]| {
            b.emit(Op::Concat, parts, Attrs::NONE.with_int(AttrKey::Axis, axis))
        };
        cases.add(Op::Concat, &format!("{parts:?} axis {axis}"), Kind::Smooth, |b| {
            let all: Vec<NodeId> = parts.iter().map(|dims| b.spread(dims, -2.0, 2.0)).collect();
            join(b, &all)
        });
        for dtype in [DType::I64, DType::U8, DType::F16] {
            cases.add(Op::Concat, &format!("{parts:?} of {dtype}"), Kind::Values, |b| {
                let all: Vec<NodeId> = parts.iter().map(|d| b.whole(dtype, d, 0, 99)).collect();
                join(b, &all)
            });
        }
    }
    cases.add(Op::Concat, "one input twice", Kind::Smooth, |b| {
        let x = b.spread(&[2, 2], -2.0, 2.0);
        b.emit(Op::Concat, &[x, x], Attrs::NONE.with_int(AttrKey::Axis, 1))
    });
}

fn patterns(cases: &mut Cases) {
    for &dtype in DType::ALL {
        cases.add(Op::Full, &format!("{dtype}[3,2]"), Kind::Values, |b| {
            b.graph.full(1.0, dtype, &[3, 2])
        });
        if matches!(dtype, DType::F32 | DType::F64 | DType::I32 | DType::I64) {
            for axis in [0, -1] {
                cases.add(Op::Iota, &format!("{dtype} axis {axis}"), Kind::Values, |b| {
                    let attrs = Attrs::NONE
                        .with_ints(AttrKey::Shape, [3, 5])
                        .with_int(AttrKey::Axis, axis)
                        .with_int(AttrKey::DType, i64::from(dtype.code()));
                    b.emit(Op::Iota, &[], attrs)
                });
            }
        }
        cases.add(Op::Constant, &format!("{dtype}[2,3]"), Kind::Values, |b| {
            let mut bytes = Vec::new();
            for v in [0.0, 1.0, 1.0, 0.0, 0.0, 1.0] {
                diffx::graph::reference::encode(dtype, v, &mut bytes);
            }
            let desc = diffx::base::Desc::new(dtype, &[2, 3]).expect("a small shape");
            b.graph.constant(desc, &bytes)
        });
    }
    cases.add(Op::Input, "passed through", Kind::Smooth, |b| b.spread(&[2, 3], -1.0, 1.0));
}
