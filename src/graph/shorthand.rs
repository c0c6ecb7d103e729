//! Short calls for the ops that rewrites emit by the dozen. Each is one `emit`, nothing more.

use super::attr::Attrs;
use super::op::{AttrKey, Op};
use super::{Graph, NodeId};
use crate::base::{DType, Shape};

impl Graph {
    pub fn add(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.binary(Op::Add, a, b)
    }

    pub fn sub(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.binary(Op::Sub, a, b)
    }

    pub fn mul(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.binary(Op::Mul, a, b)
    }

    pub fn div(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.binary(Op::Div, a, b)
    }

    pub fn neg(&mut self, x: NodeId) -> NodeId {
        self.unary(Op::Neg, x)
    }

    pub fn exp(&mut self, x: NodeId) -> NodeId {
        self.unary(Op::Exp, x)
    }

    pub fn square(&mut self, x: NodeId) -> NodeId {
        self.unary(Op::Square, x)
    }

    /// `factor * x`.
    pub fn scaled(&mut self, x: NodeId, factor: f64) -> NodeId {
        let factor = self.scalar(factor);
        self.binary(Op::Mul, x, factor)
    }

    /// `x + term`.
    pub fn shifted(&mut self, x: NodeId, term: f64) -> NodeId {
        let term = self.scalar(term);
        self.binary(Op::Add, x, term)
    }

    /// `condition ? a : b`.
    pub fn choose(&mut self, condition: NodeId, a: NodeId, b: NodeId) -> NodeId {
        self.emit(Op::Where, &[condition, a, b], Attrs::NONE)
    }

    /// `condition ? a : value`.
    pub fn choose_or(&mut self, condition: NodeId, a: NodeId, value: f64) -> NodeId {
        let value = self.scalar(value);
        self.choose(condition, a, value)
    }

    /// Compares with a number.
    pub fn compare(&mut self, op: Op, x: NodeId, value: f64) -> NodeId {
        let value = self.scalar(value);
        self.binary(op, x, value)
    }

    /// The same node when it has that type already.
    pub fn cast(&mut self, x: NodeId, dtype: DType) -> NodeId {
        if self.desc(x).dtype == dtype {
            return x;
        }
        self.emit(Op::Cast, &[x], Attrs::NONE.with_int(AttrKey::DType, i64::from(dtype.code())))
    }

    pub fn matmul(&mut self, a: NodeId, b: NodeId, trans_a: bool, trans_b: bool) -> NodeId {
        let attrs = Attrs::NONE
            .with_int(AttrKey::TransA, i64::from(trans_a))
            .with_int(AttrKey::TransB, i64::from(trans_b));
        self.emit(Op::MatMul, &[a, b], attrs)
    }

    /// Sum, mean or another reduction over axes.
    pub fn reduce(&mut self, op: Op, x: NodeId, axes: &[usize], keep: bool) -> NodeId {
        if axes.is_empty() {
            return x; // an empty list would mean all axes
        }
        let attrs =
            Attrs::NONE.with_dims(AttrKey::Axes, axes).with_int(AttrKey::KeepDims, i64::from(keep));
        self.emit(op, &[x], attrs)
    }

    /// The same node when it has that shape already.
    pub fn reshape(&mut self, x: NodeId, dims: &[usize]) -> NodeId {
        if self.desc(x).dims() == dims {
            return x;
        }
        self.emit(Op::Reshape, &[x], Attrs::NONE.with_dims(AttrKey::Shape, dims))
    }

    /// The same node when it has that shape already.
    pub fn broadcast_to(&mut self, x: NodeId, dims: &[usize]) -> NodeId {
        if self.desc(x).dims() == dims {
            return x;
        }
        self.emit(Op::BroadcastTo, &[x], Attrs::NONE.with_dims(AttrKey::Shape, dims))
    }

    pub fn transpose(&mut self, x: NodeId, perm: &[usize]) -> NodeId {
        if perm.iter().enumerate().all(|(i, p)| i == *p) {
            return x;
        }
        self.emit(Op::Transpose, &[x], Attrs::NONE.with_dims(AttrKey::Perm, perm))
    }

    /// Positions `start..stop` of one axis.
    pub fn slice_axis(&mut self, x: NodeId, axis: usize, start: usize, stop: usize) -> NodeId {
        let dims = self.desc(x).dims().to_vec();
        if axis >= dims.len() || (start == 0 && stop == dims[axis]) {
            return x;
        }
        let (mut from, mut to) = (vec![0; dims.len()], dims);
        (from[axis], to[axis]) = (start, stop);
        let attrs = Attrs::NONE.with_dims(AttrKey::Start, &from).with_dims(AttrKey::Stop, &to);
        self.emit(Op::Slice, &[x], attrs)
    }

    pub fn concat(&mut self, parts: &[NodeId], axis: usize) -> NodeId {
        self.emit(Op::Concat, parts, Attrs::NONE.with_axis(axis))
    }

    /// The index along `axis` at every position of `shape`.
    pub fn iota(&mut self, dtype: DType, shape: Shape, axis: usize) -> NodeId {
        let attrs = Attrs::NONE
            .with_dims(AttrKey::Shape, shape.dims())
            .with_axis(axis)
            .with_int(AttrKey::DType, i64::from(dtype.code()));
        self.emit(Op::Iota, &[], attrs)
    }

    /// Sums over the axes along which `shape` was broadcast, so that the result has that shape again.
    pub fn sum_to(&mut self, x: NodeId, shape: Shape) -> NodeId {
        let from = self.desc(x).shape;
        if from == shape {
            return x;
        }
        let extra = from.rank().saturating_sub(shape.rank());
        let axes: Vec<usize> = (0..from.rank())
            .filter(|&i| i < extra || (shape.dim(i - extra) == 1 && from.dim(i) != 1))
            .collect();
        let sum = self.reduce(Op::Sum, x, &axes, false);
        self.reshape(sum, shape.dims())
    }
}
