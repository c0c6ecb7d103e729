//! Layer, group and RMS normalisation: one row (or group) at a time, mean and variance in two passes in f64.

use super::fold::{self, Sum};
use super::real::{Real, Storage};
use super::scratch;
use super::split::{for_rows, share_count};
use super::wide::wide;
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::cpu::call::{Call, In};
use crate::graph::{AttrKey, Attrs, Op};

/// Scale and bias, widened once.
pub(super) fn scratch_bytes(inputs: &[Desc], out: Desc) -> usize {
    inputs.iter().skip(1).map(|p| p.shape.elements() * out.dtype.bytes()).sum()
}

pub(super) fn run(call: &mut Call<'_>) -> Result<()> {
    match call.out.dtype() {
        DType::F64 => typed::<f64>(call),
        _ => typed::<f32>(call),
    }
}

/// How many shares a call is cut into.
pub(super) fn shares(op: Op, attrs: &Attrs, out: Desc) -> usize {
    let groups = attrs.int(AttrKey::Groups, 1).max(1) as usize;
    let rows = match op {
        Op::GroupNorm => out.dims().first().map_or(1, |n| n * groups),
        _ => out.shape.elements() / out.dims().last().copied().unwrap_or(1).max(1),
    };
    share_count(rows, 4 * out.shape.elements().checked_div(rows).unwrap_or(0))
}

/// Copies a parameter to `out` in the type of arithmetic.
pub(super) fn widen<R: Real>(x: &In<'_>, out: &mut [R]) -> Result<()> {
    fn each<R: Real, T: Storage>(x: &In<'_>, out: &mut [R]) -> Result<()> {
        for (o, v) in out.iter_mut().zip(x.elements::<T>()?) {
            *o = v.widen();
        }
        Ok(())
    }
    match x.dtype() {
        DType::F32 => each::<R, f32>(x, out),
        DType::F64 => each::<R, f64>(x, out),
        DType::F16 => each::<R, half::f16>(x, out),
        DType::BF16 => each::<R, half::bf16>(x, out),
        other => bail!(Internal, "a parameter is {other}, want a float type"),
    }
}

fn typed<R: Real>(call: &mut Call<'_>) -> Result<()> {
    let dims = call.out.dims();
    // elements normalised together; channels among them, each `run` long; groups until the channels repeat
    let (count, run, groups) = if call.op == Op::GroupNorm {
        let groups = call.attrs.int(AttrKey::Groups, 1).max(1) as usize;
        let run = dims[2..].iter().product::<usize>();
        (dims[1] / groups * run, run, groups)
    } else {
        (dims.last().copied().unwrap_or(1), 1, 1)
    };
    let centred = call.op != Op::RmsNorm;
    let eps = call.attrs.float(AttrKey::Epsilon, 0.0);
    let x = call.inputs[0].elements::<R>()?;
    let params = scratch::<R>(call.scratch)?;
    let channels = call.inputs.get(1).map_or(0, |p| p.desc.shape.elements());
    let (scale, rest) = params.split_at_mut(channels);
    let mut bias: &mut [R] = &mut [];
    if let Some(p) = call.inputs.get(1) {
        widen(p, scale)?;
    }
    if let Some(p) = call.inputs.get(2) {
        bias = &mut rest[..channels];
        widen(p, bias)?;
    }
    let (scale, bias) = (&*scale, &*bias);
    let (pool, share) = (call.pool, call.share);
    let out = call.out.elements::<R>()?;
    for_rows(pool, share, out, count, 4 * count, |rows, out| {
        wide(
            #[inline(always)]
            || {
                for (row, out) in rows.zip(out.chunks_exact_mut(count)) {
                    let x = &x[row * count..(row + 1) * count];
                    let (mean, factor) = moments(x, centred, eps);
                    if run > 1 {
                        let first = row % groups * (count / run);
                        let runs = x.chunks_exact(run).zip(out.chunks_exact_mut(run));
                        for (c, (x, out)) in runs.enumerate() {
                            let s = scale.get(first + c).copied().unwrap_or(R::ONE);
                            let b = bias.get(first + c).copied().unwrap_or(R::ZERO);
                            for (o, v) in out.iter_mut().zip(x) {
                                *o = (*v - mean) * factor * s + b;
                            }
                        }
                    } else {
                        let first = row % groups * count;
                        let s = scale.get(first..first + count).unwrap_or(&[]);
                        let b = bias.get(first..first + count).unwrap_or(&[]);
                        for (o, v) in out.iter_mut().zip(x) {
                            *o = (*v - mean) * factor;
                        }
                        out.iter_mut().zip(s).for_each(|(o, s)| *o = *o * *s);
                        out.iter_mut().zip(b).for_each(|(o, b)| *o += *b);
                    }
                }
            },
        );
    })
}

/// Mean (0 when not centred) and 1 / sqrt(mean square about it + eps).
#[inline(always)]
fn moments<R: Real>(x: &[R], centred: bool, eps: f64) -> (R, R) {
    let n = x.len() as f64;
    let mean = if centred { fold::row::<Sum, R>(x, |v| v.wide()) / n } else { 0.0 };
    let square = fold::row::<Sum, R>(x, |v| {
        let d = v.wide() - mean;
        d * d
    });
    (R::of(mean), R::of(1.0 / (square / n + eps).sqrt()))
}
