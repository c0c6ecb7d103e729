//! `diffx sample`: a model, its conditions, a job, files. Without any words: the model inside the program.

use super::args::{Host, Sample};
use super::chart::{Fan, dates_after};
use super::output::{Format, Results, numbers};
use super::progress::Progress;
use super::{Failure, engine, usage};
use diffx::base::{DType, Result};
use diffx::engine::{Job, JobOptions, OpenModel, Pipeline, Setting, State};
use diffx::mem::Tensor;
use diffx::sample::Cond;
use diffx::weights::{SafeTensors, atomic, convert};
use diffx::{bail, fail};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// `diffx` alone.
pub(super) fn carried(host: &Host) -> std::result::Result<(), Failure> {
    let args = Sample {
        model: "vix".into(),
        process: None,
        sampler: None,
        grid: None,
        guidance: Vec::new(),
        steps: None,
        num: 512,
        seed: 0,
        first_sample: 0,
        cond: None,
        networks: None,
        dtype: None,
        batch: None,
        out: vec!["diffx-sample.png".into(), "diffx-sample.csv".into()],
    };
    run(host, &args)
}

pub(super) fn run(host: &Host, args: &Sample) -> std::result::Result<(), Failure> {
    let formats: Vec<(&PathBuf, Format)> =
        args.out.iter().map(|p| Ok((p, Format::of(p)?))).collect::<Result<_>>().map_err(usage)?;
    if formats.is_empty() {
        return Err(usage(fail!(Invalid, "name the file to write with --out")));
    }
    let config = config(args).map_err(usage)?;
    let engine = engine(host)?;
    let started = Instant::now();
    let model = OpenModel::open(&engine, &args.model, "")?;
    let pipeline = Pipeline::new(&model, &config)?;
    let inputs = conditions(&model, &pipeline.parts.conds, args.cond.as_deref())?;
    if pipeline.wants_pilot() {
        let pilot = JobOptions { seed: args.seed, inputs: inputs.clone(), ..JobOptions::default() };
        pipeline.pilot(&pilot)?; // `diffx pilot` keeps it in a file
    }
    let job = Job::start(
        &pipeline,
        JobOptions {
            seed: args.seed,
            first_sample: args.first_sample,
            n_samples: args.num,
            n_steps: 0,
            preview_every: 0,
            inputs: inputs.clone(),
        },
    )?;
    follow(&job, host.json)?;
    let tensors = job.results();
    let seconds = started.elapsed().as_secs_f64();

    let show = Shown::of(&model, &inputs)?;
    let results = Results {
        tensors: &tensors,
        headings: &show.headings,
        first_sample: args.first_sample,
        metadata: BTreeMap::from([(
            "diffx_samples".to_owned(),
            json!({"model": args.model, "seed": args.seed, "first_sample": args.first_sample,
                   "config": serde_json::from_str::<Value>(&config).unwrap_or_default()})
            .to_string(),
        )]),
    };
    for (path, format) in &formats {
        match format {
            Format::Png => show.draw(&results, args, path)?,
            other => results.write(path, *other)?,
        }
    }
    let names: Vec<String> = formats.iter().map(|(p, _)| p.display().to_string()).collect();
    if host.json {
        println!("{}", json!({"samples": args.num, "seconds": seconds, "files": names}));
    } else {
        println!(
            "{} samples of {} in {seconds:.1} s, wrote {}",
            args.num,
            args.model,
            names.join(" and ")
        );
    }
    Ok(())
}

/// The pipeline config of the options.
pub(super) fn config(args: &Sample) -> Result<String> {
    let mut map = Map::new();
    let settings = [("process", &args.process), ("sampler", &args.sampler), ("grid", &args.grid)];
    for (key, text) in settings {
        if let Some(text) = text {
            map.insert(key.into(), Setting::parse(text)?.to_value());
        }
    }
    if !args.guidance.is_empty() {
        let list = args.guidance.iter().map(|t| Ok(Setting::parse(t)?.to_value()));
        map.insert("guidance".into(), Value::Array(list.collect::<Result<_>>()?));
    }
    if let Some(text) = &args.networks {
        let value = serde_json::from_str(text).map_err(|e| fail!(Format, "--networks: {e}"))?;
        map.insert("networks".into(), value);
    }
    if let Some(steps) = args.steps {
        map.insert("steps".into(), json!(steps));
    }
    if let Some(dtype) = &args.dtype {
        map.insert("dtype".into(), json!(dtype));
    }
    if let Some(batch) = args.batch {
        map.insert("batch".into(), json!(batch));
    }
    Ok(Value::Object(map).to_string())
}

/// Conditions by name: given, or those the model carries.
pub(super) fn conditions(
    model: &OpenModel,
    wanted: &[Cond],
    given: Option<&str>,
) -> Result<Vec<(String, Arc<Tensor>)>> {
    let budget = model.engine.budget();
    let mut out = Vec::new();
    let given: Map<String, Value> = match given {
        Some(text) if text.trim_start().starts_with('{') => {
            serde_json::from_str(text).map_err(|e| fail!(Format, "--cond: {e}"))?
        }
        Some(path) => {
            let file = SafeTensors::open(Path::new(path))?;
            for entry in file.entries() {
                let tensor = file.tensor(&entry.name, budget)?;
                let dtype = wanted.iter().find(|c| c.name == entry.name).map(|c| c.desc.dtype);
                let tensor = convert::convert(tensor, dtype.unwrap_or(DType::F32), budget)?;
                out.push((entry.name.clone(), Arc::new(tensor)));
            }
            return Ok(out);
        }
        None => match model.manifest.data.get("history_values") {
            Some(values) if wanted.iter().any(|c| c.name == "history") => {
                Map::from_iter([("history".to_owned(), values.clone())])
            }
            _ => Map::new(),
        },
    };
    for (name, value) in given {
        let Some(cond) = wanted.iter().find(|c| c.name == name) else {
            let names: Vec<&str> = wanted.iter().map(|c| c.name.as_str()).collect();
            bail!(NotFound, "no condition named {name}; there are: {}", names.join(", "));
        };
        let values = floats(&name, &value)?;
        if values.len() != cond.desc.shape.elements() {
            bail!(Invalid, "condition {name}: {} values, want {}", values.len(), cond.desc);
        }
        let tensor = Tensor::from_f64(cond.desc.dims(), &values, budget)?;
        out.push((name, Arc::new(convert::convert(tensor, cond.desc.dtype, budget)?)));
    }
    Ok(out)
}

