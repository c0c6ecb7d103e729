//! A model being tuned by rewards: a pipeline that draws samples, the host's word on them, updates, and the file that the
//! tuned model becomes. Every call returns when it is done; nothing of the host is called.

use super::log::{Around, Log, Sums};
use super::model::OpenModel;
use super::pipeline::Pipeline;
use super::tuning::TuneConfig;
use crate::bail;
use crate::base::{DType, Result};
use crate::exec::{Interrupt, WeightBinding};
use crate::graph::Weight;
use crate::mem::Tensor;
use crate::sample::{Cond, Network, NormalRun, Parts, Rows};
use crate::train::assemble::{Asked, VIEWS};
use crate::train::objective::record;
use crate::train::{Objective, Report, Reward, TunePlan, Tuning};
use crate::weights::{SafeTensors, convert};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

/// Key of a checkpoint's metadata: the losses since the last line of the metrics file.
const METRICS: &str = "diffx_metrics";

/// The slot of the weights as the model file has them.
const REF: &str = "ref";

/// A sampler is coarse if the deviation of a normal law comes out this far from 1 times itself: what 8 192 draws can tell
/// six times over.
const COARSE: f64 = 0.05;

/// Metrics of the round, before those of the objective.
const ROUND: [&str; 2] = ["reward", "valid"];

/// A tuning of one model.
pub struct Tuner {
    pipeline: Arc<Pipeline>,
    config: TuneConfig,
    tuning: Tuning,
    log: Option<Log>,
    metrics: Vec<String>,
    /// Mean of the (first) reward and share of valid rows, of the last rewards given.
    last: [f64; 2],
}

/// What is made of a model and a config before memory is taken.
struct Parted {
    pipeline: Arc<Pipeline>,
    objective: Arc<dyn Objective>,
    parts: Parts,
    rows: Arc<Rows>,
    plan: TunePlan,
    /// Slots that stand for the base of the file.
    stands: Vec<String>,
}

fn parted(model: &Arc<OpenModel>, config: &TuneConfig) -> Result<Parted> {
    let engine = &model.engine;
    let pipeline = Pipeline::new(model, &config.rollout)?;
    let objective = engine.objective(&config.objective)?;
    let mut parts = pipeline.parts.clone();
    let mut stands = Vec::new();
    let Some(base) = parts.networks.iter_mut().find(|n| n.slot == "base") else {
        bail!(Internal, "a pipeline without a base network");
    };
    base.lora.clone_from(&config.lora);
    let (base, frozen) = (base.clone(), Network { lora: None, ..base.clone() });
    let like = VIEWS.iter().map(|(slot, _)| (*slot, &base)).chain([(REF, &frozen)]);
    for (slot, network) in like {
        if parts.networks.iter().any(|n| n.slot == slot) {
            continue; // the file or the config has one of its own
        }
        parts.networks.push(Network { slot: slot.to_owned(), ..network.clone() });
        stands.push(slot.to_owned());
    }
    let wanted = objective.info()?.networks;
    if let Some(slot) = wanted.iter().find(|s| !parts.networks.iter().any(|n| n.slot == **s)) {
        bail!(
            NotFound,
            "objective {} needs a network {slot}: name its model in \"rollout\": {{\"networks\": ..}}",
            config.objective.id
        );
    }
    let mut plan = config.plan.clone();
    plan.draw = pipeline.batch_for(plan.samples)?;
    let rows = pipeline.rows(0)?;
    Ok(Parted { pipeline, objective, parts, rows, plan, stands })
}

impl Parted {
    /// The tensor of a weight in the file of its slot.
    fn tensor(&self, weight: &Weight) -> Result<Arc<Tensor>> {
        let mut weight = weight.clone();
        if self.stands.contains(&weight.slot) {
            "base".clone_into(&mut weight.slot);
        }
        match self.pipeline.bind(std::slice::from_ref(&weight))?.pop() {
            Some(WeightBinding::Tensor(t)) => Ok(t),
            _ => bail!(Internal, "weight {} was bound to nothing", weight.name),
        }
    }

    /// Says so where final samples will be taken for draws of the model and the sampler is too coarse to give those: the
    /// model would follow its sampler away. What cannot be asked of a normal law is not told.
    fn warn_if_coarse(&self) -> Result<()> {
        const STEPS: u32 = record::STATES | record::KERNELS | record::CARRY;
        if self.objective.info()?.records & STEPS != 0 {
            return Ok(());
        }
        let (parts, sampler, rows) = (&self.parts, self.pipeline.sampler(), &self.rows);
        let engine = &self.pipeline.engine;
        let law = NormalRun { parts, sampler, rows };
        let spreads = law.run(engine.backend(), engine.budget(), &mut || Interrupt::Continue);
        for (spread, c) in spreads.unwrap_or_default().iter().zip(&parts.components) {
            if spread.is_nan() || (spread - 1.0).abs() > COARSE {
                engine.message(
                    1,
                    &format!(
                        "the rollout's {} steps are coarse: samples of a normal law for {} come out {spread:.2} times as \
                         wide as it is, and this objective takes samples for draws of the model; want more steps, or \
                         unipc on uniform_lambda",
                        rows.len(),
                        c.name
                    ),
                );
            }
        }
        Ok(())
    }

