//! A training and what belongs to it: data read, a model completed and fitted, steps, and the file that says everything
//! needed to sample what was learned.

use super::Engine;
use super::log::{Around, Log, Sums};
use super::manifest::{self, Manifest};
use super::model::Lender;
use super::prepare::{Prepared, prepare};
use super::recipe::Recipe;
use crate::bail;
use crate::base::{Desc, Result};
use crate::exec::Interrupt;
use crate::exec::session::PIECE;
use crate::graph::Weight;
use crate::mem::Tensor;
use crate::train::data::Read;
use crate::train::{Dataset, Report, Training};
use crate::weights::{SafeTensors, convert, write_pieces};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Batches of one held-out measurement.
const HELD_OUT_ROUNDS: u32 = 8;

/// Key of a checkpoint's metadata: the losses since the last line of the metrics file.
const METRICS: &str = "diffx_metrics";

/// A training of one model on the data of a recipe.
pub struct Trainer {
    recipe: Recipe,
    manifest: Manifest,
    training: Training,
    held_out: Option<Dataset>,
    log: Option<Log>,
    /// Rows or files of the source that held no value.
    pub skipped: usize,
    pub examples: usize,
    /// What the examples are: `7241 windows of CLOSE`.
    pub what: String,
}

impl Trainer {
    pub fn new(engine: &Arc<Engine>, recipe: Recipe) -> Result<Self> {
        Self::with_tables(engine, recipe, Vec::new())
    }

    /// Trains on named tables: the components of the state, conditions and labels, row i for example i; those named
    /// `held_out.NAME` are not trained on. With no tables the recipe says where the data is.
    pub fn with_tables(
        engine: &Arc<Engine>,
        recipe: Recipe,
        tables: Vec<(String, Arc<Tensor>)>,
    ) -> Result<Self> {
        let read = read(engine, &recipe, tables)?;
        let (skipped, what) = (read.skipped, read.what.clone());
        let Prepared { parts, manifest, train, held_out, lenders } =
            prepare(engine, &recipe, read)?;
        let objective = engine.objective(&recipe.objective)?;
        let examples = train.len();
        let mut training = Training::new(
            Arc::clone(engine.backend()),
            &parts,
            objective.as_ref(),
            recipe.plan.clone(),
            train,
            &mut |w| lent(&lenders, w),
            engine.budget(),
        )?;
        training.describe(&settled(&manifest, &recipe, &lenders)?);
        Ok(Self {
            log: recipe.metrics.clone().map(Log::new),
            recipe,
            manifest,
            training,
            held_out: held_out.filter(|h| !h.is_empty()),
            skipped,
            examples,
            what,
        })
    }

