//! What a rollout leaves behind for the updates: samples, the states they passed through cut into the batches of the
//! updates, conditions, rewards. All of it is in host memory.

use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::exec::Interrupt;
use crate::mem::{Block, Budget, Tensor, zeros};
use crate::sample::{Advance, Cond, Replay, Trajectory};
use std::sync::Arc;

/// What the host says of the samples of a rollout.
#[derive(Debug, Clone, Default)]
pub struct Reward {
    /// [samples, rewards], finite where valid.
    pub values: Vec<f64>,
    /// Rows that count; empty = all.
    pub valid: Vec<bool>,
    /// Gradient of the (first) reward by each component, as the samples are.
    pub grads: Vec<(String, Arc<Tensor>)>,
}

/// One rollout.
pub struct Rollout {
    pub first: u64,
    /// Components, `feasible`, `log_weight`: [samples, ...].
    pub results: Vec<(String, Arc<Tensor>)>,
    /// One per condition of the model: a value for all samples, or one each.
    pub conds: Vec<Option<Arc<Tensor>>>,
    /// One per batch of the updates; none where the objective does not ask.
    pub trajectories: Vec<Trajectory>,
    /// Per batch and component: [records, batch, ...].
    pub carries: Vec<Vec<Block>>,
    pub reward: Option<Reward>,
    /// `[samples]`
    pub advantage: Vec<f64>,
}

/// Runs all samples the replay was begun for; with `batch`, their states are kept in batches of so many.
pub fn record(
    replay: &mut Replay,
    samples: usize,
    batch: Option<usize>,
    budget: &Arc<Budget>,
    interrupt: &mut dyn FnMut() -> Interrupt,
) -> Result<Vec<Trajectory>> {
    let Some(batch) = batch else {
        while replay.advance(interrupt)? != Advance::Done {}
        return Ok(Vec::new());
    };
    let mut taken = Trajectory::new(replay, budget)?;
    let mut out = (0..samples.div_ceil(batch.max(1)))
        .map(|_| taken.of_batch(batch, budget))
        .collect::<Result<Vec<_>>>()?;
    let drawn = replay.program.batch;
    for first in (0..samples).step_by(drawn.max(1)) {
        taken.record(replay, interrupt)?;
        for row in 0..drawn.min(samples - first) {
            let at = first + row;
            if let Some(to) = out.get_mut(at / batch) {
                taken.copy_row(row, to, at % batch)?;
            }
        }
    }
    Ok(out)
}

impl Rollout {
    pub fn samples(&self) -> usize {
        self.results.first().map_or(0, |(_, t)| t.dims().first().copied().unwrap_or(0))
    }

    /// A result, or `states.NAME` [records, samples, ...] of a component.
    pub fn tensor(
        &self,
        name: &str,
        parts: &[String],
        budget: &Arc<Budget>,
    ) -> Result<Arc<Tensor>> {
        if let Some((_, t)) = self.results.iter().find(|(n, _)| n == name) {
            return Ok(Arc::clone(t));
        }
        let component =
            name.strip_prefix("states.").and_then(|n| parts.iter().position(|p| p == n));
        let (Some(c), Some(first)) = (component, self.trajectories.first()) else {
            let mut known: Vec<String> = self.results.iter().map(|(n, _)| n.clone()).collect();
            if !self.trajectories.is_empty() {
                known.extend(parts.iter().map(|p| format!("states.{p}")));
            }
            bail!(NotFound, "a rollout has no {name}; there are: {}", known.join(", "));
        };
        let Some((one, bytes)) = first.states.get(c) else { bail!(Internal, "no component {c}") };
        let records = bytes.len() / one.bytes().max(1);
        let samples = one.dims().first().copied().unwrap_or(1) * self.trajectories.len();
        let dims = [&[records, samples], one.dims().get(1..).unwrap_or_default()].concat();
        let mut out = Tensor::new(Desc::new(one.dtype, &dims)?, budget)?;
        let size = one.bytes();
        let parts = self.trajectories.len();
        for (i, trajectory) in self.trajectories.iter().enumerate() {
            for k in 0..records {
                // every trajectory of a rollout was made by `of_batch` of one, with the same sizes
                let from = &trajectory.states[c].1.bytes()[k * size..(k + 1) * size];
                out.bytes_mut()[(k * parts + i) * size..][..size].copy_from_slice(from);
            }
        }
        Ok(Arc::new(out))
    }

    /// Bytes of condition `i` of rows `first ..`, one batch of it.
    pub fn cond(&self, i: usize, cond: &Cond, first: usize, batch: usize) -> Result<Vec<u8>> {
        let size = cond.desc.bytes();
        let mut out = zeros(size.saturating_mul(batch), "a condition")?;
        let value = self.conds.get(i).and_then(Option::as_ref);
        for (row, to) in out.chunks_exact_mut(size.max(1)).enumerate() {
            let Some(t) = value else {
                fill(to, cond.desc.dtype, cond.null_value);
                continue;
            };
            let at = if t.bytes().len() == size { 0 } else { (first + row) * size };
            match t.bytes().get(at..at + size) {
                Some(from) => to.copy_from_slice(from),
                None => bail!(Internal, "condition {} has no row {}", cond.name, first + row),
            }
        }
        Ok(out)
    }
}

