//! Random nodes: each element is addressed by its sample, never by where it stands in the batch.

use super::split::{for_rows, share_count};
use crate::bail;
use crate::base::philox::{MAX_ELEM, Stream};
use crate::base::{DType, Desc, Result, draw::NO_CATEGORY};
use crate::cpu::call::Call;
use crate::graph::{AttrKey, Op};
use bytemuck::Pod;
use std::ops::Range;

pub(super) fn run(call: &mut Call<'_>) -> Result<()> {
    let (out, op) = (call.out.dtype(), call.op);
    match (op, out) {
        (Op::Normal, DType::F32) => fill::<f32>(call, |s, e, out| s.fill_normal_f32(e, out)),
        (Op::Normal, DType::F64) => fill::<f64>(call, |s, e, out| s.fill_normal_f64(e, out)),
        (Op::Uniform, DType::F32) => fill::<f32>(call, |s, e, out| s.fill_uniform_f32(e, out)),
        (Op::Uniform, DType::F64) => fill::<f64>(call, |s, e, out| s.fill_uniform_f64(e, out)),
        (Op::Gamma, DType::F32) => gamma::<f32>(call, Stream::fill_gamma_f32),
        (Op::Gamma, DType::F64) => gamma::<f64>(call, Stream::fill_gamma_f64),
        (Op::Poisson, DType::F32) => {
            each::<f32>(call, |s, e, mean| s.poisson(e, f64::from(mean)) as f32)
        }
        (Op::Poisson, DType::F64) => each::<f64>(call, |s, e, mean| s.poisson(e, mean)),
        (Op::Categorical, _) if call.inputs[0].dtype() == DType::F64 => categorical::<f64>(call),
        (Op::Categorical, _) => categorical::<f32>(call),
        (Op::Brownian, DType::F32) => brownian::<f32>(call, |x| x as f32),
        (Op::Brownian, DType::F64) => brownian::<f64>(call, |x| x),
        _ => bail!(Unsupported, "{}: the CPU has no kernel for {out}", op.name()),
    }
}

/// How many shares a call is cut into.
pub(super) fn shares(op: Op, inputs: &[Desc], out: Desc) -> usize {
    let elements = out.shape.elements();
    let rows = out.dims().first().copied().unwrap_or(1).max(1);
    match op {
        Op::Brownian => share_count(rows, elements / rows * BROWNIAN),
        Op::Categorical => share_count(
            elements,
            categories(inputs.first().map_or(1, |d| d.dims().last().copied().unwrap_or(1))),
        ),
        Op::Gamma => share_count(elements, GAMMA),
        Op::Poisson => share_count(elements, POISSON),
        _ => share_count(elements, PLAIN),
    }
}

/// Work of one draw, as `for_units` counts it.
const PLAIN: usize = 4;
const GAMMA: usize = 40;
const POISSON: usize = 200;
const BROWNIAN: usize = 400;

fn categories(k: usize) -> usize {
    40 * k + 100
}

/// The stream of the node and the address of its first element; the last address must exist too.
fn address(call: &Call<'_>) -> Result<(Stream, u64)> {
    let purpose = call.attrs.int(AttrKey::Purpose, 0);
    let ordinal = call.attrs.int(AttrKey::Ordinal, 0);
    let (Ok(purpose), Ok(ordinal)) = (u8::try_from(purpose), u16::try_from(ordinal)) else {
        bail!(
            Invalid,
            "{}: purpose {purpose}, ordinal {ordinal}: want at most 255 and 65535",
            call.op.name()
        );
    };
    // a Brownian path outlives the step that looks at it
    let step = if call.op == Op::Brownian { 0 } else { call.key.step };
    let rows = call.out.dims().first().copied().unwrap_or(1) as u64;
    let per_sample = (call.out.desc.shape.elements() as u64).checked_div(rows).unwrap_or(0);
    let first = call.key.first_sample;
    let end = first.checked_add(rows).and_then(|last| last.checked_mul(per_sample));
    if end.is_none_or(|end| end > MAX_ELEM) {
        bail!(
            Invalid,
            "{}: sample {first} and {rows} more of {per_sample} elements: want element numbers below 2^56",
            call.op.name()
        );
    }
    Ok((Stream { seed: call.key.seed, purpose, step, ordinal }, first * per_sample))
}

