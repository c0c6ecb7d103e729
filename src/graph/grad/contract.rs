//! Gradients of matmul, the convolutions and attention.

use super::{Step, pointwise};
use crate::base::DType;
use crate::graph::attr::{Attrs, Value};
use crate::graph::op::{AttrKey, Op};
use crate::graph::{Graph, NodeId};

pub(super) fn contributions(g: &mut Graph, step: &Step<'_>) -> Vec<Option<NodeId>> {
    match step.node.op {
        Op::MatMul => matmul(g, step),
        Op::Attention => attention(g, step),
        _ => convolution(g, step),
    }
}

fn matmul(g: &mut Graph, step: &Step<'_>) -> Vec<Option<NodeId>> {
    let (a, b) = (step.input(0), step.input(1));
    let attrs = &step.node.attrs;
    let (ta, tb) = (attrs.flag(AttrKey::TransA), attrs.flag(AttrKey::TransB));
    let c = before_activation(g, step);
    let by_a = step.wanted[0].then(|| {
        let part = if ta {
            // the right operand may be stored in half, the left one not
            let left = g.cast(b, g.desc(c).dtype);
            g.matmul(left, c, tb, true)
        } else {
            g.matmul(c, b, false, !tb)
        };
        g.sum_to(part, g.desc(a).shape)
    });
    let by_b = step.wanted[1].then(|| {
        let (a, c) = fold_batch(g, a, b, c, ta);
        let part = if tb { g.matmul(c, a, true, ta) } else { g.matmul(a, c, !ta, false) };
        g.sum_to(part, g.desc(b).shape)
    });
    let by_bias = step.only(2, || g.sum_to(c, g.desc(step.input(2)).shape));
    vec![by_a, by_b, by_bias]
}

/// The cotangent of what the activation was applied to, which is computed again.
fn before_activation(g: &mut Graph, step: &Step<'_>) -> NodeId {
    let code = step.node.attrs.int(AttrKey::Activation, 0);
    let Some(act) = Op::from_code(code as u32) else { return step.cotangent };
    // these three know their slope from their result
    let known = matches!(act, Op::Relu | Op::Sigmoid | Op::Tanh);
    let inner = if known {
        step.id
    } else {
        let mut attrs = step.node.attrs.clone();
        attrs.set(AttrKey::Activation, Value::Int(0));
        g.emit(Op::MatMul, &step.node.inputs, attrs)
    };
    pointwise::unary(g, act, &Attrs::NONE, inner, step.id, step.cotangent)
}

/// For a weight without leading axes, all rows of the batch are rows of one matrix: one product instead of a sum of
/// products.
fn fold_batch(g: &mut Graph, a: NodeId, b: NodeId, c: NodeId, ta: bool) -> (NodeId, NodeId) {
    let (a_dims, c_dims) = (g.desc(a).dims().to_vec(), g.desc(c).dims().to_vec());
    let rank = a_dims.len();
    if ta || g.desc(b).shape.rank() != 2 || rank == 2 {
        return (a, c);
    }
    let rows = a_dims[..rank - 1].iter().product();
    (g.reshape(a, &[rows, a_dims[rank - 1]]), g.reshape(c, &[rows, c_dims[rank - 1]]))
}

