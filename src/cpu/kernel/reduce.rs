//! Reductions over any axes: sum, mean, largest, smallest, product, log-sum-exp.
//!
//! Axes are joined first; then a reduction is along rows in one piece, down neighbouring columns, or (several axes
//! apart) fetched piece by piece. All three take the order of [`super::fold`], so the layout never shows in the bits.

use super::fold::{self, Fold, Max, Min, Prod, Sum, WrappingSum, for_column_tiles};
use super::real::Real;
use super::split::{Share, for_rows};
use super::wide::wide;
use crate::bail;
use crate::base::{DType, MAX_RANK, Result};
use crate::cpu::call::Call;
use crate::cpu::pool::Pool;
use crate::graph::{AttrKey, Op};
use bytemuck::Pod;

pub(super) fn run(call: &mut Call<'_>) -> Result<()> {
    match call.out.dtype() {
        DType::F32 => real::<f32>(call),
        DType::F64 => real::<f64>(call),
        DType::I32 => match call.op {
            Op::Sum => whole::<WrappingSum<i32>>(call),
            Op::ReduceMax => whole::<Max<i32>>(call),
            _ => whole::<Min<i32>>(call),
        },
        DType::I64 => match call.op {
            Op::Sum => whole::<WrappingSum<i64>>(call),
            Op::ReduceMax => whole::<Max<i64>>(call),
            _ => whole::<Min<i64>>(call),
        },
        other => bail!(Unsupported, "{}: the CPU has no kernel for {other}", call.op.name()),
    }
}

fn real<R: Real + Default>(call: &mut Call<'_>) -> Result<()> {
    let layout = Layout::of(call);
    let x = call.inputs[0].elements::<R>()?;
    let n = layout.reduced.count();
    let op = call.op;
    let (pool, out) = call.pool_out::<R>()?;
    let same = |v: R, _: R| v;
    let plain = |v: R, _: R| v.wide();
    let none = |_: R| R::ZERO;
    match op {
        Op::Sum => layout.fold::<Sum, R, R>(pool, x, out, none, plain, |v, _| R::of(v)),
        Op::Mean => layout.fold::<Sum, R, R>(pool, x, out, none, plain, |v, _| R::of(v / n as f64)),
        Op::Prod => layout.fold::<Prod, R, R>(pool, x, out, none, plain, |v, _| R::of(v)),
        Op::ReduceMax => layout.fold::<Max<R>, R, R>(pool, x, out, none, same, |v, _| v),
        Op::ReduceMin => layout.fold::<Min<R>, R, R>(pool, x, out, none, same, |v, _| v),
        Op::LogSumExp => {
            layout.fold::<Max<R>, R, R>(pool, x, out, none, same, |v, _| v)?;
            // an infinite largest term stands for the sum; subtracting it would make NaN
            let shift = |m: R| if m.wide().is_finite() { m } else { R::ZERO };
            let finish = |s: f64, m: R| {
                if m.wide().is_finite() { R::of(m.wide() + s.ln()) } else { m }
            };
            let term = move |v: R, m: R| (v - shift(m)).exp().wide();
            layout.fold::<Sum, R, R>(pool, x, out, |m| m, term, finish)
        }
        other => bail!(Internal, "{}: is no reduction", other.name()),
    }
}

