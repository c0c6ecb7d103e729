//! A model bound to a process, guidances, a sampler and a grid: everything about a run but its seed and its samples.
//!
//! Creating one resolves ids, makes instances, checks that they fit and that every weight is there. Memory is taken by
//! jobs; `plan` tells how much. A finished job leaves its session here for the next one.

use super::config::{self, Config};
use super::manifest::Manifest;
use super::model::OpenModel;
use super::pilot::Pilot;
use super::schedulers;
use super::setting::Setting;
use super::{Engine, lock};
use crate::base::Result;
use crate::base::torch::Torch;
use crate::exec::{SessionBuilder, WeightBinding};
use crate::graph::Weight;
use crate::mem::Tensor;
use crate::plugin::Kind;
use crate::sample::rows::extremes;
use crate::sample::{
    Component, Grid, IMAGE, Network, Noise, Parts, Predicts, Process, Program, Replay, Rows,
    Sampler, Space, start_input,
};
use crate::{bail, fail};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Rows of a batch unless the config or the number of samples says otherwise.
const BATCH: usize = 256;

/// Steps when neither the host, the config nor the model says.
const STEPS: u32 = 32;

/// ... where each sample becomes a picture, whose making takes far more memory than the sample.
const PICTURES: usize = 4;

/// Where a pipeline finds the network that makes pictures.
const AUTOENCODER: &str = "vae";

/// Most samples of a batch that cannot be cut.
const MOST_AT_ONCE: usize = 1 << 20;

/// What samples with few settings of its own use.
const SAMPLER: &str = "heun";
const GRID: &str = "edm";

/// A pipeline of an engine.
pub struct Pipeline {
    pub engine: Arc<Engine>,
    pub parts: Parts,
    sampler: Arc<dyn Sampler>,
    /// One for all components, or one each.
    grids: Vec<Arc<dyn Grid>>,
    pub(super) ranges: Vec<(f64, f64)>,
    steps: u32,
    batch: Option<usize>,
    /// Draws are those of PyTorch's CPU generator: one batch, from its first sample.
    torch_noise: bool,
    /// Runs set out from data of the job.
    from_data: bool,
    /// The share of a grid's steps that are made, where no scheduler has seen to it.
    strength: Option<f64>,
    sources: Vec<Source>,
    /// What `described` describes; a config may lend other files' weights to all of its slots.
    model: Arc<OpenModel>,
    /// All settings with full ids, as one line.
    settings: String,
    /// The model's description with the settings of this pipeline for defaults.
    described: Manifest,
    pilot: Mutex<Option<Arc<Pilot>>>,
    idle: Mutex<Option<Replay>>,
}

/// PyTorch's CPU generator, asked for f32 as its callers do.
struct TorchNoise(Torch);

impl Noise for TorchNoise {
    fn fill(&mut self, out: &mut [f32]) -> Result<()> {
        self.0.normals_f32(out);
        Ok(())
    }
}

/// Where the weights of a network slot come from.
struct Source {
    slot: String,
    model: Arc<OpenModel>,
    /// The slot's name in that file.
    name: String,
}

