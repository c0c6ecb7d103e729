//! A graph under construction together with what plugins may ask of the pipeline it belongs to: the denoiser chain,
//! networks by slot, process functions, conditions, statistics.
//!
//! Denoiser handles: 0 is the outermost of the chain; k in 1..=n_guidances+1 is the chain from the inside (1 = the
//! base network with its preconditioning, k + 1 = guidance k-1 around handle k); handles above are the unguided
//! denoisers of other network slots, made on demand.

use super::traits::{Component, Cond, Guidance, Model, ModelIo, Process, ProcessFn, Stats};
use crate::bail;
use crate::base::{DType, Result};
use crate::graph::builder::Lora;
use crate::graph::{Graph, NodeId};
use std::sync::Arc;

/// One evaluation of a denoiser. `cond` empty = the conditions of the job.
#[derive(Debug, Clone)]
pub struct Eval {
    pub phase: u32,
    pub x: Vec<NodeId>,
    pub sigma: Vec<NodeId>,
    pub cond: Option<Vec<NodeId>>,
}

/// A network: a model, the parameter set (slot name) it reads, and the adapter on it, if any.
#[derive(Clone)]
pub struct Network {
    pub slot: String,
    pub model: Arc<dyn Model>,
    pub lora: Option<Lora>,
}

/// The networks a pipeline or objective may name.
pub type Networks = Vec<Network>;

/// Everything fixed about a pipeline that a build may ask for.
#[derive(Clone)]
pub struct Parts {
    pub components: Vec<Component>,
    /// One per component.
    pub processes: Vec<Arc<dyn Process>>,
    pub stats: Vec<Stats>,
    pub conds: Vec<Cond>,
    pub networks: Networks,
    /// In wrapping order: the first is innermost.
    pub guidances: Vec<Arc<dyn Guidance>>,
    pub float: DType,
    /// Type of weights declared with dtype 0.
    pub weight_dtype: DType,
}

/// A graph under construction. Reached by C plugins as the opaque `dfx_graph *`.
pub struct Build<'a> {
    pub graph: Graph,
    pub parts: &'a Parts,
    /// [batch, ...] nodes of the job's conditions and of their null values.
    pub cond: Vec<NodeId>,
    pub null_cond: Vec<NodeId>,
}

impl<'a> Build<'a> {
    /// Several evaluations as one batch through the denoiser of handle `d`.
    pub fn denoise(&mut self, d: u32, evals: &[Eval]) -> Result<Vec<Vec<NodeId>>> {
        let _ = (d, evals);
        bail!(Unsupported, "denoise: not built")
    }

    /// Handle of the unguided denoiser of a network slot.
    pub fn denoiser_of(&mut self, slot: &str) -> Result<u32> {
        bail!(NotFound, "no network slot named {slot}")
    }

    /// The network of a slot itself, without preconditioning.
    pub fn network(&mut self, slot: &str, io: &mut ModelIo) -> Result<()> {
        let _ = io;
        bail!(NotFound, "no network slot named {slot}")
    }

    /// A function of the process of a component.
    pub fn process(
        &mut self,
        component: usize,
        f: ProcessFn,
        purpose: u8,
        inputs: &[NodeId],
    ) -> Result<Vec<NodeId>> {
        let Some(process) = self.parts.processes.get(component).cloned() else {
            bail!(
                Invalid,
                "component {component} does not exist, there are {}",
                self.parts.processes.len()
            );
        };
        let (_, name, n_in, _) = *f.row();
        if inputs.len() != n_in {
            bail!(Invalid, "process {name}: takes {n_in} inputs, got {}", inputs.len());
        }
        let parts = self.parts;
        process.call(
            self,
            f,
            purpose,
            &parts.components[component],
            &parts.stats[component],
            inputs,
        )
    }
}
