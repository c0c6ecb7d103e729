//! Products of tensors.

use super::norm::softmax;
use super::pointwise::elementary;
use super::{RefTensor, from_index};
use crate::base::{DType, Shape};
use crate::graph::op::{AttrKey, Op};
use crate::graph::{Graph, Node};

pub(super) fn apply(graph: &Graph, node: &Node, inputs: &[&RefTensor]) -> RefTensor {
    match node.op {
        Op::MatMul => matmul(node, inputs),
        Op::Attention => {
            let mask_type = node.inputs.get(3).map(|m| graph.desc(*m).dtype);
            attention(node, inputs, mask_type == Some(DType::Bool))
        }
        _ => convolution(node, inputs),
    }
}

fn matmul(node: &Node, inputs: &[&RefTensor]) -> RefTensor {
    let (a, b) = (inputs[0], inputs[1]);
    let (trans_a, trans_b) = (node.attrs.flag(AttrKey::TransA), node.attrs.flag(AttrKey::TransB));
    let rank = a.shape.rank();
    let inner = a.shape.dim(if trans_a { rank - 2 } else { rank - 1 });
    let act = Op::from_code(node.attrs.int(AttrKey::Activation, 0) as u32);
    from_index(node.desc.shape, |index| {
        let (lead, last) = index.split_at(index.len() - 2);
        let (row, col) = (last[0], last[1]);
        let mut sum = 0.0;
        for k in 0..inner {
            let at_a = if trans_a { [k, row] } else { [row, k] };
            let at_b = if trans_b { [col, k] } else { [k, col] };
            sum += matrix_element(a, lead, at_a) * matrix_element(b, lead, at_b);
        }
        sum += inputs.get(2).map_or(0.0, |bias| bias.data[col]);
        act.map_or(sum, |op| elementary(op, sum))
    })
}

/// Element of a stack of matrices at the leading index of a shape its leading axes broadcast to.
fn matrix_element(x: &RefTensor, lead: &[usize], at: [usize; 2]) -> f64 {
    let dims = x.shape.dims();
    let own = dims.len() - 2;
    let mut offset = 0;
    for (i, d) in lead[lead.len() - own..].iter().zip(dims) {
        offset = offset * d + if *d == 1 { 0 } else { *i };
    }
    x.data[(offset * dims[own] + at[0]) * dims[own + 1] + at[1]]
}

fn attention(node: &Node, inputs: &[&RefTensor], boolean_mask: bool) -> RefTensor {
    let (q, k, v) = (inputs[0], inputs[1], inputs[2]);
    let rank = q.shape.rank();
    let (s, d) = (q.shape.dim(rank - 2), q.shape.dim(rank - 1));
    let (t, e) = (k.shape.dim(rank - 2), v.shape.dim(rank - 1));
    let scale = node.attrs.float(AttrKey::Scale, 1.0);
    let causal = node.attrs.flag(AttrKey::Causal);
    let lead = &q.shape.dims()[..rank - 2];
    let mut data = Vec::new();
    let mut heads = Vec::new();
    super::each_index(Shape::new(lead).unwrap_or(Shape::SCALAR), |i| heads.push(i.to_vec()));
    for (h, head) in heads.iter().enumerate() {
        for i in 0..s {
            let scores: Vec<f64> = (0..t)
                .map(|j| {
                    let row = &q.data[(h * s + i) * d..][..d];
                    let col = &k.data[(h * t + j) * d..][..d];
                    let dot: f64 = row.iter().zip(col).map(|(a, b)| a * b).sum();
                    let mask = inputs.get(3).map(|m| m.at_broadcast(&[head, &[i, j][..]].concat()));
                    match mask {
                        _ if causal && j + s > i + t => f64::NEG_INFINITY,
                        Some(m) if boolean_mask && m == 0.0 => f64::NEG_INFINITY,
                        Some(m) if !boolean_mask => dot * scale + m,
                        _ => dot * scale,
                    }
                })
                .collect();
            let p = softmax(&scores);
            data.extend(
                (0..e).map(|c| (0..t).map(|j| p[j] * v.data[(h * t + j) * e + c]).sum::<f64>()),
            );
        }
    }
    RefTensor { shape: node.desc.shape, data }
}

/// `y[n,o,p] = sum w[o,c,k] x[n,c,p s + k d - lo]`, and its two transposes: the same terms, summed elsewhere.
fn convolution(node: &Node, inputs: &[&RefTensor]) -> RefTensor {
    let shape_attr = || {
        let dims: Vec<usize> =
            node.attrs.ints(AttrKey::Shape).iter().map(|d| *d as usize).collect();
        Shape::new(&dims).unwrap_or(Shape::SCALAR) // checked when the node was made
    };
    let (first, second) = (inputs[0], inputs[1]);
    let (x, w, y) = match node.op {
        Op::Conv => (first.shape, second.shape, node.desc.shape),
        Op::ConvInputGrad => (shape_attr(), second.shape, first.shape),
        _ => (first.shape, shape_attr(), second.shape),
    };
    let mut out = RefTensor::full(node.desc.shape, 0.0);
    terms(node, x, w, y, |at_x, at_w, at_y| match node.op {
        Op::Conv => out.data[at_y] += first.data[at_x] * second.data[at_w],
        Op::ConvInputGrad => out.data[at_x] += first.data[at_y] * second.data[at_w],
        _ => out.data[at_w] += first.data[at_x] * second.data[at_y],
    });
    if let Some(bias) = inputs.get(2) {
        let positions: usize = y.dims()[2..].iter().product();
        for (i, v) in out.data.iter_mut().enumerate() {
            *v += bias.data[i / positions % bias.data.len()];
        }
    }
    out
}

/// Visits the offsets of every product of a convolution in one or two spatial axes.
fn terms(node: &Node, x: Shape, w: Shape, y: Shape, mut visit: impl FnMut(usize, usize, usize)) {
    let list = |key| node.attrs.ints(key).iter().map(|v| *v as usize).collect::<Vec<_>>();
    let (stride, dilation) = (list(AttrKey::Stride), list(AttrKey::Dilation));
    let padding = list(AttrKey::Padding);
    let groups = node.attrs.int(AttrKey::Groups, 1) as usize;
    let spatial = x.rank() - 2;
    let (outputs, per_group) = (w.dim(0), w.dim(1));
    let kernel = Shape::new(&w.dims()[2..]).unwrap_or(Shape::SCALAR);
    let offset =
        |dims: &[usize], index: &[usize]| index.iter().zip(dims).fold(0, |at, (i, d)| at * d + i);
    super::each_index(y, |at| {
        let (n, o) = (at[0], at[1]);
        super::each_index(kernel, |k| {
            let mut position = Vec::with_capacity(spatial);
            for i in 0..spatial {
                let padded = at[2 + i] * stride[i] + k[i] * dilation[i];
                match padded.checked_sub(padding[2 * i]) {
                    Some(p) if p < x.dim(2 + i) => position.push(p),
                    _ => return,
                }
            }
            for c in 0..per_group {
                let channel = o / (outputs / groups) * per_group + c;
                visit(
                    offset(x.dims(), &[&[n, channel], &position[..]].concat()),
                    offset(w.dims(), &[&[o, c], k].concat()),
                    offset(y.dims(), at),
                );
            }
        });
    });
}
