//! The plans of a tuning: the update, the sampler, the sweep, the gradient by the last state and the advantage of a whole
//! rollout, over the buffers of one session, so that what an update writes the next rollout reads.

use super::objective::{AdvantageIo, Objective, ObjectiveInfo, record};
use super::optimizer::Optimizer;
use super::parameter::Parameter;
use super::sweep::SweepPlan;
use super::update::{self, Place, Recorded, Slots, Step, View};
use crate::bail;
use crate::base::{Desc, Result};
use crate::exec::{Backend, BufferId, PlanId, SessionBuilder, WeightBinding};
use crate::graph::Weight;
use crate::mem::{Budget, Tensor};
use crate::sample::{Build, Parts, ProcessFn, Program, Rows, Sampler, Space, Trajectory};
use std::sync::Arc;

/// Whose weights draw the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// Those under training.
    Base,
    /// Their lagging copy.
    Old,
    /// Their moving average.
    Ema,
    /// Those of the model file.
    Ref,
}

/// How slot `old` follows after each round: old = d old + (1 - d) base, d = min(rate * round, most).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lag {
    pub rate: f64,
    pub most: f64,
}

/// How to tune.
#[derive(Debug, Clone, PartialEq)]
pub struct TunePlan {
    pub rounds: u32,
    /// Samples of a rollout.
    pub samples: usize,
    /// Samples per condition.
    pub group: usize,
    /// Samples of which gradients are taken at once.
    pub batch: usize,
    /// Batches per update.
    pub accumulate: usize,
    /// How often the updates of a round go over its samples.
    pub sweeps: u32,
    /// Rows per run of the sampler; does not change the samples.
    pub draw: usize,
    pub seed: u64,
    pub optimizer: Optimizer,
    pub actor: Actor,
    pub lag: Lag,
}

/// Slots beside `base` that read what becomes of its weights.
pub const VIEWS: &[(&str, View)] = &[("old", View::Lagging), ("ema", View::Average)];

impl TunePlan {
    pub fn check(&self) -> Result<()> {
        let whole = |a: usize, b: usize| b > 0 && a > 0 && a.is_multiple_of(b);
        if !whole(self.samples, self.batch) || !whole(self.batch, self.group) {
            bail!(
                Invalid,
                "{} samples, batches of {}, groups of {}: want whole batches of whole groups",
                self.samples,
                self.batch,
                self.group
            );
        }
        if !whole(self.samples / self.batch.max(1), self.accumulate) {
            bail!(
                Invalid,
                "{} samples in batches of {}, {} batches an update: want whole updates",
                self.samples,
                self.batch,
                self.accumulate
            );
        }
        if self.rounds == 0 || self.sweeps == 0 {
            bail!(Invalid, "{} rounds of {} sweeps, want at least 1", self.rounds, self.sweeps);
        }
        let batches = self.samples / self.batch / self.accumulate; // checked above
        let updates = (batches as u64)
            .checked_mul(u64::from(self.sweeps))
            .and_then(|n| n.checked_mul(u64::from(self.rounds)));
        if updates.is_none_or(|n| n > u64::from(u32::MAX)) {
            bail!(
                Invalid,
                "{} rounds of {} sweeps over {batches} updates are too many updates, want at most {}",
                self.rounds,
                self.sweeps,
                u32::MAX
            );
        }
        self.optimizer.check()
    }

    /// Updates of a round.
    pub fn per_round(&self) -> usize {
        self.samples / self.batch.max(1) / self.accumulate.max(1) * self.sweeps as usize
    }

    /// Updates of all rounds.
    pub fn steps(&self) -> u32 {
        u32::try_from(self.per_round()).unwrap_or(u32::MAX).saturating_mul(self.rounds)
    }
}

/// The plan that turns the gradient of the reward by a sample into that by the last state.
pub(super) struct Start {
    pub(super) plan: PlanId,
    /// Per continuous component: state, gradient in, gradient out.
    pub(super) places: Vec<Option<[BufferId; 3]>>,
}

/// The plan of the objective's advantage over a whole rollout.
pub(super) struct Advantage {
    pub(super) plan: PlanId,
    pub(super) reward: BufferId,
    pub(super) valid: BufferId,
    pub(super) out: BufferId,
}

