//! `diffx sample`: a model, its conditions, a job, files. Without any words: the model inside the program.

use super::args::{Host, Pictures, Sample};
use super::chart::{Fan, dates_after};
use super::output::{Format, Results, numbers};
use super::progress::Progress;
use super::{Failure, engine, usage};
use super::{page, picture};
use diffx::base::{DType, Desc, Result};
use diffx::engine::carried::names as carried_names;
use diffx::engine::{Job, JobOptions, OpenModel, Pipeline, Setting, State};
use diffx::mem::{Budget, Tensor};
use diffx::sample::{Cond, IMAGE};
use diffx::weights::{SafeTensors, atomic, convert};
use diffx::{bail, fail};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Samples where nobody says how many, and they are no pictures.
const SAMPLES: usize = 512;

/// The carried model of pictures.
const PICTURES: &str = "tiles";

/// `diffx` alone: a page of pictures of every class, or the fan where no model of pictures is carried.
pub(super) fn carried(host: &Host) -> std::result::Result<(), Failure> {
    let pictures = carried_names().any(|name| name == PICTURES);
    let mut args = Sample {
        model: if pictures { PICTURES } else { "vix" }.into(),
        process: None,
        sampler: None,
        grid: None,
        guidance: Vec::new(),
        steps: None,
        num: None,
        seed: 0,
        first_sample: 0,
        cond: None,
        networks: None,
        dtype: None,
        batch: None,
        pictures: Pictures::default(),
        out: vec!["diffx-sample.png".into()],
    };
    if pictures {
        (args.num, args.pictures.class) = (Some(64), vec![page::ALL.into()]);
    } else {
        args.out.push("diffx-sample.csv".into());
    }
    run(host, &args)
}

pub(super) fn run(host: &Host, args: &Sample) -> std::result::Result<(), Failure> {
    let formats: Vec<(&PathBuf, Format)> =
        args.out.iter().map(|p| Ok((p, Format::of(p)?))).collect::<Result<_>>().map_err(usage)?;
    if formats.is_empty() {
        return Err(usage(fail!(Invalid, "name the file to write with --out")));
    }
    let settings = settings(args).map_err(usage)?;
    let engine = engine(host)?;
    let started = Instant::now();
    let model = OpenModel::open(&engine, &args.model, "")?;
    let pictures = picture::Job::new(&model, &args.pictures, settings.get("networks"))?;
    let config = completed(settings, &model, &pictures);
    let pipeline = Pipeline::new(&model, &config)?;
    let classes = &page::expanded(&args.pictures.class, &model.manifest.data);
    let num = args.num.unwrap_or(match (classes.len(), pictures.pictures) {
        (0, false) => SAMPLES,
        (0, true) => picture::SAMPLES,
        (some, _) => some,
    });
    let wanted = &pipeline.parts.conds;
    let mut inputs = conditions(&model, wanted, args.cond.as_deref())?;
    inputs.extend(picture::classes(&model, wanted, classes, num)?);
    inputs.extend(pictures.start(pipeline.parts.float, engine.budget())?);
    if pipeline.wants_pilot() {
        // it measures the whole path, from the prior
        let conds = inputs.iter().filter(|(n, _)| wanted.iter().any(|c| c.name == *n)).cloned();
        let conds = conds.collect();
        let pilot = JobOptions { seed: args.seed, inputs: conds, ..JobOptions::default() };
        pipeline.pilot(&pilot)?; // `diffx pilot` keeps it in a file
    }
    let job = Job::start(
        &pipeline,
        JobOptions {
            seed: args.seed,
            first_sample: args.first_sample,
            n_samples: num,
            n_steps: 0,
            preview_every: 0,
            inputs: inputs.clone(),
        },
    )?;
    follow(&job, host.json)?;
    let mut tensors = job.results();
    if let Some(i) = tensors.iter().position(|(name, _)| name == IMAGE) {
        tensors[..=i].rotate_right(1); // what somebody looks at comes first
    }
    let seconds = started.elapsed().as_secs_f64();

    let (show, data) = (Shown::of(&model, &inputs)?, &model.manifest.data);
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
        let first = tensors.first().map(|(_, t)| t);
        let shown = args.pictures.image.is_none() && !pictures.decode; // --image has a page of its own
        let framed =
            first.filter(|_| shown).and_then(|t| Some((page::Frame::of(data, t.dims())?, t)));
        match (format, framed) {
            (Format::Png, Some((frame, samples))) => {
                let title = (show.quantity.clone(), show.subtitle(num, args));
                let png = frame.page(samples, &page::captions(classes, data, num), title)?;
                atomic::replace(path, |out| out.write_all(&png))?;
            }
            (Format::Png, None) if pictures.pictures => {
                let Some((_, samples)) = tensors.first() else {
                    return Err(fail!(Internal, "a run gave no results").into());
                };
                let png = pictures.png(samples)?;
                atomic::replace(path, |out| out.write_all(&png))?;
            }
            (Format::Png, None) => show.draw(&results, args, path)?,
            (other, _) => results.write(path, *other)?,
        }
    }
    let names: Vec<String> = formats.iter().map(|(p, _)| p.display().to_string()).collect();
    if host.json {
        println!("{}", json!({"samples": num, "seconds": seconds, "files": names}));
    } else {
        println!(
            "{} samples of {} in {seconds:.1} s, wrote {}",
            num,
            args.model,
            names.join(" and ")
        );
    }
    Ok(())
}

