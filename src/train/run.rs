//! The training loop: batches in their addressed order, one replay per step, checkpoints that resume to the same bits.
//! A state after step t depends on the settings, the data and t only, never on how often the run was stopped.

use super::checkpoint;
use super::data::{Dataset, Permutation};
use super::objective::{Objective, of_examples};
use super::optimizer::Optimizer;
use super::parameter::{from_bytes, to_bytes};
use super::update::{self, Slots, Step};
use crate::bail;
use crate::base::{Desc, Result};
use crate::exec::{Backend, Interrupt, RunKey, Session, SessionBuilder};
use crate::graph::Weight;
use crate::mem::{Budget, Tensor, reserved};
use crate::sample::build::Parts;
use crate::weights::SafeTensors;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Steps without a finite gradient in a row after which training gives up.
const MOST_BROKEN: u32 = 50;

/// How to train.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub steps: u32,
    pub batch: usize,
    pub seed: u64,
    pub optimizer: Optimizer,
    /// Network slots whose weights move.
    pub trained: Vec<String>,
}

/// What a step or a measurement says.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Steps done.
    pub step: u32,
    pub loss: f64,
    /// Norm of the gradient before clipping; 0 in a measurement.
    pub norm: f64,
    /// Metrics of the objective, in its order.
    pub metrics: Vec<f64>,
}

/// A training in progress.
pub struct Training {
    session: Session,
    step: Step,
    plan: Plan,
    data: Dataset,
    done: u32,
    broken: u32,
    /// Inside a step: its batch is loaded and must stay.
    paused: bool,
    /// False after a checkpoint was put back in part only.
    whole: bool,
    bytes: u64,
    /// What a step depends on, besides the state: a checkpoint goes on under the same only.
    fingerprint: String,
    /// One example.
    scratch: Vec<u8>,
}

impl Training {
    /// Plans, allocates and draws the first weights.
    pub fn new(
        backend: Arc<dyn Backend>,
        parts: &Parts,
        objective: &dyn Objective,
        plan: Plan,
        data: Dataset,
        frozen: &mut dyn FnMut(&Weight) -> Result<Arc<Tensor>>,
        budget: &Arc<Budget>,
    ) -> Result<Self> {
        if plan.batch == 0 || data.is_empty() {
            bail!(
                Invalid,
                "training wants a batch and data, got {} of {} examples",
                plan.batch,
                data.len()
            );
        }
        let mut builder = SessionBuilder::new(backend);
        let step = built(&mut builder, parts, objective, &plan, frozen)?;
        check_data(parts, &data, usize::from(of_examples(objective)?))?;
        let bytes = builder.bytes();
        let mut session = builder.allocate(budget)?;
        for (parameter, place) in &step.parameters {
            for buffer in [place.weight, place.ema] {
                session.fill(buffer, &mut |at, out| parameter.initial(plan.seed, at, out))?;
            }
        }
        let fingerprint = fingerprint(&plan, &data);
        Ok(Self {
            session,
            step,
            plan,
            data,
            done: 0,
            broken: 0,
            paused: false,
            whole: true,
            bytes,
            fingerprint,
            scratch: Vec::new(),
        })
    }

    /// Bytes that a session of such a training takes.
    pub fn plan(
        backend: Arc<dyn Backend>,
        parts: &Parts,
        objective: &dyn Objective,
        plan: &Plan,
        frozen: &mut dyn FnMut(&Weight) -> Result<Arc<Tensor>>,
    ) -> Result<u64> {
        let mut builder = SessionBuilder::new(backend);
        built(&mut builder, parts, objective, plan, frozen)?;
        Ok(builder.bytes())
    }

    /// Adds settings that a plan does not hold (model, process, objective) to what a checkpoint must agree on.
    pub fn describe(&mut self, settings: &str) {
        self.fingerprint =
            hex(Sha256::new().chain_update(&self.fingerprint).chain_update(settings));
    }

    /// Memory the session took.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Steps done so far.
    pub fn done(&self) -> u32 {
        self.done
    }

    pub fn steps(&self) -> u32 {
        self.plan.steps
    }

    /// Learning rate of the last step; 0 before the first.
    pub fn rate(&self) -> f64 {
        match self.done {
            0 => 0.0,
            t => self.plan.optimizer.row(t, self.plan.steps).rate,
        }
    }

    pub fn metrics(&self) -> &[String] {
        &self.step.metrics
    }

    /// Number of trained values.
    pub fn parameters(&self) -> usize {
        self.step.parameters.iter().map(|(p, _)| p.desc.shape.elements()).sum()
    }

