//! Forward mode as a graph rewrite.

use super::{Graph, NodeId};
use crate::base::Result;

pub(super) fn directional(
    g: &mut Graph,
    y: NodeId,
    xs: &[NodeId],
    tangents: &[NodeId],
) -> Result<NodeId> {
    let _ = (g, y, xs, tangents);
    crate::bail!(Unsupported, "jvp: not built")
}
