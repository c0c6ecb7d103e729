//! A backend for tests: the CPU's, and a watcher is asked at each turn (a node, or a share of a long one) before the
//! engine's own answer counts.

use crate::base::Result;
use crate::cpu::Cpu;
use crate::exec::Interrupt;
use crate::exec::backend::{Backend, Executable, Layout, Memory, Outcome, RunKey, StepTime};
use crate::graph::plan::{Plan, Scratch};
use crate::mem::Budget;
use std::sync::Arc;

/// Given the question whether the next turn may begin; its answer decides.
pub(super) trait Watcher: Clone + Send + Sync + 'static {
    fn turn(&self, key: RunKey, ask: &mut dyn FnMut() -> Interrupt) -> Interrupt;
}

pub(super) struct Watched<W>(pub(super) Cpu, pub(super) W);

impl<W: Watcher> Backend for Watched<W> {
    fn name(&self) -> &str {
        "watched"
    }

    fn scratch(&self) -> &dyn Scratch {
        self.0.scratch()
    }

    fn reads_host_memory(&self) -> bool {
        self.0.reads_host_memory()
    }

    fn memory(&self, bytes: usize, budget: &Arc<Budget>) -> Result<Box<dyn Memory>> {
        self.0.memory(bytes, budget)
    }

    fn load(
        &self,
        plan: Plan,
        layout: Layout,
        memory: &mut dyn Memory,
        profile: bool,
    ) -> Result<Box<dyn Executable>> {
        Ok(Box::new(WatchedPlan(self.0.load(plan, layout, memory, profile)?, self.1.clone())))
    }
}

struct WatchedPlan<W>(Box<dyn Executable>, W);

impl<W: Watcher> Executable for WatchedPlan<W> {
    fn run(
        &mut self,
        memory: &mut dyn Memory,
        key: RunKey,
        from: usize,
        interrupt: &mut dyn FnMut() -> Interrupt,
    ) -> Result<Outcome> {
        let watcher = &self.1;
        self.0.run(memory, key, from, &mut || watcher.turn(key, interrupt))
    }

    fn profile(&self) -> &[StepTime] {
        self.0.profile()
    }
}
