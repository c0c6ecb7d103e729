//! Tuning by rewards: a rollout of the model under training, what the host says of its samples, then updates on them. The
//! sampler, the sweep and the update are plans of one session, so the weights an update moves are those the next
//! rollout reads.
//!
//! A state after so many rounds depends on the settings, the seed and the rewards only. Round r draws the samples with
//! ids from r * samples on; step t of the updates draws its noise under (seed, t, id of the sample).

use super::assemble::{self, Advantage, Asked, Start, TunePlan};
use super::checkpoint;
use super::data::Permutation;
use super::objective::{ObjectiveInfo, record};
use super::parameter::{from_bytes, to_bytes};
use super::rollout::{self, Reward, Rollout};
use super::run::Report;
use super::sweep::{SweepPlan, carry_desc};
use super::update::Step;
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::exec::session::PIECE;
use crate::exec::{BufferId, Interrupt, RunKey, Session};
use crate::graph::Weight;
use crate::mem::{Block, Budget, Tensor};
use crate::sample::{At, Parts, Replay, Request, Rows, Trajectory};
use crate::weights::SafeTensors;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Steps without a finite gradient in a row after which tuning gives up.
const MOST_BROKEN: u32 = 50;

/// A tuning in progress.
pub struct Tuning {
    /// Holds the session.
    replay: Replay,
    parts: Parts,
    rows: Arc<Rows>,
    step: Step,
    sweep: Option<SweepPlan>,
    start: Option<Start>,
    advantage: Option<Advantage>,
    plan: TunePlan,
    info: ObjectiveInfo,
    budget: Arc<Budget>,
    rollout: Option<Rollout>,
    /// Rounds begun by a rollout that was trained on to its end.
    round: u32,
    done: u32,
    broken: u32,
    /// Gradients of an update that was not made to its end are left.
    begun: bool,
    whole: bool,
    bytes: u64,
    fingerprint: String,
}

impl Tuning {
    /// Plans, takes the memory and puts the model's weights in.
    pub fn new(mut asked: Asked<'_>) -> Result<Self> {
        let built = assemble::build(&mut asked)?;
        let Asked { parts, objective, rows, plan, frozen, budget, .. } = asked;
        let assemble::Built { session, program, step, sweep, start, advantage } = built;
        let bytes = session.bytes();
        let mut replay = Replay::new(program, session.allocate(&budget)?);
        for (parameter, place) in &step.parameters {
            // adapters are not in the file; they start as a training starts
            let weight = Weight {
                slot: "base".into(),
                name: parameter.name.clone(),
                desc: parameter.desc,
                init: parameter.init,
                adapter: false,
                node: crate::graph::NodeId::ERROR,
            };
            let known = if parameter.adapter { None } else { Some(frozen(&weight)?) };
            for buffer in [Some(place.weight), Some(place.ema), place.old].into_iter().flatten() {
                replay.session().fill(buffer, &mut |at, out| match &known {
                    Some(t) => {
                        match t.bytes().get(at..at + out.len()) {
                            Some(from) => out.copy_from_slice(from),
                            None => bail!(Internal, "weight {} is short", parameter.name),
                        }
                        Ok(())
                    }
                    None => parameter.initial(plan.seed, at, out),
                })?;
            }
        }
        let fingerprint = {
            let mut plan = plan.clone();
            if plan.optimizer.schedule.is_endless() {
                plan.rounds = 0; // such a run may be made longer
            }
            // as it was before updates could have several batches
            format!("{plan:?}").replace(", accumulate: 1,", ",")
        };
        Ok(Self {
            replay,
            rows,
            step,
            sweep,
            start,
            advantage,
            info: objective.info()?,
            parts,
            plan,
            budget,
            rollout: None,
            round: 0,
            done: 0,
            broken: 0,
            begun: false,
            whole: true,
            bytes,
            fingerprint,
        })
    }

