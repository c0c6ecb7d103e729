//! Addressing by data: gather and scatter, sorting, blocks at run-time offsets.

use super::Call;
use crate::bail;
use crate::base::{DType, Desc, Result, Shape};
use crate::graph::op::{AttrKey, Op};

pub(super) fn rule(call: &mut Call<'_>) -> Result<Desc> {
    let x = call.input(0);
    match call.op {
        Op::Gather => {
            let dims = gathered(call)?;
            call.desc(x.dtype, &dims)
        }
        Op::ScatterAdd => {
            let dims = gathered(call)?;
            want_update(call, &dims)?;
            Ok(x)
        }
        Op::TakeAlong => {
            let dims = along(call)?;
            call.desc(x.dtype, &dims)
        }
        Op::ScatterAddAlong => {
            let dims = along(call)?;
            want_update(call, &dims)?;
            Ok(x)
        }
        Op::Sort | Op::ArgSort => {
            call.want_number(0)?;
            let axis = call.axis(x.shape)?;
            call.flag(AttrKey::Descending)?;
            if call.op == Op::Sort {
                return Ok(x);
            }
            want_i32_positions(call, axis)?;
            Ok(Desc { dtype: DType::I32, shape: x.shape })
        }
        Op::TopK => {
            call.want_number(0)?;
            let axis = call.axis(x.shape)?;
            want_i32_positions(call, axis)?;
            let k = call.attrs.int(AttrKey::K, 0);
            let mut dims = x.dims().to_vec();
            match usize::try_from(k) {
                Ok(k) if k >= 1 && k <= dims[axis] => dims[axis] = k,
                _ => bail!(
                    Invalid,
                    "top_k: k is {k}, want 1 to {} for axis {axis} of {x}",
                    dims[axis]
                ),
            }
            call.desc(DType::I32, &dims)
        }
        Op::DynamicSlice => {
            let sizes = call.dims_per_axis(AttrKey::Sizes, x.shape)?;
            want_block(call, &sizes)?;
            want_start(call, 1)?;
            call.desc(x.dtype, &sizes)
        }
        _ => {
            let u = call.input(1);
            if u.dtype != x.dtype || u.shape.rank() != x.shape.rank() {
                bail!(Invalid, "{}: x {x} and u {u} must agree in type and rank", call.name());
            }
            want_block(call, u.dims())?;
            want_start(call, 2)?;
            Ok(x)
        }
    }
}

/// The shape of `gather(x, idx)`.
fn gathered(call: &mut Call<'_>) -> Result<Vec<usize>> {
    let (x, idx) = (call.input(0), call.input(1));
    call.want_index(1)?;
    let axis = call.axis(x.shape)?;
    want_reachable(call, axis, idx.shape)?;
    Ok([&x.dims()[..axis], idx.dims(), &x.dims()[axis + 1..]].concat())
}

/// The shape of `take_along(x, idx)`: that of `idx`.
fn along(call: &mut Call<'_>) -> Result<Vec<usize>> {
    let (x, idx) = (call.input(0), call.input(1));
    call.want_index(1)?;
    let axis = call.axis(x.shape)?;
    let fits = idx.shape.rank() == x.shape.rank()
        && (0..x.shape.rank()).all(|i| i == axis || idx.dims()[i] == x.dims()[i]);
    if !fits {
        bail!(
            Invalid,
            "{}: idx {idx} must have the shape of x {x} except on axis {axis}",
            call.name()
        );
    }
    want_reachable(call, axis, idx.shape)?;
    Ok(idx.dims().to_vec())
}

/// An index into an empty axis cannot be clamped into range.
fn want_reachable(call: &Call<'_>, axis: usize, idx: Shape) -> Result<()> {
    let x = call.input(0);
    if x.dims()[axis] == 0 && idx.elements() > 0 {
        bail!(Invalid, "{}: axis {axis} of {x} is empty, nothing to index", call.name());
    }
    Ok(())
}

fn want_update(call: &Call<'_>, dims: &[usize]) -> Result<()> {
    let (x, u) = (call.input(0), call.input(2));
    call.want_number(0)?;
    if u.dtype != x.dtype || u.dims() != dims {
        let want = call.desc(x.dtype, dims)?;
        bail!(Invalid, "{}: {}: u is {u}, want {want}", call.name(), call.operands());
    }
    Ok(())
}

fn want_i32_positions(call: &Call<'_>, axis: usize) -> Result<()> {
    let x = call.input(0);
    if x.dims()[axis] > i32::MAX as usize {
        bail!(Unsupported, "{}: axis {axis} of {x} is too long for i32", call.name());
    }
    Ok(())
}

fn want_block(call: &Call<'_>, block: &[usize]) -> Result<()> {
    let x = call.input(0);
    if block.iter().zip(x.dims()).any(|(b, d)| b > d) {
        bail!(Invalid, "{}: a block {block:?} does not fit into {x}", call.name());
    }
    Ok(())
}

fn want_start(call: &Call<'_>, i: usize) -> Result<()> {
    call.want_index(i)?;
    let rank = call.input(0).shape.rank();
    if call.input(i).dims() != [rank] {
        bail!(
            Invalid,
            "{}: start is {}, want [{rank}]: one index per axis of {}",
            call.name(),
            call.input(i),
            call.input(0)
        );
    }
    Ok(())
}
