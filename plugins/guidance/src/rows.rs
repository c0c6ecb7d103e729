//! Numbers of each row beside arrays of each row.

use diffx_plugin::{Eval, Node, WrapEval};

/// `[rows]` as `[rows, 1, ..]` beside `like`; a scalar or shaped one stays.
pub(crate) fn column<'b>(x: Node<'b>, like: Node<'b>) -> Node<'b> {
    let (shape, rank) = (x.shape(), like.shape().len());
    if shape.len() != 1 || rank <= 1 {
        return x;
    }
    let mut dims = vec![1; rank];
    dims[0] = shape[0];
    x.reshape(&dims)
}

/// The sum of all numbers of each row, `[rows]`.
pub(crate) fn total(x: Node<'_>) -> Node<'_> {
    let axes: Vec<i64> = (1..x.shape().len() as i64).collect();
    if axes.is_empty() { x } else { x.sum(&axes) }
}

/// A noise level, scalar or `[rows]` or shaped, as `[rows]` of the rows of `like`.
pub(crate) fn per_row<'b>(level: Node<'b>, like: Node<'b>) -> Node<'b> {
    let rows = like.shape().first().copied().unwrap_or(0);
    let n: i64 = level.shape().iter().product();
    let flat = level.reshape(&[n]);
    if n == rows { flat } else { flat.broadcast_to(&[rows]) }
}

/// An evaluation as the inner denoiser takes it.
pub(crate) fn eval<'e, 'b>(e: &'e WrapEval<'b>) -> Eval<'e, 'b> {
    Eval { phase: e.phase, x: &e.x, sigma: &e.sigma, cond: e.cond.as_deref() }
}