/// The pipeline config of the options.
pub(super) fn config(args: &Sample) -> Result<String> {
    Ok(Value::Object(settings(args)?).to_string())
}

/// The same with what the words about pictures come to for this model.
fn completed(mut map: Map<String, Value>, model: &OpenModel, pictures: &picture::Job) -> String {
    if pictures.decode {
        map.insert("image".into(), json!(true));
    }
    if let Some(strength) = pictures.strength {
        map.insert("strength".into(), json!(strength));
    }
    if !pictures.guidance.is_empty() {
        let own = || model.manifest.guidance.iter().map(Setting::to_value).collect();
        let listed = map.remove("guidance").and_then(|v| v.as_array().cloned());
        let list = joined(listed.unwrap_or_else(own), &pictures.guidance);
        map.insert("guidance".into(), Value::Array(list));
    }
    Value::Object(map).to_string()
}

/// Guidance with what the words about pictures add. A scale of the command is in the place of the model's, not on top.
fn joined(mut list: Vec<Value>, added: &[Value]) -> Vec<Value> {
    let is_cfg = |g: &Value| {
        let id = g.get("id").unwrap_or(g).as_str().unwrap_or_default();
        id.split(':').next() == Some("cfg")
    };
    let scaled = added.iter().any(is_cfg);
    list.retain(|g| !(scaled && is_cfg(g)));
    list.extend(added.iter().cloned());
    list
}

fn settings(args: &Sample) -> Result<Map<String, Value>> {
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
    if let Some(text) = &args.pictures.scheduler {
        let value = match text.trim_start().starts_with('{') {
            true => serde_json::from_str(text).map_err(|e| fail!(Format, "--scheduler: {e}"))?,
            false => json!(text),
        };
        map.insert("scheduler".into(), value);
    }
    if let Some(noise) = &args.pictures.noise {
        map.insert("noise".into(), json!(noise));
    }
    Ok(map)
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
        let tensor = of_type(&name, cond.desc, &values, budget)?;
        out.push((name, Arc::new(tensor)));
    }
    Ok(out)
}

/// Numbers as a tensor; of i32 they are to be whole.
pub(super) fn of_type(
    name: &str,
    want: Desc,
    values: &[f64],
    budget: &Arc<Budget>,
) -> Result<Tensor> {
    if want.dtype != DType::I32 {
        let tensor = Tensor::from_f64(want.dims(), values, budget)?;
        return convert::convert(tensor, want.dtype, budget);
    }
    let whole = |v: &f64| v.fract() == 0.0 && v.abs() <= f64::from(i32::MAX);
    if let Some(odd) = values.iter().find(|v| !whole(v)) {
        bail!(Invalid, "{name} has {odd}, want whole numbers");
    }
    let bytes: Vec<u8> = values.iter().flat_map(|v| (*v as i32).to_ne_bytes()).collect();
    Tensor::from_bytes(want, &bytes, budget)
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

    /// What was sampled how.
    fn subtitle(&self, samples: usize, args: &Sample) -> String {
        let process = args.process.as_deref().map_or(self.process.as_str(), |p| {
            let id = p.split(':').next().unwrap_or(p);
            id.rsplit('.').next().unwrap_or(id)
        });
        format!(
            "{samples} samples of {}: a {} network under the {} process",
            args.model,
            self.network,
            process.to_uppercase()
        )
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
        let mut subtitle = self.subtitle(rows, args);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_in_the_place_of_the_models() {
        let cfg = |scale: f64| json!({"id": "cfg", "config": {"scale": scale}});
        let (limit, kept) = (json!({"id": "project", "config": {}}), json!({"id": "replace"}));
        let own = vec![cfg(2.0), limit.clone()];
        assert_eq!(joined(own.clone(), &[cfg(4.0)]), [limit.clone(), cfg(4.0)]);
        assert_eq!(joined(vec![json!("cfg:{\"scale\":2}")], &[cfg(1.0)]), [cfg(1.0)]);
        assert_eq!(joined(own, std::slice::from_ref(&kept)), [cfg(2.0), limit, kept]);
    }
}