    /// Bytes such a tuning takes: its session, and the samples and records of a rollout.
    pub fn bytes_of(mut asked: Asked<'_>) -> Result<u64> {
        let built = assemble::build(&mut asked)?;
        let (plan, parts) = (&asked.plan, &asked.parts);
        let records = asked.objective.info()?.records;
        let program = &built.program;
        let levels = asked.rows.len() as u64 + 1;
        let mut total = built.session.bytes().saturating_add(program.redraw_bytes(plan.samples));
        let mut add = |bytes: usize, times: u64| {
            total = total.saturating_add((bytes as u64).saturating_mul(times));
        };
        for (_, b) in program.results() {
            add(b.desc.bytes() / program.batch, plan.samples as u64);
        }
        for cond in &parts.conds {
            add(cond.desc.bytes(), plan.samples as u64); // where one per group is spread over its samples
        }
        for c in 0..parts.components.len() {
            if records & (record::STATES | record::CARRY) != 0 {
                add(parts.state(c, plan.samples)?.bytes(), levels);
                add(parts.state(c, program.batch)?.bytes(), levels); // as they are drawn
            }
            if records & record::CARRY != 0 {
                add(carry_desc(parts, c, plan.samples)?.bytes(), levels);
            }
        }
        Ok(total)
    }