/// Every element is `value`.
fn fill(to: &mut [u8], dtype: DType, value: f64) {
    match dtype {
        DType::F64 => to.chunks_exact_mut(8).for_each(|p| p.copy_from_slice(&value.to_ne_bytes())),
        DType::I32 => {
            to.chunks_exact_mut(4).for_each(|p| p.copy_from_slice(&(value as i32).to_ne_bytes()));
        }
        _ if dtype.bytes() == 4 => {
            to.chunks_exact_mut(4).for_each(|p| p.copy_from_slice(&(value as f32).to_ne_bytes()));
        }
        _ => to.fill(0),
    }
}

/// One value for all samples as it is, one per condition as one per sample.
pub fn spread(
    name: &str,
    t: &Arc<Tensor>,
    one: Desc,
    samples: usize,
    group: usize,
    budget: &Arc<Budget>,
) -> Result<Arc<Tensor>> {
    let dims = t.dims();
    let rest =
        |n: usize| dims.len() == one.dims().len() + 1 && dims[0] == n && dims[1..] == *one.dims();
    let good = t.desc().dtype == one.dtype;
    if good && (dims == one.dims() || rest(1) || rest(samples)) {
        return Ok(Arc::clone(t));
    }
    let groups = samples / group.max(1);
    if !good || !rest(groups) {
        bail!(
            Invalid,
            "condition {name}: is {}, want {one}, or one more axis of {samples} samples or {groups} groups",
            t.desc()
        );
    }
    let size = one.bytes();
    let dims = [&[samples], one.dims()].concat();
    let mut out = Tensor::new(Desc::new(one.dtype, &dims)?, budget)?;
    for (row, to) in out.bytes_mut().chunks_exact_mut(size.max(1)).enumerate() {
        to.copy_from_slice(&t.bytes()[row / group * size..][..size]); // `rest` has checked the shape
    }
    Ok(Arc::new(out))
}

/// Fails with one sentence unless the host's word fits the rollout.
pub fn check_reward(
    reward: &Reward,
    samples: usize,
    n_rewards: usize,
    wants_grad: bool,
    components: &[(String, Desc)],
) -> Result<()> {
    if reward.values.len() != samples * n_rewards {
        bail!(Invalid, "{} rewards, want {samples} samples of {n_rewards}", reward.values.len());
    }
    if !reward.valid.is_empty() && reward.valid.len() != samples {
        bail!(Invalid, "validity of {} samples, want {samples}", reward.valid.len());
    }
    let counts = |row: usize| reward.valid.get(row).copied().unwrap_or(true);
    for (i, v) in reward.values.iter().enumerate() {
        let row = i / n_rewards.max(1);
        if !v.is_finite() && counts(row) {
            bail!(
                Invalid,
                "the reward of sample {row} is {v}, want a finite number, or the row marked as not valid"
            );
        }
    }
    if !(0..samples).any(counts) {
        bail!(Invalid, "no sample of {samples} has a valid reward: there is nothing to learn from");
    }
    if !wants_grad {
        return Ok(());
    }
    for (name, want) in components.iter().filter(|(_, d)| d.dtype.is_float()) {
        let Some((_, t)) = reward.grads.iter().find(|(n, _)| n == name) else {
            bail!(
                Invalid,
                "this objective wants the gradient of the reward by {name}, {want}, and got none"
            );
        };
        if t.desc() != *want {
            bail!(Invalid, "the gradient of the reward by {name} is {}, want {want}", t.desc());
        }
        let width = want.shape.elements() / samples.max(1);
        let finite = |i: &usize| match want.dtype {
            DType::F64 => t.elements::<f64>().is_ok_and(|v| v[*i].is_finite()),
            _ => t.elements::<f32>().is_ok_and(|v| v[*i].is_finite()),
        };
        let bad = (0..want.shape.elements()).find(|i| !finite(i) && counts(i / width.max(1)));
        if let Some(i) = bad {
            let row = i / width.max(1);
            bail!(Invalid, "the gradient of the reward of sample {row} is not finite");
        }
    }
    Ok(())
}

/// Numbers as bytes of a float type, 0 where a row is not valid.
pub fn masked(values: &[f64], width: usize, valid: &[bool], float: DType) -> Vec<u8> {
    let kept = |(i, v): (usize, &f64)| {
        if valid.get(i / width.max(1)).copied().unwrap_or(true) { *v } else { 0.0 }
    };
    let kept: Vec<f64> = values.iter().enumerate().map(kept).collect();
    super::parameter::to_bytes(&kept, float)
}
