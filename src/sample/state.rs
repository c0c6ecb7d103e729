//! What a run is made of between two plans: enough to stop, write it down, and go on elsewhere with the same bits.

use super::replay::{At, MAX_ITERATIONS, Replay};
use crate::bail;
use crate::base::{Desc, Result};
use crate::exec::Interrupt;

/// Where a run stands and which tensors it owns; their bytes stay where they are.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub batch: usize,
    pub at: At,
    /// Persistent buffers under their names, finished results as `result.NAME`.
    pub tensors: Vec<(String, Desc)>,
}

impl At {
    /// A stage and a row, to be written to a file.
    pub fn encode(self) -> (u32, u64) {
        match self {
            Self::Start => (0, 0),
            Self::Row(i) => (1, i as u64),
            Self::Preview(i) => (2, i as u64),
            Self::Finish => (3, 0),
            Self::Done => (4, 0),
        }
    }

    pub fn decode(stage: u32, row: u64) -> Option<Self> {
        let row = usize::try_from(row).ok()?;
        Some(match stage {
            0 => Self::Start,
            1 => Self::Row(row),
            2 => Self::Preview(row),
            3 => Self::Finish,
            4 => Self::Done,
            _ => return None,
        })
    }
}

impl Replay {
    /// The run as it stands. A plan under way is finished first: inside it some buffers are old, others new.
    pub fn save(&mut self) -> Result<Snapshot> {
        while self.session.is_paused() {
            self.advance(&mut || Interrupt::Continue)?;
        }
        let mut tensors = Vec::new();
        tensors.extend(self.program.persistent().map(|b| (b.name.clone(), b.desc)));
        tensors.extend(self.results.iter().map(|(name, t)| (format!("result.{name}"), t.desc())));
        Ok(Snapshot { batch: self.batch, at: self.turns.saved(self.at), tensors })
    }

    /// Shows the bytes of tensor `i` of the snapshot just taken, piece by piece.
    pub fn show_saved(&self, i: usize, to: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if let Some(b) = self.program.persistent().nth(i) {
            return self.session.show(b.id, to);
        }
        match self.results.get(i - self.program.persistent().count()) {
            Some((_, t)) => to(t.bytes()),
            None => bail!(Internal, "a snapshot has no tensor {i}"),
        }
    }

    /// Puts a saved run back. `begin` was called with the same rows and request; `load` gives bytes of a tensor by
    /// name, from a byte of it on.
    pub fn restore(
        &mut self,
        batch: usize,
        at: At,
        load: &mut dyn FnMut(&str, Desc, usize, &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let last = self.rows.len();
        let inside = match at {
            At::Row(i) => i < if self.program.control { MAX_ITERATIONS } else { last },
            At::Preview(i) => i <= if self.program.control { MAX_ITERATIONS } else { last },
            _ => true,
        };
        let batches = self.request.n_samples.div_ceil(self.program.batch);
        if !inside || batch > batches || (batch == batches) != (at == At::Done) {
            bail!(Format, "a saved run is at batch {batch} of {batches}, {at:?} of {last} rows");
        }
        if matches!(at, At::Preview(_)) && !self.program.has_preview() {
            bail!(Format, "a saved run is at a preview, this one has none");
        }
        let buffers: Vec<_> = self.program.persistent().cloned().collect();
        for b in buffers {
            self.session.fill(b.id, &mut |at, piece| load(&b.name, b.desc, at, piece))?;
        }
        for (name, t) in &mut self.results {
            load(&format!("result.{name}"), t.desc(), 0, t.bytes_mut())?;
        }
        (self.batch, self.at) = (batch, at);
        // a batch under way needs what the start wrote for it
        self.reenter()
    }
}
