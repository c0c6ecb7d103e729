//! Reductions, scans, softmax, normalisation, sorting.

use crate::harness::{T, close, noise, rows_stand_alone, run};
use diffx::base::DType::{BF16, F32, F64, I32, I64};
use diffx::graph::{AttrKey, Attrs, Op};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

/// For each element of the result, the elements of x it is made of, in order.
fn groups(dims: &[usize], axes: &[usize]) -> Vec<Vec<usize>> {
    let n: usize = dims.iter().product();
    let kept: usize = (0..dims.len()).filter(|a| !axes.contains(a)).map(|a| dims[a]).product();
    let mut out = vec![Vec::new(); kept];
    for i in 0..n {
        let (mut rest, mut at, mut scale) = (i, 0, 1);
        for a in (0..dims.len()).rev() {
            if !axes.contains(&a) {
                at += rest % dims[a] * scale;
                scale *= dims[a];
            }
            rest /= dims[a];
        }
        out[at].push(i);
    }
    out
}

fn lse(x: &[f64]) -> f64 {
    let m = x.iter().copied().fold(-INF, f64::max);
    if m.is_infinite() { m } else { m + x.iter().map(|v| (v - m).exp()).sum::<f64>().ln() }
}

#[test]
fn reductions_over_any_axes() {
    let ops: [(Op, fn(&[f64]) -> f64); 6] = [
        (Op::Sum, |x| x.iter().sum()),
        (Op::Mean, |x| x.iter().sum::<f64>() / x.len() as f64),
        (Op::Prod, |x| x.iter().product()),
        (Op::ReduceMax, |x| x.iter().copied().fold(-INF, f64::max)),
        (Op::ReduceMin, |x| x.iter().copied().fold(INF, f64::min)),
        (Op::LogSumExp, lse),
    ];
    let cases: [(&[usize], &[usize]); 14] = [
        (&[], &[]),
        (&[1], &[0]),
        (&[700], &[0]),
        (&[3, 1025], &[1]),
        (&[3, 1025], &[0]),
        (&[1025, 23], &[0]),
        (&[2, 40, 21], &[1]),
        (&[2, 3, 4, 5], &[0, 2]),
        (&[2, 3, 4, 5], &[1, 3]),
        (&[3, 4, 600], &[0, 2]),
        (&[2, 3, 4, 5], &[0, 1, 2, 3]),
        (&[5, 1, 6], &[1]),
        (&[0, 4], &[1]),
        (&[4, 0], &[1]),
    ];
    for dtype in [F32, F64] {
        for (dims, axes) in cases {
            let x = T::random(dtype, dims, 3);
            for (op, f) in ops {
                let empty = dims.iter().enumerate().any(|(i, d)| *d == 0 && axes.contains(&i));
                if empty && matches!(op, Op::Mean | Op::ReduceMax | Op::ReduceMin) {
                    continue;
                }
                let values = x.values();
                let want: Vec<f64> = groups(dims, axes)
                    .iter()
                    .map(|g| f(&g.iter().map(|i| values[*i]).collect::<Vec<_>>()))
                    .collect();
                for keep in [0, 1] {
                    let attrs = Attrs::NONE
                        .with_dims(AttrKey::Axes, axes)
                        .with_int(AttrKey::KeepDims, keep);
                    close(op, &run(op, &[&x], &attrs), &want);
                }
            }
        }
    }
}

#[test]
fn integer_reductions() {
    for dtype in [I32, I64] {
        let v: Vec<f64> = noise(60, 4).iter().map(|x| (x * 1000.0).round()).collect();
        let x = T::new(dtype, &[3, 20], &v);
        let axis = Attrs::NONE.with_ints(AttrKey::Axes, [1]);
        let rows = |f: fn(f64, f64) -> f64, s: f64| {
            v.chunks(20).map(|r| r.iter().copied().fold(s, f)).collect::<Vec<_>>()
        };
        close(Op::Sum, &run(Op::Sum, &[&x], &axis), &rows(|a, b| a + b, 0.0));
        close(Op::ReduceMax, &run(Op::ReduceMax, &[&x], &axis), &rows(f64::max, -INF));
        close(Op::ReduceMin, &run(Op::ReduceMin, &[&x], &axis), &rows(f64::min, INF));
    }
}

