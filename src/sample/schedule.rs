//! The moments of a simulation, and what a step between two of them needs to know.

use super::traits::Process;
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::mem::{Budget, Tensor};
use std::sync::Arc;

/// How a path is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// The process's own transition, exact whatever the times.
    Exact,
    /// So many Euler-Maruyama steps (at most 100000) from each time to the next, with full truncation where the data are positive.
    Euler { substeps: u32 },
}

/// Most pieces of one interval: a call that cannot be stopped must end in sensible time.
const MOST_PIECES: u32 = 1 << 12;

/// Most Euler steps of one interval, for the same reason; whoever wants more adds times and keeps some.
const MOST_SUBSTEPS: u32 = 100_000;

/// Times asked of a plugin at once.
const AT_ONCE: usize = 4096;

/// What happens between the moments.
pub(super) struct Schedule<'a> {
    times: &'a [f64],
    keep: &'a [u32],
    scheme: Scheme,
    /// Exact: (level, pieces) of each time. The level is that of the time, or, where the clock starts anew at each
    /// moment, that of a piece of the interval before it.
    levels: Option<Tensor>,
    anew: bool,
}

impl<'a> Schedule<'a> {
    pub(super) fn new(
        process: &dyn Process,
        times: &'a [f64],
        keep: &'a [u32],
        scheme: Scheme,
        homogeneous: bool,
        float: DType,
        budget: &Arc<Budget>,
    ) -> Result<Self> {
        if times.is_empty() {
            bail!(Invalid, "no times to simulate at");
        }
        if let Some(t) = times.iter().find(|t| !t.is_finite() || **t < 0.0) {
            bail!(Invalid, "time {t}, want a finite time from 0 on");
        }
        if let Some(w) = times.windows(2).find(|w| w[1] <= w[0]) {
            bail!(Invalid, "time {} follows {}, want ascending times", w[1], w[0]);
        }
        if let Some(k) = keep.iter().find(|k| **k as usize >= times.len()) {
            bail!(Invalid, "time number {k} is to be kept, there are {}", times.len());
        }
        if let Some(w) = keep.windows(2).find(|w| w[1] <= w[0]) {
            bail!(Invalid, "time number {} is kept after {}, want ascending ones", w[1], w[0]);
        }
        let mut schedule = Self { times, keep, scheme, levels: None, anew: homogeneous };
        match scheme {
            Scheme::Euler { substeps: 1..=MOST_SUBSTEPS } => {}
            Scheme::Euler { substeps: n } => {
                bail!(Invalid, "{n} steps between two times, want 1 to {MOST_SUBSTEPS}")
            }
            Scheme::Exact => schedule.levels = Some(schedule.levels(process, float, budget)?),
        }
        let steps: u64 = (0..times.len()).map(|k| u64::from(schedule.pieces(k))).sum();
        if steps > u64::from(u32::MAX) {
            bail!(Invalid, "{steps} steps, want at most 2^32 - 1");
        }
        Ok(schedule)
    }

    /// How many times come out.
    pub(super) fn kept(&self) -> usize {
        if self.keep.is_empty() { self.times.len() } else { self.keep.len() }
    }

    /// Calls `step(number, scalars, whether it comes out)` for every step in order. The scalars are the levels before
    /// and after; of an Euler step dt, √dt and t.
    pub(super) fn walk(
        &self,
        mut step: impl FnMut(u32, [f64; 3], bool) -> Result<()>,
    ) -> Result<()> {
        let (mut number, mut kept, mut before) = (0, 0, 0.0);
        for (k, &time) in self.times.iter().enumerate() {
            let keep =
                self.keep.is_empty() || self.keep.get(kept).is_some_and(|i| *i as usize == k);
            kept += usize::from(keep);
            let pieces = self.pieces(k);
            let dt = (time - before) / f64::from(pieces);
            for piece in 0..pieces {
                let scalars = match self.level(k) {
                    None => [dt, dt.sqrt(), before + f64::from(piece) * dt],
                    Some(level) if self.anew => [0.0, level, 0.0],
                    Some(level) => {
                        let from = k.checked_sub(1).and_then(|k| self.level(k)).unwrap_or(0.0);
                        [from, level, 0.0]
                    }
                };
                number += 1;
                step(number, scalars, keep && piece + 1 == pieces)?;
            }
            before = time;
        }
        Ok(())
    }

    fn table(&self) -> &[f64] {
        self.levels.as_ref().and_then(|t| t.elements().ok()).unwrap_or(&[])
    }

    fn level(&self, k: usize) -> Option<f64> {
        self.table().get(2 * k).copied()
    }

    fn pieces(&self, k: usize) -> u32 {
        match self.scheme {
            Scheme::Euler { substeps } => substeps,
            Scheme::Exact => self.table().get(2 * k + 1).map_or(1, |n| *n as u32),
        }
    }

    fn levels(&self, process: &dyn Process, float: DType, budget: &Arc<Budget>) -> Result<Tensor> {
        let mut out = Tensor::new(Desc::new(DType::F64, &[self.times.len(), 2])?, budget)?;
        let Ok(table) = bytemuck::try_cast_slice_mut::<u8, f64>(out.bytes_mut()) else {
            bail!(Internal, "a tensor of f64 is not aligned for them");
        };
        let mut from = 0.0;
        for (times, table) in self.times.chunks(AT_ONCE).zip(table.chunks_mut(2 * AT_ONCE)) {
            let rows = table.chunks_exact_mut(2);
            if self.anew {
                for (time, row) in times.iter().zip(rows) {
                    let (level, pieces) = piece(process, time - from, float)?;
                    row.copy_from_slice(&[level, f64::from(pieces)]);
                    from = *time;
                }
                continue;
            }
            let levels = process.clock(times)?;
            for (level, row) in levels.iter().zip(rows) {
                if !level.is_finite() || *level < from || levels.len() != times.len() {
                    bail!(Plugin, "process: clock gave {levels:?} for times {times:?}");
                }
                row.copy_from_slice(&[*level, 1.0]);
                from = *level;
            }
        }
        Ok(out)
    }
}

/// The level of an interval that starts at 0, or of the largest equal piece of it (1/2, 1/4, ...) whose square is far
/// from the largest number of the type: where a clock grows like e^t the data have long forgotten their start by then.
fn piece(process: &dyn Process, interval: f64, float: DType) -> Result<(f64, u32)> {
    let most = if float == DType::F64 { f64::MAX } else { f64::from(f32::MAX) }.powf(0.25);
    let mut pieces = 1;
    loop {
        let level = process.clock(&[interval / f64::from(pieces)]);
        match level.as_deref() {
            Ok([level]) if *level >= 0.0 && *level < most => return Ok((*level, pieces)),
            Ok([level]) if pieces >= MOST_PIECES => {
                bail!(Invalid, "an interval of {interval} has the level {level}, want below {most}")
            }
            Ok([_]) => {}
            Ok(levels) => bail!(Plugin, "process: clock gave {levels:?} for one time"),
            Err(_) if pieces >= MOST_PIECES => return level.map(|_| (0.0, 1)),
            Err(_) => {}
        }
        pieces *= 2;
    }
}
