//! Pointwise ops: equal types, shapes broadcast.

use super::{Call, is_number};
use crate::bail;
use crate::base::{DType, Desc, Result, Shape};
use crate::graph::op::{AttrKey, Op};

pub(super) fn rule(call: &mut Call<'_>) -> Result<Desc> {
    match call.inputs.len() {
        1 => unary(call),
        2 => binary(call),
        _ => choose(call),
    }
}

fn unary(call: &mut Call<'_>) -> Result<Desc> {
    let x = call.input(0);
    match call.op {
        Op::Neg | Op::Abs | Op::Sign => call.want_number(0)?,
        Op::Not => call.want(0, x.dtype == DType::Bool, "bool")?,
        Op::StopGradient => {}
        Op::Cast => return Ok(Desc { dtype: call.dtype()?, shape: x.shape }),
        _ => call.want_float(0)?,
    }
    match call.op {
        Op::IsFinite => return Ok(Desc { dtype: DType::Bool, shape: x.shape }),
        Op::BesselRatio | Op::LogIve => {
            let nu = call.finite(AttrKey::Nu, 0.0)?;
            if nu <= -1.0 || nu > 1e6 {
                bail!(Invalid, "{}: nu is {nu}, want above -1 and at most 1e6", call.name());
            }
        }
        Op::Polygamma => {
            let order = call.attrs.int(AttrKey::Order, 0);
            if !(0..=64).contains(&order) {
                bail!(Invalid, "polygamma: order is {order}, want 0 to 64");
            }
            call.attrs.set(AttrKey::Order, crate::graph::attr::Value::Int(order));
        }
        _ => {}
    }
    Ok(x)
}

fn binary(call: &Call<'_>) -> Result<Desc> {
    let (a, b) = (call.input(0), call.input(1));
    let shape = broadcast(call, &[a, b])?;
    if a.dtype != b.dtype {
        bail!(Invalid, "{}: {}: the types differ", call.name(), call.operands());
    }
    let dtype = match call.op {
        Op::And | Op::Or => {
            call.want(0, a.dtype == DType::Bool, "bool")?;
            DType::Bool
        }
        Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge => {
            call.want_number(0)?;
            DType::Bool
        }
        Op::Pow => {
            call.want_float(0)?;
            a.dtype
        }
        _ => {
            call.want_number(0)?;
            a.dtype
        }
    };
    Ok(Desc { dtype, shape })
}

/// `where(condition, a, b)`.
fn choose(call: &Call<'_>) -> Result<Desc> {
    let (condition, a, b) = (call.input(0), call.input(1), call.input(2));
    let shape = broadcast(call, &[condition, a, b])?;
    call.want(0, condition.dtype == DType::Bool, "bool")?;
    if a.dtype != b.dtype {
        bail!(Invalid, "{}: {}: the types of the branches differ", call.name(), call.operands());
    }
    call.want(1, is_number(a.dtype), "f32, f64, i32 or i64")?;
    Ok(Desc { dtype: a.dtype, shape })
}

fn broadcast(call: &Call<'_>, inputs: &[Desc]) -> Result<Shape> {
    let mut shape = Shape::SCALAR;
    for d in inputs {
        match shape.broadcast(&d.shape) {
            Some(s) => shape = s,
            None => bail!(Invalid, "{}: {}: shapes do not broadcast", call.name(), call.operands()),
        }
    }
    // a product of broadcasts may outgrow the address space although no operand does
    Shape::new(shape.dims()).map_err(|e| e.within(call.name()))
}