/// What a tuning is built from.
pub struct Asked<'a> {
    pub backend: Arc<dyn Backend>,
    /// With networks `base`, `ref`, `old`, `ema` and whatever else is asked for.
    pub parts: Parts,
    pub objective: &'a dyn Objective,
    pub sampler: &'a dyn Sampler,
    pub rows: Arc<Rows>,
    pub plan: TunePlan,
    /// The tensor of a weight as the model file has it.
    pub frozen: &'a mut dyn FnMut(&Weight) -> Result<Arc<Tensor>>,
    pub budget: Arc<Budget>,
}

/// Its plans and the session they are of.
pub(super) struct Built {
    pub(super) session: SessionBuilder,
    pub(super) program: Program,
    pub(super) step: Step,
    pub(super) sweep: Option<SweepPlan>,
    pub(super) start: Option<Start>,
    pub(super) advantage: Option<Advantage>,
}

pub(super) fn build(asked: &mut Asked<'_>) -> Result<Built> {
    let Asked { parts, objective, plan, rows, .. } = asked;
    plan.check()?;
    let info = objective.info()?;
    if info.records == 0 {
        bail!(
            Unsupported,
            "the objective trains on data, not on rollouts: it is one for a trainer"
        );
    }
    if info.records & record::CARRY != 0 && !objective.has_sweep() {
        bail!(Unsupported, "the objective reads the carries of a sweep and has no sweep");
    }
    check_kernels(parts, rows, &info)?;
    let mut session = SessionBuilder::new(Arc::clone(&asked.backend));
    let views: Vec<(String, View)> = VIEWS.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
    let trained = ["base".to_owned()];
    let recorded = Recorded { rows: rows.len(), group: plan.group as u32 };
    let mut slots = Slots { trained: &trained, views: &views, frozen: &mut *asked.frozen };
    let step = update::build(
        &mut session,
        parts,
        *objective,
        &plan.optimizer,
        plan.batch,
        Some(recorded),
        plan.accumulate,
        &mut slots,
    )?;
    let frozen = &mut *asked.frozen;
    let mut bound = |weights: &[Weight], base: Actor| -> Result<Vec<WeightBinding>> {
        weights.iter().map(|w| binding(w, base, &step.parameters, frozen)).collect()
    };
    let actor = plan.actor;
    let program = Program::new(
        parts,
        asked.sampler,
        rows,
        plan.draw,
        false,
        &mut session,
        &mut |w: &[Weight]| bound(w, actor),
    )?;
    if info.records & (record::STATES | record::CARRY) != 0 {
        Trajectory::check(&program)?;
    }
    let sweep = match info.records & record::CARRY != 0 {
        true => {
            let mut bind = |w: &[Weight]| bound(w, Actor::Base);
            Some(SweepPlan::add(&mut session, parts, *objective, plan.batch, &mut bind)?)
        }
        false => None,
    };
    let seeded = sweep.is_some() && info.records & record::REWARD_GRAD != 0;
    let start = seeded.then(|| start(&mut session, parts, rows, plan.batch)).transpose()?;
    let advantage = objective.has_advantage() && info.records & record::REWARD != 0;
    let advantage = advantage
        .then(|| shared(&mut session, parts, *objective, plan, info.n_rewards))
        .transpose()?;
    Ok(Built { session, program, step, sweep, start, advantage })
}

/// The binding of a weight: a buffer of the training, or a tensor that stays.
fn binding(
    weight: &Weight,
    base: Actor,
    parameters: &[(Parameter, Place)],
    frozen: &mut dyn FnMut(&Weight) -> Result<Arc<Tensor>>,
) -> Result<WeightBinding> {
    let actor = match weight.slot.as_str() {
        "base" => base,
        "old" => Actor::Old,
        "ema" => Actor::Ema,
        _ => Actor::Ref,
    };
    let place = parameters.iter().find(|(p, _)| p.name == weight.name).map(|(_, place)| place);
    let buffer = match (place, actor) {
        (None, _) | (_, Actor::Ref) => None,
        (Some(p), Actor::Base) => Some(p.weight),
        (Some(p), Actor::Old) => p.old,
        (Some(p), Actor::Ema) => Some(p.ema),
    };
    match buffer {
        Some(buffer) => Ok(WeightBinding::Buffer(buffer)),
        None => frozen(weight).map(WeightBinding::Tensor),
    }
}

