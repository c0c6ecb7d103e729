//! Reverse mode as a graph rewrite.

use super::{Graph, NodeId};
use crate::base::Result;

pub(super) fn gradient(
    g: &mut Graph,
    y: NodeId,
    cotangent: NodeId,
    xs: &[NodeId],
) -> Result<Vec<NodeId>> {
    let _ = (g, y, cotangent, xs);
    crate::bail!(Unsupported, "grad: not built")
}
