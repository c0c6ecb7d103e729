//! What a run is made of between two plans: enough to stop, write it down, and go on elsewhere with the same bits.

use super::replay::{At, Replay};
use crate::bail;
use crate::base::{Desc, Result};
use crate::exec::Interrupt;

/// Where a run stands and every tensor it owns.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub batch: usize,
    pub at: At,
    /// Persistent buffers under their names, finished results as `result.NAME`.
    pub tensors: Vec<(String, Desc, Vec<u8>)>,
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
    /// Copies the run as it stands. A plan under way is finished first: inside it some buffers are old, others new.
    pub fn save(&mut self) -> Result<Snapshot> {
        while self.session.is_paused() {
            self.advance(&mut || Interrupt::Continue)?;
        }
        let mut tensors = Vec::new();
        for b in self.program.persistent() {
            let mut bytes = vec![0; b.desc.bytes()];
            self.session.read(b.id, &mut bytes)?;
            tensors.push((b.name.clone(), b.desc, bytes));
        }
        for (name, t) in &self.results {
            tensors.push((format!("result.{name}"), t.desc(), t.bytes().to_vec()));
        }
        Ok(Snapshot { batch: self.batch, at: self.at, tensors })
    }

    /// Puts a saved run back. `begin` was called with the same rows and request; `find` gives tensors by name.
    pub fn restore(
        &mut self,
        batch: usize,
        at: At,
        find: &mut dyn FnMut(&str, Desc) -> Result<Vec<u8>>,
    ) -> Result<()> {
        let last = self.rows.len();
        let inside = match at {
            At::Row(i) => self.program.control || i < last,
            At::Preview(i) => self.program.control || i <= last,
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
            let bytes = find(&b.name, b.desc)?;
            self.session.write(b.id, &bytes)?;
        }
        for (name, t) in &mut self.results {
            let bytes = find(&format!("result.{name}"), t.desc())?;
            if bytes.len() != t.bytes().len() {
                bail!(Format, "result {name}: {} bytes, want {}", bytes.len(), t.bytes().len());
            }
            t.bytes_mut().copy_from_slice(&bytes);
        }
        (self.batch, self.at) = (batch, at);
        // a batch under way needs what the start wrote for it
        self.reenter()
    }
}