    /// Calls with everything a tuning is built from.
    fn ask<T>(&self, f: impl FnOnce(Asked<'_>) -> Result<T>) -> Result<T> {
        let engine = &self.pipeline.engine;
        f(Asked {
            backend: Arc::clone(engine.backend()),
            parts: self.parts.clone(),
            objective: self.objective.as_ref(),
            sampler: self.pipeline.sampler(),
            rows: Arc::clone(&self.rows),
            plan: self.plan.clone(),
            frozen: &mut |w| self.tensor(w),
            budget: Arc::clone(engine.budget()),
        })
    }
}

impl Tuner {
    pub fn new(model: &Arc<OpenModel>, config: &str) -> Result<Self> {
        let config = TuneConfig::parse(config)?;
        let parted = parted(model, &config)?;
        let digest = model.digest()?; // reads weight by weight: before the session is taken
        parted.warn_if_coarse()?;
        let mut tuning = parted.ask(Tuning::new)?;
        let lora = config.lora.as_ref().map(|l| json!([l.rank, l.scale, l.targets]));
        let settings = json!([
            parted.pipeline.settings(),
            parted.rows.levels,
            config.objective.to_value(),
            lora,
            digest,
        ]);
        tuning.describe(&settings.to_string());
        let own = tuning.metrics().iter().cloned();
        let metrics = ROUND.iter().map(|n| (*n).to_owned()).chain(own).collect();
        Ok(Self {
            pipeline: parted.pipeline,
            log: config.metrics.clone().map(Log::new),
            config,
            tuning,
            metrics,
            last: [f64::NAN; 2],
        })
    }

    /// Bytes such a tuner will hold: its session, and a rollout with its records.
    pub fn plan(model: &Arc<OpenModel>, config: &str) -> Result<u64> {
        let config = TuneConfig::parse(config)?;
        parted(model, &config)?.ask(Tuning::bytes_of)
    }

    /// The engine's, for what a host keeps beside a rollout.
    pub fn budget(&self) -> &Arc<crate::mem::Budget> {
        self.pipeline.engine.budget()
    }

    /// The conditions a rollout takes.
    pub fn conds(&self) -> &[Cond] {
        &self.pipeline.parts.conds
    }

    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Names of the metrics of an update: of its round, then of the objective.
    pub fn metrics(&self) -> &[String] {
        &self.metrics
    }

    /// Draws the samples of the next round.
    pub fn rollout(&mut self, conds: &[(String, Arc<Tensor>)]) -> Result<()> {
        self.tuning.roll(conds, &mut || Interrupt::Continue)
    }

    /// A component [samples, ...], `feasible`, `log_weight`, or `states.NAME` [records, samples, ...].
    pub fn result(&self, name: Option<&str>) -> Result<Arc<Tensor>> {
        match (name, self.pipeline.parts.components.first()) {
            (Some(name), _) => self.tuning.tensor(name),
            (None, Some(first)) => self.tuning.tensor(&first.name),
            (None, None) => bail!(Internal, "no component"),
        }
    }

    /// What the host says of the samples of this round.
    pub fn reward(&mut self, reward: Reward) -> Result<()> {
        let width = self.tuning.info().n_rewards.max(1) as usize;
        let firsts = reward.values.iter().step_by(width);
        let counts = |i: usize| reward.valid.get(i).copied().unwrap_or(true);
        let kept: Vec<f64> =
            firsts.enumerate().filter(|(i, _)| counts(*i)).map(|(_, v)| *v).collect();
        let samples = self.tuning.plan().samples as f64;
        let last = [kept.iter().sum::<f64>() / kept.len() as f64, kept.len() as f64 / samples];
        self.tuning.reward(reward, &mut || Interrupt::Continue)?;
        self.last = last;
        Ok(())
    }

    /// One update, and its line in the metrics file where the config asks for one.
    pub fn advance(&mut self) -> Result<Report> {
        if let Some(log) = &mut self.log {
            log.begin(self.tuning.done().1)?;
        }
        let mut report = self.tuning.advance(&mut || Interrupt::Continue)?;
        report.metrics.splice(0..0, self.last);
        let Some(log) = &mut self.log else { return Ok(report) };
        log.add(report.loss);
        if log.due(report.step, self.tuning.plan().steps()).0 {
            let around = Around {
                names: &self.metrics,
                rate: self.tuning.rate(),
                batch: self.tuning.plan().batch * self.tuning.plan().accumulate,
                held_out: None,
            };
            log.write(&report, around)?;
        }
        Ok(report)
    }

