//! Buffers that persist, plans that share them, and their replay.
//!
//! A session is built once: declare buffers (state, coefficients, conditions, slots), add one plan per step variant,
//! ask for its bytes, allocate, then write / run / read. Nothing is allocated after `allocate`.

use super::backend::{Backend, RunKey};
use crate::bail;
use crate::base::{Desc, Result};
use crate::graph::{Graph, NodeId};
use crate::mem::{Budget, Tensor};
use std::sync::Arc;

/// A persistent buffer of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BufferId(pub u32);

/// A compiled graph of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlanId(pub u32);

/// Where a weight of a graph lives.
#[derive(Debug, Clone)]
pub enum WeightBinding {
    /// Fixed, shared between sessions.
    Tensor(Arc<Tensor>),
    /// A buffer of this session (training writes it).
    Buffer(BufferId),
}

/// Asked between nodes; anything but `Continue` ends the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    Continue,
    /// Leave now; the next call of `run` with the same plan and key goes on where this one stopped.
    Pause,
    Cancel,
}

/// Declares buffers and plans.
pub struct SessionBuilder {
    backend: Arc<dyn Backend>,
}

impl SessionBuilder {
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend }
    }

    /// A zeroed buffer that keeps its contents between runs. `name` appears in errors and profiles.
    pub fn buffer(&mut self, name: &str, desc: Desc) -> BufferId {
        let _ = (name, desc, &self.backend);
        BufferId(0)
    }

    /// Compiles a graph. `inputs[i]` is the buffer of `graph.inputs()[i]`; each output node is stored to its buffer at
    /// the end of the run, after every input was read (an output may go to a buffer that is also an input).
    /// `weights[i]` binds `graph.weights()[i]`. Descs must agree.
    pub fn plan(
        &mut self,
        graph: &Graph,
        inputs: &[BufferId],
        outputs: &[(NodeId, BufferId)],
        weights: &[WeightBinding],
    ) -> Result<PlanId> {
        let _ = (graph, inputs, outputs, weights);
        bail!(Unsupported, "no planner yet")
    }

    /// Bytes `allocate` will take: buffers, the largest plan's work memory, constants, scratch, packed weights.
    pub fn bytes(&self) -> u64 {
        0
    }

    /// Takes the memory, all of it, now. A cap below `bytes` is `NoMemory` before anything runs.
    pub fn allocate(self, budget: &Arc<Budget>) -> Result<Session> {
        let _ = budget;
        Ok(Session {})
    }
}

/// A planned, allocated set of graphs over shared buffers.
pub struct Session {}

impl Session {
    /// Copies host bytes into a buffer; the length must match.
    pub fn write(&mut self, buffer: BufferId, bytes: &[u8]) -> Result<()> {
        let _ = (buffer, bytes);
        Ok(())
    }

    /// Copies a buffer to host bytes; the length must match.
    pub fn read(&self, buffer: BufferId, bytes: &mut [u8]) -> Result<()> {
        let _ = (buffer, bytes);
        Ok(())
    }

    /// Replays a plan once. `interrupt` is asked between nodes. Returns false when it was paused.
    pub fn run(
        &mut self,
        plan: PlanId,
        key: RunKey,
        interrupt: &mut dyn FnMut() -> Interrupt,
    ) -> Result<bool> {
        let _ = (plan, key, interrupt);
        Ok(true)
    }
}
