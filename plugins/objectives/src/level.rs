//! Noise levels of a batch: one per row, shaped `[batch, 1, ..]` so that it broadcasts against the data.

use diffx_plugin::{Builder, Node};

/// The shape of a level beside data of the shape of `like`.
pub(crate) fn shape(like: Node<'_>) -> Vec<i64> {
    let mut shape = like.shape().to_vec();
    shape.iter_mut().skip(1).for_each(|d| *d = 1);
    shape
}

/// Whether a component is made of tokens.
pub(crate) fn is_discrete(b: Builder<'_>, component: usize) -> bool {
    b.component(component).is_some_and(|c| c.discrete)
}