/// conv(x, w), its input gradient (g, w) and its weight gradient (x, g) are one trilinear form: each is the gradient
/// of the others.
fn convolution(g: &mut Graph, step: &Step<'_>) -> Vec<Option<NodeId>> {
    let (first, second, c) = (step.input(0), step.input(1), step.cotangent);
    let dims = |g: &Graph, id: NodeId| g.desc(id).dims().to_vec();
    let (x_shape, w_shape) = match step.node.op {
        Op::Conv => (dims(g, first), dims(g, second)),
        Op::ConvInputGrad => (dims(g, step.id), dims(g, second)),
        _ => (dims(g, first), dims(g, step.id)),
    };
    // what all three share; `conv` has no shape attribute
    let mut attrs = Attrs::NONE;
    for key in [AttrKey::Stride, AttrKey::Padding, AttrKey::Dilation, AttrKey::Groups] {
        if let Some(value) = step.node.attrs.get(key) {
            attrs.set(key, value.clone());
        }
    }
    let to_x = attrs.clone().with_dims(AttrKey::Shape, &x_shape);
    let to_w = attrs.clone().with_dims(AttrKey::Shape, &w_shape);
    let (by_first, by_second) = match step.node.op {
        Op::Conv => (
            step.wanted[0].then(|| g.emit(Op::ConvInputGrad, &[c, second], to_x)),
            step.wanted[1].then(|| g.emit(Op::ConvWeightGrad, &[first, c], to_w)),
        ),
        Op::ConvInputGrad => (
            step.wanted[0].then(|| g.emit(Op::Conv, &[c, second], attrs)),
            step.wanted[1].then(|| g.emit(Op::ConvWeightGrad, &[c, first], to_w)),
        ),
        _ => (
            step.wanted[0].then(|| g.emit(Op::ConvInputGrad, &[second, c], to_x)),
            step.wanted[1].then(|| g.emit(Op::Conv, &[first, c], attrs)),
        ),
    };
    let by_bias = step.only(2, || {
        let axes: Vec<usize> = (0..g.desc(c).shape.rank()).filter(|axis| *axis != 1).collect();
        g.reduce(Op::Sum, c, &axes, false)
    });
    vec![by_first, by_second, by_bias]
}

/// By composition: the scores and their softmax are computed again.
fn attention(g: &mut Graph, step: &Step<'_>) -> Vec<Option<NodeId>> {
    let (q, k, v, c) = (step.input(0), step.input(1), step.input(2), step.cotangent);
    let scale = step.node.attrs.float(AttrKey::Scale, 1.0);
    let rank = g.desc(q).shape.rank();
    let dot = g.matmul(q, k, false, true);
    let mut scores = g.scaled(dot, scale);
    let mask = step.node.inputs.get(3).copied();
    if let Some(mask) = mask {
        scores = match g.desc(mask).dtype {
            DType::Bool => g.choose_or(mask, scores, f64::NEG_INFINITY),
            _ => g.add(scores, mask),
        };
    }
    if step.node.attrs.flag(AttrKey::Causal) {
        let (s, t) = (g.desc(q).dims()[rank - 2], g.desc(k).dims()[rank - 2]);
        let seen = causal(g, s, t);
        scores = g.choose_or(seen, scores, f64::NEG_INFINITY);
    }
    let weights = g.emit(Op::Softmax, &[scores], Attrs::NONE.with_axis(rank - 1));
    let by_v = step.wanted[2].then(|| g.matmul(weights, c, true, false));
    // softmax backwards; the row's mean of the weights' cotangents is <c, y>
    let by_weights = g.matmul(c, v, false, true);
    let aligned = g.mul(c, step.id);
    let mean = g.reduce(Op::Sum, aligned, &[rank - 1], true);
    let centred = g.sub(by_weights, mean);
    let by_scores = g.mul(weights, centred);
    let by_dot = g.scaled(by_scores, scale);
    vec![
        step.wanted[0].then(|| g.matmul(by_dot, k, false, false)),
        step.wanted[1].then(|| g.matmul(by_dot, q, true, false)),
        by_v,
        mask.filter(|_| step.wanted[3]).map(|mask| g.sum_to(by_scores, g.desc(mask).shape)),
    ]
}

/// bool[s,t]: position i sees positions up to i, aligned at the end.
fn causal(g: &mut Graph, s: usize, t: usize) -> NodeId {
    let shape =
        |dims: [usize; 2]| crate::base::Shape::new(&dims).unwrap_or(crate::base::Shape::SCALAR);
    let rows = g.iota(DType::I32, shape([s, 1]), 0);
    let columns = g.iota(DType::I32, shape([1, t]), 1);
    let last = g.shifted(rows, t as f64 - s as f64);
    g.binary(Op::Le, columns, last)
}