#[test]
fn infinities_and_nans() {
    let x = T::new(
        F32,
        &[6, 3],
        &[
            1.0, NAN, 2.0, INF, 1.0, -INF, -INF, -INF, -INF, 800.0, 800.0, 799.0, -INF, 0.0, -INF,
            INF, INF, 1.0,
        ],
    );
    let axis = Attrs::NONE.with_ints(AttrKey::Axes, [1]);
    close(Op::ReduceMax, &run(Op::ReduceMax, &[&x], &axis), &[NAN, INF, -INF, 800.0, 0.0, INF]);
    close(Op::ReduceMin, &run(Op::ReduceMin, &[&x], &axis), &[NAN, -INF, -INF, 799.0, -INF, 1.0]);
    close(
        Op::LogSumExp,
        &run(Op::LogSumExp, &[&x], &axis),
        &[NAN, INF, -INF, lse(&[800.0, 800.0, 799.0]), 0.0, INF],
    );
    let one = Attrs::NONE.with_int(AttrKey::Axis, 1);
    close(Op::ArgMax, &run(Op::ArgMax, &[&x], &one), &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    close(Op::ArgMin, &run(Op::ArgMin, &[&x], &one), &[1.0, 2.0, 0.0, 2.0, 0.0, 2.0]);
    let soft = run(Op::Softmax, &[&x], &one).values();
    assert!(soft[..3].iter().all(|v| v.is_nan()));
    assert_eq!(soft[6..9], [0.0; 3]);
    assert_eq!(soft[12..15], [0.0, 1.0, 0.0]);
    let log = run(Op::LogSoftmax, &[&x], &one).values();
    assert_eq!(log[6..9], [-INF; 3]);
    assert_eq!(log[12..15], [-INF, 0.0, -INF]);
    // the same down columns
    let turned: Vec<f64> = (0..18).map(|i| x.values()[i % 6 * 3 + i / 6]).collect();
    let down = run(
        Op::Softmax,
        &[&T::new(F32, &[3, 6], &turned)],
        &Attrs::NONE.with_int(AttrKey::Axis, 0),
    )
    .values();
    for i in 0..18 {
        assert!(down[i].to_bits() == soft[i % 6 * 3 + i / 6].to_bits() || down[i].is_nan());
    }
}

#[test]
fn softmax_along_any_axis() {
    for dtype in [F32, F64] {
        for dims in [&[3, 700][..], &[1], &[2, 33, 21], &[4, 0], &[0, 3]] {
            for axis in 0..dims.len() {
                let v: Vec<f64> =
                    noise(dims.iter().product(), 5).iter().map(|x| x * 30.0).collect();
                let x = T::new(dtype, dims, &v);
                let attrs = Attrs::NONE.with_int(AttrKey::Axis, axis as i64);
                let mut want = vec![0.0; v.len()];
                for g in groups(dims, &[axis]) {
                    let l = lse(&g.iter().map(|i| v[*i]).collect::<Vec<_>>());
                    g.iter().for_each(|i| want[*i] = v[*i] - l);
                }
                close(Op::LogSoftmax, &run(Op::LogSoftmax, &[&x], &attrs), &want);
                want.iter_mut().for_each(|x| *x = x.exp());
                close(Op::Softmax, &run(Op::Softmax, &[&x], &attrs), &want);
            }
        }
    }
}

#[test]
fn running_sums() {
    for dtype in [F32, F64, I32] {
        for (dims, axis) in [(&[5][..], 0), (&[3, 50, 21], 1), (&[2, 900], 1), (&[2, 0], 1)] {
            let v: Vec<f64> =
                noise(dims.iter().product(), 6).iter().map(|x| (x * 64.0).round()).collect();
            let x = T::new(dtype, dims, &v);
            for (reverse, exclusive) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                let attrs = Attrs::NONE
                    .with_int(AttrKey::Axis, axis as i64)
                    .with_int(AttrKey::Reverse, reverse)
                    .with_int(AttrKey::Exclusive, exclusive);
                let mut want = vec![0.0; v.len()];
                for mut g in groups(dims, &[axis]) {
                    if reverse == 1 {
                        g.reverse();
                    }
                    let mut sum = 0.0;
                    for i in g {
                        want[i] = if exclusive == 1 { sum } else { sum + v[i] };
                        sum += v[i];
                    }
                }
                close(Op::CumSum, &run(Op::CumSum, &[&x], &attrs), &want);
            }
        }
    }
}