fn whole<F: Fold>(call: &mut Call<'_>) -> Result<()>
where
    F::T: Pod + Default + Send + Sync,
{
    let layout = Layout::of(call);
    let x = call.inputs[0].elements::<F::T>()?;
    let (pool, out) = call.pool_out::<F::T>()?;
    layout.fold::<F, F::T, F::T>(pool, x, out, |v| v, |v, _| v, |v, _| v)
}

/// Joined axes, outermost first.
#[derive(Debug, Clone, Copy)]
struct Axes {
    rank: usize,
    dims: [usize; MAX_RANK],
    strides: [usize; MAX_RANK],
}

impl Axes {
    const NONE: Self = Self { rank: 0, dims: [1; MAX_RANK], strides: [0; MAX_RANK] };

    fn push(&mut self, dim: usize, stride: usize) {
        if dim == 1 {
            return;
        }
        let last = self.rank.wrapping_sub(1);
        if self.rank > 0 && self.strides[last] == dim * stride {
            (self.dims[last], self.strides[last]) = (self.dims[last] * dim, stride);
        } else {
            (self.dims[self.rank], self.strides[self.rank]) = (dim, stride);
            self.rank += 1;
        }
    }

    fn count(&self) -> usize {
        self.dims[..self.rank].iter().product()
    }

    /// Offset of the `i`-th place, and how many places follow it before an outer axis moves.
    fn offset(&self, mut i: usize) -> (usize, usize) {
        let (mut at, mut left) = (0, 1);
        for a in (0..self.rank).rev() {
            let k = i % self.dims[a];
            if a + 1 == self.rank {
                left = self.dims[a] - k;
            }
            at += k * self.strides[a];
            i /= self.dims[a];
        }
        (at, left)
    }

    /// Distance between neighbours along the innermost axis.
    fn step(&self) -> usize {
        if self.rank == 0 { 1 } else { self.strides[self.rank - 1] }
    }
}

#[derive(Debug, Clone, Copy)]
struct Layout {
    kept: Axes,
    reduced: Axes,
}

impl Layout {
    fn of(call: &Call<'_>) -> Self {
        let shape = call.inputs[0].desc.shape;
        let strides = shape.strides();
        let axes = call.attrs.ints(AttrKey::Axes);
        let mut out = Self { kept: Axes::NONE, reduced: Axes::NONE };
        for (i, &d) in shape.dims().iter().enumerate() {
            let list = if axes.contains(&(i as i64)) { &mut out.reduced } else { &mut out.kept };
            list.push(d, strides[i]);
        }
        out
    }

    /// `out[i] = finish(fold of map(x, p), p)` with `p = param(out[i])`, read before it is written.
    fn fold<F: Fold, E, O>(
        &self,
        pool: &Pool,
        x: &[E],
        out: &mut [O],
        param: impl Fn(O) -> O + Sync,
        map: impl Fn(E, O) -> F::T + Sync + Copy,
        finish: impl Fn(F::T, O) -> O + Sync,
    ) -> Result<()>
    where
        E: Copy + Default + Sync,
        O: Copy + Send,
    {
        let n = self.reduced.count();
        for_rows(pool, Share::ALL, out, 1, n, |range, out| {
            wide(
                #[inline(always)]
                || {
                    let mut i = 0;
                    while i < out.len() {
                        let (base, left) = self.kept.offset(range.start + i);
                        let x = x.get(base..).unwrap_or(&[]); // empty only when n is 0
                        if n > 0
                            && self.reduced.rank == 1
                            && self.reduced.step() > 1
                            && self.kept.step() == 1
                        {
                            let end = out.len().min(i + left);
                            let stride = self.reduced.step();
                            for_column_tiles!(i..end, |first, W| {
                                let mut p = [out[first]; W];
                                for j in 0..W {
                                    p[j] = param(out[first + j]);
                                }
                                let x = &x[first - i..];
                                let f = fold::columns::<F, E, W>(x, n, stride, |v, j| map(v, p[j]));
                                for j in 0..W {
                                    out[first + j] = finish(f[j], p[j]);
                                }
                            });
                            i = end;
                            continue;
                        }
                        let p = param(out[i]);
                        let f = if n <= 1 || (self.reduced.rank == 1 && self.reduced.step() == 1) {
                            fold::row::<F, E>(&x[..n], |v| map(v, p))
                        } else {
                            let fetch = |at, buffer: &mut [E]| self.fetch(x, at, buffer);
                            fold::fetched::<F, E>(n, fetch, |v| map(v, p))
                        };
                        out[i] = finish(f, p);
                        i += 1;
                    }
                },
            );
        })
    }

    /// Elements `start..` of the reduction whose first element is `x[0]`.
    #[inline(always)]
    fn fetch<E: Copy>(&self, x: &[E], mut start: usize, buffer: &mut [E]) {
        let step = self.reduced.step();
        let mut rest = buffer;
        while !rest.is_empty() {
            let (at, left) = self.reduced.offset(start);
            let n = left.min(rest.len());
            let (now, later) = rest.split_at_mut(n);
            if step == 1 {
                now.copy_from_slice(&x[at..at + n]);
            } else {
                now.iter_mut().enumerate().for_each(|(k, v)| *v = x[at + k * step]);
            }
            (start, rest) = (start + n, later);
        }
    }
}
