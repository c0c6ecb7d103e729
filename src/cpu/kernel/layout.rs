//! Ops that move elements: transpose, broadcast_to, slice, flip and dynamic_slice are one strided walk; pad, concat and
//! dynamic_update copy rows. Generic over the size of an element, not its type.

use super::index::Positions;
use super::split::{Share, for_rows};
use super::turn::turn;
use crate::base::{DType, MAX_RANK, Result};
use crate::cpu::call::{Call, In};
use crate::fail;
use crate::graph::{AttrKey, Op};
use bytemuck::Pod;
use std::ops::Range;

pub(super) fn run(call: &mut Call<'_>) -> Result<()> {
    match call.out.dtype().bytes() {
        1 => run_sized::<u8>(call),
        2 => run_sized::<u16>(call),
        4 => run_sized::<u32>(call),
        _ => run_sized::<u64>(call),
    }
}

fn run_sized<T: Pod + Send + Sync>(call: &mut Call<'_>) -> Result<()> {
    match call.op {
        Op::Reshape => {
            let x = call.inputs[0].elements::<T>()?;
            copy(call.pool_out::<T>()?, x)
        }
        Op::Pad => pad::<T>(call),
        Op::Concat => concat::<T>(call),
        Op::DynamicUpdate => dynamic_update::<T>(call),
        _ => {
            let walk = Walk::of(call)?;
            let x = call.inputs[0].elements::<T>()?;
            walk.copy(call.pool_out::<T>()?, x)
        }
    }
}

type PoolOut<'a, T> = (&'a crate::cpu::Pool, &'a mut [T]);

impl Call<'_> {
    /// The pool and the elements of the result, both at once.
    pub(super) fn pool_out<T: Pod>(&mut self) -> Result<PoolOut<'_, T>> {
        Ok((self.pool, self.out.elements::<T>()?))
    }
}

fn copy<T: Pod + Send + Sync>((pool, out): PoolOut<'_, T>, x: &[T]) -> Result<()> {
    for_rows(pool, Share::ALL, out, 1, 1, |units, out| out.copy_from_slice(&x[units]))
}

/// For each element of the result in order, where it comes from.
#[derive(Debug, Clone, Copy)]
struct Walk {
    rank: usize,
    dims: [usize; MAX_RANK],
    /// In elements of the source, 0 to repeat, negative to go backwards.
    strides: [isize; MAX_RANK],
    offset: isize,
}

impl Walk {
    fn of(call: &Call<'_>) -> Result<Self> {
        let x = &call.inputs[0];
        let from = x.desc.shape.strides();
        let dims = call.out.dims();
        let ints = |key, i: usize| call.attrs.ints(key).get(i).copied().unwrap_or(0) as isize;
        let mut w =
            Self { rank: dims.len(), dims: [1; MAX_RANK], strides: [0; MAX_RANK], offset: 0 };
        w.dims[..dims.len()].copy_from_slice(dims);
        for i in 0..dims.len() {
            let own = from[i] as isize;
            w.strides[i] = match call.op {
                Op::Transpose => from[ints(AttrKey::Perm, i) as usize] as isize,
                Op::BroadcastTo => {
                    let lead = dims.len() - x.dims().len();
                    if i < lead || x.dims()[i - lead] == 1 { 0 } else { from[i - lead] as isize }
                }
                Op::Slice => {
                    w.offset += ints(AttrKey::Start, i) * own;
                    own * ints(AttrKey::Step, i).max(1)
                }
                Op::Flip if call.attrs.ints(AttrKey::Axes).contains(&(i as i64)) => {
                    w.offset += (dims[i] as isize - 1) * own;
                    -own
                }
                Op::Flip => own,
                Op::DynamicSlice => {
                    let start = Positions::of(&call.inputs[1])?;
                    w.offset += start.at(i, x.dims()[i] - dims[i] + 1) as isize * own;
                    own
                }
                op => return Err(fail!(Internal, "{}: is no strided walk", op.name())),
            };
        }
        w.merge();
        Ok(w)
    }

