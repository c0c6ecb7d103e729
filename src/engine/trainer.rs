//! From a recipe to a model file: reads and cuts the data, fits what the user left open, builds the training and
//! writes what it learned. The file says everything needed to sample it again.

use super::Engine;
use super::fit::{Moments, SCALES, fit};
use super::manifest::{self, Manifest, Part};
use super::recipe::Recipe;
use super::setting::Setting;
use crate::base::{DType, Desc, Result};
use crate::exec::{Interrupt, RunKey, SessionBuilder};
use crate::mem::Tensor;
use crate::plugin::Kind;
use crate::sample::build::{Network, Parts};
use crate::sample::{Build, Component, ProcessFn, Stats};
use crate::train::data::{Split, Windows, windows};
use crate::train::{Dataset, Report, Series, Training};
use crate::weights::{Out, convert, write};
use crate::{bail, fail};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

/// Most values the statistics in the coordinate of the process are taken from.
const MOST_MEASURED: usize = 1 << 20;

/// Batches of one held-out measurement.
const HELD_OUT_ROUNDS: u32 = 8;

/// A training of one model on one series.
pub struct Trainer {
    engine: Arc<Engine>,
    recipe: Recipe,
    manifest: Manifest,
    training: Training,
    held_out: Dataset,
    /// Rows of the file that had no value.
    pub skipped: usize,
    pub examples: usize,
}