impl Pipeline {
    pub fn new(model: &Arc<OpenModel>, config: &str) -> Result<Arc<Self>> {
        let engine = &model.engine;
        let mut config = Config::parse(config)?;
        let process_alone = config.or_scheduler(model.scheduler())?;
        let named_process = !config.process.is_empty() && !process_alone;
        let followed = config.follow()?;
        let by_scheduler = followed || process_alone;
        let float = config.dtype;
        let components = model.components(float);
        let stats: Vec<_> = model.manifest.components.iter().map(|p| p.stats).collect();

        let mut networks = Vec::new();
        let mut sources = Vec::new();
        for (slot, network) in model.networks() {
            networks.push(Network {
                slot: slot.to_owned(),
                model: Arc::clone(network),
                lora: None,
            });
            let source =
                Source { slot: slot.to_owned(), model: Arc::clone(model), name: slot.to_owned() };
            sources.push(source);
        }
        for (slot, path) in &config.networks {
            let lent = OpenModel::lender(engine, slot, path)?;
            networks.retain(|n| n.slot != *slot);
            sources.retain(|s| s.slot != *slot);
            networks.push(Network { slot: slot.clone(), model: lent.network, lora: None });
            sources.push(Source { slot: lent.slot, name: lent.name, model: lent.model });
        }
        if config.image {
            let found =
                networks.iter().find(|n| n.slot == AUTOENCODER).map(|n| Arc::clone(&n.model));
            let held = sources.iter().find(|s| s.slot == AUTOENCODER);
            let (Some(network), Some(held)) = (found, held) else {
                bail!(
                    NotFound,
                    "image: the model has no network {AUTOENCODER} to make pictures with: name one in \"networks\""
                );
            };
            let (slot, model) = (IMAGE.to_owned(), Arc::clone(&held.model));
            sources.push(Source { slot: slot.clone(), model, name: held.name.clone() });
            networks.push(Network { slot, model: network, lora: None });
        }
        let predicts = networks.iter().map(|n| n.model.info().map(|i| i.predicts));
        let predicts = predicts.collect::<Result<Vec<_>>>()?;

        let mut processes = Vec::new();
        let mut process_settings = Vec::new();
        let mut ranges = Vec::new();
        for (c, part) in model.manifest.components.iter().enumerate() {
            let setting = config::pick(&config.process, c).unwrap_or(&part.process);
            let mut setting = engine.resolve(Kind::Process, setting)?;
            // of a folder with a scheduler the process of the description stands in for it
            let by_scheduler =
                by_scheduler || (setting.id == schedulers::PROCESS && model.scheduler().is_some());
            if setting.id != part.process.id && model.is_trained() && !by_scheduler {
                bail!(
                    Invalid,
                    "component {}: the model was trained under process {}, {} would read its weights in another \
                     coordinate; give the same id (its settings may differ)",
                    part.name,
                    part.process.id,
                    setting.id
                );
            }
            if named_process
                && setting.id != schedulers::PROCESS
                && model.scheduler().is_some()
                && model.info().predicts == Predicts::Residual
            {
                bail!(
                    Invalid,
                    "component {}: the network was trained under its scheduler and counts that one's steps, which \
                     process {} would not tell it; leave process out, or say what the network predicts in the \
                     model's settings",
                    part.name,
                    setting.id
                );
            }
            schedulers::tell_time(&mut setting, &predicts)?;
            let process = engine.process(&setting)?;
            ranges.push(range(&*process, &components[c], part, &config, c)?);
            processes.push(process);
            process_settings.push(setting);
        }
        for (key, n) in [
            ("process", config.process.len()),
            ("grid", config.grid.len()),
            ("sigma_min", config.sigma_min.len()),
            ("sigma_max", config.sigma_max.len()),
        ] {
            let components = processes.len();
            if n > components || (n > 1 && n < components && key != "process") {
                bail!(Invalid, "{key}: {n} values, the model has {components} components");
            }
        }

        schedulers::frame(&mut networks, &process_settings);

        let listed = config.guidance.as_ref().unwrap_or(&model.manifest.guidance);
        let mut guidances = Vec::new();
        for setting in listed {
            let setting = engine.resolve(Kind::Guidance, setting)?;
            let guidance = engine.guidance(&setting)?;
            let info = guidance.info(&components)?;
            for slot in &info.networks {
                if !networks.iter().any(|n| n.slot == *slot) {
                    bail!(
                        NotFound,
                        "guidance {} needs a network {slot}: name its model in \"networks\"",
                        setting.id
                    );
                }
            }
            guidances.push((info.stage, setting, guidance));
        }
        guidances.sort_by_key(|g| g.0); // stable: within a stage as listed

        let default = |id: &str| Setting::of(id);
        let sampler = config.sampler.clone().or_else(|| model.manifest.sampler.clone());
        let sampler = sampler.unwrap_or_else(|| default(SAMPLER));
        let sampler = engine.resolve(Kind::Sampler, &sampler)?;
        let mut grids = config.grid.clone();
        if grids.is_empty() {
            grids.push(model.manifest.grid.clone().unwrap_or_else(|| default(GRID)));
        }
        for grid in &mut grids {
            *grid = engine.resolve(Kind::Grid, grid)?;
        }

        let mut settings = serde_json::json!({
            "manifest": model.manifest.to_json(),
            "process": process_settings.iter().map(Setting::to_value).collect::<Vec<_>>(),
            "guidance": guidances.iter().map(|g| g.1.to_value()).collect::<Vec<_>>(),
            "sampler": sampler.to_value(),
            "grid": grids.iter().map(Setting::to_value).collect::<Vec<_>>(),
            "dtype": float.name(),
        });
        if let Some(strength) = config.strength {
            settings["strength"] = strength.into();
        }
        if config.image {
            settings["image"] = true.into();
        }
        if config.torch_noise {
            settings["noise"] = "torch_cpu".into();
        }
        let mut described = model.manifest.clone();
        for ((part, setting), (lo, hi)) in
            described.components.iter_mut().zip(&process_settings).zip(&ranges)
        {
            part.process = setting.clone();
            (part.sigma_min, part.sigma_max) = (Some(*lo), Some(*hi));
        }
        described.guidance = guidances.iter().map(|g| g.1.clone()).collect();
        described.sampler = Some(sampler.clone());
        described.grid = grids.first().cloned();
        described.steps = config.steps.or(described.steps);
        let pilot = config.pilot.or_else(|| described.pilot.take());
        let info = model.info();
        let conds = info.conds.iter().cloned().map(|mut c| {
            if c.desc.dtype.is_float() {
                c.desc.dtype = float;
            }
            c
        });
        let pipeline = Self {
            parts: Parts {
                components,
                processes,
                stats,
                conds: conds.collect(),
                networks,
                guidances: guidances.into_iter().map(|g| g.2).collect(),
                float,
                weight_dtype: float,
            },
            sampler: engine.sampler(&sampler)?,
            grids: grids.iter().map(|g| engine.grid(g)).collect::<Result<_>>()?,
            ranges,
            steps: config.steps.or(model.manifest.steps).unwrap_or(STEPS),
            batch: config.batch,
            torch_noise: config.torch_noise,
            from_data: config.strength.is_some(),
            strength: config.strength.filter(|_| !followed),
            sources,
            model: Arc::clone(model),
            settings: settings.to_string(),
            described,
            pilot: Mutex::new(pilot.map(Arc::new)),
            idle: Mutex::new(None),
            engine: Arc::clone(engine),
        };
        // a run of the smallest size shows what does not fit, and which weights are missing, now
        let rows = pipeline.rows_between(&pipeline.knots(pipeline.steps, None)?)?;
        pipeline.build(&rows, 1, false)?;
        Ok(Arc::new(pipeline))
    }

