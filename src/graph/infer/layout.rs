//! Ops that move elements. Any element type.

use super::{Call, holds};
use crate::bail;
use crate::base::{Desc, Result, Shape};
use crate::graph::attr::Value;
use crate::graph::op::{AttrKey, Op};

pub(super) fn rule(call: &mut Call<'_>) -> Result<Desc> {
    let x = call.input(0);
    let dims = match call.op {
        Op::Reshape => reshape(call)?,
        Op::Transpose => transpose(call)?,
        Op::BroadcastTo => broadcast_to(call)?,
        Op::Slice => slice(call)?,
        Op::Pad => pad(call)?,
        Op::Concat => concat(call)?,
        _ => {
            call.axes(x.shape)?;
            return Ok(x);
        }
    };
    call.desc(x.dtype, &dims)
}

fn reshape(call: &mut Call<'_>) -> Result<Vec<usize>> {
    let x = call.input(0);
    let given = call.attrs.ints(AttrKey::Shape).to_vec();
    let open = given.iter().filter(|d| **d == -1).count();
    if open > 1 {
        bail!(Invalid, "reshape: {given:?} leaves {open} lengths open, at most one may be -1");
    }
    let closed: Vec<i64> = given.iter().map(|d| if *d == -1 { 1 } else { *d }).collect();
    call.attrs.set(AttrKey::Shape, Value::Ints(closed));
    let mut dims = call.dims(AttrKey::Shape)?;
    let known = Shape::new(&dims).map_err(|e| e.within("reshape"))?.elements();
    let elements = x.shape.elements();
    if let Some(i) = given.iter().position(|d| *d == -1) {
        if known == 0 || !elements.is_multiple_of(known) {
            bail!(Invalid, "reshape: {x} has {elements} elements, which {given:?} cannot hold");
        }
        dims[i] = elements / known;
    } else if known != elements {
        bail!(Invalid, "reshape: {x} has {elements} elements, {given:?} has {known}");
    }
    call.set_dims(AttrKey::Shape, &dims);
    Ok(dims)
}

fn transpose(call: &mut Call<'_>) -> Result<Vec<usize>> {
    let x = call.input(0);
    call.want_per_axis(AttrKey::Perm, x.shape)?;
    let given = call.attrs.ints(AttrKey::Perm).to_vec();
    let mut perm = Vec::with_capacity(given.len());
    for axis in &given {
        perm.push(call.to_axis(*axis, x.shape)?);
    }
    if (0..perm.len()).any(|axis| !perm.contains(&axis)) {
        bail!(Invalid, "transpose: {given:?} is no permutation of the axes of {x}");
    }
    call.set_dims(AttrKey::Perm, &perm);
    Ok(perm.iter().map(|&p| x.dims()[p]).collect())
}

fn broadcast_to(call: &mut Call<'_>) -> Result<Vec<usize>> {
    let x = call.input(0);
    let dims = call.dims(AttrKey::Shape)?;
    let shape = Shape::new(&dims).map_err(|e| e.within("broadcast_to"))?;
    if x.shape.broadcast(&shape) != Some(shape) {
        bail!(Invalid, "broadcast_to: {x} does not broadcast to {shape}");
    }
    Ok(dims)
}

fn slice(call: &mut Call<'_>) -> Result<Vec<usize>> {
    let x = call.input(0);
    call.want_per_axis(AttrKey::Start, x.shape)?;
    call.want_per_axis(AttrKey::Stop, x.shape)?;
    if call.attrs.ints(AttrKey::Step).is_empty() {
        call.attrs.set(AttrKey::Step, Value::Ints(vec![1; x.shape.rank()]));
    }
    let mut step = call.dims_per_axis(AttrKey::Step, x.shape)?;
    if let Some(bad) = step.iter().find(|s| **s < 1) {
        bail!(Invalid, "slice: step {bad}, want 1 or more");
    }
    let bound = |v: i64, d: usize| {
        let d = d as i64; // a dimension of a checked shape fits
        (if v < 0 { v.saturating_add(d) } else { v }).clamp(0, d) as usize
    };
    let (mut start, mut stop, mut dims) = (Vec::new(), Vec::new(), Vec::new());
    for (i, &d) in x.dims().iter().enumerate() {
        let from = bound(call.attrs.ints(AttrKey::Start)[i], d);
        let to = bound(call.attrs.ints(AttrKey::Stop)[i], d).max(from);
        start.push(from);
        stop.push(to);
        // a longer one takes the same one element, and its product with a stride need not fit a word
        step[i] = step[i].min(d.max(1));
        dims.push((to - from).div_ceil(step[i]));
    }
    call.set_dims(AttrKey::Step, &step);
    call.set_dims(AttrKey::Start, &start);
    call.set_dims(AttrKey::Stop, &stop);
    Ok(dims)
}

fn pad(call: &mut Call<'_>) -> Result<Vec<usize>> {
    let x = call.input(0);
    let lo = call.dims_per_axis(AttrKey::Lo, x.shape)?;
    let hi = call.dims_per_axis(AttrKey::Hi, x.shape)?;
    let value = call.attrs.float(AttrKey::Value, 0.0);
    if !holds(x.dtype, value) {
        bail!(Invalid, "pad: {value} is no value of {}", x.dtype);
    }
    call.attrs.set(AttrKey::Value, Value::Float(value));
    let mut dims = Vec::with_capacity(lo.len());
    for (i, &d) in x.dims().iter().enumerate() {
        match d.checked_add(lo[i]).and_then(|d| d.checked_add(hi[i])) {
            Some(d) => dims.push(d),
            None => bail!(Invalid, "pad: {x} with {} and {} more overflows", lo[i], hi[i]),
        }
    }
    Ok(dims)
}

fn concat(call: &mut Call<'_>) -> Result<Vec<usize>> {
    let x = call.input(0);
    let axis = call.axis(x.shape)?;
    let mut dims = x.dims().to_vec();
    for d in &call.inputs[1..] {
        let fits = d.dtype == x.dtype
            && d.shape.rank() == x.shape.rank()
            && (0..x.shape.rank()).all(|i| i == axis || d.dims()[i] == x.dims()[i]);
        if !fits {
            bail!(Invalid, "concat: {x} and {d} must agree except on axis {axis}");
        }
        dims[axis] = dims[axis].saturating_add(d.dims()[axis]);
    }
    Ok(dims)
}
