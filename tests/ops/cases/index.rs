//! Addressing by data, with indices out of range and repeated.

use super::{Cases, Kind};
use diffx::base::DType;
use diffx::graph::{AttrKey, Attrs, Op};

pub(super) fn add(cases: &mut Cases) {
    gather(cases);
    sorting(cases);
    blocks(cases);
}

fn gather(cases: &mut Cases) {
    // x, axis, idx
    let shapes: &[(&[usize], i64, &[usize], Kind)] = &[
        (&[5], 0, &[], Kind::Smooth),
        (&[5], 0, &[3], Kind::Smooth),
        (&[3, 4], 0, &[2, 2], Kind::Smooth),
        (&[3, 4], -1, &[5], Kind::Smooth),
        (&[2, 3, 2], 1, &[4], Kind::Smooth),
        (&[1, 3], 0, &[2], Kind::Smooth),
        (&[2, 3], 1, &[0], Kind::Values),
        (&[71, 33], 0, &[4, 29], Kind::Values),
        (&[9, 71, 5], 1, &[40], Kind::Values),
    ];
    for (i, &(dims, axis, idx, kind)) in shapes.iter().enumerate() {
        let dtype = if i % 2 == 0 { DType::I32 } else { DType::I64 };
        let at = Attrs::NONE.with_int(AttrKey::Axis, axis);
        let positive = if axis < 0 { dims.len() - 1 } else { axis as usize };
        let top = dims[positive] as i64 + 1; // past the end: clamped
        let label = format!("{dims:?} axis {axis} {dtype}{idx:?}");
        cases.add(Op::Gather, &label, kind, |b| {
            let x = b.spread(dims, -2.0, 2.0);
            let i = b.whole(dtype, idx, -2, top);
            b.emit(Op::Gather, &[x, i], at.clone())
        });
        cases.add(Op::ScatterAdd, &label, kind, |b| {
            let x = b.spread(dims, -2.0, 2.0);
            let i = b.whole(dtype, idx, -2, top);
            let u_dims = [&dims[..positive], idx, &dims[positive + 1..]].concat();
            let u = b.spread(&u_dims, -2.0, 2.0);
            b.emit(Op::ScatterAdd, &[x, i, u], at.clone())
        });
        for length in [1, dims[positive], dims[positive] + 2] {
            let mut idx = dims.to_vec();
            idx[positive] = length;
            let label = format!("{dims:?} axis {axis} {dtype}{idx:?}");
            cases.add(Op::TakeAlong, &label, kind, |b| {
                let x = b.spread(dims, -2.0, 2.0);
                let i = b.whole(dtype, &idx, -2, top);
                b.emit(Op::TakeAlong, &[x, i], at.clone())
            });
            cases.add(Op::ScatterAddAlong, &label, kind, |b| {
                let x = b.spread(dims, -2.0, 2.0);
                let i = b.whole(dtype, &idx, -2, top);
                let u = b.spread(&idx, -2.0, 2.0);
                b.emit(Op::ScatterAddAlong, &[x, i, u], at.clone())
            });
        }
    }
    for dtype in [DType::BF16, DType::F16, DType::I64, DType::U8, DType::Bool] {
        let top = if dtype == DType::Bool { 1 } else { 100 };
        cases.add(Op::Gather, &format!("of {dtype}"), Kind::Values, |b| {
            let x = b.whole(dtype, &[9, 5], 0, top);
            let i = b.whole(DType::I32, &[7], 0, 8);
            b.emit(Op::Gather, &[x, i], Attrs::NONE.with_int(AttrKey::Axis, 0))
        });
        cases.add(Op::TakeAlong, &format!("of {dtype}"), Kind::Values, |b| {
            let x = b.whole(dtype, &[9, 5], 0, top);
            let i = b.whole(DType::I32, &[7, 5], 0, 8);
            b.emit(Op::TakeAlong, &[x, i], Attrs::NONE.with_int(AttrKey::Axis, 0))
        });
    }
    for dtype in [DType::I32, DType::I64] {
        cases.add(Op::ScatterAdd, &format!("of {dtype}"), Kind::Values, |b| {
            let x = b.whole(dtype, &[4, 3], -9, 9);
            let i = b.whole(DType::I32, &[6], 0, 3);
            let u = b.whole(dtype, &[6, 3], -9, 9);
            b.emit(Op::ScatterAdd, &[x, i, u], Attrs::NONE.with_int(AttrKey::Axis, 0))
        });
        cases.add(Op::ScatterAddAlong, &format!("of {dtype}"), Kind::Values, |b| {
            let x = b.whole(dtype, &[4, 3], -9, 9);
            let i = b.whole(DType::I32, &[6, 3], 0, 3);
            let u = b.whole(dtype, &[6, 3], -9, 9);
            b.emit(Op::ScatterAddAlong, &[x, i, u], Attrs::NONE.with_int(AttrKey::Axis, 0))
        });
    }
}