    /// Where it stands and what it wants of the host.
    pub fn to_json(&self) -> serde_json::Value {
        let (plan, info) = (self.tuning.plan(), self.tuning.info());
        let (round, update) = self.tuning.done();
        json!({
            "samples": plan.samples, "group": plan.group, "batch": plan.batch, "accumulate": plan.accumulate, "rounds": plan.rounds,
            "updates": plan.steps(), "round": round, "update": update, "left": self.left(),
            "rewards": info.n_rewards.max(1), "gradient": self.wants_gradient(),
            "dtype": self.pipeline.parts.float.name(), "metrics": self.metrics,
        })
    }

    /// Whether the objective wants the gradient of the reward by the samples.
    pub fn wants_gradient(&self) -> bool {
        self.tuning.info().records & record::REWARD_GRAD != 0
    }

    /// Updates of the round under way that are left.
    pub fn left(&self) -> usize {
        let (round, done) = self.tuning.done();
        let per_round = self.tuning.plan().per_round();
        per_round - (done as usize - round as usize * per_round)
    }

    pub fn save_checkpoint(&mut self, path: &Path) -> Result<()> {
        let mut metadata = BTreeMap::new();
        if let Some(log) = &self.log {
            log.sync()?; // the lines up to this round are never behind the checkpoint
            metadata.insert(METRICS.into(), log.state());
        }
        self.tuning.save(path, &metadata)
    }

    pub fn resume(&mut self, checkpoint: &Path) -> Result<()> {
        let file = SafeTensors::open(checkpoint)?;
        // first of all, so that one that is refused leaves the tuner as it was
        let sums = Sums::parse(file.metadata().get(METRICS)).map_err(|e| e.within(file.label()))?;
        self.tuning.resume(&file)?;
        if let Some(log) = &mut self.log {
            log.resume(sums);
        }
        Ok(())
    }

    /// Writes the model with its averaged weights, adapters merged into those they belong to, in the types of the file.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        let model = Arc::clone(self.pipeline.model());
        let mut manifest = model.manifest.clone();
        let (rounds, updates) = self.tuning.done();
        let tuned = json!({
            "objective": self.config.objective.to_value(), "rounds": rounds, "updates": updates,
        });
        manifest.provenance.insert("tuned".into(), tuned);
        let mut places: HashMap<String, usize> = HashMap::new();
        for (i, (name, _)) in self.tuning.listed().enumerate() {
            places.insert(name.to_owned(), i);
        }
        let scale = self.config.lora.as_ref().map_or(1.0, |l| l.scale);
        let (tuning, budget) = (&mut self.tuning, model.engine.budget());
        model.write_with(path, &manifest, &mut |name| {
            if let Some(i) = places.get(name) {
                return tuning.tensor_of(*i, budget).map(|(t, _)| Some(t));
            }
            let half = |side: &str| places.get(&format!("{name}.lora_{side}"));
            let (Some(a), Some(b)) = (half("a"), half("b")) else { return Ok(None) };
            let ((a, transposed), (b, _)) =
                (tuning.tensor_of(*a, budget)?, tuning.tensor_of(*b, budget)?);
            let Some(w) = model.weight(name)? else { return Ok(None) };
            merged(&w, &a, &b, scale, transposed, budget).map(Some)
        })
    }
}

/// W + scale A B, or with A B transposed, in f64.
fn merged(
    w: &Tensor,
    a: &Tensor,
    b: &Tensor,
    scale: f64,
    transposed: bool,
    budget: &Arc<crate::mem::Budget>,
) -> Result<Tensor> {
    let (&[k, r], &[_, n]) = (a.dims(), b.dims()) else {
        bail!(Internal, "an adapter of {} and {}", a.desc(), b.desc());
    };
    let want = if transposed { [n, k] } else { [k, n] };
    if w.dims() != want {
        bail!(Internal, "an adapter of {want:?} for {}", w.desc());
    }
    let mut out = convert::to_f64(w)?;
    let (a, b) = (convert::to_f64(a)?, convert::to_f64(b)?);
    for i in 0..k {
        for j in 0..r {
            let x = scale * a[i * r + j]; // [k, r] and [r, n], as the pattern above says
            for (c, y) in b[j * n..(j + 1) * n].iter().enumerate() {
                out[if transposed { c * k + i } else { i * n + c }] += x * y;
            }
        }
    }
    let wide = Tensor::from_f64(&want, &out, budget)?;
    convert::convert(wide, DType::F32, budget)
}
