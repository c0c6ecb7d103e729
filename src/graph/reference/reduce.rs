//! Reductions: each result element is a function of the list of elements it reduces.

use super::{RefTensor, each_index};
use crate::graph::Node;
use crate::graph::op::{AttrKey, Op};

pub(super) fn apply(node: &Node, inputs: &[&RefTensor]) -> RefTensor {
    let x = inputs[0];
    let axis = node.attrs.int(AttrKey::Axis, 0) as usize;
    match node.op {
        Op::CumSum => map_lines(x, axis, x.shape.dim(axis), |line| running_sum(node, line)),
        Op::ArgMax => reduce(node, x, &[axis], |row| first_extreme(row, |a, b| a > b)),
        Op::ArgMin => reduce(node, x, &[axis], |row| first_extreme(row, |a, b| a < b)),
        op => {
            let axes: Vec<usize> =
                node.attrs.ints(AttrKey::Axes).iter().map(|a| *a as usize).collect();
            reduce(node, x, &axes, |row| value(op, row))
        }
    }
}

fn value(op: Op, row: &[f64]) -> f64 {
    let nan = row.iter().any(|v| v.is_nan());
    match op {
        Op::Mean => row.iter().sum::<f64>() / row.len() as f64,
        Op::ReduceMax | Op::ReduceMin if nan => f64::NAN,
        Op::ReduceMax => row.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Op::ReduceMin => row.iter().copied().fold(f64::INFINITY, f64::min),
        Op::Prod => row.iter().product(),
        Op::LogSumExp => log_sum_exp(row),
        _ => row.iter().sum(),
    }
}

/// `log sum exp`; -inf of nothing and of a row of -inf, inf of a row that holds inf.
pub(super) fn log_sum_exp(row: &[f64]) -> f64 {
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most.is_infinite() {
        return most;
    }
    most + row.iter().map(|v| (v - most).exp()).sum::<f64>().ln()
}

fn first_extreme(row: &[f64], better: impl Fn(f64, f64) -> bool) -> f64 {
    let mut best = 0;
    for i in 1..row.len() {
        if better(row[i], row[best]) {
            best = i;
        }
    }
    best as f64
}

fn running_sum(node: &Node, line: &[f64]) -> Vec<f64> {
    let n = line.len();
    let exclusive = node.attrs.flag(AttrKey::Exclusive);
    let reverse = node.attrs.flag(AttrKey::Reverse);
    (0..n)
        .map(|i| match (reverse, exclusive) {
            (false, false) => line[..=i].iter().sum(),
            (false, true) => line[..i].iter().sum(),
            (true, false) => line[i..].iter().sum(),
            (true, true) => line[i + 1..].iter().sum(),
        })
        .collect()
}

fn reduce(node: &Node, x: &RefTensor, axes: &[usize], f: impl Fn(&[f64]) -> f64) -> RefTensor {
    let shape = node.desc.shape;
    let mut rows = vec![Vec::new(); shape.elements()];
    each_index(x.shape, |index| {
        let mut at = 0;
        for axis in (0..index.len()).filter(|a| !axes.contains(a)) {
            at = at * x.shape.dim(axis) + index[axis];
        }
        rows[at].push(x.at(index));
    });
    RefTensor { shape, data: rows.iter().map(|row| f(row)).collect() }
}

/// Replaces every line along `axis` by a line of `length`.
pub(super) fn map_lines(
    x: &RefTensor,
    axis: usize,
    length: usize,
    f: impl Fn(&[f64]) -> Vec<f64>,
) -> RefTensor {
    let dims = x.shape.dims();
    let (outer, n) = (dims[..axis].iter().product::<usize>(), dims[axis]);
    let inner = dims[axis + 1..].iter().product::<usize>();
    let mut data = vec![0.0; outer * length * inner];
    for o in 0..outer {
        for i in 0..inner {
            let line: Vec<f64> = (0..n).map(|k| x.data[(o * n + k) * inner + i]).collect();
            for (k, v) in f(&line).into_iter().enumerate() {
                data[(o * length + k) * inner + i] = v;
            }
        }
    }
    let mut out = dims.to_vec();
    out[axis] = length;
    // the shape is x's with one axis of at most its length
    let shape = crate::base::Shape::new(&out).unwrap_or(x.shape);
    RefTensor { shape, data }
}