    /// Drops axes of length 1 and joins axes that are one run in the source, so that rows are as long as they can be.
    fn merge(&mut self) {
        let mut n = 0;
        for i in 0..self.rank {
            let (d, s) = (self.dims[i], self.strides[i]);
            if d == 1 {
                continue;
            }
            if n > 0 && self.strides[n - 1] == s * d as isize {
                self.dims[n - 1] *= d;
                self.strides[n - 1] = s;
            } else {
                (self.dims[n], self.strides[n]) = (d, s);
                n += 1;
            }
        }
        if n == 0 {
            (self.dims[0], self.strides[0], n) = (1, 0, 1);
        }
        self.rank = n;
    }

    /// Row `row` of the result: its place along the outer axes, and where it starts in the source.
    fn start(&self, mut row: usize) -> ([usize; MAX_RANK], isize) {
        let (mut place, mut at) = ([0; MAX_RANK], self.offset);
        for i in (0..self.rank - 1).rev() {
            place[i] = row % self.dims[i];
            at += place[i] as isize * self.strides[i];
            row /= self.dims[i];
        }
        (place, at)
    }

    /// The row after it, counted and not divided: rows can be a few elements long.
    #[inline(always)]
    fn next(&self, place: &mut [usize; MAX_RANK], at: &mut isize) {
        for i in (0..self.rank - 1).rev() {
            place[i] += 1;
            *at += self.strides[i];
            if place[i] < self.dims[i] {
                break;
            }
            *at -= self.dims[i] as isize * self.strides[i];
            place[i] = 0;
        }
    }

    fn copy<T: Pod + Send + Sync>(&self, (pool, out): PoolOut<'_, T>, x: &[T]) -> Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let (n, s) = (self.dims[self.rank - 1], self.strides[self.rank - 1]);
        let transposes = self.rank > 1 && self.strides[self.rank - 2] == 1 && s > 1;
        for_rows(pool, Share::ALL, out, n, n, |rows, out| {
            if transposes {
                return self.turn(rows, out, x);
            }
            let (mut place, mut at) = self.start(rows.start);
            for block in out.chunks_exact_mut(n) {
                let from = at as usize;
                match s {
                    1 => copy_run(block, &x[from..from + n]),
                    0 => block.fill(x[from]),
                    _ => {
                        for (j, v) in block.iter_mut().enumerate() {
                            *v = x[from.wrapping_add_signed(j as isize * s)];
                        }
                    }
                }
                self.next(&mut place, &mut at);
            }
        })
    }

    /// Rows up to the end of their plane follow each other in the source when it is transposed.
    fn turn<T: Pod>(&self, rows: Range<usize>, mut out: &mut [T], x: &[T]) {
        let (n, s) = (self.dims[self.rank - 1], self.strides[self.rank - 1]);
        let plane = self.dims[self.rank - 2];
        let mut row = rows.start;
        while row < rows.end {
            let together = (rows.end - row).min(plane - row % plane);
            let (block, rest) = out.split_at_mut(together * n);
            let src = &x[self.start(row).1 as usize..];
            if together > 1 {
                turn(src, s as usize, n, together, block, n);
            } else {
                block.iter_mut().zip(src.iter().step_by(s as usize)).for_each(|(o, v)| *o = *v);
            }
            (row, out) = (row + together, rest);
        }
    }
}

/// A copy that does not call the library for a few elements.
#[inline(always)]
fn copy_run<T: Copy>(to: &mut [T], from: &[T]) {
    macro_rules! fixed {
        ($($n:literal)*) => {
            match to.len() {
                $($n => if let (Some(t), Some(f)) = (to.first_chunk_mut::<$n>(), from.first_chunk::<$n>()) {
                    *t = *f;
                },)*
                _ => to.copy_from_slice(from),
            }
        };
    }
    fixed!(1 2 4 8 16 32)
}

/// The bits of a fill value in the type of the result.
pub(super) fn fill_value<T: Pod>(dtype: DType, value: f64) -> Result<T> {
    let bytes = match dtype {
        DType::F32 => (value as f32).to_ne_bytes().padded(),
        DType::F64 => value.to_ne_bytes(),
        DType::F16 => half::f16::from_f64(value).to_ne_bytes().padded(),
        DType::BF16 => half::bf16::from_f64(value).to_ne_bytes().padded(),
        DType::I32 => (value as i32).to_ne_bytes().padded(),
        DType::I64 => (value as i64).to_ne_bytes(),
        DType::U8 => [value as u8].padded(),
        DType::Bool => [u8::from(value != 0.0)].padded(),
    };
    bytemuck::try_pod_read_unaligned(&bytes[..size_of::<T>()])
        .map_err(|_| fail!(Internal, "fill value of {dtype} read as {} bytes", size_of::<T>()))
}