    /// Bytes a job of `n_samples` will take: its session, its results, and one batch of each preview. Weights are in
    /// the model's account, inputs in the host's.
    pub fn plan(&self, n_samples: usize, n_steps: u32, preview: bool) -> Result<u64> {
        let rows = self.rows(n_steps)?;
        let (program, session) = self.build(&rows, self.batch_for(n_samples)?, preview)?;
        let mut results = 0u64;
        for (_, b) in program.results() {
            let per_sample = (b.desc.bytes() / program.batch) as u64;
            results = results.saturating_add(per_sample.saturating_mul(n_samples as u64));
        }
        let results = results.saturating_add(program.redraw_bytes(n_samples));
        let previews = program.previews().iter().map(|(_, b)| b.desc.bytes() as u64);
        let previews = previews.fold(0, u64::saturating_add);
        Ok(session.bytes().saturating_add(results).saturating_add(previews))
    }

    /// Where a job's draws come from, if not from their addresses.
    pub(super) fn noise(&self, seed: u64, first_sample: u64) -> Result<Option<Box<dyn Noise>>> {
        if !self.torch_noise {
            return Ok(None);
        }
        if first_sample != 0 {
            bail!(
                Invalid,
                "first_sample {first_sample} by torch_cpu, whose draws begin with sample 0"
            );
        }
        Ok(Some(Box::new(TorchNoise(Torch::new(seed)))))
    }

