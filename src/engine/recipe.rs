//! What to train on what, as the command line and a training config write it.

use super::config;
use super::log::Metrics;
use super::setting::Setting;
use super::strict::{self, Fields};
use crate::base::{DType, Result};
use crate::train::data::reader::{Channels, Labels, Layout};
use crate::train::data::{Source, Stamp};
use crate::train::{Optimizer, Plan, Schedule};
use crate::{bail, fail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything a training is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    pub data: Source,
    pub model: Setting,
    /// Networks that an objective asks beside the one that trains: slot, and file or carried name.
    pub networks: BTreeMap<String, String>,
    /// One for all components, or one per component.
    pub process: Vec<Setting>,
    pub objective: Setting,
    /// Defaults written into the model file for whoever samples it.
    pub sampler: Option<Setting>,
    pub grid: Option<Setting>,
    pub guidance: Vec<Setting>,
    pub sample_steps: Option<u32>,
    pub plan: Plan,
    /// The file of metrics, if one is kept.
    pub metrics: Option<Metrics>,
    /// Type of the weights in the released file: f32, bf16 or f16.
    pub dtype: DType,
}

impl Recipe {
    pub fn parse(text: &str) -> Result<Self> {
        let what = "training config";
        let mut f = strict::parse(what, text)?;
        let data = match f.take("data") {
            None => Source::default(), // the host hands tables in
            Some(value) => source(value)?,
        };
        let setting = |f: &mut Fields, key: &str| {
            f.take(key).map(|v| Setting::from_value(key, v)).transpose()
        };
        let model = Setting::from_value("model", f.need("model")?)?;
        let networks = config::networks(what, &mut f)?;
        let process = Setting::list("process", Some(f.need("process")?))?;
        if process.is_empty() {
            bail!(Format, "{what}: process is an empty list");
        }
        let objective = setting(&mut f, "objective")?.unwrap_or_else(|| Setting::of("dsm"));
        let (sampler, grid) = (setting(&mut f, "sampler")?, setting(&mut f, "grid")?);
        let guidance = Setting::list("guidance", f.take("guidance"))?;
        let sample_steps = f.whole("sample_steps", 1, 100_000)?.map(|n| n as u32);
        let optimizer = optimizer(&mut f, what, Optimizer::default())?;
        let plan = Plan {
            steps: f.whole("steps", 1, 1 << 31)?.map_or(5000, |n| n as u32),
            batch: f.whole("batch", 1, 1 << 20)?.map_or(128, |n| n as usize),
            seed: f.whole("seed", 0, u64::MAX)?.unwrap_or(0),
            optimizer,
            trained: vec!["base".into()],
        };
        let dtype = match f.text("dtype")?.as_deref() {
            None | Some("f32") => DType::F32,
            Some("bf16") => DType::BF16,
            Some("f16") => DType::F16,
            Some(other) => bail!(Format, "{what}: dtype is {other}, want f32, bf16 or f16"),
        };
        let metrics = f.take("metrics").map(metrics).transpose()?;
        f.done()?;
        Ok(Self {
            data,
            model,
            networks,
            process,
            objective,
            sampler,
            grid,
            guidance,
            sample_steps,
            plan,
            metrics,
            dtype,
        })
    }
}

/// The keys of an optimiser; those left out are as in `default`.
pub(super) fn optimizer(f: &mut Fields, what: &str, default: Optimizer) -> Result<Optimizer> {
    let schedule = match f.text("schedule")? {
        None => default.schedule,
        Some(name) => Schedule::named(&name).ok_or_else(|| {
            let known: Vec<&str> = Schedule::ALL.iter().map(|s| s.name()).collect();
            fail!(Format, "{what}: schedule is {name}, want one of {}", known.join(", "))
        })?,
    };
    Ok(Optimizer {
        rate: f.number("rate")?.unwrap_or(default.rate),
        warmup: f.whole("warmup", 0, 1 << 31)?.map_or(default.warmup, |n| n as u32),
        schedule,
        floor: f.number("floor")?.unwrap_or(default.floor),
        beta1: f.number("beta1")?.unwrap_or(default.beta1),
        beta2: f.number("beta2")?.unwrap_or(default.beta2),
        epsilon: f.number("epsilon")?.unwrap_or(default.epsilon),
        decay: f.number("decay")?.unwrap_or(default.decay),
        clip: f.number("clip")?.unwrap_or(default.clip),
        ema: f.number("ema")?.unwrap_or(default.ema),
    })
}

/// A path, or the path and how often.
pub(super) fn metrics(value: Value) -> Result<Metrics> {
    let mut f = match value {
        Value::String(path) => Fields::new("metrics", json!({ "path": path }))?,
        other => Fields::new("metrics", other)?,
    };
    let Some(path) = f.text("path")?.filter(|p| !p.is_empty()) else {
        bail!(Format, "metrics: path is missing");
    };
    let mut steps = |key: &str| f.whole(key, 1, 1 << 31).map(|n| n.map(|n| n as u32));
    let every = steps("every")?.unwrap_or(10);
    let measure_every = steps("measure_every")?.unwrap_or(every.saturating_mul(10));
    f.done()?;
    Ok(Metrics { path: path.into(), every, measure_every })
}

