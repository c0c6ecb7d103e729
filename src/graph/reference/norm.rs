//! Softmax and normalisation.

use super::RefTensor;
use super::reduce::{log_sum_exp, map_lines};
use crate::graph::Node;
use crate::graph::op::{AttrKey, Op};

pub(super) fn apply(node: &Node, inputs: &[&RefTensor]) -> RefTensor {
    let x = inputs[0];
    let axis = node.attrs.int(AttrKey::Axis, 0) as usize;
    match node.op {
        Op::Softmax => map_lines(x, axis, x.shape.dim(axis), softmax),
        Op::LogSoftmax => map_lines(x, axis, x.shape.dim(axis), |line| {
            let total = log_sum_exp(line);
            line.iter().map(|v| if v.is_infinite() { *v } else { v - total }).collect()
        }),
        _ => normalise(node, inputs),
    }
}

/// Zeros for a row of -inf.
pub(super) fn softmax(line: &[f64]) -> Vec<f64> {
    let most = line.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return vec![0.0; line.len()];
    }
    let e: Vec<f64> = line.iter().map(|v| (v - most).exp()).collect();
    let total: f64 = e.iter().sum();
    e.iter().map(|v| v / total).collect()
}

/// Consecutive runs of elements share a mean: the last axis, or a group of channels with all its positions.
fn normalise(node: &Node, inputs: &[&RefTensor]) -> RefTensor {
    let x = inputs[0];
    let dims = x.shape.dims();
    let eps = node.attrs.float(AttrKey::Epsilon, 0.0);
    let grouped = node.op == Op::GroupNorm;
    let channel_axis = if grouped { 1 } else { dims.len() - 1 };
    let channels = dims[channel_axis];
    let positions: usize = dims[channel_axis + 1..].iter().product();
    let groups = if grouped { node.attrs.int(AttrKey::Groups, 1) as usize } else { 1 };
    let run = channels / groups * positions;
    let mut data = Vec::with_capacity(x.data.len());
    for chunk in x.data.chunks(run) {
        let n = chunk.len() as f64;
        let mean = if node.op == Op::RmsNorm { 0.0 } else { chunk.iter().sum::<f64>() / n };
        let variance = chunk.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
        for v in chunk {
            let channel = data.len() / positions % channels;
            let scale = inputs.get(1).map_or(1.0, |s| s.data[channel]);
            let bias = inputs.get(2).map_or(0.0, |b| b.data[channel]);
            data.push((v - mean) / (variance + eps).sqrt() * scale + bias);
        }
    }
    RefTensor { shape: x.shape, data }
}
