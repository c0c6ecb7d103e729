//! softmax and log_softmax along one axis: largest, sum of exponentials, result. A row of -inf gives zeros.

use super::fold::{self, Max, Sum, for_column_tiles};
use super::real::Real;
use super::split::{for_rows, share_count};
use super::wide::wide;
use crate::base::{DType, Desc, Result};
use crate::cpu::call::Call;
use crate::graph::{AttrKey, Attrs, Op};

/// How many shares a call is cut into.
pub(super) fn shares(attrs: &Attrs, out: Desc) -> usize {
    let axis = attrs.int(AttrKey::Axis, 0) as usize;
    let slab: usize = out.dims().get(axis..).unwrap_or_default().iter().product();
    share_count(out.shape.elements().checked_div(slab).unwrap_or(0), 4 * slab)
}

pub(super) fn run(call: &mut Call<'_>) -> Result<()> {
    match call.out.dtype() {
        DType::F64 => typed::<f64>(call),
        _ => typed::<f32>(call),
    }
}

fn typed<R: Real>(call: &mut Call<'_>) -> Result<()> {
    let dims = call.out.dims();
    let axis = call.attrs.int(AttrKey::Axis, 0) as usize;
    let (n, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
    let log = call.op == Op::LogSoftmax;
    let x = call.inputs[0].elements::<R>()?;
    let share = call.share;
    let (pool, out) = call.pool_out::<R>()?;
    let slab = n * inner;
    for_rows(pool, share, out, slab, 4 * slab, |slabs, out| {
        wide(
            #[inline(always)]
            || {
                for (s, out) in slabs.zip(out.chunks_exact_mut(slab)) {
                    let x = &x[s * slab..(s + 1) * slab];
                    if inner == 1 {
                        along(x, out, log);
                    } else {
                        for_column_tiles!(0..inner, |first, W| {
                            down::<R, W>(&x[first..], &mut out[first..], n, inner, log)
                        });
                    }
                }
            },
        );
    })
}

/// What is subtracted before the exponential: nothing when every term is -inf, so that they stay zeros and not NaN.
#[inline(always)]
fn shift<R: Real>(largest: R) -> R {
    if largest == R::NEG_INFINITY { R::ZERO } else { largest }
}

/// 1 / sum, and log sum; a sum of 0 gives zeros and -inf.
#[inline(always)]
fn scale<R: Real>(sum: f64) -> (R, R) {
    if sum == 0.0 {
        return (R::ZERO, R::ZERO);
    }
    (R::of(1.0 / sum), R::of(sum.ln()))
}

#[inline(always)]
fn along<R: Real>(x: &[R], out: &mut [R], log: bool) {
    let m = shift(fold::row::<Max<R>, R>(x, |v| v));
    for (o, v) in out.iter_mut().zip(x) {
        *o = (*v - m).exp();
    }
    let (factor, log_sum) = scale::<R>(fold::row::<Sum, R>(out, |v| v.wide()));
    if log {
        for (o, v) in out.iter_mut().zip(x) {
            *o = *v - m - log_sum;
        }
    } else {
        out.iter_mut().for_each(|o| *o = *o * factor);
    }
}

#[inline(always)]
fn down<R: Real, const W: usize>(x: &[R], out: &mut [R], n: usize, stride: usize, log: bool) {
    let m = fold::columns::<Max<R>, R, W>(x, n, stride, |v, _| v).map(shift);
    let sum = fold::columns::<Sum, R, W>(x, n, stride, |v, j| (v - m[j]).exp().wide());
    let scales = sum.map(scale::<R>);
    for r in 0..n {
        let (x, out) = (&x[r * stride..][..W], &mut out[r * stride..][..W]);
        for j in 0..W {
            let v = x[j] - m[j];
            out[j] = if log { v - scales[j].1 } else { v.exp() * scales[j].0 };
        }
    }
}