    /// Does the next step; nothing when `interrupt` paused it, and the next call goes on inside it.
    pub fn advance(&mut self, interrupt: &mut dyn FnMut() -> Interrupt) -> Result<Option<Report>> {
        if self.done >= self.plan.steps {
            bail!(State, "all {} steps are done", self.plan.steps);
        }
        self.check_whole()?;
        let t = self.done + 1;
        if !self.paused {
            self.load_batch(None, self.done)?;
            let row = self.plan.optimizer.row(t, self.plan.steps).values();
            self.session.write(self.step.row, &to_bytes(&row, self.step.float))?;
        }
        let key = RunKey { seed: self.plan.seed, step: t, first_sample: 0 };
        self.paused = !self.session.run(self.step.plan, key, interrupt)?;
        if self.paused {
            return Ok(None);
        }
        self.done = t;
        let report = self.read_report()?;
        self.broken = if report.norm.is_finite() { 0 } else { self.broken + 1 };
        if self.broken >= MOST_BROKEN {
            bail!(
                State,
                "step {t}: no finite gradient for {MOST_BROKEN} steps, loss {}; try a smaller rate",
                report.loss
            );
        }
        Ok(Some(report))
    }

    /// The loss of the averaged weights on `data`, over `rounds` batches in a fixed order with fixed noise, so that two
    /// measurements compare weights and nothing else.
    pub fn measure(&mut self, data: &Dataset, rounds: u32) -> Result<Report> {
        if self.paused {
            bail!(State, "a step is paused; finish it before measuring");
        }
        self.check_whole()?;
        let mut total = Report {
            step: self.done,
            loss: 0.0,
            norm: 0.0,
            metrics: vec![0.0; self.metrics().len()],
        };
        let share = 1.0 / f64::from(rounds.max(1));
        for i in 0..rounds.max(1) {
            self.load_batch(Some(data), i)?;
            let key = RunKey { seed: self.plan.seed, step: u32::MAX - i, first_sample: 0 };
            let Some(plan) = self.step.measure else { bail!(Internal, "nothing to measure with") };
            self.session.run(plan, key, &mut || Interrupt::Continue)?;
            let one = self.read_report()?;
            total.loss += share * one.loss;
            total.metrics.iter_mut().zip(&one.metrics).for_each(|(t, v)| *t += share * v);
        }
        Ok(total)
    }

    /// Fills the input buffers: training data in permuted order, or `other` spread evenly over its length.
    fn load_batch(&mut self, other: Option<&Dataset>, index: u32) -> Result<()> {
        let batch = self.plan.batch;
        let data = other.unwrap_or(&self.data);
        let n = data.len() as u64;
        if n == 0 {
            bail!(Invalid, "no data to measure on");
        }
        let first = u64::from(index) * batch as u64;
        for b in 0..batch {
            let at = first + b as u64;
            let row = match other {
                // a large odd stride visits the whole range in few batches
                Some(_) => (at.wrapping_mul(0x9E37_79B1) % n) as usize,
                None => Permutation::new(n, self.plan.seed, (at / n) as u32).at(at % n) as usize,
            };
            let row = data.position(row);
            let tables = data.x.iter().chain(&data.cond);
            let buffers = self.step.x.iter().chain(&self.step.cond);
            for (table, &buffer) in tables.zip(buffers) {
                self.scratch.clear();
                let bytes = table.width().saturating_mul(self.step.float.bytes());
                if self.scratch.try_reserve(bytes).is_err() {
                    bail!(NoMemory, "no memory for an example of {bytes} bytes");
                }
                table.append(row, self.step.float, &mut self.scratch)?;
                self.session.write_at(buffer, b * self.scratch.len(), &self.scratch)?;
            }
        }
        Ok(())
    }

    fn check_whole(&self) -> Result<()> {
        if !self.whole {
            bail!(State, "a checkpoint could be put back in part only; resume from a good one");
        }
        Ok(())
    }

    fn read_report(&self) -> Result<Report> {
        let n = 2 + self.step.metrics.len();
        let mut bytes = vec![0; n * self.step.float.bytes()];
        self.session.read(self.step.report, &mut bytes)?;
        match from_bytes(&bytes, self.step.float)[..] {
            [loss, norm, ref metrics @ ..] => {
                Ok(Report { step: self.done, loss, norm, metrics: metrics.to_vec() })
            }
            _ => bail!(Internal, "a report has no loss"),
        }
    }

    // ---- weights out, checkpoints out and in

    /// Names and descriptors of the weights, as in files.
    pub fn listed(&self) -> impl Iterator<Item = (&str, Desc)> {
        self.step.parameters.iter().map(|(p, _)| (p.name.as_str(), p.desc))
    }

