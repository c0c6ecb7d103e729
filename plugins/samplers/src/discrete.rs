//! The step of a discrete component, the same in every sampler: the process turns the logits into the law of the
//! token at the next time, and one token is drawn (specs processes 5.1, ancestral).

use diffx_plugin::{Builder, Node, purpose};

pub(crate) fn advance<'b>(
    b: Builder<'b>,
    component: usize,
    z: Node<'b>,
    logits: Node<'b>,
    t: Node<'b>,
    s: Node<'b>,
) -> Node<'b> {
    // the process takes its times shaped [batch, 1, .., 1]
    let mut shape = z.shape().to_vec();
    shape.iter_mut().skip(1).for_each(|d| *d = 1);
    let (t, s) = (t.broadcast_to(&shape), s.broadcast_to(&shape));
    b.process(component).posterior(z, logits, t, s).categorical(purpose::STEP)
}

/// Whether a component is made of tokens.
pub(crate) fn is_discrete(b: Builder<'_>, component: usize) -> bool {
    b.component(component).is_some_and(|c| c.discrete)
}