    pub(super) fn sampler(&self) -> &dyn Sampler {
        &*self.sampler
    }

    /// The model that its weights are of, where no config lends others.
    pub(super) fn model(&self) -> &Arc<OpenModel> {
        &self.model
    }

    /// Everything that makes this pipeline, weights aside, as one line.
    pub(super) fn settings(&self) -> &str {
        &self.settings
    }

    /// The row table of `n_steps` steps; 0 = the pipeline's own number.
    pub fn rows(&self, n_steps: u32) -> Result<Arc<Rows>> {
        let n = if n_steps == 0 { self.steps } else { n_steps };
        if n > 100_000 {
            bail!(Invalid, "{n} steps, want at most 100000");
        }
        let pilot = match self.grids().any(|g| g.pilot_steps() > 0) {
            true => Some(self.measured()?),
            false => None,
        };
        self.rows_between(&self.knots(n, pilot.as_deref())?)
    }

    fn rows_between(&self, knots: &[Vec<f64>]) -> Result<Arc<Rows>> {
        let mut rows = Rows::new(&*self.sampler, &self.parts, knots)?;
        rows.given_noise = self.torch_noise;
        rows.from_data = self.from_data;
        Ok(Arc::new(rows))
    }

    /// The knots of each component; without a pilot, grids that adapt give what they would run it on.
    fn knots(&self, n: u32, pilot: Option<&Pilot>) -> Result<Vec<Vec<f64>>> {
        let mut knots = Vec::new();
        for (c, (grid, (lo, hi))) in self.grids().zip(&self.ranges).enumerate() {
            let bends = pilot.and_then(|p| p.components.get(c));
            knots.push(match bends {
                Some(b) if grid.pilot_steps() > 0 => grid.refine(n, *lo, *hi, &b.sigma, &b.bend)?,
                _ => grid.knots(n, *lo, *hi)?,
            });
        }
        for k in &mut knots {
            let skipped = schedulers::skipped(k.len().saturating_sub(1), self.strength)?;
            k.drain(..skipped);
        }
        Ok(knots)
    }

    /// That a run which sets out from data is given it.
    pub(super) fn check_start(&self, inputs: &[(String, Arc<Tensor>)]) -> Result<()> {
        for c in self.parts.components.iter().filter(|_| self.from_data) {
            let name = start_input(&c.name);
            if !inputs.iter().any(|(n, _)| *n == name) {
                bail!(
                    Invalid,
                    "the pipeline has a strength, and the job no input {name} to set out from"
                );
            }
        }
        Ok(())
    }

    /// What the pilot measured, if it holds for this pipeline.
    fn measured(&self) -> Result<Arc<Pilot>> {
        let known = lock(&self.pilot).clone();
        let why = match &known {
            None => "there was none".to_owned(),
            Some(pilot) => {
                let (process, guidance) = self.identity();
                let ranges: Vec<_> = self.ranges().map(|(n, r)| (n.to_owned(), *r)).collect();
                match (pilot.misfit(&process, guidance, &ranges), known.clone()) {
                    (None, Some(pilot)) => return Ok(pilot),
                    (why, _) => why.unwrap_or_default(),
                }
            }
        };
        bail!(
            State,
            "the grid wants a pilot run of this pipeline and {why}: call dfx_pipeline_pilot, or give what it gave as \
             \"pilot\" in the config or the model file"
        )
    }

    /// Whether a grid adapts and no pilot run holds for it.
    pub fn wants_pilot(&self) -> bool {
        self.grids().any(|g| g.pilot_steps() > 0) && self.measured().is_err()
    }

    pub(super) fn keep_pilot(&self, pilot: &Arc<Pilot>) {
        *lock(&self.pilot) = Some(Arc::clone(pilot));
    }

