//! Reductions over axes and running sums.

use super::Call;
use crate::bail;
use crate::base::{DType, Desc, Result, Shape};
use crate::graph::op::{AttrKey, Op};

pub(super) fn rule(call: &mut Call<'_>) -> Result<Desc> {
    let x = call.input(0);
    match call.op {
        Op::Mean | Op::Prod | Op::LogSumExp => call.want_float(0)?,
        _ => call.want_number(0)?,
    }
    match call.op {
        Op::CumSum => {
            call.axis(x.shape)?;
            call.flag(AttrKey::Reverse)?;
            call.flag(AttrKey::Exclusive)?;
            Ok(x)
        }
        Op::ArgMax | Op::ArgMin => {
            let axis = call.axis(x.shape)?;
            want_elements(call, x.shape, &[axis])?;
            if x.dims()[axis] > i32::MAX as usize {
                bail!(Unsupported, "{}: axis {axis} of {x} is too long for i32", call.name());
            }
            reduced(call, DType::I32, x.shape, &[axis])
        }
        _ => {
            let axes = call.axes(x.shape)?;
            if matches!(call.op, Op::Mean | Op::ReduceMax | Op::ReduceMin) {
                want_elements(call, x.shape, &axes)?;
            }
            reduced(call, x.dtype, x.shape, &axes)
        }
    }
}

fn want_elements(call: &Call<'_>, shape: Shape, axes: &[usize]) -> Result<()> {
    match axes.iter().find(|a| shape.dim(**a) == 0) {
        Some(axis) => {
            bail!(Invalid, "{}: axis {axis} of {shape} has no elements to reduce", call.name())
        }
        None => Ok(()),
    }
}

fn reduced(call: &mut Call<'_>, dtype: DType, shape: Shape, axes: &[usize]) -> Result<Desc> {
    let keep = call.flag(AttrKey::KeepDims)?;
    let mut dims = Vec::with_capacity(shape.rank());
    for (i, &d) in shape.dims().iter().enumerate() {
        match axes.contains(&i) {
            false => dims.push(d),
            true if keep => dims.push(1),
            true => {}
        }
    }
    call.desc(dtype, &dims)
}
