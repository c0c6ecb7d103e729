//! What a tensor of whole numbers is used for, as far as a graph says: into how many slices it looks. A lookup takes the
//! nearest slice for a number beyond the last, so whoever gives such numbers is to be asked before.

use super::builder::Graph;
use super::node::NodeId;
use super::op::{AttrKey, Op};

/// Ops whose result has numbers of the inputs, in other places.
const CARRIES: &[Op] =
    &[Op::Reshape, Op::Transpose, Op::BroadcastTo, Op::Slice, Op::Concat, Op::Flip, Op::Where];

/// The fewest slices that the numbers of `source` are looked up among; None where they are not.
pub fn looked_up(g: &Graph, source: NodeId) -> Option<usize> {
    let mut holds = vec![false; g.nodes().len()];
    *holds.get_mut(source.index())? = true;
    let mut fewest = None;
    for (i, node) in g.nodes().iter().enumerate() {
        let held = |id: &NodeId| holds.get(id.index()).copied().unwrap_or(false);
        if let (Op::Gather, [table, at]) = (node.op, &node.inputs[..])
            && held(at)
        {
            let axis = usize::try_from(node.attrs.int(AttrKey::Axis, 0)).ok();
            let slices = axis.and_then(|a| g.desc(*table).dims().get(a).copied());
            fewest = [fewest, slices].into_iter().flatten().min();
        } else if CARRIES.contains(&node.op) && node.inputs.iter().any(held) {
            holds[i] = true; // one per node
        }
    }
    fewest
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
        g.check().unwrap();
        assert_eq!(looked_up(&g, label), Some(5));
        assert_eq!(looked_up(&g, free), None);
    }
}