    /// The grid of each component.
    pub(super) fn grids(&self) -> impl Iterator<Item = &Arc<dyn Grid>> {
        (0..self.ranges.len()).filter_map(|c| self.grids.get(c).or(self.grids.first()))
    }

    /// Name and range of levels of each component.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (&str, &(f64, f64))> {
        self.parts.components.iter().map(|c| c.name.as_str()).zip(&self.ranges)
    }

    /// The settings a pilot run depends on: processes and guidance.
    pub(super) fn identity(&self) -> (Vec<Setting>, &[Setting]) {
        let process = self.described.components.iter().map(|p| p.process.clone());
        (process.collect(), &self.described.guidance)
    }

    /// Writes the model with the settings of this pipeline for its defaults, and with its pilot.
    pub fn save_model(&self, path: &Path) -> Result<()> {
        if self.grids.len() > 1 {
            bail!(
                Unsupported,
                "a model file holds one grid, this pipeline has {}",
                self.grids.len()
            );
        }
        let mut manifest = self.described.clone();
        manifest.provenance.remove("scheduler"); // what was taken of it is among the settings
        manifest.pilot = lock(&self.pilot).as_deref().cloned();
        if let Some(s) = self.sources.iter().find(|s| !Arc::ptr_eq(&s.model, &self.model)) {
            bail!(Unsupported, "network {} comes from another file than the model", s.slot);
        }
        self.model.write(path, &manifest)
    }

    /// Rows of a batch for so many samples, in whole groups.
    pub fn batch_for(&self, n_samples: usize) -> Result<usize> {
        if self.torch_noise {
            let group = self.parts.group()?;
            if !n_samples.is_multiple_of(group) || n_samples > MOST_AT_ONCE {
                bail!(
                    Invalid,
                    "{n_samples} samples by torch_cpu, want a multiple of {group} up to {MOST_AT_ONCE}: they are one batch"
                );
            }
            return Ok(n_samples);
        }
        let pictures = self.parts.networks.iter().any(|n| n.slot == IMAGE);
        let batch =
            self.batch.unwrap_or(if pictures { PICTURES } else { BATCH }).min(n_samples.max(1));
        Ok(batch.next_multiple_of(self.parts.group()?))
    }

    /// A session ready for these rows: the one the last job left, if it fits, else a new one.
    pub fn replay(&self, rows: &Rows, batch: usize, preview: bool) -> Result<Replay> {
        let left = lock(&self.idle).take();
        if let Some(replay) = left {
            let p = &replay.program;
            if p.batch == batch && p.has_preview() == preview && p.serves(rows) {
                return Ok(replay);
            }
        } // one that does not fit is dropped first: its memory may be needed
        let (program, session) = self.build(rows, batch, preview)?;
        Ok(Replay::new(program, session.allocate(self.engine.budget())?))
    }

    /// Takes a session back for the next job, and gives the one that waited before. It is for the caller to drop where
    /// no lock is held: memory goes back to the host then, whose functions may call us.
    #[must_use]
    pub fn leave(&self, replay: Replay) -> Option<Replay> {
        lock(&self.idle).replace(replay)
    }

    /// Name and null value of each condition.
    pub fn nulls(&self) -> Vec<(String, f64)> {
        self.parts.conds.iter().map(|c| (c.name.clone(), c.null_value)).collect()
    }

    /// What tells this pipeline and these rows from others: a saved job is resumed by the same only.
    pub fn fingerprint(&self, rows: &Rows, batch: usize) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(self.settings.as_bytes());
        for s in &self.sources {
            let (made_of, weights) = (s.model.manifest.to_json(), s.model.digest()?);
            hash.update(serde_json::json!([s.slot, s.name, made_of, weights]).to_string());
        }
        hash.update(rows.table());
        for i in &rows.form {
            let form = &rows.forms[*i as usize]; // an index into them, by Rows::new
            hash.update(form.variant.to_le_bytes());
            form.guidance.iter().for_each(|v| hash.update(v.to_le_bytes()));
        }
        hash.update((batch as u64).to_le_bytes());
        Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }

    fn build(&self, rows: &Rows, batch: usize, preview: bool) -> Result<(Program, SessionBuilder)> {
        let mut session = SessionBuilder::new(Arc::clone(self.engine.backend()));
        let mut bind = |weights: &[Weight]| self.bind(weights);
        let program = Program::new(
            &self.parts,
            &*self.sampler,
            rows,
            batch,
            preview,
            &mut session,
            &mut bind,
        )?;
        Ok((program, session))
    }

    /// Tensors for the weights of a graph, from the files of their slots.
    pub fn bind(&self, weights: &[Weight]) -> Result<Vec<WeightBinding>> {
        let mut out: Vec<Option<WeightBinding>> = vec![None; weights.len()];
        for source in &self.sources {
            let at: Vec<usize> =
                (0..weights.len()).filter(|i| weights[*i].slot == source.slot).collect();
            let wanted: Vec<&Weight> = at.iter().map(|i| &weights[*i]).collect();
            for (i, tensor) in at.into_iter().zip(source.model.bind(&source.name, &wanted)?) {
                out[i] = Some(WeightBinding::Tensor(tensor));
            }
        }
        let missing = |i: usize| {
            fail!(NotFound, "weight {} of slot {} has no file", weights[i].name, weights[i].slot)
        };
        out.into_iter().enumerate().map(|(i, b)| b.ok_or_else(|| missing(i))).collect()
    }
}

