//! Gradients of layout ops: the elements go back where they came from.

use super::Step;
use crate::base::{DType, Shape};
use crate::graph::attr::Attrs;
use crate::graph::op::{AttrKey, Op};
use crate::graph::{Graph, NodeId};

pub(super) fn contributions(g: &mut Graph, step: &Step<'_>) -> Vec<Option<NodeId>> {
    let (x, c) = (step.input(0), step.cotangent);
    let shape = g.desc(x).shape;
    let list = |key| step.node.attrs.ints(key).iter().map(|v| *v as usize).collect::<Vec<_>>();
    let part = match step.node.op {
        Op::Reshape => g.reshape(c, shape.dims()),
        Op::BroadcastTo => g.sum_to(c, shape),
        Op::Transpose => {
            let perm = list(AttrKey::Perm);
            let mut back = vec![0; perm.len()];
            perm.iter().enumerate().for_each(|(i, axis)| back[*axis] = i);
            g.transpose(c, &back)
        }
        Op::Slice => {
            let (start, step_by) = (list(AttrKey::Start), list(AttrKey::Step));
            unslice(g, c, shape, &start, &step_by)
        }
        Op::Pad => {
            let lo = list(AttrKey::Lo);
            let stop: Vec<usize> = lo.iter().zip(shape.dims()).map(|(l, d)| l + d).collect();
            let attrs = Attrs::NONE.with_dims(AttrKey::Start, &lo).with_dims(AttrKey::Stop, &stop);
            g.emit(Op::Slice, &[c], attrs)
        }
        Op::Concat => return concat(g, step),
        _ => g.emit(Op::Flip, &[c], step.node.attrs.clone()),
    };
    vec![Some(part)]
}

/// Puts the elements of a strided block back into zeros of `shape`: a pad where the step is 1, else a scatter.
fn unslice(g: &mut Graph, c: NodeId, shape: Shape, start: &[usize], step: &[usize]) -> NodeId {
    let mut part = c;
    let mut dims = g.desc(c).dims().to_vec();
    for axis in 0..shape.rank() {
        if step[axis] == 1 {
            continue;
        }
        let length = Shape::new(&[dims[axis]]).unwrap_or(Shape::SCALAR);
        let order = g.iota(DType::I64, length, 0);
        let spaced = g.scaled(order, step[axis] as f64);
        let from = g.shifted(spaced, start[axis] as f64);
        dims[axis] = shape.dim(axis);
        let dtype = g.desc(part).dtype;
        let zeros = g.full(0.0, dtype, &dims);
        part = g.emit(Op::ScatterAdd, &[zeros, from, part], Attrs::NONE.with_axis(axis));
    }
    let (mut lo, mut hi) = (vec![0; shape.rank()], vec![0; shape.rank()]);
    for axis in 0..shape.rank() {
        if step[axis] == 1 {
            lo[axis] = start[axis];
            hi[axis] = shape.dim(axis) - start[axis] - dims[axis];
        }
    }
    if lo.iter().chain(&hi).all(|n| *n == 0) {
        return part;
    }
    g.emit(Op::Pad, &[part], Attrs::NONE.with_dims(AttrKey::Lo, &lo).with_dims(AttrKey::Hi, &hi))
}

fn concat(g: &mut Graph, step: &Step<'_>) -> Vec<Option<NodeId>> {
    let axis = step.node.attrs.int(AttrKey::Axis, 0) as usize;
    let mut from = 0;
    let mut out = Vec::with_capacity(step.node.inputs.len());
    for (i, input) in step.node.inputs.iter().enumerate() {
        let to = from + g.desc(*input).dims()[axis];
        out.push(step.only(i, || g.slice_axis(step.cotangent, axis, from, to)));
        from = to;
    }
    out
}