    /// Shows the bytes of weight `i` piece by piece: averaged, or as the last step left them.
    pub fn show(
        &self,
        i: usize,
        averaged: bool,
        to: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let Some((_, place)) = self.step.parameters.get(i) else {
            bail!(Invalid, "weight {i}, there are {}", self.step.parameters.len());
        };
        self.session.show(if averaged { place.ema } else { place.weight }, to)
    }

    /// The weights with their names in files: averaged, or as the last step left them.
    pub fn weights(&self, averaged: bool) -> Result<Vec<(String, Desc, Vec<u8>)>> {
        let one = |(i, (name, desc)): (usize, (&str, Desc))| {
            let mut bytes = reserved(desc.bytes(), "a copy of a weight")?;
            self.show(i, averaged, &mut |piece| {
                bytes.extend_from_slice(piece);
                Ok(())
            })?;
            Ok((name.to_owned(), desc, bytes))
        };
        self.listed().enumerate().map(one).collect()
    }

    /// Writes everything needed to go on, atomically. `metadata` travels with it.
    pub fn save(&self, path: &Path, metadata: &BTreeMap<String, String>) -> Result<()> {
        if self.paused {
            bail!(State, "a step is paused; finish it before saving");
        }
        self.check_whole()?;
        let state = serde_json::json!({
            "step": self.done, "seed": self.plan.seed, "fingerprint": self.fingerprint, "broken": self.broken,
        });
        checkpoint::save(&self.session, &self.step, path, metadata, &state)
    }

    /// Goes on where `save` stopped. The file must be of the same plan, data and settings.
    pub fn resume(&mut self, path: &Path) -> Result<()> {
        self.resume_from(&SafeTensors::open(path)?)
    }

    /// Goes on with the checkpoint in a file that is open already.
    pub fn resume_from(&mut self, file: &SafeTensors) -> Result<()> {
        let state = checkpoint::state(file, self.plan.seed, &self.fingerprint)?;
        checkpoint::check(&self.step, file)?;
        self.whole = false; // until all of it is there
        checkpoint::load(&mut self.session, &self.step, file)?;
        self.whole = true;
        self.done = checkpoint::whole(&state, "step").unwrap_or(0); // `state` has looked
        self.broken = checkpoint::whole(&state, "broken").unwrap_or(0);
        self.paused = false;
        Ok(())
    }
}

/// The step of a training on data.
fn built(
    session: &mut SessionBuilder,
    parts: &Parts,
    objective: &dyn Objective,
    plan: &Plan,
    frozen: &mut dyn FnMut(&Weight) -> Result<Arc<Tensor>>,
) -> Result<Step> {
    let mut slots = Slots { trained: &plan.trained, views: &[], frozen };
    update::build(session, parts, objective, &plan.optimizer, plan.batch, None, 1, &mut slots)
}

fn fingerprint(plan: &Plan, data: &Dataset) -> String {
    let mut hash = Sha256::new();
    // under some schedules a step does not know how many will follow: such a run may be made longer
    let mut plan = plan.clone();
    if plan.optimizer.schedule.is_endless() {
        plan.steps = 0;
    }
    hash.update(format!("{plan:?}"));
    for table in data.x.iter().chain(&data.cond) {
        hash.update(format!("{} {}", table.desc(), table.width()));
        hash.update(table.bytes());
    }
    hash.update(format!("{:?}", data.part()));
    hex(hash)
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// `labels`: columns behind the conditions.
fn check_data(parts: &Parts, data: &Dataset, labels: usize) -> Result<()> {
    let conds = data.cond.len();
    if data.x.len() != parts.components.len() || conds != parts.conds.len() + labels {
        bail!(
            Invalid,
            "the data has {} components and {} conditions, the model wants {} and {}",
            data.x.len(),
            conds,
            parts.components.len(),
            parts.conds.len() + labels
        );
    }
    for (c, column) in data.x.iter().enumerate() {
        let want = parts.state(c, 1)?;
        if want.shape.elements() != column.width() || want.dtype.is_float() == column.is_tokens() {
            bail!(
                Invalid,
                "component {c}: the data is {}, the model wants {}",
                column.desc(),
                parts.state(c, data.len())?
            );
        }
    }
    for (cond, column) in parts.conds.iter().zip(&data.cond) {
        let float = cond.desc.dtype.is_float();
        if cond.desc.shape.elements() != column.width() || float == column.is_tokens() {
            bail!(
                Invalid,
                "condition {}: the data is {} per row, the model wants {}",
                cond.name,
                column.desc(),
                cond.desc
            );
        }
    }
    Ok(())
}
