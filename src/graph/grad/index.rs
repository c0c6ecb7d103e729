//! Gradients of addressing: what was read is scattered back, what was written is read back. Indices have none.

use super::{Step, zeros_like};
use crate::graph::attr::Attrs;
use crate::graph::op::{AttrKey, Op};
use crate::graph::{Graph, NodeId};

pub(super) fn contributions(g: &mut Graph, step: &Step<'_>) -> Vec<Option<NodeId>> {
    let (x, c) = (step.input(0), step.cotangent);
    let at = Attrs::NONE.with_int(AttrKey::Axis, step.node.attrs.int(AttrKey::Axis, 0));
    match step.node.op {
        Op::Gather => {
            let zeros = zeros_like(g, x);
            vec![Some(g.emit(Op::ScatterAdd, &[zeros, step.input(1), c], at)), None]
        }
        Op::TakeAlong => {
            let zeros = zeros_like(g, x);
            vec![Some(g.emit(Op::ScatterAddAlong, &[zeros, step.input(1), c], at)), None]
        }
        Op::ScatterAdd => {
            let by_u = step.only(2, || g.emit(Op::Gather, &[c, step.input(1)], at));
            vec![Some(c), None, by_u]
        }
        Op::ScatterAddAlong => {
            let by_u = step.only(2, || g.emit(Op::TakeAlong, &[c, step.input(1)], at));
            vec![Some(c), None, by_u]
        }
        Op::Sort => {
            let order = g.emit(Op::ArgSort, &[x], step.node.attrs.clone());
            let zeros = zeros_like(g, x);
            vec![Some(g.emit(Op::ScatterAddAlong, &[zeros, order, c], at))]
        }
        Op::DynamicSlice => {
            let zeros = zeros_like(g, x);
            vec![Some(g.emit(Op::DynamicUpdate, &[zeros, c, step.input(1)], Attrs::NONE)), None]
        }
        Op::DynamicUpdate => {
            let (u, start) = (step.input(1), step.input(2));
            let by_x = step.only(0, || {
                let zeros = zeros_like(g, u);
                g.emit(Op::DynamicUpdate, &[c, zeros, start], Attrs::NONE)
            });
            let by_u = step.only(1, || {
                let sizes = Attrs::NONE.with_dims(AttrKey::Sizes, g.desc(u).dims());
                g.emit(Op::DynamicSlice, &[c, start], sizes)
            });
            vec![by_x, by_u, None]
        }
        // argsort and top_k have an integer result and are never asked
        _ => vec![None],
    }
}