#[test]
fn argmax_finds_the_first() {
    for dtype in [F32, I64] {
        let x = T::new(
            dtype,
            &[2, 4, 2],
            &[1., 5., 3., 5., 3., 0., 2., 5., 0., 0., 0., 0., -1., 7., 0., 7.],
        );
        let attrs = Attrs::NONE.with_int(AttrKey::Axis, 1);
        close(Op::ArgMax, &run(Op::ArgMax, &[&x], &attrs), &[1., 0., 0., 2.]);
        close(Op::ArgMin, &run(Op::ArgMin, &[&x], &attrs), &[0., 2., 2., 0.]);
    }
}

#[test]
fn normalisations() {
    for (dtype, param) in [(F32, F32), (F64, F64), (F32, BF16)] {
        for dims in [&[7, 33][..], &[1, 1], &[2, 3, 1200], &[0, 5]] {
            let n = *dims.last().unwrap();
            let x = T::random(dtype, dims, 7);
            let (scale, bias) = (T::random(param, &[n], 8), T::random(param, &[n], 9));
            let (v, s, b) = (x.values(), scale.values(), bias.values());
            for inputs in 1..=3 {
                let list = &[&x, &scale, &bias][..inputs];
                let s = |i: usize| if inputs > 1 { s[i % n] } else { 1.0 };
                let b = |i: usize| if inputs > 2 { b[i % n] } else { 0.0 };
                let attrs = Attrs::NONE.with_float(AttrKey::Epsilon, 1e-5);
                let norm = |centred: bool| -> Vec<f64> {
                    let rows = v.chunks(n).flat_map(|r| {
                        let mean = if centred { r.iter().sum::<f64>() / n as f64 } else { 0.0 };
                        let var = r.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n as f64;
                        r.iter().map(move |x| (x - mean) / (var + 1e-5).sqrt())
                    });
                    rows.enumerate()
                        .map(|(i, x)| x * s(i) + if centred { b(i) } else { 0.0 })
                        .collect()
                };
                close(Op::LayerNorm, &run(Op::LayerNorm, list, &attrs), &norm(true));
                if inputs < 3 {
                    close(Op::RmsNorm, &run(Op::RmsNorm, list, &attrs), &norm(false));
                }
            }
        }
        for (dims, groups) in
            [(&[2, 6, 5, 7][..], 3), (&[3, 4], 2), (&[2, 4, 1], 4), (&[1, 6, 900], 1)]
        {
            let (c, run_length): (usize, usize) = (dims[1], dims[2..].iter().product());
            let x = T::random(dtype, dims, 7);
            let (scale, bias) = (T::random(param, &[c], 8), T::random(param, &[c], 9));
            let (v, s, b) = (x.values(), scale.values(), bias.values());
            let count = c / groups * run_length;
            let want: Vec<f64> = (0..v.len())
                .map(|i| {
                    let r = &v[i / count * count..][..count];
                    let mean = r.iter().sum::<f64>() / count as f64;
                    let var = r.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count as f64;
                    let channel = i / run_length % c;
                    (v[i] - mean) / (var + 1e-3).sqrt() * s[channel] + b[channel]
                })
                .collect();
            let attrs = Attrs::NONE
                .with_float(AttrKey::Epsilon, 1e-3)
                .with_int(AttrKey::Groups, groups as i64);
            close(Op::GroupNorm, &run(Op::GroupNorm, &[&x, &scale, &bias], &attrs), &want);
        }
    }
}

