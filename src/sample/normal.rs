//! What a sampler makes of a law whose denoiser is known: one normal number per component, with the mean and variance of the
//! data. How wide its samples come out says how coarse its steps are, whatever sampler it is and before a network is asked.

use super::build::{Build, Network, Parts};
use super::program::Program;
use super::replay::{At, Replay, Request};
use super::rows::Rows;
use super::stage;
use super::traits::{Component, Model, ModelInfo, ModelIo, Predicts, Sampler, Space, Stats};
use crate::bail;
use crate::base::{DType, Result};
use crate::exec::{Backend, Interrupt, SessionBuilder};
use crate::graph::{AttrKey, Attrs, Op};
use crate::mem::Budget;
use std::sync::Arc;

/// Samples, whose deviation has an error of 0.8 %, and how many run at once: little memory, whatever a host leaves.
const SAMPLES: usize = 8192;
const BATCH: usize = 128;

/// A run of a sampler over its own rows.
pub struct NormalRun<'a> {
    pub parts: &'a Parts,
    pub sampler: &'a dyn Sampler,
    pub rows: &'a Arc<Rows>,
}

impl NormalRun<'_> {
    /// Per component, the deviation of the last states over that of the data.
    pub fn run(
        self,
        backend: &Arc<dyn Backend>,
        budget: &Arc<Budget>,
        interrupt: &mut dyn FnMut() -> Interrupt,
    ) -> Result<Vec<f64>> {
        if !self.parts.guidances.is_empty() {
            bail!(Unsupported, "a normal law knows of no guidance");
        }
        let mut parts = self.parts.clone();
        for (c, (process, stats)) in parts.processes.iter().zip(&parts.stats).enumerate() {
            let of = process.info(stats)?;
            if of.space == Space::Discrete || !of.additive {
                let name = &self.parts.components[c].name; // one process per component
                bail!(Unsupported, "component {name}: a normal law is for noise that is added");
            }
        }
        parts.components.iter_mut().for_each(|c| c.dims = vec![1]);
        parts.conds.clear();
        let law = Normals { components: parts.components.clone(), stats: parts.stats.clone() };
        parts.networks = vec![Network { slot: "base".into(), model: Arc::new(law), lora: None }];
        let mut session = SessionBuilder::new(Arc::clone(backend));
        let bind = &mut |_: &[crate::graph::Weight]| Ok(Vec::new());
        let program =
            Program::new(&parts, self.sampler, self.rows, BATCH, false, &mut session, bind)?;
        let mut states = Vec::new();
        for c in &parts.components {
            match program.buffer(&stage::state(&c.name)) {
                Some(b) => states.push((b.id, vec![0u8; b.desc.bytes()])),
                None => bail!(Internal, "a run without a state"),
            }
        }
        let mut replay = Replay::new(program, session.allocate(budget)?);
        let mut sums = vec![[0.0; 2]; states.len()];
        for first_sample in (0..SAMPLES as u64).step_by(BATCH) {
            let conds = Vec::new();
            let request =
                Request { seed: 0, first_sample, n_samples: BATCH, preview_every: 0, conds };
            replay.begin(self.rows, request, &[], budget)?;
            while replay.at() != At::Finish {
                replay.advance(interrupt)?;
            }
            for (((id, bytes), sum), stats) in states.iter_mut().zip(&mut sums).zip(&parts.stats) {
                replay.session().read(*id, bytes)?;
                add(sum, bytes, parts.float, stats.w_mean);
            }
        }
        let n = SAMPLES as f64;
        let spread = |([first, second], stats): (&[f64; 2], &Stats)| {
            let mean = first / n;
            ((second / n - mean * mean) / stats.w_var).sqrt()
        };
        Ok(sums.iter().zip(&parts.stats).map(spread).collect())
    }
}

/// Sums of the first two powers of numbers less `middle`.
fn add(sum: &mut [f64; 2], bytes: &[u8], float: DType, middle: f64) {
    let mut one = |v: f64| {
        sum[0] += v - middle;
        sum[1] += (v - middle).powi(2);
    };
    match float {
        DType::F64 => bytes.as_chunks().0.iter().for_each(|b| one(f64::from_ne_bytes(*b))),
        _ => bytes.as_chunks().0.iter().for_each(|b| one(f64::from(f32::from_ne_bytes(*b)))),
    }
}

/// The denoiser of independent normals: `D = m + (w - m) v / (v + sigma^2)`.
struct Normals {
    components: Vec<Component>,
    stats: Vec<Stats>,
}

impl Model for Normals {
    fn info(&self) -> Result<ModelInfo> {
        Ok(ModelInfo {
            predicts: Predicts::Denoised,
            components: self.components.clone(),
            conds: vec![],
            slots: vec![],
        })
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        for (c, stats) in self.stats.iter().enumerate() {
            let g = &mut b.graph;
            let (w, level) = (io.x[c], io.sigma[c]); // one each per component; ln(sigma)/4
            let rows = g.desc(w).shape.dim(0);
            let column = Attrs::NONE.with_dims(AttrKey::Shape, &[rows, 1]);
            let level = g.emit(Op::Reshape, &[level], column);
            let [mean, v, eight] = [stats.w_mean, stats.w_var, 8.0].map(|n| g.scalar(n));
            let log_square = g.mul(eight, level);
            let square = g.unary(Op::Exp, log_square);
            let total = g.add(v, square);
            let share = g.binary(Op::Div, v, total);
            let far = g.sub(w, mean);
            let pulled = g.mul(far, share);
            io.out[c] = g.add(pulled, mean);
        }
        Ok(())
    }
}
