//! Reverse mode as a graph rewrite: the gradient of every op is made of ordinary ops, so gradients of gradients, and
//! directional derivatives, come for free, and one planner and one set of kernels serve them all.
//!
//! Nodes between `xs` and `y` are walked from y down; contributions to one node are added in that order, so the same
//! graph always gives the same gradient graph, bit for bit. The cotangent of a node has its type, that of an f16 or
//! bf16 node (a stored weight) the float type of the graph.

mod bessel;
mod contract;
mod index;
mod layout;
mod norm;
mod pointwise;
mod reduce;

use super::op::{Class, Op};
use super::{Graph, Node, NodeId};
use crate::bail;
use crate::base::{DType, Desc, Result};

/// Gradients of `<y, cotangent>` by each of `xs`.
pub(super) fn gradient(
    g: &mut Graph,
    y: NodeId,
    cotangent: NodeId,
    xs: &[NodeId],
) -> Result<Vec<NodeId>> {
    let (have, want) = (g.desc(y), cotangent_desc(g, y));
    if !have.dtype.is_float() {
        bail!(Invalid, "grad: y is {have}, want a float type");
    }
    if let Some(x) = xs.iter().find(|x| !g.desc(**x).dtype.is_float()) {
        bail!(Invalid, "grad: by {} {}, want a float type", g.node(*x).op.name(), g.desc(*x));
    }
    let found = g.desc(cotangent);
    let weak = g.node(cotangent).op == Op::Full && found.shape.rank() == 0;
    if !weak && found != want {
        bail!(Invalid, "grad: the cotangent of y {have} is {found}, want {want}");
    }
    let cotangent = g.cast(cotangent, want.dtype);
    let cotangent = g.broadcast_to(cotangent, want.dims());
    let found = pull_back(g, &[(y, cotangent)], xs, false)?;
    Ok(xs.iter().zip(found).map(|(x, c)| c.unwrap_or_else(|| zeros_like(g, *x))).collect())
}

/// Type and shape of the cotangent of a node.
pub(super) fn cotangent_desc(g: &Graph, id: NodeId) -> Desc {
    let desc = g.desc(id);
    let half = matches!(desc.dtype, DType::F16 | DType::BF16);
    Desc { dtype: if half { g.float() } else { desc.dtype }, shape: desc.shape }
}

/// Zeros of the type and shape of the cotangent of a node.
pub(super) fn zeros_like(g: &mut Graph, id: NodeId) -> NodeId {
    let desc = cotangent_desc(g, id);
    g.full(0.0, desc.dtype, desc.dims())
}

/// Gradients of `sum <y, cotangent>` over several (y, cotangent) by each of `xs`; `None` where it is zero everywhere.
/// An x made from another x passes its part on, unless each x is `held`: a variable of its own.
pub(super) fn pull_back(
    g: &mut Graph,
    ys: &[(NodeId, NodeId)],
    xs: &[NodeId],
    held: bool,
) -> Result<Vec<Option<NodeId>>> {
    let top = ys.iter().map(|(y, _)| y.index()).max().unwrap_or(0);
    let depends = dependents(g, xs, top);
    let mut cotangents: Vec<Option<NodeId>> = vec![None; top + 1];
    for &(y, c) in ys {
        if depends[y.index()] {
            accumulate(g, &mut cotangents, y, c);
        }
    }
    let bottom = xs.iter().map(|x| x.index()).min().unwrap_or(0);
    for i in (bottom..=top).rev() {
        let Some(cotangent) = cotangents[i] else { continue };
        if held && xs.iter().any(|x| x.index() == i) {
            continue;
        }
        let node = g.nodes()[i].clone();
        let wanted: Vec<bool> = node.inputs.iter().map(|input| depends[input.index()]).collect();
        if !wanted.contains(&true) {
            continue;
        }
        let step = Step { id: NodeId(i as u32), node: &node, cotangent, wanted: &wanted };
        let parts = contributions(g, &step)?;
        for (input, part) in node.inputs.iter().zip(parts) {
            if let (true, Some(part)) = (depends[input.index()], part) {
                accumulate(g, &mut cotangents, *input, part);
            }
        }
        g.check()?;
    }
    Ok(xs.iter().map(|x| cotangents.get(x.index()).copied().flatten()).collect())
}

/// Which nodes up to `top` are, or reach through differentiable ops, one of `xs`.
fn dependents(g: &Graph, xs: &[NodeId], top: usize) -> Vec<bool> {
    let mut depends = vec![false; top + 1];
    for x in xs.iter().filter(|x| x.index() <= top) {
        depends[x.index()] = true;
    }
    for i in 0..=top {
        let node = &g.nodes()[i];
        if node.desc.dtype.is_float() && !stops(node.op) {
            depends[i] |= node.inputs.iter().any(|input| depends[input.index()]);
        }
    }
    depends
}

/// Ops with a float result through which no gradient flows.
fn stops(op: Op) -> bool {
    matches!(op, Op::StopGradient | Op::Sign | Op::Floor | Op::Ceil | Op::Round)
        || op.class() == Class::Random
}

fn accumulate(g: &mut Graph, cotangents: &mut [Option<NodeId>], to: NodeId, part: NodeId) {
    let want = cotangent_desc(g, to);
    let part = g.cast(part, want.dtype);
    cotangents[to.index()] = Some(match cotangents[to.index()] {
        Some(sum) => g.add(sum, part),
        None => part,
    });
}

/// One node while the walk is at it.
struct Step<'a> {
    id: NodeId,
    node: &'a Node,
    cotangent: NodeId,
    /// Which inputs need a contribution.
    wanted: &'a [bool],
}

impl Step<'_> {
    fn input(&self, i: usize) -> NodeId {
        self.node.inputs[i]
    }

    /// The contribution to input `i`, emitted only when it is needed.
    fn only(&self, i: usize, emit: impl FnOnce() -> NodeId) -> Option<NodeId> {
        (i < self.wanted.len() && self.wanted[i]).then(emit)
    }
}

/// What the cotangent of a node adds to that of each input; `None` where nothing.
fn contributions(g: &mut Graph, step: &Step<'_>) -> Result<Vec<Option<NodeId>>> {
    Ok(match step.node.op.class() {
        Class::Pointwise => pointwise::contributions(g, step),
        Class::Reduce => vec![Some(reduce::contribution(g, step))],
        Class::Contract => contract::contributions(g, step),
        Class::Norm => norm::contributions(g, step),
        Class::Index => index::contributions(g, step),
        Class::Layout => layout::contributions(g, step),
        Class::Source | Class::Random | Class::Meta => Vec::new(),
    })
}