    /// What a checkpoint must agree on, besides the plan.
    pub fn describe(&mut self, settings: &str) {
        use sha2::{Digest, Sha256};
        let hash = Sha256::new().chain_update(&self.fingerprint).chain_update(settings).finalize();
        self.fingerprint = hash.iter().map(|b| format!("{b:02x}")).collect();
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn plan(&self) -> &TunePlan {
        &self.plan
    }

    /// Rounds done, and updates done.
    pub fn done(&self) -> (u32, u32) {
        (self.round, self.done)
    }

    /// Learning rate of the last update; 0 before the first.
    pub fn rate(&self) -> f64 {
        match self.done {
            0 => 0.0,
            t => self.plan.optimizer.row(t, self.plan.steps()).rate,
        }
    }

    pub fn metrics(&self) -> &[String] {
        &self.step.metrics
    }

    pub fn info(&self) -> &ObjectiveInfo {
        &self.info
    }

    /// The rollout under way.
    pub fn rollout(&self) -> Result<&Rollout> {
        match &self.rollout {
            Some(rollout) => Ok(rollout),
            None => bail!(State, "there is no rollout; make one first"),
        }
    }

    /// A result of the rollout under way.
    pub fn tensor(&self, name: &str) -> Result<Arc<Tensor>> {
        let names: Vec<String> = self.parts.components.iter().map(|c| c.name.clone()).collect();
        self.rollout()?.tensor(name, &names, &self.budget)
    }

    fn check_whole(&self) -> Result<()> {
        if !self.whole {
            bail!(State, "a checkpoint could be put back in part only; resume from a good one");
        }
        Ok(())
    }

    /// Updates of the round under way that were made.
    fn inside(&self) -> usize {
        self.done as usize - self.round as usize * self.plan.per_round()
    }

    // ---- a round

    /// Draws the samples of the next round. One that no update was made of is drawn again.
    pub fn roll(
        &mut self,
        conds: &[(String, Arc<Tensor>)],
        interrupt: &mut dyn FnMut() -> Interrupt,
    ) -> Result<()> {
        self.check_whole()?;
        let plan = &self.plan;
        if self.inside() > 0 {
            bail!(
                State,
                "{} of {} updates of this round are made; make the others first",
                self.inside(),
                plan.per_round()
            );
        }
        if self.round >= plan.rounds {
            bail!(State, "all {} rounds are done", plan.rounds);
        }
        self.rollout = None; // its memory first
        let mut given = Vec::new();
        for (name, t) in conds {
            let Some(cond) = self.parts.conds.iter().find(|c| c.name == *name) else {
                let known: Vec<&str> = self.parts.conds.iter().map(|c| c.name.as_str()).collect();
                bail!(NotFound, "no condition named {name}; there are: {}", known.join(", "));
            };
            let spread =
                rollout::spread(name, t, cond.desc, plan.samples, plan.group, &self.budget)?;
            given.push((name.clone(), spread));
        }
        let kept = self
            .parts
            .conds
            .iter()
            .map(|c| given.iter().find(|(n, _)| *n == c.name).map(|(_, t)| Arc::clone(t)));
        let kept = kept.collect();
        let first = u64::from(self.round) * plan.samples as u64;
        let request = Request {
            seed: plan.seed,
            first_sample: first,
            n_samples: plan.samples,
            preview_every: 0,
            conds: given,
        };
        let nulls: Vec<_> =
            self.parts.conds.iter().map(|c| (c.name.clone(), c.null_value)).collect();
        self.replay.begin(&self.rows, request, &nulls, &self.budget)?;
        let states = self.info.records & (record::STATES | record::CARRY) != 0;
        let batch = states.then_some(plan.batch);
        let trajectories =
            rollout::record(&mut self.replay, plan.samples, batch, &self.budget, interrupt)?;
        if self.replay.at() != At::Done {
            bail!(Internal, "a rollout that ended at {:?}", self.replay.at());
        }
        let results = self.replay.take_results().into_iter().map(|(n, t)| (n, Arc::new(t)));
        self.rollout = Some(Rollout {
            first,
            results: results.collect(),
            conds: kept,
            trajectories,
            carries: Vec::new(),
            reward: None,
            advantage: Vec::new(),
        });
        Ok(())
    }

    /// Takes the host's word on the samples, and makes of it what the updates share.
    pub fn reward(
        &mut self,
        reward: Reward,
        interrupt: &mut dyn FnMut() -> Interrupt,
    ) -> Result<()> {
        self.check_whole()?;
        let samples = self.plan.samples;
        let n_rewards = self.info.n_rewards.max(1) as usize;
        let wants_grad = self.info.records & record::REWARD_GRAD != 0;
        if self.inside() > 0 {
            bail!(State, "the rewards of this round are being trained on");
        }
        self.rollout()?;
        let components = self.parts.components.iter().enumerate();
        let components = components
            .map(|(c, part)| Ok((part.name.clone(), self.parts.state(c, samples)?)))
            .collect::<Result<Vec<_>>>()?;
        rollout::check_reward(&reward, samples, n_rewards, wants_grad, &components)?;
        let float = self.parts.float;
        let valid: Vec<f64> = (0..samples)
            .map(|i| if reward.valid.get(i).copied().unwrap_or(true) { 1.0 } else { 0.0 })
            .collect();
        let mut advantage = Vec::new();
        if let Some(a) = &self.advantage {
            let key = self.key(self.done + 1, self.rollout()?.first);
            let session = self.replay.session();
            let values = rollout::masked(&reward.values, n_rewards, &reward.valid, float);
            session.write(a.reward, &values)?;
            session.write(a.valid, &to_bytes(&valid, float))?;
            while !session.run(a.plan, key, interrupt)? {}
            let mut bytes = vec![0; samples * float.bytes()];
            self.replay.session().read(a.out, &mut bytes)?;
            advantage = from_bytes(&bytes, float);
        }
        let mut carries = Vec::new();
        if let Some(mut rollout) = self.rollout.take() {
            (rollout.reward, rollout.carries) = (None, Vec::new()); // their memory first
            let swept = self.sweep(&rollout, &reward, interrupt);
            self.rollout = Some(rollout);
            carries = swept?;
        }
        if let Some(rollout) = &mut self.rollout {
            (rollout.reward, rollout.advantage, rollout.carries) =
                (Some(reward), advantage, carries);
        }
        Ok(())
    }

    /// The carries of every batch.
    fn sweep(
        &mut self,
        rollout: &Rollout,
        reward: &Reward,
        interrupt: &mut dyn FnMut() -> Interrupt,
    ) -> Result<Vec<Vec<Block>>> {
        let mut out = Vec::new();
        for (i, trajectory) in rollout.trajectories.iter().enumerate() {
            let row = i * self.plan.batch;
            let first_id = rollout.first + row as u64;
            let first = match self.start.is_some() {
                true => Some(self.gradients(trajectory, reward, row, first_id, interrupt)?),
                false => None,
            };
            let key = self.key(self.done + 1, first_id);
            let Some(sweep) = &mut self.sweep else { return Ok(Vec::new()) };
            let session = self.replay.session();
            let first = first.as_deref();
            out.push(sweep.run(session, trajectory, first, key, &self.budget, interrupt)?);
        }
        Ok(out)
    }

    /// Gradients of the reward by the last states of one batch.
    fn gradients(
        &mut self,
        trajectory: &Trajectory,
        reward: &Reward,
        row: usize,
        first_id: u64,
        interrupt: &mut dyn FnMut() -> Interrupt,
    ) -> Result<Vec<Vec<u8>>> {
        let key = self.key(self.done + 1, first_id);
        let Some(start) = &self.start else { return Ok(Vec::new()) };
        let session = self.replay.session();
        for (c, places) in start.places.iter().enumerate() {
            let Some([state, given, _]) = places else { continue };
            let (desc, states) = &trajectory.states[c]; // one per component, as the places
            let from = states.len().saturating_sub(desc.bytes());
            session.write(*state, states.bytes().get(from..).unwrap_or_default())?;
            let rows = gradient_rows(&self.parts, reward, c, row, self.plan.batch)?;
            session.write(*given, &rows)?;
        }
        while !session.run(start.plan, key, interrupt)? {}
        let mut out = Vec::new();
        for (c, places) in start.places.iter().enumerate() {
            let desc = carry_desc(&self.parts, c, self.plan.batch)?;
            let mut bytes = vec![0; desc.bytes()];
            if let Some([_, _, by_state]) = places {
                session.read(*by_state, &mut bytes)?;
            }
            out.push(bytes);
        }
        Ok(out)
    }

    /// Row b of what runs draws as sample `first_sample + b`.
    fn key(&self, step: u32, first_sample: u64) -> RunKey {
        RunKey { seed: self.plan.seed, step, first_sample }
    }

    /// One update on the rollout under way. After the last of a round the rollout is gone.
    pub fn advance(&mut self, interrupt: &mut dyn FnMut() -> Interrupt) -> Result<Report> {
        self.check_whole()?;
        let Some(rollout) = self.rollout.take() else {
            bail!(State, "there is no rollout to train on; make one and give its rewards first");
        };
        let report = match &rollout.reward {
            Some(reward) => self.step_on(&rollout, reward, interrupt),
            None => Err(crate::fail!(State, "the rollout has no rewards yet; give them first")),
        };
        self.rollout = Some(rollout);
        let report = report?;
        if self.inside() >= self.plan.per_round() {
            self.follow()?;
            self.round += 1;
            self.rollout = None;
        }
        if self.broken >= MOST_BROKEN {
            bail!(
                State,
                "update {}: no finite gradient for {MOST_BROKEN} updates, loss {}; try a smaller rate",
                self.done,
                report.loss
            );
        }
        Ok(report)
    }

    fn step_on(
        &mut self,
        rollout: &Rollout,
        reward: &Reward,
        interrupt: &mut dyn FnMut() -> Interrupt,
    ) -> Result<Report> {
        let (inside, batch, parts) = (self.inside(), self.plan.batch, self.plan.accumulate);
        let batches = self.plan.samples / batch;
        let t = self.done + 1;
        let row = self.plan.optimizer.row(t, self.plan.steps()).values();
        let float = self.step.float;
        if std::mem::replace(&mut self.begun, parts > 1) {
            for (_, place) in &self.step.parameters {
                let Some(grad) = place.grad else { continue };
                let zero = &mut |_: usize, out: &mut [u8]| {
                    out.fill(0);
                    Ok(())
                };
                self.replay.session().fill(grad, zero)?;
            }
        }
        let mut bytes = vec![0; (2 + self.step.metrics.len()) * float.bytes()];
        let mut sums = vec![0.0; 2 + self.step.metrics.len()];
        for part in inside * parts..(inside + 1) * parts {
            // a sweep is whole updates
            let pass = self.round.wrapping_mul(self.plan.sweeps) + (part / batches) as u32;
            let order = Permutation::new(batches as u64, self.plan.seed, pass);
            let which = order.at((part % batches) as u64) as usize;
            self.load(rollout, reward, which)?;
            let key = self.key(t, rollout.first + (which * batch) as u64);
            let last = part + 1 == (inside + 1) * parts;
            let plan = self.step.gather.filter(|_| !last).unwrap_or(self.step.plan);
            let session = self.replay.session();
            session.write(self.step.row, &to_bytes(&row, float))?;
            while !session.run(plan, key, interrupt)? {}
            self.replay.session().read(self.step.report, &mut bytes)?;
            for (sum, v) in sums.iter_mut().zip(from_bytes(&bytes, float)) {
                *sum += v;
            }
        }
        self.begun = false;
        self.done = t;
        let report = match sums[..] {
            [loss, norm, ref metrics @ ..] => {
                let mean = |v: &f64| v / parts as f64;
                // the norm is that of all of them, said with the last
                Report {
                    step: t,
                    loss: mean(&loss),
                    norm,
                    metrics: metrics.iter().map(mean).collect(),
                }
            }
            _ => bail!(Internal, "a report has no loss"),
        };
        self.broken = if report.norm.is_finite() { 0 } else { self.broken + 1 };
        Ok(report)
    }

    /// Fills the inputs of an update with batch `which` of the rollout.
    fn load(&mut self, rollout: &Rollout, reward: &Reward, which: usize) -> Result<()> {
        let (batch, float) = (self.plan.batch, self.step.float);
        let first = which * batch;
        let session = self.replay.session();
        for (c, buffer) in self.step.x.iter().enumerate() {
            let name = &self.parts.components[c].name; // one buffer per component
            let Some((_, t)) = rollout.results.iter().find(|(n, _)| n == name) else {
                bail!(Internal, "a rollout without {name}");
            };
            session.write(*buffer, rows_of(t, first, batch)?)?;
        }
        for (i, (cond, buffer)) in self.parts.conds.iter().zip(&self.step.cond).enumerate() {
            session.write(*buffer, &rollout.cond(i, cond, first, batch)?)?;
        }
        let records = &self.step.records;
        let n = self.parts.components.len();
        let column = |values: &[f64], c: usize, width: usize| {
            let rows = values.chunks_exact(n * width);
            let own: Vec<f64> = rows.flat_map(|r| &r[c * width..][..width]).copied().collect();
            to_bytes(&own, float)
        };
        // of the rows, whether or not states were recorded beside them
        for (c, buffer) in records.sigmas.iter().enumerate() {
            session.write(*buffer, &column(&self.rows.levels, c, 1))?;
        }
        for (c, buffer) in records.kernels.iter().enumerate() {
            session.write(*buffer, &column(&self.rows.kernels, c, 3))?;
        }
        if let Some(trajectory) = rollout.trajectories.get(which) {
            for (buffer, (_, bytes)) in records.states.iter().zip(&trajectory.states) {
                session.write(*buffer, bytes.bytes())?;
            }
        }
        if let Some(carries) = rollout.carries.get(which) {
            for (buffer, bytes) in records.carry.iter().zip(carries) {
                session.write(*buffer, bytes.bytes())?;
            }
        }
        for (c, buffer) in records.reward_grad.iter().enumerate() {
            session.write(*buffer, &gradient_rows(&self.parts, reward, c, first, batch)?)?;
        }
        let width = self.info.n_rewards.max(1) as usize;
        let own = |list: &[f64], width: usize| {
            list.get(first * width..(first + batch) * width).unwrap_or_default().to_vec()
        };
        let valid = reward.valid.get(first..first + batch).unwrap_or_default();
        if let Some(buffer) = records.reward {
            let values = own(&reward.values, width);
            session.write(buffer, &rollout::masked(&values, width, valid, float))?;
        }
        if let Some(buffer) = records.valid {
            session.write(buffer, &rollout::masked(&vec![1.0; batch], 1, valid, float))?;
        }
        if let Some(buffer) = records.advantage {
            session.write(buffer, &to_bytes(&own(&rollout.advantage, 1), float))?;
        }
        Ok(())
    }

    /// Slot `old` after a round.
    fn follow(&mut self) -> Result<()> {
        let keep = (self.plan.lag.rate * f64::from(self.round + 1)).min(self.plan.lag.most);
        for (parameter, place) in &self.step.parameters {
            let Some(old) = place.old else { continue };
            blend(self.replay.session(), old, place.weight, keep, parameter.desc)?;
        }
        Ok(())
    }

    // ---- weights out, checkpoints out and in

    /// Names and descriptors of the trained weights.
    pub fn listed(&self) -> impl Iterator<Item = (&str, Desc)> {
        self.step.parameters.iter().map(|(p, _)| (p.name.as_str(), p.desc))
    }

    /// Averaged weight `i`, and whether it is half of the adapter of a weight that is used transposed.
    pub fn tensor_of(&mut self, i: usize, budget: &Arc<Budget>) -> Result<(Tensor, bool)> {
        let Some((parameter, place)) = self.step.parameters.get(i) else {
            bail!(Invalid, "weight {i}, there are {}", self.step.parameters.len());
        };
        let mut out = Tensor::new(parameter.desc, budget)?;
        self.replay.session().read(place.ema, out.bytes_mut())?;
        Ok((out, parameter.transposed))
    }

    /// Writes everything needed to go on, atomically. A rollout that no update was made of is drawn again then.
    pub fn save(&mut self, path: &Path, metadata: &BTreeMap<String, String>) -> Result<()> {
        self.check_whole()?;
        if self.inside() > 0 {
            bail!(
                State,
                "{} of {} updates of this round are made; a checkpoint is taken between rounds",
                self.inside(),
                self.plan.per_round()
            );
        }
        let state = serde_json::json!({
            "kind": "tuning", "step": self.done, "round": self.round, "seed": self.plan.seed,
            "fingerprint": self.fingerprint, "broken": self.broken,
        });
        checkpoint::save(self.replay.session(), &self.step, path, metadata, &state)
    }

    /// Goes on where `save` stopped, with the same bits for the same rewards.
    pub fn resume(&mut self, file: &SafeTensors) -> Result<()> {
        let state = checkpoint::state(file, self.plan.seed, &self.fingerprint)?;
        let count = |key: &str| checkpoint::whole(&state, key);
        let (Some(done), Some(round)) = (count("step"), count("round")) else {
            bail!(Format, "{}: the checkpoint is {state}, want step and round", file.label());
        };
        if u64::from(round) * self.plan.per_round() as u64 != u64::from(done) {
            bail!(Format, "{}: {done} updates in {round} rounds", file.label());
        }
        checkpoint::check(&self.step, file)?;
        self.whole = false; // until all of it is there
        self.rollout = None;
        checkpoint::load(self.replay.session(), &self.step, file)?;
        self.whole = true;
        (self.done, self.round, self.broken) = (done, round, count("broken").unwrap_or(0));
        Ok(())
    }
}

/// Rows `first ..` of a tensor.
fn rows_of(t: &Tensor, first: usize, rows: usize) -> Result<&[u8]> {
    let size = t.bytes().len() / t.dims().first().copied().unwrap_or(1).max(1);
    match t.bytes().get(first * size..(first + rows) * size) {
        Some(bytes) => Ok(bytes),
        None => bail!(Internal, "rows {first} to {} of {}", first + rows, t.desc()),
    }
}

/// Rows of the reward's gradient by component `c`; zeros where a row is not valid or nobody gave one.
fn gradient_rows(
    parts: &Parts,
    reward: &Reward,
    c: usize,
    first: usize,
    batch: usize,
) -> Result<Vec<u8>> {
    let state = parts.state(c, batch)?;
    let desc = Desc::new(parts.float, state.dims())?;
    let mut out = vec![0; desc.bytes()];
    let name = &parts.components[c].name; // the caller counts components
    let Some((_, t)) = reward.grads.iter().find(|(n, _)| n == name) else { return Ok(out) };
    let from = rows_of(t, first, batch)?;
    let size = out.len() / batch.max(1);
    for (row, (to, from)) in
        out.chunks_exact_mut(size.max(1)).zip(from.chunks_exact(size.max(1))).enumerate()
    {
        if reward.valid.get(first + row).copied().unwrap_or(true) {
            to.copy_from_slice(from);
        }
    }
    Ok(out)
}

/// old = keep old + (1 - keep) new, piece by piece.
fn blend(session: &mut Session, old: BufferId, new: BufferId, keep: f64, desc: Desc) -> Result<()> {
    let (mut a, mut b) = ([0; PIECE], [0; PIECE]);
    for at in (0..desc.bytes()).step_by(PIECE) {
        let n = PIECE.min(desc.bytes() - at);
        let (a, b) = (&mut a[..n], &mut b[..n]);
        session.read_at(new, at, b)?;
        if keep > 0.0 {
            session.read_at(old, at, a)?;
            match desc.dtype {
                DType::F64 => {
                    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks_mut::<8>().0) {
                        let (x, y) = (f64::from_ne_bytes(*a), f64::from_ne_bytes(*b));
                        *b = (keep * x + (1.0 - keep) * y).to_ne_bytes();
                    }
                }
                _ => {
                    for (a, b) in a.as_chunks::<4>().0.iter().zip(b.as_chunks_mut::<4>().0) {
                        let (x, y) = (f32::from_ne_bytes(*a), f32::from_ne_bytes(*b));
                        let mixed = keep * f64::from(x) + (1.0 - keep) * f64::from(y);
                        *b = (mixed as f32).to_ne_bytes();
                    }
                }
            }
        }
        session.write_at(old, at, b)?;
    }
    Ok(())
}
