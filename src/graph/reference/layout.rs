//! Ops that move elements.

use super::{RefTensor, from_index};
use crate::graph::Node;
use crate::graph::op::{AttrKey, Op};

pub(super) fn apply(node: &Node, inputs: &[&RefTensor]) -> RefTensor {
    let x = inputs[0];
    let shape = node.desc.shape;
    let list = |key| node.attrs.ints(key).iter().map(|v| *v as usize).collect::<Vec<_>>();
    match node.op {
        Op::Reshape => RefTensor { shape, data: x.data.clone() },
        Op::Transpose => {
            let perm = list(AttrKey::Perm);
            from_index(shape, |at| {
                let mut from = vec![0; at.len()];
                perm.iter().zip(at).for_each(|(axis, i)| from[*axis] = *i);
                x.at(&from)
            })
        }
        Op::BroadcastTo => from_index(shape, |at| x.at_broadcast(at)),
        Op::Slice => {
            let (start, step) = (list(AttrKey::Start), list(AttrKey::Step));
            from_index(shape, |at| {
                let from: Vec<usize> = (0..at.len()).map(|a| start[a] + at[a] * step[a]).collect();
                x.at(&from)
            })
        }
        Op::Pad => {
            let (lo, value) = (list(AttrKey::Lo), node.attrs.float(AttrKey::Value, 0.0));
            from_index(shape, |at| {
                let inside = |a: usize| at[a] >= lo[a] && at[a] - lo[a] < x.shape.dim(a);
                if !(0..at.len()).all(inside) {
                    return value;
                }
                x.at(&at.iter().zip(&lo).map(|(i, l)| i - l).collect::<Vec<_>>())
            })
        }
        Op::Concat => {
            let axis = node.attrs.int(AttrKey::Axis, 0) as usize;
            from_index(shape, |at| {
                let mut from = at.to_vec();
                for part in inputs {
                    let length = part.shape.dim(axis);
                    if from[axis] < length {
                        return part.at(&from);
                    }
                    from[axis] -= length;
                }
                f64::NAN // the lengths add up
            })
        }
        _ => {
            let axes = list(AttrKey::Axes);
            from_index(shape, |at| {
                let mut from = at.to_vec();
                axes.iter().for_each(|a| from[*a] = x.shape.dim(*a) - 1 - at[*a]);
                x.at(&from)
            })
        }
    }
}
