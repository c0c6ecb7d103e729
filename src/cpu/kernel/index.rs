//! Addressing by data: gather, scatter_add and their element-wise forms. Indices are clamped into range.
//!
//! Additions to one element happen in index order on one thread, so the sum never depends on threads.

use super::split::{Share, for_units};
use crate::bail;
use crate::base::{DType, Result};
use crate::cpu::call::{Call, In};
use crate::graph::{AttrKey, Op};
use bytemuck::Pod;

/// Indices of either width.
#[derive(Clone, Copy)]
pub(super) enum Positions<'a> {
    I32(&'a [i32]),
    I64(&'a [i64]),
}

impl<'a> Positions<'a> {
    pub(super) fn of(x: &In<'a>) -> Result<Self> {
        match x.dtype() {
            DType::I32 => Ok(Self::I32(x.elements()?)),
            DType::I64 => Ok(Self::I64(x.elements()?)),
            other => bail!(Internal, "indices are {other}, want i32 or i64"),
        }
    }

    /// Index `i`, clamped to `0..len`.
    #[inline(always)]
    pub(super) fn at(&self, i: usize, len: usize) -> usize {
        let v = match self {
            Self::I32(p) => i64::from(p[i]),
            Self::I64(p) => p[i],
        };
        usize::try_from(v).unwrap_or(0).min(len.saturating_sub(1))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::I32(p) => p.len(),
            Self::I64(p) => p.len(),
        }
    }
}

pub(super) fn run(call: &mut Call<'_>) -> Result<()> {
    match (call.op, call.out.dtype()) {
        (Op::Gather | Op::TakeAlong, dtype) => match dtype.bytes() {
            1 => take::<u8>(call),
            2 => take::<u16>(call),
            4 => take::<u32>(call),
            _ => take::<u64>(call),
        },
        (_, DType::F32) => add(call, |a: f32, b| a + b),
        (_, DType::F64) => add(call, |a: f64, b| a + b),
        (_, DType::I32) => add(call, i32::wrapping_add),
        (_, DType::I64) => add(call, i64::wrapping_add),
        (op, dtype) => bail!(Unsupported, "{}: the CPU has no kernel for {dtype}", op.name()),
    }
}

/// x as [outer, axis, inner].
struct Axes {
    outer: usize,
    axis: usize,
    inner: usize,
}

impl Axes {
    fn of(call: &Call<'_>) -> Self {
        let dims = call.inputs[0].dims();
        let axis = call.attrs.int(AttrKey::Axis, 0) as usize;
        Self {
            outer: dims[..axis].iter().product(),
            axis: dims[axis],
            inner: dims[axis + 1..].iter().product(),
        }
    }
}

fn take<T: Pod + Send + Sync>(call: &mut Call<'_>) -> Result<()> {
    let Axes { axis, inner, .. } = Axes::of(call);
    let along = call.op == Op::TakeAlong;
    let idx = Positions::of(&call.inputs[1])?;
    let dims = call.inputs[1].dims();
    let positions = if along { dims[call.attrs.int(AttrKey::Axis, 0) as usize] } else { idx.len() };
    let x = call.inputs[0].elements::<T>()?;
    let (pool, out) = call.pool_out::<T>()?;
    if out.is_empty() {
        return Ok(());
    }
    // one unit: one row of `inner` elements at one position
    super::split::for_rows(pool, Share::ALL, out, inner, inner, |units, out| {
        for (u, out) in units.zip(out.chunks_exact_mut(inner)) {
            let (o, p) = (u / positions, u % positions);
            let slab = o * axis * inner;
            if along {
                for (j, v) in out.iter_mut().enumerate() {
                    *v = x[slab + idx.at(u * inner + j, axis) * inner + j];
                }
            } else {
                let from = slab + idx.at(p, axis) * inner;
                out.copy_from_slice(&x[from..from + inner]);
            }
        }
    })
}

/// One unit is one slab of x: `[axis, inner]`, written by one thread.
fn add<T: Pod + Send + Sync>(call: &mut Call<'_>, plus: impl Fn(T, T) -> T + Sync) -> Result<()> {
    let Axes { outer, axis, inner } = Axes::of(call);
    let along = call.op == Op::ScatterAddAlong;
    let idx = Positions::of(&call.inputs[1])?;
    let dims = call.inputs[1].dims();
    let positions = if along { dims[call.attrs.int(AttrKey::Axis, 0) as usize] } else { idx.len() };
    let (x, u) = (call.inputs[0].elements::<T>()?, call.inputs[2].elements::<T>()?);
    let (pool, out) = call.pool_out::<T>()?;
    let slab = axis * inner;
    let work = slab + positions * inner;
    for_units(
        pool,
        Share::ALL,
        out,
        &mut [0u8; 0],
        0,
        outer,
        work,
        |o| o * slab,
        |range, out, _| {
            out.copy_from_slice(&x[range.start * slab..range.end * slab]);
            for (k, o) in range.enumerate() {
                let out = &mut out[k * slab..(k + 1) * slab];
                for p in 0..positions {
                    let row = (o * positions + p) * inner;
                    if along {
                        for j in 0..inner {
                            let to = idx.at(row + j, axis) * inner + j;
                            out[to] = plus(out[to], u[row + j]);
                        }
                    } else {
                        let to = idx.at(p, axis) * inner;
                        for (a, b) in out[to..to + inner].iter_mut().zip(&u[row..row + inner]) {
                            *a = plus(*a, *b);
                        }
                    }
                }
            }
        },
    )
}
