//! From the state to what a network takes, and from what it predicts to the denoised estimate D.
//!
//! Every kind of prediction has one row in the two matches below; the meaning of each is `DFX_PREDICTS_*` in the
//! plugin header. Noise levels come as a scalar, as [batch] or shaped ([batch,1,..,1]); networks take [rows], the
//! arithmetic here is shaped.

use super::build::Build;
use super::traits::{Predicts, ProcessFn, Space};
use crate::bail;
use crate::base::Result;
use crate::graph::{AttrKey, Attrs, Graph, NodeId, Op};

/// A component on its way into a network, with what the way back needs.
pub(super) struct Given {
    /// What the network takes.
    pub x: NodeId,
    /// Its noise embedding input, [rows].
    pub noise: NodeId,
    /// D = skip + out * prediction; None for logits, which are D themselves, and for D itself.
    back: Option<(NodeId, NodeId)>,
}

/// `sigma` as [rows].
pub(super) fn level_rows(g: &mut Graph, sigma: NodeId, rows: usize) -> Result<NodeId> {
    let shape = g.desc(sigma).shape;
    let n = shape.elements();
    if n != rows && n != 1 {
        bail!(Invalid, "a level is {shape}, want a scalar, [{rows}] or [{rows},1,..,1]");
    }
    let flat = if shape.dims() == [n] { sigma } else { reshape(g, sigma, &[n]) };
    let attrs = Attrs::NONE.with_dims(AttrKey::Shape, &[rows]);
    Ok(if n == rows { flat } else { g.emit(Op::BroadcastTo, &[flat], attrs) })
}

/// `sigma` as [rows,1,..,1] with the rank of a state.
pub(super) fn level_shaped(
    g: &mut Graph,
    sigma: NodeId,
    rows: usize,
    rank: usize,
) -> Result<NodeId> {
    let flat = level_rows(g, sigma, rows)?;
    let mut dims = vec![1; rank.max(1)];
    dims[0] = rows;
    Ok(if dims.len() == 1 { flat } else { reshape(g, flat, &dims) })
}

pub(super) fn reshape(g: &mut Graph, x: NodeId, dims: &[usize]) -> NodeId {
    g.emit(Op::Reshape, &[x], Attrs::NONE.with_dims(AttrKey::Shape, dims))
}

/// What the network gets for component `c` in state `w` at level `sigma` [rows].
pub(super) fn before(
    b: &mut Build<'_>,
    c: usize,
    predicts: Predicts,
    w: NodeId,
    sigma: NodeId,
) -> Result<Given> {
    if b.parts.components[c].space == Space::Discrete {
        return Ok(Given { x: w, noise: sigma, back: None });
    }
    let shape = b.graph.desc(w).shape;
    let (rows, rank) = (shape.dim(0), shape.rank());
    let level = level_shaped(&mut b.graph, sigma, rows, rank)?;
    if predicts == Predicts::Residual {
        let out = b.process(c, ProcessFn::Precond, 0, &[level])?;
        let &[c_skip, c_out, c_in, c_noise, _] = out.as_slice() else {
            bail!(Plugin, "precond gave {} nodes, want 5", out.len());
        };
        let g = &mut b.graph;
        let x = g.binary(Op::Mul, c_in, w);
        let noise = level_rows(g, c_noise, rows)?;
        let skip = g.binary(Op::Mul, c_skip, w);
        return Ok(Given { x, noise, back: Some((skip, c_out)) });
    }
    let g = &mut b.graph;
    Ok(match predicts {
        Predicts::Denoised => Given { x: w, noise: log_level(g, sigma), back: None },
        Predicts::Noise => {
            let out = g.unary(Op::Neg, level);
            Given { x: w, noise: log_level(g, sigma), back: Some((w, out)) }
        }
        Predicts::Score => {
            let out = g.unary(Op::Square, level);
            Given { x: w, noise: log_level(g, sigma), back: Some((w, out)) }
        }
        Predicts::Velocity => {
            // x_t = (1 - t) w = (1 - t) x0 + t eps, so D = x_t - t v
            let one = g.scalar(1.0);
            let below = g.binary(Op::Add, level, one);
            let t = g.binary(Op::Div, level, below);
            let rest = g.unary(Op::Recip, below);
            let x = g.binary(Op::Mul, rest, w);
            let noise = level_rows(g, t, rows)?;
            let out = g.unary(Op::Neg, t);
            Given { x, noise, back: Some((x, out)) }
        }
        Predicts::V => {
            // x_t = a w = a x0 + s eps with a² + s² = 1, s = a sigma: D = a x_t - s v
            let square = g.unary(Op::Square, level);
            let one = g.scalar(1.0);
            let total = g.binary(Op::Add, square, one);
            let a = g.unary(Op::Rsqrt, total);
            let x = g.binary(Op::Mul, a, w);
            let skip = g.binary(Op::Mul, a, x);
            let s = g.binary(Op::Mul, a, level);
            let out = g.unary(Op::Neg, s);
            Given { x, noise: log_level(g, sigma), back: Some((skip, out)) }
        }
        Predicts::Logits => bail!(
            Plugin,
            "component {} is continuous, but its network predicts logits",
            b.parts.components[c].name
        ),
        Predicts::Value => bail!(
            Invalid,
            "a network that predicts a value is no denoiser; it is used through `network` only"
        ),
        Predicts::Residual => bail!(Internal, "residual is handled above"),
    })
}

/// D from what the network gave.
pub(super) fn after(g: &mut Graph, given: &Given, prediction: NodeId) -> NodeId {
    match given.back {
        None => prediction,
        Some((skip, out)) => {
            let scaled = g.binary(Op::Mul, out, prediction);
            g.binary(Op::Add, skip, scaled)
        }
    }
}

/// ln(sigma)/4, finite at 0.
fn log_level(g: &mut Graph, sigma: NodeId) -> NodeId {
    let tiny = g.scalar(1e-30);
    let quarter = g.scalar(0.25);
    let floor = g.binary(Op::Max, sigma, tiny);
    let log = g.unary(Op::Log, floor);
    g.binary(Op::Mul, log, quarter)
}