fn sorting(cases: &mut Cases) {
    let shapes: &[(&[usize], i64, Kind)] = &[
        (&[1], 0, Kind::Smooth),
        (&[7], -1, Kind::Smooth),
        (&[3, 4], 0, Kind::Smooth),
        (&[2, 5, 2], 1, Kind::Smooth),
        (&[2, 0], 1, Kind::Values),
        (&[5, 301], 1, Kind::Values),
        (&[301, 3], 0, Kind::Values),
    ];
    for &(dims, axis, kind) in shapes {
        let at = Attrs::NONE.with_int(AttrKey::Axis, axis);
        for descending in [0, 1] {
            let attrs = at.clone().with_int(AttrKey::Descending, descending);
            let label = format!("{dims:?} axis {axis} descending {descending}");
            cases.add(Op::Sort, &label, kind, |b| {
                let x = b.spread(dims, -2.0, 2.0);
                b.emit(Op::Sort, &[x], attrs.clone())
            });
            cases.add(Op::ArgSort, &format!("{label} with ties"), Kind::Values, |b| {
                let x = b.whole(b.float, dims, -3, 3);
                b.emit(Op::ArgSort, &[x], attrs.clone())
            });
        }
        let length = dims[if axis < 0 { dims.len() - 1 } else { axis as usize }];
        for k in [1, length / 2, length] {
            if k > 0 && length > 0 {
                cases.add(Op::TopK, &format!("{dims:?} axis {axis} k {k}"), Kind::Values, |b| {
                    let x = b.whole(b.float, dims, -3, 3);
                    b.emit(Op::TopK, &[x], at.clone().with_int(AttrKey::K, k as i64))
                });
            }
        }
    }
    let values = [1.0, f64::NAN, -2.0, f64::INFINITY, f64::NAN, f64::NEG_INFINITY, 0.0];
    for descending in [0, 1] {
        for op in [Op::Sort, Op::ArgSort] {
            cases.add(op, &format!("NaN, descending {descending}"), Kind::Values, |b| {
                let x = b.values(b.float, &[7], &values);
                let at = Attrs::NONE.with_int(AttrKey::Axis, 0);
                b.emit(op, &[x], at.with_int(AttrKey::Descending, descending))
            });
        }
    }
    for dtype in [DType::I32, DType::I64] {
        for op in [Op::Sort, Op::ArgSort] {
            cases.add(op, &format!("{dtype}"), Kind::Values, |b| {
                let x = b.whole(dtype, &[3, 9], -5, 5);
                b.emit(op, &[x], Attrs::NONE.with_int(AttrKey::Axis, 1))
            });
        }
        cases.add(Op::TopK, &format!("{dtype}"), Kind::Values, |b| {
            let x = b.whole(dtype, &[3, 9], -5, 5);
            let at = Attrs::NONE.with_int(AttrKey::Axis, 1);
            b.emit(Op::TopK, &[x], at.with_int(AttrKey::K, 4))
        });
    }
}

fn blocks(cases: &mut Cases) {
    // x, block, start
    let shapes: &[(&[usize], &[usize], &[f64], Kind)] = &[
        (&[5], &[2], &[1.0], Kind::Smooth),
        (&[5], &[5], &[3.0], Kind::Smooth),
        (&[3, 4], &[2, 2], &[1.0, 9.0], Kind::Smooth),
        (&[3, 4], &[1, 4], &[-5.0, 0.0], Kind::Smooth),
        (&[2, 3, 4], &[2, 1, 3], &[0.0, 2.0, 1.0], Kind::Smooth),
        (&[3, 4], &[0, 4], &[1.0, 0.0], Kind::Values),
        (&[5, 64, 33], &[5, 3, 33], &[0.0, 17.0, 0.0], Kind::Values),
    ];
    for (i, &(dims, block, start, kind)) in shapes.iter().enumerate() {
        let dtype = if i % 2 == 0 { DType::I32 } else { DType::I64 };
        let label = format!("{dims:?} block {block:?} at {start:?} {dtype}");
        cases.add(Op::DynamicSlice, &label, kind, |b| {
            let x = b.spread(dims, -2.0, 2.0);
            let at = b.values(dtype, &[dims.len()], start);
            b.emit(Op::DynamicSlice, &[x, at], Attrs::NONE.with_dims(AttrKey::Sizes, block))
        });
        cases.add(Op::DynamicUpdate, &label, kind, |b| {
            let x = b.spread(dims, -2.0, 2.0);
            let u = b.spread(block, -2.0, 2.0);
            let at = b.values(dtype, &[dims.len()], start);
            b.emit(Op::DynamicUpdate, &[x, u, at], Attrs::NONE)
        });
    }
    for dtype in [DType::I32, DType::U8, DType::BF16] {
        cases.add(Op::DynamicUpdate, &format!("of {dtype}"), Kind::Values, |b| {
            let x = b.whole(dtype, &[4, 6], 0, 9);
            let u = b.whole(dtype, &[2, 3], 0, 9);
            let at = b.values(DType::I32, &[2], &[1.0, 2.0]);
            b.emit(Op::DynamicUpdate, &[x, u, at], Attrs::NONE)
        });
    }
}
