//! What a device must offer: scratch sizes for the planner, memory, and a way to run a plan.
//!
//! A session takes one block of device memory and lays everything out in it; a backend only ever sees offsets into that
//! block. Loading a plan resolves them once, so that running it is a walk over a list.

use crate::base::Result;
use crate::graph::plan::{Plan, Scratch};
use crate::mem::{Budget, Tensor};
use std::sync::Arc;

/// Where a run stands in the address space of the generator (architecture idea 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunKey {
    pub seed: u64,
    /// The counter word that changes from step to step: the row of the sampler, the iteration of training.
    pub step: u32,
    /// Sample id of batch row 0; row b is sample `first_sample + b`.
    pub first_sample: u64,
}

/// Asked between nodes; anything but `Continue` ends the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    Continue,
    /// Leave now; the next call of `run` with the same plan and key goes on where this one stopped.
    Pause,
    Cancel,
}

/// A device that runs graphs.
pub trait Backend: Send + Sync {
    /// `cpu`, `cuda:0`.
    fn name(&self) -> &str;

    fn describe(&self) -> Result<String> {
        Ok(self.name().to_owned())
    }

    /// Scratch sizes, for the planner.
    fn scratch(&self) -> &dyn Scratch;

    /// How many calls of `spread` run at one time.
    fn lanes(&self) -> usize {
        1
    }

    /// The device for use inside `spread`, where it keeps to the thread that calls it. `None`: this device itself.
    fn lane(&self) -> Option<Arc<dyn Backend>> {
        None
    }

    /// Calls `f(0) .. f(tasks - 1)`, each once, on threads of the device if it has some; returns when all are done.
    fn spread(&self, tasks: usize, f: &(dyn Fn(usize) + Sync)) -> Result<()> {
        (0..tasks).for_each(f);
        Ok(())
    }

    /// Whether fixed weights are read where the host has them. If not, the session keeps a copy in its own memory.
    fn reads_host_memory(&self) -> bool;

    /// What its memory is charged to, where that is not the host's.
    fn budget(&self) -> Option<&Arc<Budget>> {
        None
    }

    /// Zeroed memory, taken from `budget`. The base is a multiple of 64.
    fn memory(&self, bytes: usize, budget: &Arc<Budget>) -> Result<Box<dyn Memory>>;

    /// Makes a plan ready to run. `memory` outlives the result and does not move.
    fn load(
        &self,
        plan: Plan,
        layout: Layout,
        memory: &mut dyn Memory,
        profile: bool,
    ) -> Result<Box<dyn Executable>>;
}

/// A block of device memory.
pub trait Memory: Send {
    /// Copies host bytes in; the range is inside the block.
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<()>;
    /// Copies bytes out, after everything that was started has finished.
    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<()>;
    /// The device address of the block.
    fn base(&self) -> *mut u8;
}

/// Where the places of a plan are: offsets into the session's memory.
#[derive(Debug, Clone)]
pub struct Layout {
    pub buffers: Vec<usize>,
    /// By index in `Plan::constants`.
    pub constants: Vec<usize>,
    /// By index in the graph; `None` for a weight the plan does not read as `Place::Weight`.
    pub weights: Vec<Option<Home>>,
    pub work: usize,
}

/// Where a fixed weight is.
#[derive(Debug, Clone)]
pub enum Home {
    Host(Arc<Tensor>),
    Memory(usize),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Finished,
    /// Stopped before this step, or this part of a step, as the device counts them.
    Paused(usize),
    Cancelled,
}

/// Time spent in one step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepTime {
    pub name: String,
    pub runs: u64,
    pub ns: u64,
}

/// A plan, ready to run.
pub trait Executable: Send {
    /// Runs steps `from..`. `memory` is the one it was loaded with. Allocates nothing unless it fails.
    fn run(
        &mut self,
        memory: &mut dyn Memory,
        key: RunKey,
        from: usize,
        interrupt: &mut dyn FnMut() -> Interrupt,
    ) -> Result<Outcome>;

    /// Times per step, if it was loaded with `profile`.
    fn profile(&self) -> &[StepTime];
}