fn floats(name: &str, value: &Value) -> Result<Vec<f64>> {
    let list = value.as_array().map(|a| a.iter().map(Value::as_f64).collect::<Option<Vec<_>>>());
    match list {
        Some(Some(list)) => Ok(list),
        _ => bail!(Format, "{name} is no list of numbers"),
    }
}

/// Waits for the job and shows how far it is.
fn follow(job: &Arc<Job>, as_json: bool) -> Result<()> {
    let progress = Progress::new(job.progress().n_steps, as_json);
    let mut told = 0;
    while !job.wait(Duration::from_millis(100)) {
        let now = job.progress();
        let line = (now.step > told).then(|| json!({"step": now.step, "of": now.n_steps}));
        told = now.step;
        progress.at(now.step, "steps", line);
    }
    progress.finish();
    match (job.progress().state, job.error()) {
        (State::Done, _) => Ok(()),
        (_, Some(e)) => Err(e),
        (state, None) => bail!(Internal, "the job ended {state:?} and says nothing"),
    }
}

/// What a model file says about the data around its samples.
struct Shown {
    quantity: String,
    history: Vec<f64>,
    history_dates: Vec<String>,
    truth: Vec<f64>,
    truth_dates: Vec<String>,
    split: Option<String>,
    network: String,
    process: String,
    headings: Vec<String>,
}

impl Shown {
    fn of(model: &OpenModel, inputs: &[(String, Arc<Tensor>)]) -> Result<Self> {
        let data = &model.manifest.data;
        let list = |key: &str| match data.get(key) {
            Some(value) if !value.is_null() => floats(key, value),
            _ => Ok(Vec::new()),
        };
        let text = |key: &str| data.get(key).and_then(Value::as_str).map(str::to_owned);
        let texts = |key: &str| -> Vec<String> {
            let list = data.get(key).and_then(Value::as_array);
            let list = list.into_iter().flatten().filter_map(Value::as_str);
            list.map(str::to_owned).collect()
        };
        let history = match inputs.iter().find(|(name, _)| name == "history") {
            Some((_, tensor)) => numbers(tensor)?,
            None => Vec::new(),
        };
        // the carried dates and outcome belong to the carried history only
        let carried = list("history_values")?;
        let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-5 * b.abs();
        let own = history.len() == carried.len() && history.iter().zip(&carried).all(close);
        let history_dates = if own { texts("history_dates") } else { Vec::new() };
        let short = |id: &str| id.rsplit('.').next().unwrap_or(id).to_owned();
        let part = model.manifest.components.first();
        let horizon = part.map_or(0, |p| p.dims.iter().product::<i64>().max(0) as usize);
        let mut headings = if own { texts("held_out_dates") } else { Vec::new() };
        if let Some(last) = headings.last().or(history_dates.last()).cloned() {
            let more = dates_after(&last, horizon.saturating_sub(headings.len()));
            headings.extend(more);
        }
        Ok(Self {
            quantity: text("name").or_else(|| text("column")).unwrap_or_else(|| "value".into()),
            history_dates,
            truth: if own { list("held_out")? } else { Vec::new() },
            truth_dates: if own { texts("held_out_dates") } else { Vec::new() },
            history,
            split: text("split"),
            network: short(&model.manifest.model.id),
            process: part.map_or(String::new(), |p| short(&p.process.id)),
            headings,
        })
    }

    /// The fan of one component of one dimension.
    fn draw(&self, results: &Results<'_>, args: &Sample, path: &Path) -> Result<()> {
        let Some((_, tensor)) = results.tensors.first() else {
            bail!(Internal, "a run gave no results");
        };
        let &[rows, horizon] = tensor.dims() else {
            bail!(
                Unsupported,
                "{}: pictures are drawn of series; samples of {} go to .safetensors or .npy",
                path.display(),
                tensor.desc()
            );
        };
        let process = args.process.as_deref().map_or(self.process.as_str(), |p| {
            let id = p.split(':').next().unwrap_or(p);
            id.rsplit('.').next().unwrap_or(id)
        });
        let mut subtitle = format!(
            "{rows} samples of {}: a {} network under the {} process",
            args.model,
            self.network,
            process.to_uppercase()
        );
        if let (Some(last), false) = (self.history_dates.last(), self.history.is_empty()) {
            subtitle.push_str(&format!(", given the {} values to {last}", self.history.len()));
        }
        if let Some(split) = &self.split {
            subtitle.push_str(&format!("; trained on what came before {split}"));
        }
        let samples = numbers(tensor)?;
        let fan = Fan {
            title: format!("{}, {horizon} trading days ahead", self.quantity),
            subtitle,
            quantity: self.quantity.clone(),
            history: &self.history,
            history_dates: &self.history_dates,
            samples: &samples,
            horizon,
            truth: &self.truth,
            truth_dates: &self.truth_dates,
        };
        let png = fan.png()?;
        atomic::replace(path, |out| out.write_all(&png))
    }
}
