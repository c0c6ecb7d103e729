//! Redrawing: the last rows of a batch run again, from the state it had there and with new addresses of its draws, until
//! each of its samples is feasible or the turns are used up; the second half of the turns begin at the prior. A sample keeps the first turn in which it was feasible, so
//! its bits depend on itself alone; the result `draws` says which turn that was. Particles go in whole groups.
//!
//! A saved run that has passed the row it would go back to starts that batch anew when it is resumed: the same turns
//! come out, and the file needs no second state.

use super::program::Program;
use super::replay::{At, Replay};
use super::stage;
use super::traits::Redraw;
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::exec::BufferId;
use crate::mem::{Budget, Tensor};
use std::sync::Arc;

/// Most times a sample is drawn again: turns have room in the step of an address beside the rows.
pub const MOST_REDRAWS: u32 = 1023;

/// Turns stand above the rows, of which there are at most 2^20, in the step number of an address.
const TURN_SHIFT: u32 = 21;

/// Name of the result.
pub(super) const DRAWS: &str = "draws";

/// Where the turns of a batch stand.
#[derive(Default)]
pub(super) struct Turns {
    redraw: Option<Redraw>,
    /// The row they go back to; 0 = the start.
    from: usize,
    /// Which turn this is, from 0.
    turn: u32,
    /// The run as it was before that row.
    marks: Vec<(BufferId, Tensor)>,
}

impl Turns {
    /// For a run of `rows` rows. Takes the memory of the marks.
    pub(super) fn new(program: &Program, rows: usize, budget: &Arc<Budget>) -> Result<Self> {
        let Some(redraw) = program.redraw else { return Ok(Self::default()) };
        let again = (redraw.share * rows as f64).ceil() as usize;
        let from = rows - again.clamp(1, rows);
        let mut marks = Vec::new();
        if from > 0 {
            for b in program.persistent() {
                marks.push((b.id, Tensor::new(b.desc, budget)?));
            }
        }
        Ok(Self { redraw: Some(redraw), from, turn: 0, marks })
    }

    /// What `new` takes at most, beside the draws of `n` samples.
    pub(super) fn bytes(program: &Program, n: usize) -> u64 {
        let marks = program.persistent().map(|b| b.desc.bytes() as u64);
        match program.redraw {
            Some(_) => marks.fold(4 * n as u64, u64::saturating_add),
            None => 0,
        }
    }

    /// The step of an address in this turn.
    pub(super) fn step(&self, at: At, step: u32) -> u32 {
        match at {
            At::Finish => step - self.turn, // counted down, from the last number
            _ => step + (self.turn << TURN_SHIFT),
        }
    }

    pub(super) fn is_first(&self) -> bool {
        self.turn == 0
    }

    /// Where a run that is saved here goes on.
    pub(super) fn saved(&self, at: At) -> At {
        let passed = match at {
            At::Row(i) => i > self.from,
            At::Preview(i) => i > self.from,
            At::Finish => true,
            At::Start | At::Done => false,
        };
        let begun = self.redraw.is_some() && (!self.is_first() || passed) && at != At::Done;
        if begun { At::Start } else { at }
    }

    pub(super) fn begin_batch(&mut self) {
        self.turn = 0;
    }
}

/// The tensor of the turns of `n` samples; 0 = not feasible yet.
pub(super) fn draws(n: usize, budget: &Arc<Budget>) -> Result<(String, Tensor)> {
    Ok((DRAWS.to_owned(), Tensor::new(Desc::new(DType::I32, &[n])?, budget)?))
}

impl Replay {
    /// Before row `i`: what a later turn goes back to.
    pub(super) fn mark(&mut self, i: usize) -> Result<()> {
        if self.turns.is_first() && i == self.turns.from {
            for (id, kept) in &mut self.turns.marks {
                self.session.read(*id, kept.bytes_mut())?;
            }
        }
        Ok(())
    }

    /// After a finish: keeps the samples that are feasible for the first time. Where the batch goes on, if it does.
    pub(super) fn judge(&mut self) -> Result<Option<At>> {
        let Some(redraw) = self.turns.redraw else {
            self.collect(|_| true)?;
            return Ok(None);
        };
        let first = self.batch * self.program.batch;
        let n = self.program.batch.min(self.request.n_samples - first);
        let mut feasible = vec![0u8; self.program.batch];
        match self.program.buffer(&stage::out("feasible")) {
            Some(b) => self.session.read_at(b.id, 0, &mut feasible)?,
            None => bail!(Internal, "no buffer of what is feasible"),
        }
        // particles of a group are kept or drawn again together
        for group in feasible.chunks_mut(self.program.group.max(1)) {
            if group.contains(&0) {
                group.fill(0);
            }
        }
        let last = self.turns.turn == redraw.times;
        let mut draws = self.drawn(first, n)?;
        let wanted: Vec<bool> =
            draws.iter().zip(&feasible).map(|(d, f)| *d == 0 && (*f != 0 || last)).collect();
        self.collect(|row| wanted[row])?;
        for (d, wanted) in draws.iter_mut().zip(&wanted) {
            if *wanted {
                *d = self.turns.turn as i32 + 1;
            }
        }
        let open = draws.contains(&0);
        self.note(first, &draws)?;
        if !open {
            return Ok(None);
        }
        self.turns.turn += 1;
        // where the last rows cannot mend it, the state they set out from was hopeless
        if self.turns.from == 0 || self.turns.turn > redraw.times.div_ceil(2) {
            return Ok(Some(At::Start));
        }
        for (id, kept) in &self.turns.marks {
            self.session.write(*id, kept.bytes())?;
        }
        Ok(Some(At::Row(self.turns.from)))
    }

    fn drawn(&self, first: usize, n: usize) -> Result<Vec<i32>> {
        match self.results.last() {
            Some((name, t)) if name == DRAWS => Ok(t.elements::<i32>()?[first..first + n].to_vec()),
            _ => bail!(Internal, "no result of the draws"),
        }
    }

    fn note(&mut self, first: usize, draws: &[i32]) -> Result<()> {
        if let Some((_, t)) = self.results.last_mut() {
            let bytes = &mut t.bytes_mut()[4 * first..4 * (first + draws.len())];
            for (to, d) in bytes.chunks_exact_mut(4).zip(draws) {
                to.copy_from_slice(&d.to_ne_bytes());
            }
        }
        Ok(())
    }
}
