//! The states a batch passes through, kept for objectives and for grids that adapt.

use super::program::Program;
use super::replay::{Advance, At, Replay};
use crate::bail;
use crate::base::{Desc, Result};
use crate::exec::Interrupt;
use crate::mem::{Block, Budget};
use std::sync::Arc;

/// States of one batch at every level it passed through.
#[derive(Debug)]
pub struct Trajectory {
    /// Per component: description of one batch, and [rows + 1, batch, ...] bytes.
    pub states: Vec<(Desc, Block)>,
    /// [rows + 1, components]
    pub levels: Vec<f64>,
    /// [rows, components, 3]: a, c, v where every step is `w' = a w + c D + sqrt(v) z`; else empty.
    pub kernels: Vec<f64>,
    taken: usize,
}

impl Trajectory {
    /// Fails with one sentence unless every sample goes through the rows once, all of them together.
    pub fn check(program: &Program) -> Result<()> {
        if program.control {
            bail!(Unsupported, "a sampler with control has no common trajectory to record");
        }
        if program.redraw.is_some() {
            bail!(
                Unsupported,
                "a guidance redraws samples, which have no common trajectory to record then: want one that does not, \
                 or \"redraws\": 0"
            );
        }
        Ok(())
    }

    /// Takes the memory for a run that has begun.
    pub fn new(replay: &Replay, budget: &Arc<Budget>) -> Result<Self> {
        let rows = replay.rows();
        Self::check(&replay.program)?;
        let mut states = Vec::new();
        for c in 0..replay.program.components.len() {
            let Some(b) = replay.program.state(c) else {
                bail!(Internal, "component {c} has no state");
            };
            let bytes = b.desc.bytes().saturating_mul(rows.len() + 1);
            states.push((b.desc, Block::new(bytes, budget, "a trajectory")?));
        }
        let (levels, kernels) = (rows.levels.clone(), rows.kernels.clone());
        Ok(Self { states, levels, kernels, taken: 0 })
    }

    /// An empty one of the same run, for batches of `rows` samples.
    pub fn of_batch(&self, rows: usize, budget: &Arc<Budget>) -> Result<Self> {
        let mut states = Vec::new();
        for (desc, bytes) in &self.states {
            let records = bytes.len() / desc.bytes().max(1);
            let dims = [&[rows], desc.dims().get(1..).unwrap_or_default()].concat();
            let desc = Desc::new(desc.dtype, &dims)?;
            let bytes = desc.bytes().saturating_mul(records);
            states.push((desc, Block::new(bytes, budget, "a trajectory")?));
        }
        Ok(Self { states, levels: self.levels.clone(), kernels: self.kernels.clone(), taken: 0 })
    }

    /// Copies the states of a sample to a row of another.
    pub fn copy_row(&self, row: usize, to: &mut Self, at: usize) -> Result<()> {
        for ((from_desc, from), (to_desc, to)) in self.states.iter().zip(&mut to.states) {
            let (a, b) = (from_desc.bytes(), to_desc.bytes());
            let size = a / from_desc.dims().first().copied().unwrap_or(1).max(1);
            let (from, to) = (from.bytes(), to.bytes_mut());
            for (one, other) in from.chunks_exact(a.max(1)).zip(to.chunks_exact_mut(b.max(1))) {
                let from = one.get(row * size..(row + 1) * size);
                match (from, other.get_mut(at * size..(at + 1) * size)) {
                    (Some(from), Some(to)) => to.copy_from_slice(from),
                    _ => bail!(Internal, "row {row} of a batch of {from_desc}"),
                }
            }
        }
        Ok(())
    }

    /// Runs one batch from its start to before the next, keeping every state. The results of the batch are in
    /// the replay as usual.
    pub fn record(
        &mut self,
        replay: &mut Replay,
        interrupt: &mut dyn FnMut() -> Interrupt,
    ) -> Result<()> {
        self.taken = 0;
        loop {
            let before = replay.at();
            let did = replay.advance(interrupt)?;
            match did {
                Advance::Paused | Advance::Preview => {}
                Advance::Row => self.take(replay)?,
                Advance::Stage if before == At::Start => self.take(replay)?,
                Advance::Stage | Advance::Done => return Ok(()),
            }
        }
    }

    fn take(&mut self, replay: &Replay) -> Result<()> {
        for (c, (desc, bytes)) in self.states.iter_mut().enumerate() {
            let n = desc.bytes();
            match bytes.bytes_mut().get_mut(self.taken * n..(self.taken + 1) * n) {
                Some(part) => replay.read_state(c, part)?,
                None => bail!(Internal, "more states than rows"),
            }
        }
        self.taken += 1;
        Ok(())
    }
}
