//! The log-likelihood of data under a model.

use super::Pipeline;
use crate::bail;
use crate::base::{DType, Result};
use crate::exec::Interrupt;
use crate::mem::Tensor;
use crate::sample::{Likelihood, classes};
use std::sync::Arc;

/// Steps when the host does not say.
const STEPS: u32 = 64;

/// What to score.
pub struct Scoring<'a> {
    /// The component by its name, [n, ...], and conditions (null if absent), in the pipeline's type.
    pub inputs: &'a [(String, Arc<Tensor>)],
    /// Steps of the probability flow; 0 = 64.
    pub steps: u32,
    /// Random directions of Hutchinson's estimate of the divergence; 0 = exact.
    pub probes: usize,
    pub seed: u64,
    pub first_sample: u64,
}

impl Pipeline {
    /// log p(x) in nats, f64 `[n]`, between the levels of this pipeline.
    pub fn score(&self, s: &Scoring<'_>) -> Result<Tensor> {
        let (Some(component), Some(range)) = (self.parts.components.first(), self.ranges.first())
        else {
            bail!(Internal, "no component")
        };
        let Some(at) = s.inputs.iter().position(|(name, _)| *name == component.name) else {
            bail!(Invalid, "score: input {} is missing", component.name);
        };
        let mut conds = s.inputs.to_vec();
        let (_, x) = conds.swap_remove(at);
        let info = self.parts.processes[0].info(&self.parts.stats[0])?;
        if info.positive && !above_zero(&x) {
            bail!(Invalid, "score: the process lives on positive numbers, the data has others");
        }
        for (cond, known) in self.parts.conds.iter().zip(classes::of(&self.parts)?) {
            if let (Some((name, t)), Some(n)) = (conds.iter().find(|g| g.0 == cond.name), known) {
                classes::check(name, t, n)?;
            }
        }
        let likelihood = Likelihood {
            parts: &self.parts,
            x: &x,
            conds: &conds,
            range: *range,
            steps: if s.steps == 0 { STEPS } else { s.steps },
            probes: s.probes,
            seed: s.seed,
            first_sample: s.first_sample,
        };
        let (backend, budget) = (self.engine.backend(), self.engine.budget());
        let bind = &mut |weights: &[crate::graph::Weight]| self.bind(weights);
        likelihood.run(backend, budget, bind, &mut || Interrupt::Continue)
    }

    /// Numbers of one sample, over which a likelihood is spread.
    pub fn dimensions(&self) -> Result<usize> {
        Ok(self.parts.state(0, 1)?.shape.elements())
    }
}

fn above_zero(x: &Tensor) -> bool {
    match x.desc().dtype {
        DType::F64 => x.elements::<f64>().is_ok_and(|v| v.iter().all(|x| *x > 0.0)),
        _ => x.elements::<f32>().is_ok_and(|v| v.iter().all(|x| *x > 0.0)),
    }
}
