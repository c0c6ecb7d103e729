//! Gradients of softmax and the normalisations, by composition.

use super::Step;
use crate::graph::op::{AttrKey, Op};
use crate::graph::{Graph, NodeId};

pub(super) fn contributions(g: &mut Graph, step: &Step<'_>) -> Vec<Option<NodeId>> {
    let axis = step.node.attrs.int(AttrKey::Axis, 0) as usize;
    let (y, c) = (step.id, step.cotangent);
    match step.node.op {
        Op::Softmax => {
            let aligned = g.mul(c, y);
            let mean = g.reduce(Op::Sum, aligned, &[axis], true);
            let centred = g.sub(c, mean);
            vec![Some(g.mul(y, centred))]
        }
        Op::LogSoftmax => {
            let total = g.reduce(Op::Sum, c, &[axis], true);
            let weights = g.exp(y);
            let shared = g.mul(weights, total);
            vec![Some(g.sub(c, shared))]
        }
        _ => normalisation(g, step),
    }
}

/// The three normalisations are one: x seen as rows that share their statistics, and parameters along one axis.
fn normalisation(g: &mut Graph, step: &Step<'_>) -> Vec<Option<NodeId>> {
    let (x, c, op) = (step.input(0), step.cotangent, step.node.op);
    let desc = g.desc(x);
    let dims = desc.dims().to_vec();
    let channel = if op == Op::GroupNorm { 1 } else { dims.len() - 1 };
    let rows = if op == Op::GroupNorm {
        let groups = step.node.attrs.int(AttrKey::Groups, 1).max(1) as usize;
        let run = dims[1..].iter().product::<usize>() / groups;
        vec![dims[0] * groups, run]
    } else {
        dims.clone()
    };
    let last = rows.len() - 1;

    let in_rows = g.reshape(x, &rows);
    let centred = if op == Op::RmsNorm {
        in_rows
    } else {
        let mean = g.reduce(Op::Mean, in_rows, &[last], true);
        g.sub(in_rows, mean)
    };
    let square = g.square(centred);
    let variance = g.reduce(Op::Mean, square, &[last], true);
    let variance = g.shifted(variance, step.node.attrs.float(AttrKey::Epsilon, 0.0));
    let inverse = g.unary(Op::Rsqrt, variance);
    let unit = g.mul(centred, inverse);

    let mut along_channel = vec![1; dims.len()];
    along_channel[channel] = dims[channel];
    let by_x = step.wanted[0].then(|| {
        let mut inner = c;
        if let Some(scale) = step.node.inputs.get(1) {
            let scale = g.cast(*scale, desc.dtype);
            let scale = g.reshape(scale, &along_channel);
            inner = g.mul(c, scale);
        }
        let inner = g.reshape(inner, &rows);
        let aligned = g.mul(inner, unit);
        let slope = g.reduce(Op::Mean, aligned, &[last], true);
        let along = g.mul(unit, slope);
        let mut rest = g.sub(inner, along);
        if op != Op::RmsNorm {
            let mean = g.reduce(Op::Mean, inner, &[last], true);
            rest = g.sub(rest, mean);
        }
        let part = g.mul(inverse, rest);
        g.reshape(part, &dims)
    });
    let others: Vec<usize> = (0..dims.len()).filter(|axis| *axis != channel).collect();
    let by_scale = step.only(1, || {
        let unit = g.reshape(unit, &dims);
        let aligned = g.mul(c, unit);
        g.reduce(Op::Sum, aligned, &others, false)
    });
    let by_bias = step.only(2, || g.reduce(Op::Sum, c, &others, false));
    vec![by_x, by_scale, by_bias]
}
