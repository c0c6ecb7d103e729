//! Exact simulation of a process: no network, no steps to choose. The data are encoded once and re-noised from one
//! moment to the next by the exact transition, and decoded at each.

use super::build::{Build, Parts};
use super::convert::{level_shaped, reshape};
use super::traits::{ProcessFn, Space};
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::exec::{Backend, Interrupt, RunKey, SessionBuilder};
use crate::graph::{AttrKey, Attrs, NodeId, Op};
use crate::mem::{Budget, Tensor};
use std::sync::Arc;

/// Draws of a simulation (`DFX_PURPOSE_SIMULATE`).
const PURPOSE_SIMULATE: u8 = 9;

/// Most samples of one batch.
const BATCH: usize = 4096;

/// What to simulate: component 0 of `parts`, from `x0` ([dims] for all, or [n, dims]) at time 0.
pub struct Simulation<'a> {
    pub parts: &'a Parts,
    pub x0: &'a Tensor,
    /// Ascending, from 0 on.
    pub times: &'a [f64],
    pub n_samples: usize,
    pub seed: u64,
    pub first_sample: u64,
}

impl Simulation<'_> {
    /// [n_samples, times, dims] in the float type of the parts.
    pub fn run(
        &self,
        backend: &Arc<dyn Backend>,
        budget: &Arc<Budget>,
        interrupt: &mut dyn FnMut() -> Interrupt,
    ) -> Result<Tensor> {
        let sigmas = self.levels()?;
        let batch = self.n_samples.clamp(1, BATCH);
        let state = self.parts.state(0, batch)?;
        let per_sample = state.bytes() / batch;
        let each = self.check_start(state)?;
        let dims = [&[self.n_samples, sigmas.len()], &state.dims()[1..]].concat();
        let mut out = Tensor::new(Desc::new(self.parts.float, &dims)?, budget)?;

        let mut session = SessionBuilder::new(Arc::clone(backend));
        let level_desc = Desc::new(self.parts.float, &[2])?;
        let level = session.buffer("levels", level_desc);
        let x = session.buffer("x", state);
        let w = session.buffer("w", state);
        let (encode, encoded) = self.encode(batch)?;
        let encode = session.plan(&encode, &[x], &[(encoded, w)], &[])?;
        let (step, w_next, x_next) = self.step(batch, level_desc)?;
        let step = session.plan(&step, &[w, level], &[(w_next, w), (x_next, x)], &[])?;
        let mut session = session.allocate(budget)?;

        if state.bytes() == 0 {
            return Ok(out); // samples without elements: nothing to draw, however many there are
        }
        for first in (0..self.n_samples).step_by(batch) {
            let n = batch.min(self.n_samples - first);
            for r in 0..batch {
                let at = if each { (first + r).min(self.n_samples - 1) * per_sample } else { 0 };
                session.write_at(x, r * per_sample, &self.x0.bytes()[at..at + per_sample])?;
            }
            let first_sample = self.first_sample + first as u64;
            let key = |step: u32| RunKey { seed: self.seed, step, first_sample };
            while !session.run(encode, key(0), interrupt)? {}
            for (k, pair) in std::iter::once(&0.0).chain(&sigmas).zip(&sigmas).enumerate() {
                session.write(level, &self.pair(*pair.0, *pair.1))?;
                while !session.run(step, key(k as u32 + 1), interrupt)? {}
                for r in 0..n {
                    let at = ((first + r) * sigmas.len() + k) * per_sample;
                    let to = &mut out.bytes_mut()[at..at + per_sample];
                    session.read_at(x, r * per_sample, to)?;
                }
            }
        }
        Ok(out)
    }

    fn levels(&self) -> Result<Vec<f64>> {
        let Some(component) = self.parts.components.first() else {
            bail!(Invalid, "nothing to simulate: there is no component");
        };
        let process = &self.parts.processes[0];
        if component.space == Space::Discrete || !process.has(ProcessFn::Renoise) {
            bail!(Unsupported, "this process has no exact transition to simulate");
        }
        if self.times.is_empty() {
            bail!(Invalid, "no times to simulate at");
        }
        if let Some(t) = self.times.iter().find(|t| !t.is_finite() || **t < 0.0) {
            bail!(Invalid, "time {t}, want a finite time from 0 on");
        }
        if let Some(w) = self.times.windows(2).find(|w| w[1] <= w[0]) {
            bail!(Invalid, "time {} follows {}, want ascending times", w[1], w[0]);
        }
        let sigmas = process.clock(self.times)?;
        let ascending = sigmas.windows(2).all(|w| w[1] >= w[0]);
        if sigmas.len() != self.times.len()
            || !ascending
            || sigmas.iter().any(|s| !s.is_finite() || *s < 0.0)
        {
            bail!(Plugin, "process: clock gave {sigmas:?} for times {:?}", self.times);
        }
        Ok(sigmas)
    }

    fn check_start(&self, state: Desc) -> Result<bool> {
        let one = &state.dims()[1..];
        let dims = self.x0.dims();
        let each = dims.len() == one.len() + 1 && dims[0] == self.n_samples && dims[1..] == *one;
        if self.x0.desc().dtype != state.dtype || !(each || dims == one) {
            bail!(
                Invalid,
                "x0 is {}, want {}{one:?}, one or per sample",
                self.x0.desc(),
                state.dtype
            );
        }
        Ok(each)
    }

    fn encode(&self, batch: usize) -> Result<(crate::graph::Graph, NodeId)> {
        let mut b = Build::new(self.parts, batch)?;
        let x = b.graph.input("x", self.parts.state(0, batch)?);
        let w = b.process(0, ProcessFn::Encode, PURPOSE_SIMULATE, &[x])?[0];
        b.want(w, self.parts.state(0, batch)?, "encode", 0)?;
        Ok((b.graph, w))
    }

    /// From `levels[0]` to `levels[1]`; no noise is added, and none drawn wrongly, where the two are equal.
    fn step(&self, batch: usize, levels: Desc) -> Result<(crate::graph::Graph, NodeId, NodeId)> {
        let mut b = Build::new(self.parts, batch)?;
        let state = self.parts.state(0, batch)?;
        let w = b.graph.input("w", state);
        let pair = b.graph.input("levels", levels);
        let mut level = |at: usize| {
            let attrs =
                Attrs::NONE.with_dims(AttrKey::Start, &[at]).with_dims(AttrKey::Stop, &[at + 1]);
            let cell = b.graph.emit(Op::Slice, &[pair], attrs);
            let cell = reshape(&mut b.graph, cell, &[]);
            level_shaped(&mut b.graph, cell, batch, state.shape.rank())
        };
        let (from, to) = (level(0)?, level(1)?);
        let noised = b.process(0, ProcessFn::Renoise, PURPOSE_SIMULATE, &[w, from, to])?[0];
        b.want(noised, state, "renoise", 0)?;
        let moves = b.graph.binary(Op::Gt, to, from);
        let next = b.graph.emit(Op::Where, &[moves, noised, w], Attrs::NONE);
        let x = b.process(0, ProcessFn::Decode, PURPOSE_SIMULATE, &[next, to])?[0];
        b.want(x, state, "decode", 0)?;
        Ok((b.graph, next, x))
    }

    fn pair(&self, from: f64, to: f64) -> Vec<u8> {
        match self.parts.float {
            DType::F64 => [from.to_ne_bytes(), to.to_ne_bytes()].concat(),
            _ => [(from as f32).to_ne_bytes(), (to as f32).to_ne_bytes()].concat(),
        }
    }
}
