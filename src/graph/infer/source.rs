//! Patterns and draws. A draw has the batch on axis 0: its address is made of the sample id of the row.

use super::{Call, holds};
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::graph::attr::Value;
use crate::graph::op::{AttrKey, Op};

/// Levels of bisection of a Brownian node that names none.
const DEPTH: i64 = 24;

pub(super) fn rule(call: &mut Call<'_>) -> Result<Desc> {
    match call.op {
        Op::Full => {
            let dtype = call.dtype()?;
            let value = call.attrs.float(AttrKey::Value, 0.0);
            if !holds(dtype, value) {
                bail!(Invalid, "full: {value} is no value of {dtype}");
            }
            let dims = call.dims(AttrKey::Shape)?;
            call.set_dims(AttrKey::Shape, &dims);
            call.desc(dtype, &dims)
        }
        Op::Iota => {
            let dtype = call.dtype()?;
            let desc = call.desc(dtype, &call.dims(AttrKey::Shape)?)?;
            if !super::is_number(dtype) {
                bail!(Invalid, "iota: dtype is {dtype}, want f32, f64, i32 or i64");
            }
            let axis = call.axis(desc.shape)?;
            if dtype == DType::I32 && desc.dims()[axis] > i32::MAX as usize {
                bail!(Unsupported, "iota: axis {axis} of {desc} is too long for i32");
            }
            Ok(desc)
        }
        Op::Normal | Op::Uniform => drawn(call),
        Op::Gamma | Op::Poisson => {
            call.want_float(0)?;
            want_batch(call, call.input(0))?;
            Ok(call.input(0))
        }
        Op::Categorical => {
            call.want_float(0)?;
            let logits = call.input(0);
            want_batch(call, logits)?;
            let (rank, dims) = (logits.shape.rank(), logits.dims());
            if rank < 2 || dims[rank - 1] == 0 || dims[rank - 1] > i32::MAX as usize {
                bail!(
                    Invalid,
                    "categorical: logits are {logits}, want [batch,..,k] with k at least 1"
                );
            }
            call.desc(DType::I32, &dims[..rank - 1])
        }
        Op::Brownian => {
            for i in [0, 1] {
                call.want_float(i)?;
                if call.input(i).dims() != [call.batch] {
                    bail!(
                        Invalid,
                        "brownian: operand {i} is {}, want [{}]: one time per row of the batch",
                        call.input(i),
                        call.batch
                    );
                }
            }
            let lo = call.finite(AttrKey::RangeLo, 0.0)?;
            let hi = call.finite(AttrKey::RangeHi, 0.0)?;
            if lo >= hi {
                bail!(Invalid, "brownian: the interval from {lo} to {hi} is empty");
            }
            let depth = call.attrs.int(AttrKey::Depth, DEPTH);
            if !(1..=31).contains(&depth) {
                bail!(Invalid, "brownian: depth is {depth}, want 1 to 31");
            }
            call.attrs.set(AttrKey::Depth, Value::Int(depth));
            drawn(call)
        }
        // inputs, weights and constants have calls of their own
        _ => bail!(Invalid, "{}: declared by its own call, not emitted", call.name()),
    }
}

fn drawn(call: &mut Call<'_>) -> Result<Desc> {
    let dtype = call.dtype()?;
    if !dtype.is_compute_float() {
        bail!(Invalid, "{}: dtype is {dtype}, want f32 or f64", call.name());
    }
    let desc = call.desc(dtype, &call.dims(AttrKey::Shape)?)?;
    want_batch(call, desc)?;
    Ok(desc)
}

fn want_batch(call: &Call<'_>, desc: Desc) -> Result<()> {
    if desc.dims().first() != Some(&call.batch) {
        bail!(
            Invalid,
            "{}: draws {desc}, axis 0 must be the batch of {} rows",
            call.name(),
            call.batch
        );
    }
    Ok(())
}