    /// Bytes a trainer holds: its session, and what was read of the data.
    pub fn plan(
        engine: &Arc<Engine>,
        recipe: Recipe,
        tables: Vec<(String, Arc<Tensor>)>,
    ) -> Result<u64> {
        let host: Vec<Arc<Tensor>> = tables.iter().map(|(_, t)| Arc::clone(t)).collect();
        let read = read(engine, &recipe, tables)?;
        let ours = |(_, t): &(&str, &Arc<Tensor>)| !host.iter().any(|h| Arc::ptr_eq(h, t));
        let all = read.train.iter().chain(read.held_out.iter().flat_map(|t| t.iter()));
        let data: usize = all.filter(ours).map(|(_, t)| t.desc().bytes()).sum();
        let Prepared { parts, lenders, .. } = prepare(engine, &recipe, read)?;
        let objective = engine.objective(&recipe.objective)?;
        let backend = Arc::clone(engine.backend());
        let frozen = &mut |w: &Weight| lent(&lenders, w);
        let session = Training::plan(backend, &parts, objective.as_ref(), &recipe.plan, frozen)?;
        Ok(data as u64 + session)
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn training(&self) -> &Training {
        &self.training
    }

    /// One step, and its line in the metrics file where the recipe asks for one.
    pub fn advance(&mut self, interrupt: &mut dyn FnMut() -> Interrupt) -> Result<Option<Report>> {
        if let Some(log) = &mut self.log {
            log.begin(self.training.done())?;
        }
        let report = self.training.advance(interrupt)?;
        let (Some(report), Some(log)) = (&report, &mut self.log) else { return Ok(report) };
        log.add(report.loss);
        let (due, measure) = log.due(report.step, self.training.steps());
        if !due {
            return Ok(Some(report.clone()));
        }
        let held_out = match &self.held_out {
            Some(held) if measure => Some(self.training.measure(held, HELD_OUT_ROUNDS)?.loss),
            _ => None,
        };
        let around = Around {
            names: self.training.metrics(),
            rate: self.training.rate(),
            batch: self.recipe.plan.batch,
            held_out,
        };
        log.write(report, around)?;
        Ok(Some(report.clone()))
    }

    /// The loss of the averaged weights on examples that are not trained on, if there are any.
    pub fn measure(&mut self) -> Result<Option<Report>> {
        match &self.held_out {
            None => Ok(None),
            Some(held) => self.training.measure(held, HELD_OUT_ROUNDS).map(Some),
        }
    }

    /// Goes on from a checkpoint. One that is refused leaves the trainer as it was; only what fails while weights are
    /// read leaves it without them.
    pub fn resume(&mut self, checkpoint: &Path) -> Result<()> {
        self.resume_from(&SafeTensors::open(checkpoint)?)
    }

    /// Goes on with the checkpoint in a file that is open already.
    pub fn resume_from(&mut self, checkpoint: &SafeTensors) -> Result<()> {
        let sums = match &self.log {
            Some(_) => Sums::parse(checkpoint.metadata().get(METRICS))
                .map_err(|e| e.within(checkpoint.label()))?,
            None => Sums::default(),
        };
        self.training.resume_from(checkpoint)?;
        if let Some(log) = &mut self.log {
            log.resume(sums);
        }
        Ok(())
    }

    pub fn save_checkpoint(&self, path: &Path) -> Result<()> {
        let mut metadata = self.metadata();
        if let Some(log) = &self.log {
            log.sync()?; // the lines up to this step are never behind the checkpoint
            metadata.insert(METRICS.into(), log.state());
        }
        self.training.save(path, &metadata)
    }

    /// Writes the model: averaged weights in the type of the recipe.
    pub fn save(&self, path: &Path) -> Result<()> {
        let to = self.recipe.dtype;
        let masters: Vec<(&str, Desc)> = self.training.listed().collect();
        let out: Vec<(&str, Desc)> =
            masters.iter().map(|(n, d)| (*n, Desc { dtype: to, shape: d.shape })).collect();
        let mut narrow = [0; 2 * PIECE]; // or wide: f64 of f32
        write_pieces(path, &self.metadata(), &out, &mut |i, put| {
            let Some((name, desc)) = masters.get(i) else { bail!(Internal, "no weight {i}") };
            let from = desc.dtype;
            if !convert::converts(from, to) {
                bail!(Unsupported, "{name} is {from}, which cannot become {to}");
            }
            self.training.show(i, true, &mut |piece| {
                let out = &mut narrow[..piece.len() / from.bytes() * to.bytes()];
                convert::elements(piece, from, to, out);
                put(out)
            })
        })
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        let mut manifest = self.manifest.clone();
        manifest.provenance.insert("train_steps".into(), json!(self.training.done()));
        BTreeMap::from([(manifest::KEY.to_owned(), manifest.to_json())])
    }
}

/// The data of a recipe, or the tables of the host.
fn read(engine: &Engine, recipe: &Recipe, tables: Vec<(String, Arc<Tensor>)>) -> Result<Read> {
    match (tables.is_empty(), recipe.data.paths.is_empty()) {
        (true, _) => recipe.data.read(engine.budget()),
        (false, true) => recipe.data.given_tables(tables, engine.budget()),
        (false, false) => {
            bail!(Invalid, "data: a path and {} tables are given, want one", tables.len())
        }
    }
}

/// The settings a step depends on; how the model is sampled later and what the file is called are not among them.
fn settled(manifest: &Manifest, recipe: &Recipe, lenders: &[Lender]) -> Result<String> {
    let parts = manifest.components.iter().map(|p| {
        let s = p.stats;
        json!([p.name, p.dims, p.process.to_value(), [s.x_mean, s.x_var, s.w_mean, s.w_var]])
    });
    let parts: Vec<Value> = parts.collect();
    let mut settled = vec![manifest.model.to_value(), parts.into(), recipe.objective.to_value()];
    for lender in lenders {
        settled.push(json!([lender.slot, lender.model.digest()?]));
    }
    Ok(Value::from(settled).to_string())
}

/// A weight of a network that stays as it is.
fn lent(lenders: &[Lender], weight: &Weight) -> Result<Arc<Tensor>> {
    let Some(lender) = lenders.iter().find(|l| l.slot == weight.slot) else {
        bail!(Internal, "no model lends the network {}", weight.slot);
    };
    match lender.model.bind(&lender.name, &[weight])?.pop() {
        Some(tensor) => Ok(tensor),
        None => bail!(Internal, "weight {} was bound and is not there", weight.name),
    }
}