fn source(value: Value) -> Result<Source> {
    let default = Source::default();
    let given = match &value {
        Value::Object(map) => {
            let own = |k: &&String| {
                !["path", "kind", "name"].contains(&k.as_str()) && !k.starts_with("x-")
            };
            map.iter().filter(|(_, v)| !v.is_null()).map(|(k, _)| k).filter(own).cloned().collect()
        }
        _ => Vec::new(),
    };
    let mut f = Fields::new("data", value)?;
    let date = |f: &mut Fields, key: &str| -> Result<Option<String>> {
        match f.text(key)? {
            Some(d) if Stamp::date(&d).is_none() => {
                bail!(Format, "data: {key} is {d:?}, want year-month-day")
            }
            other => Ok(other),
        }
    };
    let held_out = f.number("held_out")?.unwrap_or(0.0);
    if !(0.0..1.0).contains(&held_out) {
        bail!(Format, "data: held_out is {held_out}, want a share from 0 to below 1");
    }
    let out = Source {
        paths: texts(&mut f, "path")?.into_iter().map(PathBuf::from).collect(),
        kind: f.text("kind")?,
        name: f.text("name")?,
        columns: texts(&mut f, "column")?,
        window: f.whole("window", 1, 1 << 20)?.map_or(default.window, |n| n as usize),
        history: f.whole("history", 0, 1 << 20)?.map_or(default.history, |n| n as usize),
        stride: f.whole("stride", 1, 1 << 20)?.map_or(default.stride, |n| n as usize),
        split: date(&mut f, "split")?,
        show: date(&mut f, "show")?,
        returns: match f.text("values")?.as_deref() {
            None | Some("level") => false,
            Some("log_return") => true,
            Some(other) => bail!(Format, "data: values is {other}, want level or log_return"),
        },
        channels: named(&mut f, "channels", Channels::NAMES)?.unwrap_or(default.channels),
        layout: named(&mut f, "layout", Layout::NAMES)?.unwrap_or(default.layout),
        mirror: match f.take("mirror") {
            None | Some(Value::Bool(false)) => Vec::new(),
            Some(Value::Bool(true)) => vec![String::new()], // every path begins with nothing
            Some(list) => strings("mirror", list)?,
        },
        labels: match f.text("labels")? {
            None => Labels::None,
            Some(how) if how == "folders" => Labels::Folders,
            Some(path) => Labels::Csv(path.into()),
        },
        held_out,
        given,
    };
    f.done()?;
    if held_out > 0.0 && !out.mirror.is_empty() {
        bail!(
            Format,
            "data: with mirror the reflections of what held_out sets aside are trained on"
        );
    }
    Ok(out)
}

/// The value of a name in a table.
fn named<T: Copy>(f: &mut Fields, key: &str, table: &[(&str, T)]) -> Result<Option<T>> {
    let Some(name) = f.text(key)? else { return Ok(None) };
    match table.iter().find(|(n, _)| *n == name) {
        Some((_, value)) => Ok(Some(*value)),
        None => {
            let names: Vec<&str> = table.iter().map(|(n, _)| *n).collect();
            bail!(Format, "data: {key} is {name}, want one of {}", names.join(", "))
        }
    }
}

/// A text or a list of texts; none where there is no such key.
fn texts(f: &mut Fields, key: &str) -> Result<Vec<String>> {
    f.take(key).map_or(Ok(Vec::new()), |value| strings(key, value))
}

fn strings(key: &str, value: Value) -> Result<Vec<String>> {
    let list = match value {
        Value::Array(list) => list,
        one => vec![one],
    };
    let text = |v: Value| match v {
        Value::String(s) => Ok(s),
        other => bail!(Format, "data: {key} has {other}, want texts"),
    };
    list.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_says_everything_or_takes_defaults() {
        let r = Recipe::parse(
            r#"{"data":{"path":"a.csv","window":16,"split":"2019-01-01"},"model":"mlp",
                "process":"cir:{\"kappa\":1.0}","steps":7,"rate":0.01,"schedule":"constant","dtype":"bf16"}"#,
        )
        .unwrap();
        assert_eq!((r.data.window, r.data.history, r.plan.steps), (16, 0, 7));
        assert_eq!((r.objective.id.as_str(), r.dtype), ("dsm", DType::BF16));
        assert_eq!((r.plan.optimizer.rate, r.plan.optimizer.schedule), (0.01, Schedule::Constant));
    }

    #[test]
    fn faults_are_named() {
        for (text, want) in [
            (r#"{"data":{},"process":"cir"}"#, "model is missing"),
            (r#"{"data":{"held_out":1},"model":"mlp","process":"cir"}"#, "held_out is 1, want"),
            (r#"{"model":"mlp","process":"cir","schedule":"up"}"#, "schedule is up, want one of"),
            (
                r#"{"data":{"path":"a","split":"2019"},"model":"m","process":"c"}"#,
                "split is \"2019\"",
            ),
            (r#"{"data":{"path":"a"},"model":"m","process":"c","stepz":3}"#, "unknown key stepz"),
            (
                r#"{"data":{"path":"a","layout":"cwh"},"model":"m","process":"c"}"#,
                "layout is cwh, want one of hwc, chw",
            ),
            (
                r#"{"data":{"path":"a","mirror":true,"held_out":0.1},"model":"m","process":"c"}"#,
                "with mirror the reflections",
            ),
            (r#"{"data":{"path":"a"},"model":"m","process":"c","dtype":"i8"}"#, "dtype is i8"),
        ] {
            let e = Recipe::parse(text).unwrap_err();
            assert!(e.message.contains(want), "{text}: {e}");
        }
    }
}
