//! A pilot run: Euler's steps of the whole pipeline between coarse levels, and how much the path bends between them, for
//! grids that adapt. Samples are addressed as in any run, so the measurement depends on the seed and the ids only.

use super::build::{Build, Eval, Parts};
use super::program::{Binder, Program};
use super::replay::{Advance, At, Replay, Request};
use super::rows::Rows;
use super::traits::{Component, RowPlan, Sampler, SamplerInfo, SlotDecl, Space, StepIo};
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::exec::{Backend, Interrupt, SessionBuilder};
use crate::graph::{AttrKey, Attrs, NodeId, Op};
use crate::mem::Budget;
use std::sync::Arc;

/// What to measure.
pub struct PilotRun<'a> {
    pub parts: &'a Parts,
    /// Levels above 0 of each component, descending.
    pub knots: &'a [Vec<f64>],
    pub request: Request,
    pub nulls: &'a [(String, f64)],
    pub batch: usize,
}

impl PilotRun<'_> {
    /// Per component and step k: the mean over samples of |slope(k+1) - slope(k)| / (sigma(k) - sigma(k+1)), where
    /// slope = (w - D)/sigma.
    pub fn run(
        self,
        backend: &Arc<dyn Backend>,
        budget: &Arc<Budget>,
        bind: &mut Binder<'_>,
        interrupt: &mut dyn FnMut() -> Interrupt,
    ) -> Result<Vec<Vec<f64>>> {
        if self.parts.components.iter().any(|c| c.space == Space::Discrete) {
            bail!(Unsupported, "a pilot run measures paths, and tokens have none");
        }
        if let Some(bad) = self.knots.iter().flatten().find(|s| **s <= 0.0) {
            bail!(Invalid, "a pilot run at level {bad}, want levels above 0");
        }
        let rows = Arc::new(Rows::new(&Probe, self.parts, self.knots)?);
        let mut session = SessionBuilder::new(Arc::clone(backend));
        let mut program =
            Program::new(self.parts, &Probe, &rows, self.batch, false, &mut session, bind)?;
        // each sample goes down once, or its bend would count as often as its batch is drawn again
        program.redraw = None;
        let mut moves = Vec::new();
        for c in &self.parts.components {
            match program.buffer(&format!("slot.sampler.{}", moved(&c.name))) {
                Some(b) => moves.push((b.id, vec![0u8; b.desc.bytes()])),
                None => bail!(Internal, "a pilot run without what it measures"),
            }
        }
        let mut replay = Replay::new(program, session.allocate(budget)?);
        let (first, n) = (self.request.first_sample, self.request.n_samples);
        replay.begin(&rows, self.request, self.nulls, budget)?;
        let steps = rows.len() - 1;
        let mut sums = vec![vec![0.0; steps]; moves.len()];
        loop {
            let (at, done) = (replay.at(), (replay.batch_first() - first) as usize);
            match (replay.advance(interrupt)?, at) {
                (Advance::Row, At::Row(k)) if k > 0 => {
                    for ((id, bytes), sum) in moves.iter_mut().zip(&mut sums) {
                        replay.session().read(*id, bytes)?;
                        add(&mut sum[k - 1], bytes, self.parts.float, n - done);
                    }
                }
                (Advance::Done, _) => break,
                _ => {}
            }
        }
        for (sum, knots) in sums.iter_mut().zip(self.knots) {
            for (sum, pair) in sum.iter_mut().zip(knots.windows(2)) {
                // by Euler's step slope(k+1) - slope(k) = (D(k) - D(k+1))/sigma(k+1), without the difference of slopes
                *sum /= n as f64 * pair[1] * (pair[0] - pair[1]);
                if !sum.is_finite() {
                    bail!(State, "the pilot run is at {sum} between {} and {}", pair[0], pair[1]);
                }
            }
        }
        Ok(sums)
    }
}

/// Adds the first `n` numbers one by one, so that the batch does not show in the rounding.
fn add(sum: &mut f64, bytes: &[u8], float: DType, n: usize) {
    match float {
        DType::F64 => {
            bytes.as_chunks().0.iter().take(n).for_each(|b| *sum += f64::from_ne_bytes(*b));
        }
        _ => {
            let wide = |b: &[u8; 4]| f64::from(f32::from_ne_bytes(*b));
            bytes.as_chunks().0.iter().take(n).for_each(|b| *sum += wide(b));
        }
    }
}

fn moved(component: &str) -> String {
    format!("moved.{component}")
}

/// Euler's sampler; at each level but the first it notes how far D moved.
struct Probe;

/// σ, then the weights of w and of D; at the last level w stays.
const COLUMNS: usize = 3;

impl Sampler for Probe {
    fn info(&self, components: &[Component]) -> Result<SamplerInfo> {
        let mut slots = Vec::new();
        for c in components {
            let dims: Option<Vec<usize>> =
                c.dims.iter().map(|d| usize::try_from(*d).ok()).collect();
            let Some(dims) = dims else { bail!(Invalid, "component {}: a free dimension", c.name) };
            let slot = |name, desc| SlotDecl { name, desc, free: true, init: 0.0 };
            slots.push(slot(format!("last.{}", c.name), Desc::new(DType::F32, &dims)?));
            slots.push(slot(moved(&c.name), Desc::new(DType::F32, &[])?));
        }
        Ok(SamplerInfo {
            n_coeff: COLUMNS * components.len(),
            n_variants: 1,
            slots,
            control: false,
            additive: false,
            stochasticity: 0.0,
        })
    }

    fn plan(&self, knots: &[Vec<f64>]) -> Result<RowPlan> {
        let n = knots.first().map_or(0, Vec::len);
        let mut rows = Vec::new();
        for k in 0..n {
            for levels in knots {
                let sigma = levels[k];
                let next = levels.get(k + 1).copied().unwrap_or(sigma);
                rows.extend([sigma, next / sigma, (sigma - next) / sigma]);
            }
        }
        Ok(RowPlan {
            n_coeff: COLUMNS * knots.len(),
            rows,
            variants: vec![0; n],
            levels: vec![],
            highest: vec![],
            kernels: vec![],
        })
    }

    fn step(&self, b: &mut Build<'_>, io: &mut StepIo) -> Result<()> {
        let n = io.x.len();
        let sigma: Vec<NodeId> = (0..n).map(|c| io.coeff[c * COLUMNS]).collect();
        let eval = Eval { phase: 0, x: io.x.clone(), sigma, cond: None };
        let d = b.denoise(0, &[eval])?.swap_remove(0);
        for c in 0..n {
            let (keep, step) = (io.coeff[c * COLUMNS + 1], io.coeff[c * COLUMNS + 2]);
            let g = &mut b.graph;
            let (kept, pulled) = (g.mul(keep, io.x[c]), g.mul(step, d[c]));
            io.next[c] = g.add(kept, pulled);
            let shift = g.sub(d[c], io.slots[2 * c]);
            let square = g.square(shift);
            let axes: Vec<i64> = (1..g.desc(d[c]).shape.rank() as i64).collect();
            let sum = match axes.is_empty() {
                true => square,
                false => g.emit(Op::Sum, &[square], Attrs::NONE.with_ints(AttrKey::Axes, axes)),
            };
            io.slots_out[2 * c] = d[c];
            io.slots_out[2 * c + 1] = g.unary(Op::Sqrt, sum);
        }
        Ok(())
    }
}
