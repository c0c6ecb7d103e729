//! Gradients of reductions over axes and running sums.

use super::Step;
use crate::graph::attr::{Attrs, Value};
use crate::graph::op::{AttrKey, Op};
use crate::graph::{Graph, NodeId};

pub(super) fn contribution(g: &mut Graph, step: &Step<'_>) -> NodeId {
    let (x, c) = (step.input(0), step.cotangent);
    let dims = g.desc(x).dims().to_vec();
    let axes: Vec<usize> =
        step.node.attrs.ints(AttrKey::Axes).iter().map(|axis| *axis as usize).collect();
    let count: usize = axes.iter().map(|&axis| dims[axis]).product();
    match step.node.op {
        Op::CumSum => {
            let mut attrs = step.node.attrs.clone();
            let reverse = attrs.flag(AttrKey::Reverse);
            attrs.set(AttrKey::Reverse, Value::Int(i64::from(!reverse)));
            g.emit(Op::CumSum, &[c], attrs)
        }
        Op::Sum => spread(g, c, &axes, &dims),
        Op::Mean => {
            let part = g.scaled(c, 1.0 / count.max(1) as f64);
            spread(g, part, &axes, &dims)
        }
        Op::ReduceMax | Op::ReduceMin => {
            let y = keep_axes(g, step.id, &axes, &dims);
            let hit = g.binary(Op::Eq, x, y);
            let ones = g.cast(hit, g.desc(x).dtype);
            let hits = g.reduce(Op::Sum, ones, &axes, true);
            let c = keep_axes(g, c, &axes, &dims);
            let part = g.div(c, hits);
            g.choose_or(hit, part, 0.0)
        }
        Op::LogSumExp => {
            let y = keep_axes(g, step.id, &axes, &dims);
            let c = keep_axes(g, c, &axes, &dims);
            // a row of -inf has no gradient
            let finite = g.unary(Op::IsFinite, y);
            let y = g.choose_or(finite, y, f64::INFINITY);
            let gap = g.sub(x, y);
            let weight = g.exp(gap);
            g.mul(c, weight)
        }
        _ => product(g, step, &axes, &dims),
    }
}

/// The reduced tensor with its axes kept as length 1.
fn keep_axes(g: &mut Graph, reduced: NodeId, axes: &[usize], dims: &[usize]) -> NodeId {
    let kept: Vec<usize> =
        dims.iter().enumerate().map(|(i, d)| if axes.contains(&i) { 1 } else { *d }).collect();
    g.reshape(reduced, &kept)
}

fn spread(g: &mut Graph, c: NodeId, axes: &[usize], dims: &[usize]) -> NodeId {
    let kept = keep_axes(g, c, axes, dims);
    g.broadcast_to(kept, dims)
}

/// The product of all other elements, without division: fold the row in halves, then unfold. Polynomials only, so it
/// is right with any number of zeros, and so are its own derivatives.
fn product(g: &mut Graph, step: &Step<'_>, axes: &[usize], dims: &[usize]) -> NodeId {
    let kept: Vec<usize> = (0..dims.len()).filter(|axis| !axes.contains(axis)).collect();
    let perm: Vec<usize> = kept.iter().chain(axes).copied().collect();
    let moved: Vec<usize> = perm.iter().map(|&axis| dims[axis]).collect();
    let rows: usize = kept.iter().map(|&axis| dims[axis]).product();
    let n: usize = axes.iter().map(|&axis| dims[axis]).product();
    let width = n.max(1).next_power_of_two();

    let x = g.transpose(step.input(0), &perm);
    let x = g.reshape(x, &[rows, n]);
    let ones = Attrs::NONE
        .with_ints(AttrKey::Lo, [0, 0])
        .with_ints(AttrKey::Hi, [0, (width - n) as i64])
        .with_float(AttrKey::Value, 1.0);
    let mut level = if width > n { g.emit(Op::Pad, &[x], ones) } else { x };
    let mut halves = Vec::new();
    let mut length = width;
    while length > 1 {
        let low = g.slice_axis(level, 1, 0, length / 2);
        let high = g.slice_axis(level, 1, length / 2, length);
        halves.push((low, high));
        level = g.mul(low, high);
        length /= 2;
    }
    let mut c = g.reshape(step.cotangent, &[rows, 1]);
    for (low, high) in halves.into_iter().rev() {
        let to_low = g.mul(c, high);
        let to_high = g.mul(c, low);
        c = g.concat(&[to_low, to_high], 1);
    }
    let c = g.slice_axis(c, 1, 0, n);
    let c = g.reshape(c, &moved);
    let mut back = vec![0; perm.len()];
    for (i, &axis) in perm.iter().enumerate() {
        back[axis] = i;
    }
    g.transpose(c, &back)
}
