//! Forward mode as a graph rewrite, by transposing reverse mode twice: the gradient `J^T u` is linear in u, so the
//! gradient of `<J^T u, t>` by u is `J t`. What is left in the graph are the same products a forward rule would emit;
//! u and all that only it needs is dead and costs nothing.

use super::grad::{cotangent_desc, pull_back, zeros_like};
use super::op::Op;
use super::{Graph, NodeId};
use crate::bail;
use crate::base::Result;

/// The directional derivative of y when each x moves along its tangent, and only along that: an x made from another x
/// (a noised state from its time) does not follow it.
pub(super) fn directional(
    g: &mut Graph,
    y: NodeId,
    xs: &[NodeId],
    tangents: &[NodeId],
) -> Result<NodeId> {
    if xs.len() != tangents.len() {
        bail!(Invalid, "jvp: {} inputs and {} tangents", xs.len(), tangents.len());
    }
    if !g.desc(y).dtype.is_float() {
        bail!(Invalid, "jvp: y is {}, want a float type", g.desc(y));
    }
    let mut along = Vec::with_capacity(xs.len());
    for (&x, &t) in xs.iter().zip(tangents) {
        let (want, found) = (cotangent_desc(g, x), g.desc(t));
        if !want.dtype.is_float() {
            bail!(Invalid, "jvp: by {} {}, want a float type", g.node(x).op.name(), g.desc(x));
        }
        let weak = g.node(t).op == Op::Full && found.shape.rank() == 0;
        if !weak && found != want {
            bail!(Invalid, "jvp: the tangent of {} is {found}, want {want}", g.desc(x));
        }
        let t = g.cast(t, want.dtype);
        along.push(g.broadcast_to(t, want.dims()));
    }
    let u = zeros_like(g, y);
    let gradients = pull_back(g, &[(y, u)], xs, true)?;
    let pairs: Vec<(NodeId, NodeId)> =
        gradients.iter().zip(along).filter_map(|(c, t)| Some(((*c)?, t))).collect();
    let found = pull_back(g, &pairs, &[u], false)?;
    Ok(match found.first().copied().flatten() {
        Some(out) => out,
        None => zeros_like(g, y),
    })
}
