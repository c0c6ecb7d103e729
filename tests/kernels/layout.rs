//! Ops that move elements or address by data, in every element size.

use crate::harness::{T, close, run};
use diffx::base::DType::{self, BF16, Bool, F32, F64, I32, I64, U8};
use diffx::graph::{AttrKey, Attrs, Op};

const TYPES: [DType; 4] = [Bool, BF16, F32, F64];

/// 0, 1, 2, ... where the type holds them.
fn counting(dtype: DType, dims: &[usize]) -> T {
    let n: usize = dims.iter().product();
    let v: Vec<f64> =
        (0..n).map(|i| if dtype == Bool { (i % 2) as f64 } else { (i % 251) as f64 }).collect();
    T::new(dtype, dims, &v)
}

/// The element of x at an index per axis.
fn at(x: &T, index: &[usize]) -> f64 {
    let i = index.iter().zip(x.dims()).fold(0, |at, (i, d)| at * d + i);
    x.values()[i]
}

/// Walks the indices of a shape.
fn indices(dims: &[usize]) -> Vec<Vec<usize>> {
    let n: usize = dims.iter().product();
    (0..n)
        .map(|i| {
            let mut rest = i;
            let mut out = vec![0; dims.len()];
            for a in (0..dims.len()).rev() {
                out[a] = rest % dims[a];
                rest /= dims[a];
            }
            out
        })
        .collect()
}

fn expect(op: Op, inputs: &[&T], attrs: &Attrs, source: impl Fn(&[usize]) -> f64) {
    let got = run(op, inputs, attrs);
    let want: Vec<f64> = indices(got.dims()).iter().map(|i| source(i)).collect();
    close(op, &got, &want);
}

#[test]
fn transposes() {
    for dtype in TYPES {
        for (dims, perm) in [
            (&[5, 7][..], &[1, 0][..]),
            (&[40, 35], &[1, 0]),
            (&[2, 3, 4], &[2, 0, 1]),
            (&[2, 3, 4, 5], &[0, 2, 1, 3]),
            (&[2, 3, 17, 5], &[0, 2, 3, 1]),
            (&[2, 3, 17, 5], &[3, 2, 1, 0]),
            (&[2, 20, 3, 18], &[0, 2, 3, 1]),
            (&[1, 4, 1], &[2, 1, 0]),
            (&[0, 4], &[1, 0]),
            (&[], &[]),
        ] {
            let x = counting(dtype, dims);
            expect(Op::Transpose, &[&x], &Attrs::NONE.with_dims(AttrKey::Perm, perm), |i| {
                let mut from = vec![0; i.len()];
                perm.iter().enumerate().for_each(|(a, p)| from[*p] = i[a]);
                at(&x, &from)
            });
        }
    }
}

#[test]
fn reshape_broadcast_slice_flip() {
    for dtype in TYPES {
        let x = counting(dtype, &[3, 1, 5]);
        let got = run(Op::Reshape, &[&x], &Attrs::NONE.with_ints(AttrKey::Shape, [5, -1]));
        assert!(got.bytes.get() == x.bytes.get() && got.dims() == [5, 3]);
        for shape in [&[3, 4, 5][..], &[2, 3, 1, 5], &[3, 1, 5], &[0, 3, 2, 5]] {
            let attrs = Attrs::NONE.with_dims(AttrKey::Shape, shape);
            let lead = shape.len() - 3;
            expect(Op::BroadcastTo, &[&x], &attrs, |i| at(&x, &[i[lead], 0, i[lead + 2]]));
        }
        let scalar = counting(dtype, &[]);
        expect(Op::BroadcastTo, &[&scalar], &Attrs::NONE.with_ints(AttrKey::Shape, [3, 2]), |_| {
            0.0
        });
        let x = counting(dtype, &[6, 7, 8]);
        let attrs = Attrs::NONE
            .with_ints(AttrKey::Start, [1, -5, 0])
            .with_ints(AttrKey::Stop, [100, -1, 8])
            .with_ints(AttrKey::Step, [2, 1, 3]);
        expect(Op::Slice, &[&x], &attrs, |i| at(&x, &[1 + 2 * i[0], 2 + i[1], 3 * i[2]]));
        let empty =
            Attrs::NONE.with_ints(AttrKey::Start, [0, 4, 0]).with_ints(AttrKey::Stop, [6, 2, 8]);
        assert_eq!(run(Op::Slice, &[&x], &empty).dims(), [6, 0, 8]);
        for axes in [&[0usize][..], &[2], &[0, 2], &[0, 1, 2], &[1]] {
            expect(Op::Flip, &[&x], &Attrs::NONE.with_dims(AttrKey::Axes, axes), |i| {
                let turned =
                    |a: usize| if axes.contains(&a) { x.dims()[a] - 1 - i[a] } else { i[a] };
                at(&x, &[turned(0), turned(1), turned(2)])
            });
        }
    }
}