fn fill<T: Pod + Send>(
    call: &mut Call<'_>,
    law: impl Fn(&Stream, u64, &mut [T]) + Sync,
) -> Result<()> {
    let (stream, first) = address(call)?;
    let share = call.share;
    let (pool, out) = call.pool_out::<T>()?;
    for_rows(pool, share, out, 1, PLAIN, |range, out| law(&stream, first + range.start as u64, out))
}

/// As `fill`, with a shape per element.
fn gamma<T: Pod + Send + Sync>(
    call: &mut Call<'_>,
    law: impl Fn(&Stream, u64, &[T], &mut [T]) + Sync,
) -> Result<()> {
    let (stream, first) = address(call)?;
    let shapes = call.inputs[0].elements::<T>()?;
    let share = call.share;
    let (pool, out) = call.pool_out::<T>()?;
    for_rows(pool, share, out, 1, GAMMA, |range, out| {
        law(&stream, first + range.start as u64, &shapes[range], out)
    })
}

/// One draw per element of the parameter.
fn each<T: Pod + Send + Sync>(
    call: &mut Call<'_>,
    law: impl Fn(&Stream, u64, T) -> T + Sync,
) -> Result<()> {
    let (stream, first) = address(call)?;
    let x = call.inputs[0].elements::<T>()?;
    let share = call.share;
    let (pool, out) = call.pool_out::<T>()?;
    for_rows(pool, share, out, 1, POISSON, |range: Range<usize>, out| {
        for (i, o) in range.zip(out) {
            *o = law(&stream, first + i as u64, x[i]);
        }
    })
}

/// A row without a weight (all -inf, or with a NaN) draws category 0.
fn categorical<T: Pod + Send + Sync + Into<f64>>(call: &mut Call<'_>) -> Result<()> {
    let (stream, first) = address(call)?;
    let k = call.inputs[0].dims().last().copied().unwrap_or(1);
    let x = call.inputs[0].elements::<T>()?;
    let share = call.share;
    let (pool, out) = call.pool_out::<i32>()?;
    for_rows(pool, share, out, 1, categories(k), |range, out| {
        for (i, o) in range.zip(out) {
            let c = stream.categorical(first + i as u64, &x[i * k..(i + 1) * k]);
            *o = if c == NO_CATEGORY { 0 } else { c as i32 };
        }
    })
}

/// W(s1) - W(s0) with the times of each row.
fn brownian<T: Pod + Send + Sync>(call: &mut Call<'_>, of: impl Fn(f64) -> T + Sync) -> Result<()> {
    /// Elements whose paths are walked together, on the stack.
    const BLOCK: usize = 256;
    let (stream, first) = address(call)?;
    let (lo, hi) =
        (call.attrs.float(AttrKey::RangeLo, 0.0), call.attrs.float(AttrKey::RangeHi, 0.0));
    let depth = call.attrs.int(AttrKey::Depth, 24).clamp(1, 31) as u32;
    let rows = call.out.dims().first().copied().unwrap_or(1);
    let per_sample = call.out.desc.shape.elements().checked_div(rows).unwrap_or(0);
    let (from, to) = (times(call, 0)?, times(call, 1)?);
    let share = call.share;
    let (pool, out) = call.pool_out::<T>()?;
    for_rows(pool, share, out, per_sample, per_sample * BROWNIAN, |range, out| {
        for (row, out) in range.zip(out.chunks_exact_mut(per_sample)) {
            for (b, out) in out.chunks_mut(BLOCK).enumerate() {
                let e = first + (row * per_sample + b * BLOCK) as u64;
                let (mut w0, mut w1) = ([0.0; BLOCK], [0.0; BLOCK]);
                stream.fill_brownian(e, from.at(row), lo, hi, depth, &mut w0[..out.len()]);
                stream.fill_brownian(e, to.at(row), lo, hi, depth, &mut w1[..out.len()]);
                for (o, (w0, w1)) in out.iter_mut().zip(w0.iter().zip(&w1)) {
                    *o = of(w1 - w0);
                }
            }
        }
    })
}

/// Times of either type.
enum Times<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
}

impl Times<'_> {
    fn at(&self, row: usize) -> f64 {
        match self {
            Self::F32(t) => f64::from(t[row]),
            Self::F64(t) => t[row],
        }
    }
}

fn times<'a>(call: &Call<'a>, i: usize) -> Result<Times<'a>> {
    let x = call.inputs[i];
    Ok(match x.dtype() {
        DType::F64 => Times::F64(x.elements()?),
        _ => Times::F32(x.elements()?),
    })
}
