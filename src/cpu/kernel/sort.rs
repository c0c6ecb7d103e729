//! sort, argsort and top_k along one axis: positions are sorted by value, then by position, which makes an in-place sort
//! stable and takes no memory. NaN stands last in either direction.

use super::scan::Number;
use super::scratch;
use super::split::{Share, for_units};
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::cpu::call::Call;
use crate::graph::{AttrKey, Attrs, Op};
use std::cmp::Ordering;

/// Positions of one row per thread.
pub(super) fn scratch_bytes(attrs: &Attrs, inputs: &[Desc], threads: usize) -> usize {
    let axis = attrs.int(AttrKey::Axis, 0) as usize;
    inputs.first().map_or(0, |x| x.shape.dim(axis) * size_of::<u32>() * threads)
}

pub(super) fn run(call: &mut Call<'_>) -> Result<()> {
    match call.inputs[0].dtype() {
        DType::F32 => typed::<f32>(call),
        DType::F64 => typed::<f64>(call),
        DType::I32 => typed::<i32>(call),
        DType::I64 => typed::<i64>(call),
        other => bail!(Unsupported, "{}: the CPU has no kernel for {other}", call.op.name()),
    }
}

fn typed<T: Number>(call: &mut Call<'_>) -> Result<()> {
    let x = call.inputs[0].elements::<T>()?;
    let dims = call.inputs[0].dims();
    let axis = call.attrs.int(AttrKey::Axis, 0) as usize;
    let (n, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
    let (sort, top) = (call.op == Op::Sort, call.op == Op::TopK);
    let descending = top || call.attrs.flag(AttrKey::Descending);
    let keep = call.out.dims()[axis];
    let outer: usize = dims[..axis].iter().product();
    if n == 0 || inner == 0 {
        return Ok(());
    }
    let scratch = scratch::<u32>(call.scratch)?;
    let work = n * inner * (n.ilog2() as usize + 1) * 4;
    let slab = keep * inner;
    let positions = |o: usize, j: usize, order: &mut [u32]| {
        let row = &x[o * n * inner + j..];
        order.iter_mut().enumerate().for_each(|(i, p)| *p = i as u32);
        let rank = |a: &u32, b: &u32| {
            by_value(row[*a as usize * inner], row[*b as usize * inner], descending).then(a.cmp(b))
        };
        if keep < n {
            order.select_nth_unstable_by(keep - 1, rank);
        }
        order[..keep].sort_unstable_by(rank);
    };
    // the result is either values or positions, which differ in type and not in how work is split
    if sort {
        let out = call.out.elements::<T>()?;
        for_units(
            call.pool,
            Share::ALL,
            out,
            scratch,
            n,
            outer,
            work,
            |o| o * slab,
            |slabs, out, order| {
                for (o, out) in slabs.zip(out.chunks_exact_mut(slab)) {
                    for j in 0..inner {
                        positions(o, j, order);
                        for (i, p) in order.iter().enumerate() {
                            out[i * inner + j] = x[(o * n + *p as usize) * inner + j];
                        }
                    }
                }
            },
        )
    } else {
        let out = call.out.elements::<i32>()?;
        for_units(
            call.pool,
            Share::ALL,
            out,
            scratch,
            n,
            outer,
            work,
            |o| o * slab,
            |slabs, out, order| {
                for (o, out) in slabs.zip(out.chunks_exact_mut(slab)) {
                    for j in 0..inner {
                        positions(o, j, order);
                        for (i, p) in order[..keep].iter().enumerate() {
                            out[i * inner + j] = *p as i32;
                        }
                    }
                }
            },
        )
    }
}

fn by_value<T: Number>(a: T, b: T, descending: bool) -> Ordering {
    match (a.is_none(), b.is_none()) {
        (false, false) => {
            let order = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
            if descending { order.reverse() } else { order }
        }
        (a, b) => a.cmp(&b),
    }
}