impl Trainer {
    pub fn new(engine: &Arc<Engine>, recipe: Recipe) -> Result<Self> {
        let source = &recipe.data;
        let series = Series::read(&source.path, source.column.as_deref())?;
        let cut = |side, stride| {
            windows(&series, source.window, source.history, stride, source.split.as_deref(), side)
        };
        let train = cut(Split::Train, source.stride)?;
        let held = cut(Split::HeldOut, 1)?;
        let known = match &source.split {
            Some(date) => &series.values[..series.before(date)], // a partition point of the series
            None => &series.values[..],
        };
        let budget = engine.budget();
        let data = train.dataset(&series, budget)?;
        let held_out = held.dataset(&series, budget)?;

        let moments = Moments::of(known)?;
        let stats = Stats { x_mean: moments.mean, x_var: moments.variance, ..Stats::default() };
        let mut process = engine.resolve(Kind::Process, &recipe.process)?;
        fit_process(engine, &mut process, known)?;
        let law = engine.process(&process)?;
        let positive = law.info(&stats)?.positive;
        if positive && let Some(i) = series.values.iter().position(|v| *v <= 0.0) {
            bail!(
                Invalid,
                "process {} wants positive data, {} is {} at {}",
                process.id,
                series.column,
                series.values[i],
                series.dates[i]
            );
        }
        let mut model = engine.resolve(Kind::Model, &recipe.model)?;
        complete_model(engine, &mut model, &train, known, positive)?;
        let network = engine.model(&model)?;
        let info = network.info()?;
        let [component] = &info.components[..] else {
            bail!(
                Invalid,
                "model {} has {} components, a series is one",
                model.id,
                info.components.len()
            );
        };
        let dims = sizes(component, &data)?;
        let component = Component { dims, dtype: DType::F32, ..component.clone() };
        let mut parts = Parts {
            components: vec![component],
            processes: vec![law],
            stats: vec![stats],
            conds: info.conds.clone(),
            networks: vec![Network { slot: "base".into(), model: network, lora: None }],
            guidances: Vec::new(),
            float: DType::F32,
            weight_dtype: DType::F32,
        };
        let data = shaped(data, &parts)?;
        let held_out = shaped(held_out, &parts)?;
        parts.stats = vec![measure_coordinate(engine, &parts, known)?];

        let objective = engine.objective(&recipe.objective)?;
        let examples = data.len();
        let mut training = Training::new(
            Arc::clone(engine.backend()),
            &parts,
            objective.as_ref(),
            recipe.plan.clone(),
            data,
            &HashMap::new(),
            budget,
        )?;
        let manifest = describe(engine, &recipe, &series, &held, model, process, &parts)?;
        let skipped = series.skipped;
        training.describe(&settled(&manifest, &recipe));
        Ok(Self {
            engine: Arc::clone(engine),
            recipe,
            manifest,
            training,
            held_out,
            skipped,
            examples,
        })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn training(&self) -> &Training {
        &self.training
    }

    pub fn advance(&mut self, interrupt: &mut dyn FnMut() -> Interrupt) -> Result<Option<Report>> {
        self.training.advance(interrupt)
    }

    /// The loss of the averaged weights on windows after the split, if there are any.
    pub fn measure(&mut self) -> Result<Option<Report>> {
        if self.held_out.is_empty() {
            return Ok(None);
        }
        self.training.measure(&self.held_out, HELD_OUT_ROUNDS).map(Some)
    }

    pub fn resume(&mut self, checkpoint: &Path) -> Result<()> {
        self.training.resume(checkpoint)
    }

    pub fn save_checkpoint(&self, path: &Path) -> Result<()> {
        self.training.save(path, &self.metadata())
    }

    /// Writes the model: averaged weights in the type of the recipe.
    pub fn save(&self, path: &Path) -> Result<()> {
        let budget = self.engine.budget();
        let mut tensors = Vec::new();
        for (name, desc, bytes) in self.training.weights(true)? {
            let tensor = Tensor::from_bytes(desc, &bytes, budget)?;
            tensors.push((name, convert::convert(tensor, self.recipe.dtype, budget)?));
        }
        let out: Vec<Out<'_>> = tensors
            .iter()
            .map(|(name, t)| Out { name, desc: t.desc(), bytes: t.bytes() })
            .collect();
        write(path, &self.metadata(), &out)
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        let mut manifest = self.manifest.clone();
        manifest.provenance.insert("train_steps".into(), json!(self.training.done()));
        BTreeMap::from([(manifest::KEY.to_owned(), manifest.to_json())])
    }
}

/// The settings a step depends on; how the model is sampled later and what the file is called are not among them.
fn settled(manifest: &Manifest, recipe: &Recipe) -> String {
    let parts = manifest.components.iter().map(|p| {
        let s = p.stats;
        json!([p.name, p.dims, p.process.to_value(), [s.x_mean, s.x_var, s.w_mean, s.w_var]])
    });
    let parts: Vec<Value> = parts.collect();
    json!([manifest.model.to_value(), parts, recipe.objective.to_value()]).to_string()
}

/// Fits the settings of a process that the user left open, as far as the plugin has them.
fn fit_process(engine: &Engine, process: &mut Setting, known: &[f64]) -> Result<()> {
    let fitted = fit(&process.id, known)?;
    // parameters of one process belong together: a user who sets one has the plugin's defaults for the others
    let given = |key: &str| process.config.contains_key(key);
    let scale = |key: &str| SCALES.contains(&key);
    let law_given = fitted.iter().any(|(key, _)| !scale(key) && given(key));
    let open = fitted.iter().filter(|(key, _)| !given(key) && (scale(key) || !law_given));
    let mut with = process.clone();
    with.config.extend(open.map(|(k, v)| ((*k).to_owned(), json!(v))));
    if engine.process(&with).is_ok() {
        *process = with;
    }
    Ok(())
}

/// Sizes and scales of the data for the settings a model has and the user left open. A plugin refuses keys it does not
/// know (a rule of the ABI), so a key that is refused is one it does not have.
fn complete_model(
    engine: &Engine,
    model: &mut Setting,
    cut: &Windows,
    known: &[f64],
    positive: bool,
) -> Result<()> {
    let mut offer = offering(engine, model);
    for key in ["window", "dims"] {
        let value = if key == "dims" { json!([cut.window]) } else { json!(cut.window) };
        offer(key, value);
    }
    drop(offer);
    // a fault of the user's own settings would make every offer fail: the model's message, not ours
    engine.model(model)?;
    if cut.history == 0 {
        return Ok(());
    }
    let mut offer = offering(engine, model);
    if offer("history", json!(cut.history)).is_none() {
        drop(offer);
        bail!(Invalid, "model {} takes no history; leave it out or name another model", model.id);
    }
    // positive data spread by factors, not by amounts
    let log = offer("history_log", json!(positive)) == Some(json!(true));
    let scale: Vec<f64> = known.iter().map(|v| if log { v.ln() } else { *v }).collect();
    let moments = Moments::of(&scale)?;
    offer("history_mean", json!(moments.mean));
    offer("history_std", json!(moments.variance.sqrt()));
    Ok(())
}

/// Sets a key the user left open, where the model has it; gives its value, if it has one then.
fn offering<'a>(
    engine: &'a Engine,
    model: &'a mut Setting,
) -> impl FnMut(&str, Value) -> Option<Value> + 'a {
    |key, value| {
        if !model.config.contains_key(key) {
            let mut with = model.clone();
            with.config.insert(key.to_owned(), value);
            if engine.model(&with).is_ok() {
                *model = with;
            }
        }
        model.config.get(key).cloned()
    }
}

/// The sizes of the state for this data: [window], or [window, 1] and [1, window] where the model has channels.
fn sizes(component: &Component, data: &Dataset) -> Result<Vec<i64>> {
    let window = data.x.first().and_then(|t| t.dims().get(1)).copied().unwrap_or(0) as i64;
    let fits = |dims: &[i64]| {
        dims.len() == component.dims.len()
            && dims.iter().zip(&component.dims).all(|(d, want)| *want < 0 || d == want)
    };
    [vec![window], vec![window, 1], vec![1, window]].into_iter().find(|d| fits(d)).ok_or_else(
        || {
            fail!(
                Invalid,
                "the model's state {} is {:?}, windows of a series have {window} values",
                component.name,
                component.dims
            )
        },
    )
}

