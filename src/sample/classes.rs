//! Conditions that are numbers of classes: a network looks them up, and a number it has no class for would be taken for
//! the nearest. How many there are stands in its graph.

use super::build::{Build, Parts};
use super::traits::ModelIo;
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::graph::NodeId;
use crate::graph::reach::looked_up;
use crate::mem::Tensor;

/// Fails where a tensor of whole numbers has one outside of 0 to `classes - 1`.
pub(crate) fn check(name: &str, given: &Tensor, classes: usize) -> Result<()> {
    if given.desc().dtype != DType::I32 {
        return Ok(());
    }
    let outside = |v: &&i32| usize::try_from(**v).map_or(true, |v| v >= classes);
    match given.elements::<i32>()?.iter().find(outside) {
        None => Ok(()),
        Some(v) => {
            let last = classes.saturating_sub(1);
            bail!(Invalid, "condition {name} is {v}, and the network knows 0 to {last}")
        }
    }
}

/// How many classes the network `base` has by each condition; None where it looks nothing up.
pub(crate) fn of(parts: &Parts) -> Result<Vec<Option<usize>>> {
    let mut out = vec![None; parts.conds.len()];
    if parts.conds.iter().all(|c| c.desc.dtype != DType::I32) {
        return Ok(out);
    }
    let mut b = Build::new(parts, 1)?;
    for (i, c) in parts.conds.iter().enumerate() {
        let desc = Desc::new(c.desc.dtype, &[&[1], c.desc.dims()].concat())?;
        b.cond[i] = b.graph.input(&c.name, desc);
    }
    let level = b.graph.full(0.0, parts.float, &[1]);
    let mut x = Vec::new();
    for c in 0..parts.components.len() {
        let desc = parts.state(c, 1)?;
        x.push(b.graph.full(0.0, desc.dtype, desc.dims()));
    }
    let mut io = ModelIo {
        phase: 0,
        sigma: vec![level; x.len()],
        cond: b.cond.clone(),
        slots: Vec::new(),
        slots_out: Vec::new(),
        out: vec![NodeId::ERROR; x.len()],
        x,
    };
    let given = b.cond.clone();
    b.network("base", &mut io)?;
    for ((out, node), c) in out.iter_mut().zip(given).zip(&parts.conds) {
        *out = classes(&b, node, c.null_value);
    }
    Ok(out)
}

/// How many classes a graph knows by an input; None too where the null condition is none of them.
pub(crate) fn classes(b: &Build<'_>, node: NodeId, null: f64) -> Option<usize> {
    if b.graph.desc(node).dtype != DType::I32 {
        return None;
    }
    looked_up(&b.graph, node).filter(|n| (0.0..*n as f64).contains(&null))
}
