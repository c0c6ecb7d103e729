//! Addressing by data. Every index is clamped into range.

use super::reduce::map_lines;
use super::{RefTensor, each_index, from_index};
use crate::graph::Node;
use crate::graph::op::{AttrKey, Op};
use std::cmp::Ordering;

pub(super) fn apply(node: &Node, inputs: &[&RefTensor]) -> RefTensor {
    let x = inputs[0];
    let axis = node.attrs.int(AttrKey::Axis, 0) as usize;
    let descending = node.attrs.flag(AttrKey::Descending);
    match node.op {
        Op::Gather => {
            let idx = inputs[1];
            from_index(node.desc.shape, |at| x.at(&source(x, idx, axis, at)))
        }
        Op::ScatterAdd => {
            let (idx, u) = (inputs[1], inputs[2]);
            let mut out = x.clone();
            each_index(u.shape, |at| {
                let to = out.offset(&source(x, idx, axis, at));
                out.data[to] += u.at(at);
            });
            out
        }
        Op::TakeAlong => {
            let idx = inputs[1];
            from_index(node.desc.shape, |at| x.at(&along(x, idx, axis, at)))
        }
        Op::ScatterAddAlong => {
            let (idx, u) = (inputs[1], inputs[2]);
            let mut out = x.clone();
            each_index(u.shape, |at| {
                let to = out.offset(&along(x, idx, axis, at));
                out.data[to] += u.at(at);
            });
            out
        }
        Op::Sort => map_lines(x, axis, x.shape.dim(axis), |line| {
            order(line, descending).iter().map(|i| line[*i]).collect()
        }),
        Op::ArgSort => map_lines(x, axis, x.shape.dim(axis), |line| {
            order(line, descending).iter().map(|i| *i as f64).collect()
        }),
        Op::TopK => {
            let k = node.desc.shape.dim(axis);
            map_lines(x, axis, k, |line| order(line, true)[..k].iter().map(|i| *i as f64).collect())
        }
        Op::DynamicSlice => {
            let start = start(x, inputs[1], node.desc.shape.dims());
            from_index(node.desc.shape, |at| x.at(&shifted(at, &start)))
        }
        _ => {
            let u = inputs[1];
            let start = start(x, inputs[2], u.shape.dims());
            let mut out = x.clone();
            each_index(u.shape, |at| {
                let to = out.offset(&shifted(at, &start));
                out.data[to] = u.at(at);
            });
            out
        }
    }
}

fn clamped(index: f64, length: usize) -> usize {
    index.clamp(0.0, length as f64 - 1.0) as usize
}

/// Index into x of the element at `at` of `gather(x, idx)`.
fn source(x: &RefTensor, idx: &RefTensor, axis: usize, at: &[usize]) -> Vec<usize> {
    let after = axis + idx.shape.rank();
    let i = clamped(idx.at(&at[axis..after]), x.shape.dim(axis));
    [&at[..axis], &[i], &at[after..]].concat()
}

/// Index into x of the element at `at` of `take_along(x, idx)`.
fn along(x: &RefTensor, idx: &RefTensor, axis: usize, at: &[usize]) -> Vec<usize> {
    let mut out = at.to_vec();
    out[axis] = clamped(idx.at(at), x.shape.dim(axis));
    out
}

/// Positions in stable order, NaN last in either direction.
fn order(line: &[f64], descending: bool) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..line.len()).collect();
    positions.sort_by(|&i, &j| {
        let (a, b) = (line[i], line[j]);
        let ascending = a.partial_cmp(&b);
        match ascending {
            Some(o) if descending => o.reverse(),
            Some(o) => o,
            None if a.is_nan() && b.is_nan() => Ordering::Equal,
            None if a.is_nan() => Ordering::Greater,
            None => Ordering::Less,
        }
    });
    positions
}

/// Offsets of a block, clamped so that it fits.
fn start(x: &RefTensor, given: &RefTensor, block: &[usize]) -> Vec<usize> {
    let room = x.shape.dims().iter().zip(block).map(|(d, b)| d - b);
    room.zip(&given.data).map(|(room, s)| s.clamp(0.0, room as f64) as usize).collect()
}

fn shifted(at: &[usize], by: &[usize]) -> Vec<usize> {
    at.iter().zip(by).map(|(a, b)| a + b).collect()
}
