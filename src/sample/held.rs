//! Per-sample tensors that live across steps while a graph is built: solver history, caches, a guidance's memory.
//!
//! They are declared where they are first asked for. In a step they are inputs of the graph, named after their owner,
//! and whatever stands in them at the end is stored; elsewhere (a start, a loss) they begin with their initial value.

use super::build::Build;
use super::traits::SlotDecl;
use crate::bail;
use crate::base::{Desc, Result};
use crate::graph::NodeId;

/// Whose tensor it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    Sampler,
    Guidance(usize),
    /// A cache of a network; evaluation `lane` of a batch of evaluations has its own.
    Network {
        index: usize,
        lane: usize,
    },
}

/// One tensor that lives across steps.
#[derive(Debug, Clone)]
pub struct Held {
    pub owner: Owner,
    /// Name of its buffer, unique in a pipeline.
    pub name: String,
    /// With the batch axis.
    pub desc: Desc,
    pub init: f64,
    /// Its value when the graph begins.
    pub was: NodeId,
    /// Its value at this point of the build.
    pub now: NodeId,
}

impl Build<'_> {
    /// The tensors held so far, as they stand now.
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// The values of an owner's tensors, declaring them on the first call.
    pub(super) fn hold(&mut self, owner: Owner, decls: &[SlotDecl]) -> Result<Vec<NodeId>> {
        if !decls.is_empty() && !self.held.iter().any(|h| h.owner == owner) {
            for decl in decls {
                let batch = self.graph.batch();
                let dtype = if decl.free { self.parts.float } else { decl.desc.dtype };
                let desc = Desc::new(dtype, &[&[batch], decl.desc.dims()].concat())?;
                let name = match &owner {
                    Owner::Sampler => format!("slot.sampler.{}", decl.name),
                    Owner::Guidance(i) => format!("slot.guidance{i}.{}", decl.name),
                    Owner::Network { index, lane } => {
                        format!("slot.{}.{}.{lane}", self.parts.networks[*index].slot, decl.name)
                    }
                };
                if self.held.iter().any(|h| h.name == name) {
                    bail!(Plugin, "{name} is declared twice");
                }
                let now = if self.persistent {
                    self.graph.input(&name, desc)
                } else {
                    self.graph.full(decl.init, dtype, desc.dims())
                };
                self.held.push(Held {
                    owner: owner.clone(),
                    name,
                    desc,
                    init: decl.init,
                    was: now,
                    now,
                });
            }
        }
        self.graph.check()?;
        Ok(self.held.iter().filter(|h| h.owner == owner).map(|h| h.now).collect())
    }

    /// Stores what an owner left in its tensors.
    pub(super) fn keep(&mut self, owner: &Owner, nodes: &[NodeId]) -> Result<()> {
        self.graph.check()?;
        let graph = &self.graph;
        let mut left = nodes.iter();
        for held in self.held.iter_mut().filter(|h| h.owner == *owner) {
            match left.next() {
                Some(n) if graph.is_valid(*n) && graph.desc(*n) == held.desc => held.now = *n,
                Some(n) if graph.is_valid(*n) => {
                    bail!(Plugin, "{}: is {}, want {}", held.name, graph.desc(*n), held.desc)
                }
                _ => bail!(Plugin, "{}: no node was given, want {}", held.name, held.desc),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::DType;
    use crate::sample::build::Parts;

    #[test]
    fn only_a_slot_without_a_type_takes_that_of_the_pipeline() {
        let parts = Parts {
            components: vec![],
            processes: vec![],
            stats: vec![],
            conds: vec![],
            networks: vec![],
            guidances: vec![],
            float: DType::F64,
            weight_dtype: DType::F64,
        };
        let mut b = Build::new(&parts, 3).unwrap();
        let slot = |name: &str, free| SlotDecl {
            name: name.into(),
            desc: Desc::new(DType::F32, &[2]).unwrap(),
            free,
            init: 0.0,
        };
        b.hold(Owner::Sampler, &[slot("free", true), slot("own", false)]).unwrap();
        let dtypes: Vec<DType> = b.held().iter().map(|h| h.desc.dtype).collect();
        assert_eq!(dtypes, [DType::F64, DType::F32]);
    }
}