/// Log-densities of steps are those of the sampler only where it says what its steps are and nothing else moves them.
fn check_kernels(parts: &Parts, rows: &Rows, info: &ObjectiveInfo) -> Result<()> {
    if info.records & record::KERNELS == 0 {
        return Ok(());
    }
    if rows.kernels.is_empty() {
        bail!(
            Unsupported,
            "the objective reads the mean and variance of the sampler's steps, and this sampler does not tell them: \
             want one such as flow_sde, em, ddim, ancestral or euler"
        );
    }
    if !parts.guidances.is_empty() {
        bail!(
            Unsupported,
            "the objective reads the sampler's steps, which a guidance changes: roll out without"
        );
    }
    for ((process, stats), c) in parts.processes.iter().zip(&parts.stats).zip(&parts.components) {
        let of = process.info(stats)?;
        if of.space == Space::Discrete || !of.additive {
            bail!(
                Unsupported,
                "the objective reads Gaussian steps, which the process of component {} does not make",
                c.name
            );
        }
    }
    Ok(())
}

fn start(session: &mut SessionBuilder, parts: &Parts, rows: &Rows, batch: usize) -> Result<Start> {
    let mut b = Build::new(parts, batch)?;
    let (mut inputs, mut outputs, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for (c, component) in parts.components.iter().enumerate() {
        if component.space == Space::Discrete {
            places.push(None);
            continue;
        }
        let desc = parts.state(c, batch)?;
        let mut input = |b: &mut Build<'_>, kind: &str| {
            let name = format!("{kind}.{}", component.name);
            let id = session.buffer(&name, desc);
            inputs.push(id);
            (b.graph.input(&name, desc), id)
        };
        let (w, state) = input(&mut b, "last");
        let (cotangent, given) = input(&mut b, "by_sample");
        let mut dims = vec![1; desc.shape.rank().max(1)];
        dims[0] = batch;
        let level = b.graph.full(rows.level(rows.len(), c), parts.float, &dims);
        let x = match parts.processes[c].has(ProcessFn::Decode) {
            true => b.process(c, ProcessFn::Decode, 0, &[w, level])?[0],
            false => w,
        };
        let grads = b.graph.grad(x, cotangent, &[w]);
        b.graph.check()?;
        let out = session.buffer(&format!("by_state.{}", component.name), desc);
        outputs.extend(grads.first().map(|g| (*g, out)));
        places.push(Some([state, given, out]));
    }
    let plan = session.plan(&b.graph, &inputs, &outputs, &[])?;
    Ok(Start { plan, places })
}

fn shared(
    session: &mut SessionBuilder,
    parts: &Parts,
    objective: &dyn Objective,
    plan: &TunePlan,
    n_rewards: u32,
) -> Result<Advantage> {
    let mut b = Build::new(parts, plan.samples)?;
    let reward_desc = Desc::new(parts.float, &[plan.samples, n_rewards.max(1) as usize])?;
    let per_row = Desc::new(parts.float, &[plan.samples])?;
    let mut io = AdvantageIo {
        reward: b.graph.input("reward", reward_desc),
        valid: b.graph.input("valid", per_row),
        group: plan.group as u32,
        advantage: None,
    };
    objective.advantage(&mut b, &mut io)?;
    b.graph.check()?;
    let node = match io.advantage {
        Some(node) if b.graph.is_valid(node) && b.graph.desc(node) == per_row => node,
        _ => bail!(Plugin, "advantage: what the objective made is not {per_row}"),
    };
    let reward = session.buffer("rewards", reward_desc);
    let (valid, out) = (session.buffer("valids", per_row), session.buffer("advantages", per_row));
    let plan = session.plan(&b.graph, &[reward, valid], &[(node, out)], &[])?;
    Ok(Advantage { plan, reward, valid, out })
}