/// The first bytes of an element, padded to the longest.
trait Padded {
    fn padded(self) -> [u8; 8];
}

impl<const N: usize> Padded for [u8; N] {
    fn padded(self) -> [u8; 8] {
        let mut out = [0; 8];
        out[..N].copy_from_slice(&self);
        out
    }
}

fn pad<T: Pod + Send + Sync>(call: &mut Call<'_>) -> Result<()> {
    let x = call.inputs[0];
    let (shape, to) = (x.desc.shape, call.out.desc.shape);
    let src = x.elements::<T>()?;
    let value = fill_value::<T>(call.out.dtype(), call.attrs.float(AttrKey::Value, 0.0))?;
    let attrs = call.attrs;
    let lo = |i: usize| attrs.ints(AttrKey::Lo).get(i).map_or(0, |v| *v as usize);
    let (pool, out) = call.pool_out::<T>()?;
    let rank = shape.rank();
    if rank == 0 {
        return copy((pool, out), src);
    }
    let (n, from_n) = (to.dim(rank - 1), shape.dim(rank - 1));
    let before = lo(rank - 1);
    let strides = shape.strides();
    for_rows(pool, Share::ALL, out, n, n, |rows, out| {
        for (row, out) in rows.zip(out.chunks_exact_mut(n)) {
            let (mut rest, mut from, mut inside) = (row, 0, true);
            for i in (0..rank - 1).rev() {
                let at = (rest % to.dim(i)).wrapping_sub(lo(i));
                rest /= to.dim(i);
                inside &= at < shape.dim(i);
                from += if inside { at * strides[i] } else { 0 };
            }
            if !inside {
                out.fill(value);
                continue;
            }
            out[..before].fill(value);
            out[before..before + from_n].copy_from_slice(&src[from..from + from_n]);
            out[before + from_n..].fill(value);
        }
    })
}

fn concat<T: Pod + Send + Sync>(call: &mut Call<'_>) -> Result<()> {
    let axis = call.attrs.int(AttrKey::Axis, 0) as usize;
    let inputs: &[In<'_>] = call.inputs;
    for x in inputs {
        x.elements::<T>()?; // so that the read below cannot fail
    }
    let row = |dims: &[usize]| dims[axis..].iter().product::<usize>();
    let n = row(call.out.dims());
    let (pool, out) = call.pool_out::<T>()?;
    for_rows(pool, Share::ALL, out, n, n, |rows, out| {
        for (r, out) in rows.zip(out.chunks_exact_mut(n)) {
            let mut at = 0;
            for x in inputs {
                let len = row(x.dims());
                if let Ok(x) = x.elements::<T>() {
                    out[at..at + len].copy_from_slice(&x[r * len..(r + 1) * len]);
                }
                at += len;
            }
        }
    })
}

fn dynamic_update<T: Pod + Send + Sync>(call: &mut Call<'_>) -> Result<()> {
    let (x, u, start) = (call.inputs[0], call.inputs[1], Positions::of(&call.inputs[2])?);
    let (src, block) = (x.elements::<T>()?, u.elements::<T>()?);
    let (pool, out) = call.pool_out::<T>()?;
    copy((pool, &mut *out), src)?;
    let (dims, strides) = (u.dims(), x.desc.shape.strides());
    let rank = dims.len();
    let n = dims.last().copied().unwrap_or(1);
    if block.is_empty() {
        return Ok(());
    }
    let at = |i: usize| start.at(i, x.dims()[i] - dims[i] + 1);
    for (mut row, src) in block.chunks_exact(n).enumerate() {
        let mut to = if rank > 0 { at(rank - 1) } else { 0 };
        for i in (0..rank.saturating_sub(1)).rev() {
            to += (at(i) + row % dims[i]) * strides[i];
            row /= dims[i];
        }
        out[to..to + n].copy_from_slice(src);
    }
    Ok(())
}