#[test]
fn pad_and_concat() {
    for dtype in TYPES {
        let x = counting(dtype, &[3, 4]);
        let attrs = Attrs::NONE
            .with_ints(AttrKey::Lo, [1, 2])
            .with_ints(AttrKey::Hi, [0, 3])
            .with_float(AttrKey::Value, 1.0);
        expect(Op::Pad, &[&x], &attrs, |i| {
            if i[0] >= 1 && (2..6).contains(&i[1]) { at(&x, &[i[0] - 1, i[1] - 2]) } else { 1.0 }
        });
        let none = counting(dtype, &[0, 4]);
        let attrs = Attrs::NONE.with_ints(AttrKey::Lo, [1, 0]).with_ints(AttrKey::Hi, [1, 0]);
        expect(Op::Pad, &[&none], &attrs, |_| 0.0);
        let y = counting(dtype, &[3, 2]);
        let empty = counting(dtype, &[3, 0]);
        expect(Op::Concat, &[&x, &y, &empty, &x], &Attrs::NONE.with_int(AttrKey::Axis, 1), |i| {
            match i[1] {
                j @ 0..4 => at(&x, &[i[0], j]),
                j @ 4..6 => at(&y, &[i[0], j - 4]),
                j => at(&x, &[i[0], j - 6]),
            }
        });
        let rows = counting(dtype, &[2, 4]);
        expect(Op::Concat, &[&x, &rows], &Attrs::NONE.with_int(AttrKey::Axis, 0), |i| {
            if i[0] < 3 { at(&x, i) } else { at(&rows, &[i[0] - 3, i[1]]) }
        });
    }
}

#[test]
fn blocks_at_clamped_offsets() {
    for dtype in TYPES {
        for index in [I32, I64] {
            let x = counting(dtype, &[4, 5, 6]);
            for (start, real) in [([1., 2., 3.], [1, 2, 3]), ([-3., 99., 0.], [0, 3, 0])] {
                let s = T::new(index, &[3], &start);
                let attrs = Attrs::NONE.with_ints(AttrKey::Sizes, [2, 2, 3]);
                expect(Op::DynamicSlice, &[&x, &s], &attrs, |i| {
                    at(&x, &[i[0] + real[0], i[1] + real[1], i[2] + real[2]])
                });
                let u = T::new(dtype, &[2, 2, 3], &[1.0; 12]);
                expect(Op::DynamicUpdate, &[&x, &u, &s], &Attrs::NONE, |i| {
                    let size = [2, 2, 3];
                    let inside = (0..3).all(|a| i[a] >= real[a] && i[a] < real[a] + size[a]);
                    if inside { 1.0 } else { at(&x, i) }
                });
            }
        }
    }
}

#[test]
fn gather_and_take_along() {
    for dtype in TYPES {
        for index in [I32, I64] {
            let x = counting(dtype, &[3, 4, 5]);
            let idx = T::new(index, &[2, 2], &[3., 0., -7., 99.]);
            let clamped = [3, 0, 0, 3];
            expect(Op::Gather, &[&x, &idx], &Attrs::NONE.with_int(AttrKey::Axis, 1), |i| {
                at(&x, &[i[0], clamped[i[1] * 2 + i[2]], i[3]])
            });
            let one = T::new(index, &[], &[2.0]);
            expect(Op::Gather, &[&x, &one], &Attrs::NONE.with_int(AttrKey::Axis, 2), |i| {
                at(&x, &[i[0], i[1], 2])
            });
            let v: Vec<f64> = (0..30).map(|i| f64::from(i * 7 % 5)).collect();
            let along = T::new(index, &[3, 2, 5], &v);
            expect(Op::TakeAlong, &[&x, &along], &Attrs::NONE.with_int(AttrKey::Axis, 1), |i| {
                at(&x, &[i[0], (at(&along, i) as usize).min(3), i[2]])
            });
        }
    }
}

#[test]
fn scatters_add_in_index_order() {
    for dtype in [F32, F64, I32, I64] {
        let x = counting(dtype, &[3, 4, 5]);
        let idx = T::new(I64, &[3], &[1., 9., 1.]);
        let u = counting(dtype, &[3, 3, 5]);
        let mut want = x.values();
        for i in indices(&[3, 3, 5]) {
            want[(i[0] * 4 + [1, 3, 1][i[1]]) * 5 + i[2]] += at(&u, &i);
        }
        let attrs = Attrs::NONE.with_int(AttrKey::Axis, 1);
        close(Op::ScatterAdd, &run(Op::ScatterAdd, &[&x, &idx, &u], &attrs), &want);
        let v: Vec<f64> = (0..45).map(|i| f64::from(i * 7 % 6) - 1.0).collect();
        let along = T::new(I32, &[3, 3, 5], &v);
        let mut want = x.values();
        for i in indices(&[3, 3, 5]) {
            let to = at(&along, &i).clamp(0.0, 3.0) as usize;
            want[(i[0] * 4 + to) * 5 + i[2]] += at(&u, &i);
        }
        close(Op::ScatterAddAlong, &run(Op::ScatterAddAlong, &[&x, &along, &u], &attrs), &want);
    }
}

#[test]
fn patterns() {
    for dtype in [F32, F64, I32, I64, U8, BF16, Bool] {
        let attrs = Attrs::NONE
            .with_float(AttrKey::Value, 1.0)
            .with_ints(AttrKey::Shape, [3, 70])
            .with_int(AttrKey::DType, i64::from(dtype.code()));
        assert_eq!(run(Op::Full, &[], &attrs).values(), [1.0; 210]);
    }
    for dtype in [F32, F64, I32, I64] {
        for axis in 0..3 {
            let attrs = Attrs::NONE
                .with_ints(AttrKey::Shape, [3, 4, 5])
                .with_int(AttrKey::Axis, axis)
                .with_int(AttrKey::DType, i64::from(dtype.code()));
            expect(Op::Iota, &[], &attrs, |i| i[axis as usize] as f64);
        }
    }
}
