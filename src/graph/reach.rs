//! What a tensor of whole numbers is used for, as far as a graph says: into how many slices it looks. A lookup takes the
//! nearest slice for a number beyond the last, so whoever gives such numbers is to be asked before.

use super::builder::Graph;
use super::node::NodeId;
use super::op::{AttrKey, Op};

/// Ops whose result has numbers of the inputs, in other places.
const CARRIES: &[Op] =
    &[Op::Reshape, Op::Transpose, Op::BroadcastTo, Op::Slice, Op::Concat, Op::Flip];

/// The most slices that numbers of `source` are looked up among, for its columns may be of different tables; None where
/// they are not, or not as they are.
pub fn looked_up(g: &Graph, source: NodeId) -> Option<usize> {
    let mut holds = vec![false; g.nodes().len()];
    *holds.get_mut(source.index())? = true;
    let mut most = None;
    for (i, node) in g.nodes().iter().enumerate() {
        let held = |id: &NodeId| holds.get(id.index()).copied().unwrap_or(false);
        if let (Op::Gather, [table, at]) = (node.op, &node.inputs[..])
            && held(at)
        {
            let axis = usize::try_from(node.attrs.int(AttrKey::Axis, 0)).ok();
            let slices = axis.and_then(|a| g.desc(*table).dims().get(a).copied());
            most = most.max(slices);
        } else if CARRIES.contains(&node.op) && node.inputs.iter().any(held) {
            holds[i] = true; // one per node
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DType, Desc};
    use crate::graph::Attrs;

    #[test]
    fn numbers_are_followed_to_their_tables() {
        let mut g = Graph::new(2, DType::F32);
        let label = g.input("label", Desc::new(DType::I32, &[2]).unwrap());
        let free = g.input("free", Desc::new(DType::I32, &[2]).unwrap());
        let axis = || Attrs::NONE.with_int(AttrKey::Axis, 0);
        let null = g.full(4.0, DType::I32, &[2]);
        let both = g.emit(Op::Concat, &[label, null], axis());
        for rows in [7, 5] {
            let table = g.full(0.0, DType::F32, &[rows, 3]);
            g.emit(Op::Gather, &[table, both], axis());
        }
        g.emit(Op::Add, &[free, label], Attrs::NONE);
        // what is chosen between is not looked up as it was given
        let chosen = g.input("chosen", Desc::new(DType::I32, &[2]).unwrap());
        let below = g.emit(Op::Lt, &[chosen, null], Attrs::NONE);
        let chosen_or_null = g.emit(Op::Where, &[below, chosen, null], Attrs::NONE);
        let table = g.full(0.0, DType::F32, &[9, 3]);
        g.emit(Op::Gather, &[table, chosen_or_null], axis());
        g.check().unwrap();
        assert_eq!(looked_up(&g, label), Some(7));
        assert_eq!(looked_up(&g, chosen), None);
        assert_eq!(looked_up(&g, free), None);
    }
}