/// The tables with the shapes of the state and the conditions.
fn shaped(data: Dataset, parts: &Parts) -> Result<Dataset> {
    let n = data.len();
    let Dataset { x, cond, .. } = data;
    if cond.len() != parts.conds.len() {
        bail!(
            Invalid,
            "the model takes {} conditions, the data gives {}: {}",
            parts.conds.len(),
            cond.len(),
            parts.conds.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
        );
    }
    let x = x.into_iter().enumerate().map(|(c, t)| t.reshaped(parts.state(c, n)?.dims()));
    let cond = cond.into_iter().zip(&parts.conds);
    Dataset::new(
        x.collect::<Result<_>>()?,
        cond.map(|(t, c)| t.reshaped(&[&[n], c.desc.dims()].concat())).collect::<Result<_>>()?,
    )
}

/// Mean and variance of the data in the coordinate of the process.
fn measure_coordinate(engine: &Engine, parts: &Parts, known: &[f64]) -> Result<Stats> {
    let state = parts.state(0, 1)?;
    let width = state.shape.elements().max(1);
    let values = &known[..known.len().min(MOST_MEASURED) / width * width];
    let rows = values.len() / width;
    let mut b = Build::new(parts, rows)?;
    let desc = Desc::new(parts.float, &[&[rows], &state.dims()[1..]].concat())?;
    let x = b.graph.input("x", desc);
    let w = b.process(0, ProcessFn::Encode, 0, &[x])?;
    let Some(&w) = w.first() else {
        bail!(Plugin, "encode gave nothing");
    };
    if b.graph.desc(w) != desc {
        bail!(Plugin, "encode gave {} for {desc}", b.graph.desc(w));
    }
    let graph = b.graph;
    let mut session = SessionBuilder::new(Arc::clone(engine.backend()));
    let (from, to) = (session.buffer("x", desc), session.buffer("w", desc));
    let plan = session.plan(&graph, &[from], &[(w, to)], &[])?;
    let mut session = session.allocate(engine.budget())?;
    let bytes: Vec<u8> = values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect();
    session.write(from, &bytes)?;
    let key = RunKey { seed: 0, step: 0, first_sample: 0 };
    session.run(plan, key, &mut || Interrupt::Continue)?;
    let mut out = vec![0; bytes.len()];
    session.read(to, &mut out)?;
    let w: Vec<f64> =
        out.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect();
    let (x, w) = (Moments::of(values)?, Moments::of(&w)?);
    Ok(Stats { x_mean: x.mean, x_var: x.variance, w_mean: w.mean, w_var: w.variance })
}

fn describe(
    engine: &Engine,
    recipe: &Recipe,
    series: &Series,
    held: &Windows,
    model: Setting,
    process: Setting,
    parts: &Parts,
) -> Result<Manifest> {
    let source = &recipe.data;
    let file = source.path.file_name().unwrap_or_default().to_string_lossy();
    let mut data = Map::new();
    let mut put = |key: &str, value: Value| data.insert(key.to_owned(), value);
    put("kind", json!("csv"));
    put("file", json!(file));
    put("name", json!(source.name));
    put("column", json!(series.column));
    put("window", json!(source.window));
    put("history", json!(source.history));
    put("first_date", json!(series.dates.first()));
    put("last_date", json!(series.dates.last()));
    put("split", json!(source.split));
    // the window to show: the first held-out one from the wished date on, or the future of the series
    let from = source.show.as_deref().map_or(0, |date| series.before(date));
    let start = held.starts.iter().copied().find(|s| *s >= from);
    let end = series.values.len();
    if source.show.is_some() && start.is_none() {
        bail!(
            Invalid,
            "no held-out window starts at {} or later",
            source.show.as_deref().unwrap_or("")
        );
    }
    let start = start.unwrap_or(end);
    let past = start.saturating_sub(source.history)..start;
    let future = start..(start + source.window).min(end);
    put("history_values", json!(series.values.get(past.clone())));
    put("history_dates", json!(series.dates.get(past)));
    put("held_out", json!(series.values.get(future.clone())));
    put("held_out_dates", json!(series.dates.get(future)));

    let o = &recipe.plan.optimizer;
    let provenance = json!({
        "created_by": concat!("diffx ", env!("CARGO_PKG_VERSION")),
        "seed": recipe.plan.seed,
        "config": {
            "objective": recipe.objective.to_value(), "steps": recipe.plan.steps, "batch": recipe.plan.batch,
            "rate": o.rate, "warmup": o.warmup, "schedule": format!("{:?}", o.schedule).to_lowercase(),
            "decay": o.decay, "clip": o.clip, "ema": o.ema,
            "stride": source.stride,
        },
    });
    let components = parts.components.iter().zip(&parts.stats);
    let mut manifest = Manifest {
        model,
        components: components
            .map(|(c, stats)| Part {
                name: c.name.clone(),
                dims: c.dims.clone(),
                process: process.clone(),
                stats: *stats,
                sigma_min: None,
                sigma_max: None,
            })
            .collect(),
        networks: BTreeMap::new(),
        sampler: recipe.sampler.clone(),
        grid: recipe.grid.clone(),
        guidance: recipe.guidance.clone(),
        steps: recipe.sample_steps,
        data,
        provenance: provenance.as_object().cloned().unwrap_or_default(),
    };
    engine.canonical(&mut manifest)?;
    Ok(manifest)
}