/// The levels a component is sampled between.
fn range(
    process: &dyn Process,
    component: &Component,
    part: &super::manifest::Part,
    config: &Config,
    c: usize,
) -> Result<(f64, f64)> {
    let info = process.info(&part.stats)?;
    if info.space != component.space {
        bail!(
            Invalid,
            "process {}: is {:?}, component {} is {:?}",
            part.process.id,
            info.space,
            part.name,
            component.space
        );
    }
    let lo = Config::level(&config.sigma_min, c).or(part.sigma_min).unwrap_or(info.sigma_min);
    let hi = Config::level(&config.sigma_max, c).or(part.sigma_max).unwrap_or(info.sigma_max);
    // grids end at level 0 by themselves: a smallest level of 0 would come twice
    if !(lo > 0.0 && lo < hi && hi.is_finite()) {
        bail!(
            Invalid,
            "component {}: sigma_min {lo}, sigma_max {hi}, want 0 < sigma_min < sigma_max",
            part.name
        );
    }
    let (least, most) = extremes(component.dtype);
    if lo < least || hi > most {
        bail!(
            Invalid,
            "component {}: sigma_min {lo:e}, sigma_max {hi:e}, in {} want {least:e} to {most:e}",
            part.name,
            component.dtype
        );
    }
    if info.space == Space::Discrete && hi > 1.0 {
        bail!(
            Invalid,
            "component {}: sigma_max {hi}, the levels of a discrete component are times up to 1; \
             give one per component, as in \"sigma_max\": [80, 1]",
            part.name
        );
    }
    Ok((lo, hi))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::DType;
    use crate::engine::{Options, manifest::Part};

    #[test]
    fn times_of_a_discrete_component_end_at_one() {
        let engine =
            Engine::new(Options { no_threads: true, ..Options::default() }).expect("an engine");
        let process = Setting::of("mask");
        let made = engine.process(&process).expect("mask");
        let component = Component {
            name: "tokens".into(),
            dtype: DType::I32,
            dims: vec![4],
            space: Space::Discrete,
            classes: 3,
        };
        let part = Part {
            name: "tokens".into(),
            dims: vec![4],
            process,
            stats: Default::default(),
            sigma_min: None,
            sigma_max: None,
        };
        let at = |config: &str| {
            let config = Config::parse(config)?;
            range(&*made, &component, &part, &config, 1)
        };
        assert!(at("{}").is_ok());
        let e = at(r#"{"sigma_max":80}"#).expect_err("one level for all");
        assert!(e.message.contains("sigma_max 80, the levels of a discrete component"), "{e}");
        assert_eq!(at(r#"{"sigma_max":[80,0.9]}"#).map(|r| r.1), Ok(0.9));
    }
}
