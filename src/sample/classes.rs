//! Conditions that are numbers of classes: a network looks them up, and a number it has no class for would be taken for
//! the nearest. How many there are stands in its graph.

use super::build::{Build, Parts};
use super::traits::ModelIo;
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::graph::NodeId;
use crate::graph::reach::looked_up;
use crate::mem::Tensor;

/// What a network knows: 0 to `classes - 1`, and the number of its null condition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Known {
    classes: usize,
    null: f64,
}

/// Fails where a tensor of whole numbers has one that is not known.
pub(crate) fn check(name: &str, given: &Tensor, known: Known) -> Result<()> {
    let Known { classes, null } = known;
    if given.desc().dtype != DType::I32 {
        return Ok(());
    }
    let outside =
        |v: &&i32| usize::try_from(**v).map_or(true, |n| n >= classes) && f64::from(**v) != null;
    match given.elements::<i32>()?.iter().find(outside) {
        None => Ok(()),
        Some(v) => {
            let last = classes.saturating_sub(1);
            bail!(Invalid, "condition {name} is {v}, and the network knows 0 to {last}")
        }
    }
}

/// What the network `base` knows of each condition; None where it looks nothing up.
pub(crate) fn of(parts: &Parts) -> Result<Vec<Option<Known>>> {
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
        *out = known(&b, node, c.null_value);
    }
    Ok(out)
}

/// What a graph knows of an input.
pub(crate) fn known(b: &Build<'_>, node: NodeId, null: f64) -> Option<Known> {
    if b.graph.desc(node).dtype != DType::I32 {
        return None;
    }
    looked_up(&b.graph, node).map(|classes| Known { classes, null })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::Budget;

    #[test]
    fn a_class_or_none_is_known() {
        let given = |v: i32| {
            let desc = Desc::new(DType::I32, &[1]).unwrap();
            Tensor::from_bytes(desc, &v.to_le_bytes(), &Budget::unlimited()).unwrap()
        };
        for (null, fit, odd) in [(-1.0, [0, 2, -1], [3, -2]), (2.0, [0, 1, 2], [3, -1])] {
            let known = Known { classes: 3, null };
            assert!(fit.iter().all(|v| check("y", &given(*v), known).is_ok()), "{null}");
            assert!(odd.iter().all(|v| check("y", &given(*v), known).is_err()), "{null}");
        }
    }
}
