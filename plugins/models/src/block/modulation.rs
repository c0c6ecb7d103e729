//! Modulation by an embedding of the noise level and the conditions (Peebles and Xie 2023): shifts, scales and gates of a
//! block, and norms moved by them.

use super::layer::{Start, columns, linear};
use diffx_plugin::{Builder, Node};

/// `count` vectors `[rows, 1.., width]` by one linear layer of the embedding, 0 at first.
pub(crate) fn modulation<'b>(
    b: Builder<'b>,
    name: &str,
    embedding: Node<'b>,
    width: usize,
    count: usize,
    rank: usize,
) -> Vec<Node<'b>> {
    let all = linear(b, name, embedding, width, count * width, Start::Zero);
    let mut dims = vec![1; rank];
    dims[0] = -1;
    dims[rank - 1] = width as i64;
    (0..count).map(|k| columns(all, k * width, width).reshape(&dims)).collect()
}

/// `x (1 + scale) + shift`.
pub(crate) fn modulate<'b>(x: Node<'b>, shift: Node<'b>, scale: Node<'b>) -> Node<'b> {
    x * (scale + 1.0) + shift
}

/// The same of the layer norm of x.
pub(crate) fn modulated_norm<'b>(
    x: Node<'b>,
    shift: Node<'b>,
    scale: Node<'b>,
    eps: f64,
) -> Node<'b> {
    modulate(x.layer_norm(eps), shift, scale)
}