#[test]
fn rows_of_reductions_and_norms_stand_alone() {
    for dtype in [F32, F64] {
        let x = T::random(dtype, &[300, 1100], 1);
        let y = T::random(dtype, &[300, 37, 19], 2);
        let one = |_| Attrs::NONE.with_ints(AttrKey::Axes, [1]);
        for op in [Op::Sum, Op::Mean, Op::Prod, Op::LogSumExp, Op::ReduceMax] {
            rows_stand_alone(op, &[(&x, true)], one);
            rows_stand_alone(op, &[(&y, true)], one);
            rows_stand_alone(op, &[(&y, true)], |_| Attrs::NONE.with_ints(AttrKey::Axes, [2]));
        }
        let axis = |_| Attrs::NONE.with_int(AttrKey::Axis, 1);
        for op in [Op::Softmax, Op::LogSoftmax, Op::CumSum] {
            rows_stand_alone(op, &[(&x, true)], axis);
            rows_stand_alone(op, &[(&y, true)], axis);
        }
        let eps = |_| Attrs::NONE.with_float(AttrKey::Epsilon, 1e-6);
        rows_stand_alone(Op::LayerNorm, &[(&x, true)], eps);
        rows_stand_alone(Op::RmsNorm, &[(&x, true)], eps);
        let z = T::random(dtype, &[30, 8, 5, 9], 2);
        rows_stand_alone(Op::GroupNorm, &[(&z, true)], |n| eps(n).with_int(AttrKey::Groups, 4));
    }
}

#[test]
fn a_sum_over_the_batch_has_the_same_bits_however_it_is_laid_out() {
    let x = T::random(F32, &[1000, 1], 3);
    let axes = Attrs::NONE.with_ints(AttrKey::Axes, [0]);
    let alone = run(Op::Sum, &[&x], &axes).values()[0];
    let wide: Vec<f64> = x.values().iter().flat_map(|v| [*v; 37]).collect();
    let got = run(Op::Sum, &[&T::new(F32, &[1000, 37], &wide)], &axes).values();
    assert!(got.iter().all(|v| v.to_bits() == alone.to_bits()));
}

#[test]
fn sorting_is_stable_and_puts_nan_last() {
    let v = [2.0, NAN, 1.0, -0.0, 0.0, INF, 1.0, -INF, NAN];
    for dtype in [F32, F64] {
        let x = T::new(dtype, &[1, 9], &v);
        let attrs = Attrs::NONE.with_int(AttrKey::Axis, 1);
        let down = attrs.clone().with_int(AttrKey::Descending, 1);
        close(
            Op::Sort,
            &run(Op::Sort, &[&x], &attrs),
            &[-INF, -0.0, 0.0, 1.0, 1.0, 2.0, INF, NAN, NAN],
        );
        close(Op::ArgSort, &run(Op::ArgSort, &[&x], &attrs), &[7., 3., 4., 2., 6., 0., 5., 1., 8.]);
        close(Op::ArgSort, &run(Op::ArgSort, &[&x], &down), &[5., 0., 2., 6., 3., 4., 7., 1., 8.]);
        let top = attrs.clone().with_int(AttrKey::K, 4);
        close(Op::TopK, &run(Op::TopK, &[&x], &top), &[5., 0., 2., 6.]);
    }
    // down an axis, many ties, against a stable sort
    let (n, inner) = (50, 7);
    let v: Vec<f64> = noise(2 * n * inner, 3).iter().map(|x| (x * 4.0).round()).collect();
    for dtype in [F32, I32, I64] {
        let x = T::new(dtype, &[2, n, inner], &v);
        for descending in [0, 1] {
            let attrs =
                Attrs::NONE.with_int(AttrKey::Axis, 1).with_int(AttrKey::Descending, descending);
            let (mut values, mut order) = (vec![0.0; v.len()], vec![0.0; v.len()]);
            for g in groups(&[2, n, inner], &[1]) {
                let mut p: Vec<usize> = (0..n).collect();
                let sign = if descending == 1 { -1.0 } else { 1.0 };
                p.sort_by(|a, b| (sign * v[g[*a]]).partial_cmp(&(sign * v[g[*b]])).unwrap());
                for (i, p) in p.iter().enumerate() {
                    (values[g[i]], order[g[i]]) = (v[g[*p]], *p as f64);
                }
            }
            close(Op::Sort, &run(Op::Sort, &[&x], &attrs), &values);
            let all = run(Op::ArgSort, &[&x], &attrs);
            close(Op::ArgSort, &all, &order);
            if descending == 1 {
                let top = Attrs::NONE.with_int(AttrKey::Axis, 1).with_int(AttrKey::K, 5);
                let want: Vec<f64> = (0..2 * 5 * inner)
                    .map(|i| order[(i / (5 * inner) * n + i / inner % 5) * inner + i % inner])
                    .collect();
                close(Op::TopK, &run(Op::TopK, &[&x], &top), &want);
            }
        }
    }
}
