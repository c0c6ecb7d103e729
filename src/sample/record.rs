//! The states a batch passes through, kept for objectives and for grids that adapt.

use super::replay::{Advance, Replay};
use crate::bail;
use crate::base::{Desc, Result};
use crate::exec::Interrupt;
use crate::mem::zeros;

/// States of one batch at every level it passed through.
#[derive(Debug, Clone)]
pub struct Trajectory {
    /// Per component: description of one batch, and [rows + 1, batch, ...] bytes.
    pub states: Vec<(Desc, Vec<u8>)>,
    /// [rows + 1, components]
    pub levels: Vec<f64>,
    taken: usize,
}

impl Trajectory {
    /// Takes the memory for a run that has begun.
    pub fn new(replay: &Replay) -> Result<Self> {
        let rows = replay.rows();
        if rows.control {
            bail!(Unsupported, "a sampler with control has no common trajectory to record");
        }
        let mut states = Vec::new();
        for c in 0..replay.program.components.len() {
            let Some(b) = replay.program.state(c) else {
                bail!(Internal, "component {c} has no state");
            };
            let bytes = b.desc.bytes().saturating_mul(rows.len() + 1);
            states.push((b.desc, zeros(bytes, "a trajectory")?));
        }
        Ok(Self { states, levels: rows.levels.clone(), taken: 0 })
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
                Advance::Stage if before == super::replay::At::Start => self.take(replay)?,
                Advance::Stage | Advance::Done => return Ok(()),
            }
        }
    }

    fn take(&mut self, replay: &Replay) -> Result<()> {
        for (c, (desc, bytes)) in self.states.iter_mut().enumerate() {
            let n = desc.bytes();
            match bytes.get_mut(self.taken * n..(self.taken + 1) * n) {
                Some(part) => replay.read_state(c, part)?,
                None => bail!(Internal, "more states than rows"),
            }
        }
        self.taken += 1;
        Ok(())
    }
}
