//! What may be asked of the process of a component before D of it is touched.

use crate::rows::column;
use diffx_plugin::{Builder, Error, Node, Result};

/// `D + sigma^2 g` adds g to the score only where `(D - w)/sigma^2` tells it up to a term of w alone, which a process
/// says by having `to_score`: not under the coupled halves of `cld` and `vsmd`, whose noise is on the velocity, nor under
/// the heavy tails of `pfgmpp`. A service that is not there leaves the graph as it was.
pub(crate) fn wants_score<'b>(
    b: Builder<'b>,
    c: usize,
    x: Node<'b>,
    d: Node<'b>,
    sigma: Node<'b>,
) -> Result<()> {
    if d.is_error() || !b.process(c).to_score(x, d, column(sigma, d)).is_error() {
        return Ok(());
    }
    let name = b.component(c).map_or("", |v| v.name);
    // of another status than the service's failure, which would be told in its place
    Err(Error::invalid(format!(
        "component {name}: its process has no to_score, want one in which D tells the score that guidance adds to"
    )))
}

/// The same of every continuous component.
pub(crate) fn want_scores<'b>(
    b: Builder<'b>,
    x: &[Node<'b>],
    d: &[Node<'b>],
    sigma: &[Node<'b>],
) -> Result<()> {
    for (c, ((x, d), sigma)) in x.iter().zip(d).zip(sigma).enumerate() {
        if b.component(c).is_some_and(|v| !v.discrete) {
            wants_score(b, c, *x, *d, *sigma)?;
        }
    }
    Ok(())
}

/// A bound on D is one on the sample only where each number has a noise of its own. A process that couples several says
/// so by preconditioning that differs by place; what it calls D is not the sample before level 0.
pub(crate) fn wants_apart<'b>(
    b: Builder<'b>,
    c: usize,
    d: Node<'b>,
    sigma: Node<'b>,
) -> Result<()> {
    let [skip, ..] = b.process(c).precond(column(sigma, d));
    if skip.is_error() || skip.shape().iter().skip(1).all(|n| *n == 1) {
        return Ok(());
    }
    let name = b.component(c).map_or("", |v| v.name);
    Err(Error::unsupported(format!(
        "component {name}: its process couples the numbers of a sample, so bounds on D are none on the sample, want \"when\": \"end\""
    )))
}
