//! Schedulers of diffusers by their configs: `scheduler_config.json` and a number of steps become a process, a grid and
//! a sampler that give the same numbers (`docs/schedulers.md`).
//!
//! A class is a function from its keys to the calls it makes, each with the linear form of its step (`linear`), written
//! in the units of its own papers. Here they become rows in the coordinate w = x/alpha: the table of `recurrence`, the
//! levels of `list`, and the frame, prediction and times of `scheduled`.

pub mod betas;
mod chain;
mod dpm;
mod flow;
mod framed;
mod keys;
pub mod linear;
pub mod run;
mod sigmas;
mod sit;
mod times;
mod unipc;

use super::setting::Setting;
use super::strict::{Fields, MAX_CONFIG, json_up_to, kind};
use crate::bail;
use crate::base::Result;
use crate::weights::plain_file;
use keys::{Keys, Unless};
use linear::{DRAW, Form, REGISTER, REGISTERS, SAMPLE};
use run::{Asked, Clip, Frame, Prediction, Run};
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::Path;

pub use framed::{Framed, PROCESS, frame, tell_time};

type Build = fn(&Keys, &Asked) -> Result<Run>;

/// A class: its name, the defaults that are its own, keys of others that it does not know, and how it steps.
struct Class {
    name: &'static str,
    defaults: &'static [(&'static str, Unless)],
    unknown: &'static [&'static str],
    build: Build,
}

/// What the classes of levels do not know; files keep the keys of the classes that they were made from.
const NO_INTERPOLATION: &[&str] =
    &["interpolation_type", "final_sigmas_type", "rescale_betas_zero_snr"];
const NO_CROWDING: &[&str] = &[
    "interpolation_type",
    "final_sigmas_type",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
];

#[rustfmt::skip]
const CLASSES: &[Class] = &[
    Class { name: "DDPMScheduler", defaults: chain::DDPM, unknown: &[], build: chain::ddpm },
    Class { name: "DDIMScheduler", defaults: chain::DDIM, unknown: &[], build: chain::ddim },
    Class { name: "PNDMScheduler", defaults: chain::PNDM, unknown: &["rescale_betas_zero_snr"], build: chain::pndm },
    Class { name: "LCMScheduler", defaults: chain::LCM, unknown: &[], build: chain::lcm },
    Class { name: "TCDScheduler", defaults: chain::LCM, unknown: &[], build: chain::tcd },
    Class { name: "EulerDiscreteScheduler", defaults: sigmas::OTHERS, unknown: &[], build: sigmas::euler },
    Class { name: "EulerAncestralDiscreteScheduler", defaults: sigmas::OTHERS, unknown: NO_CROWDING, build: sigmas::euler_ancestral },
    Class { name: "HeunDiscreteScheduler", defaults: sigmas::FINER, unknown: NO_INTERPOLATION, build: sigmas::heun },
    Class { name: "LMSDiscreteScheduler", defaults: sigmas::OTHERS, unknown: NO_INTERPOLATION, build: sigmas::lms },
    Class { name: "KDPM2DiscreteScheduler", defaults: sigmas::FINER, unknown: NO_INTERPOLATION, build: sigmas::kdpm2 },
    Class { name: "KDPM2AncestralDiscreteScheduler", defaults: sigmas::FINER, unknown: NO_INTERPOLATION, build: sigmas::kdpm2_ancestral },
    Class { name: "EDMEulerScheduler", defaults: sigmas::EDM, unknown: &[], build: sigmas::edm_euler },
    Class { name: "DPMSolverMultistepScheduler", defaults: dpm::MULTI, unknown: &[], build: dpm::multi },
    Class { name: "DPMSolverSinglestepScheduler", defaults: dpm::SINGLE, unknown: &["use_lu_lambdas", "rescale_betas_zero_snr"], build: dpm::single },
    Class { name: "EDMDPMSolverMultistepScheduler", defaults: sigmas::EDM, unknown: &[], build: dpm::edm_multi },
    Class { name: "DEISMultistepScheduler", defaults: dpm::DEIS, unknown: &["use_lu_lambdas", "rescale_betas_zero_snr", "lambda_min_clipped"], build: dpm::deis },
    Class { name: "UniPCMultistepScheduler", defaults: unipc::UNIPC, unknown: &["use_lu_lambdas", "lambda_min_clipped"], build: unipc::unipc },
    Class { name: "FlowMatchEulerDiscreteScheduler", defaults: flow::FLOW, unknown: &[], build: flow::euler },
    Class { name: "FlowMatchHeunDiscreteScheduler", defaults: flow::FLOW, unknown: &[], build: flow::heun },
    Class { name: "SiTSampler", defaults: sit::SIT, unknown: &[], build: sit::sit },
    Class { name: "ScoreSdeVeScheduler", defaults: flow::VE, unknown: &[], build: flow::ve },
];

/// Most steps of a run.
const MOST_STEPS: usize = 10_000;

/// Names of the classes that are known.
pub fn classes() -> impl Iterator<Item = &'static str> {
    CLASSES.iter().map(|c| c.name)
}

/// Reads a `scheduler_config.json`. Python writes infinities and NaN, which JSON has not: they count as absent.
pub fn parse(text: &str) -> Result<Map<String, Value>> {
    let value: Value = json_up_to(MAX_CONFIG, "scheduler", &finite(text))?;
    match value {
        Value::Object(map) => Ok(map),
        other => bail!(Format, "scheduler: is {}, want an object", kind(&other)),
    }
}

/// The text with `null` for the words of Python that are no JSON.
pub(super) fn finite(text: &str) -> String {
    let (mut out, mut rest, mut quoted) = (String::with_capacity(text.len()), text, false);
    while let Some(c) = rest.chars().next() {
        let word =
            ["-Infinity", "Infinity", "NaN"].iter().find(|w| !quoted && rest.starts_with(**w));
        if let Some(word) = word {
            out.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        let taken = if quoted && c == '\\' {
            1 + rest.chars().nth(1).map_or(0, char::len_utf8)
        } else {
            c.len_utf8()
        };
        quoted ^= c == '"';
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

/// Steps where nobody says how many, as the pipelines there have it.
pub const STEPS: u32 = 50;

/// The value of `scheduler` in a pipeline config: a path, a config, or an object with `config` (either of them) and what
/// is asked beside it. `strength`: the share of its steps that are made, the last ones.
pub fn translate(value: Value, steps: u32, strength: Option<f64>) -> Result<Translated> {
    let mut asked = Asked::steps(steps as usize);
    asked.skipped = skipped(asked.steps, strength)?;
    let config = match value {
        Value::String(path) => open(Path::new(&path))?,
        Value::Object(map) if map.contains_key("_class_name") => map,
        Value::Object(map) => {
            let mut f = Fields::new("scheduler", Value::Object(map))?;
            let config = match f.need("config")? {
                Value::String(path) => open(Path::new(&path))?,
                Value::Object(map) => map,
                other => {
                    bail!(Format, "scheduler: config is {}, want a path or an object", kind(&other))
                }
            };
            ask(&mut f, &mut asked)?;
            f.done()?;
            config
        }
        other => bail!(Format, "scheduler: is {}, want a path or an object", kind(&other)),
    };
    let mut out = plan(&config, &asked)?.translate(&config)?;
    if asked.norms_per_sample {
        out.sampler.config.insert("langevin_alone".into(), json!(true));
    }
    Ok(out)
}

/// How many of so many steps are left out of a run that makes this share of them.
pub fn skipped(steps: usize, strength: Option<f64>) -> Result<usize> {
    let Some(strength) = strength else { return Ok(0) };
    let made = ((steps as f64 * strength) as usize).min(steps);
    if made == 0 {
        bail!(Invalid, "strength {strength} of {steps} steps leaves none to make");
    }
    Ok(steps - made)
}

/// The process of a scheduler's config for other samplers and grids: its range is the chain's, and it starts from noise
/// of deviation 1 at the largest level, which is the chain's too unless another is given.
pub fn process_alone(config: &Value, sigma_max: Option<f64>) -> Result<Setting> {
    /// A chain that ends beyond has no signal there, and a step of another sampler from there no meaning.
    const MOST: f64 = 1e5;
    let named = |key| config.get(key).and_then(Value::as_u64);
    let chain = named("num_train_timesteps").and_then(|n| u32::try_from(n).ok());
    let mut process = translate(config.clone(), STEPS.min(chain.unwrap_or(STEPS)), None)?.process;
    let class = config.get("_class_name").and_then(Value::as_str).unwrap_or_default();
    let said = |key| process.config.get(key).and_then(Value::as_str);
    let levels = process.config.get("levels").and_then(Value::as_array);
    let end = levels.and_then(|l| l.last()).and_then(Value::as_f64);
    let (Some("preserving"), Some(end)) = (said("frame"), end) else {
        bail!(Unsupported, "{class} has no chain of levels for other samplers");
    };
    let most = sigma_max.unwrap_or(end);
    if most > MOST {
        bail!(
            Unsupported,
            "{class} ends at level {most:e}, want at most {MOST:e} for other samplers"
        );
    }
    let start = match said("samples") {
        Some("preserving") => (1.0 + most * most).sqrt(),
        _ => most,
    };
    process.config.insert("start".into(), json!(start));
    Ok(process)
}

fn ask(f: &mut Fields, asked: &mut Asked) -> Result<()> {
    asked.eta = f.number("eta")?;
    if let Some(eta) = asked.eta.filter(|e| !(0.0..=1.0).contains(e)) {
        bail!(Format, "scheduler: eta is {eta}, want 0 to 1");
    }
    asked.use_clipped_model_output = match f.take("use_clipped_model_output") {
        None => false,
        Some(Value::Bool(b)) => b,
        Some(v) => bail!(Format, "scheduler: use_clipped_model_output is {v}, want true or false"),
    };
    for (key, to) in [
        ("s_churn", &mut asked.s_churn),
        ("s_tmin", &mut asked.s_tmin),
        ("s_tmax", &mut asked.s_tmax),
        ("s_noise", &mut asked.s_noise),
    ] {
        *to = f.number(key)?.unwrap_or(*to);
        if *to < 0.0 {
            bail!(Format, "scheduler: {key} is {to}, want at least 0");
        }
    }
    asked.mu = f.number("mu")?;
    asked.norms_per_sample = f.flag("norms_per_sample")?.unwrap_or(false);
    let sigmas = f.numbers("sigmas")?;
    asked.sigmas = (!sigmas.is_empty()).then_some(sigmas);
    asked.order = f.whole("order", 1, 4)?.map_or(asked.order, |n| n as usize);
    Ok(())
}

/// A config file, or the one in a folder or in its `scheduler`.
pub fn open(path: &Path) -> Result<Map<String, Value>> {
    const NAME: &str = "scheduler_config.json";
    let below = [path.join(NAME), path.join("scheduler").join(NAME)];
    let file = below.iter().find(|p| p.is_file()).map_or(path, |p| p.as_path());
    let (file, size) = plain_file(file)?;
    if size > MAX_CONFIG as u64 {
        bail!(Format, "{}: {size} bytes, want at most {MAX_CONFIG}", path.display());
    }
    let mut text = String::new();
    match file.take(MAX_CONFIG as u64).read_to_string(&mut text) {
        Ok(_) => parse(&text).map_err(|e| e.within(path.display())),
        Err(e) => bail!(Io, "{}: {e}", path.display()),
    }
}

/// A config and what was asked of it, as calls.
pub fn plan(config: &Map<String, Value>, asked: &Asked) -> Result<Run> {
    let Some(name) = config.get("_class_name").and_then(Value::as_str) else {
        bail!(Format, "scheduler: _class_name is missing");
    };
    let name = name.strip_prefix("Flax").unwrap_or(name);
    let Some(class) = CLASSES.iter().find(|c| c.name == name) else {
        let known: Vec<&str> = classes().collect();
        bail!(Unsupported, "scheduler: class {name}, known are {}", known.join(", "));
    };
    if asked.steps == 0 || asked.steps > MOST_STEPS {
        bail!(Invalid, "scheduler: {} steps, want 1 to {MOST_STEPS}", asked.steps);
    }
    let known: Map<String, Value> = config
        .iter()
        .filter(|(k, _)| !class.unknown.contains(&k.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let keys = Keys::new(known, class.defaults);
    let run = (class.build)(&keys, asked)?;
    if run.prediction == Prediction::Flow && run.frame != Frame::Flow {
        bail!(Unsupported, "scheduler: flow_prediction without use_flow_sigmas");
    }
    if asked.skipped > 0 { run.skip(asked) } else { Ok(run) }
}

/// A run as settings of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Translated {
    pub process: Setting,
    pub grid: Setting,
    pub sampler: Setting,
    /// Knots of the grid, less one.
    pub steps: u32,
    pub sigma_min: f64,
    pub sigma_max: f64,
}

/// What the samples of a scheduler are of our coordinate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Units {
    Preserving,
    Flow,
    Plain,
}

impl Run {
    fn units(&self) -> Units {
        match self.frame {
            _ if self.calls.iter().all(|c| c.at.alpha == 1.0) => Units::Plain,
            Frame::Flow => Units::Flow,
            _ => Units::Preserving,
        }
    }

    /// Levels of the calls in our coordinate, and the last.
    pub fn levels(&self) -> Vec<f64> {
        let calls = self.calls.iter().map(|c| c.at.level());
        calls.chain(std::iter::once(self.end.level())).collect()
    }

    /// By what a sample is divided at each call, and at the end.
    pub fn scales(&self) -> Vec<f64> {
        let calls = self.calls.iter().map(|c| c.at.scale());
        calls.chain(std::iter::once(self.end.scale())).collect()
    }

    /// The run as settings; `config` once more for the times of flow.
    pub fn translate(&self, config: &Map<String, Value>) -> Result<Translated> {
        let levels = self.levels();
        let Some(first) = levels.first().copied().filter(|l| *l > 0.0) else {
            bail!(Invalid, "scheduler: a run without calls, or from level 0");
        };
        let times = self.calls.iter().map(|c| c.time);
        if let Some(bad) = levels.iter().copied().chain(times).find(|v| !v.is_finite()) {
            bail!(Invalid, "scheduler: a level or time is {bad}: this config has no such run");
        }
        if !(self.init > 0.0 && self.init.is_finite()) {
            bail!(Invalid, "scheduler: the first sample has deviation {}, want above 0", self.init);
        }
        let mut knots: Vec<f64> = Vec::new();
        for l in &levels {
            if knots.last().is_none_or(|k| l < k) {
                knots.push(*l);
            }
        }
        if knots.len() < 2 {
            bail!(Invalid, "scheduler: every call is at level {first}");
        }
        let least = levels.iter().copied().filter(|l| *l > 0.0 && *l < first).fold(first, f64::min);
        let sigma_min = match knots.last() {
            Some(last) if *last > 0.0 => *last,
            _ if least < first => least,
            _ => first * 1e-3, // one call alone: nothing reads it
        };
        Ok(Translated {
            process: setting(PROCESS, self.process(config)?),
            grid: setting("org.diffx.list", json!({ "sigmas": knots })),
            sampler: setting("org.diffx.recurrence", self.table()?),
            steps: knots.len() as u32 - 1,
            sigma_min,
            sigma_max: first,
        })
    }

    fn process(&self, config: &Map<String, Value>) -> Result<Value> {
        let name = |frame| match frame {
            Frame::Preserving => "preserving",
            Frame::Flow => "flow",
            Frame::Edm { .. } => "edm",
            Frame::Plain => "plain",
        };
        let samples = match self.units() {
            Units::Preserving => "preserving",
            Units::Flow => "flow",
            Units::Plain => "plain",
        };
        let mut out = json!({
            "frame": name(self.frame),
            "samples": samples,
            "prediction": self.prediction.word(),
        });
        let first = self.scales().first().copied().unwrap_or(1.0);
        out["start"] = json!(self.init / first);
        let continuous = config.get("timestep_type").and_then(Value::as_str) == Some("continuous");
        match (self.frame, &self.chain) {
            (Frame::Edm { data }, _) => {
                out["data"] = json!(data);
                out["clock"] = json!("log");
            }
            (Frame::Plain, _) => out["clock"] = json!("level"),
            (Frame::Flow, None) => {
                let total = config.get("num_train_timesteps").and_then(Value::as_f64);
                out["clock"] = json!("flow");
                out["time_scale"] = json!(total.unwrap_or(1000.0));
            }
            _ if continuous && self.prediction == Prediction::V => out["clock"] = json!("log"),
            _ => {
                let (levels, times): (Vec<f64>, Vec<f64>) = self.times().into_iter().unzip();
                out["levels"] = json!(levels);
                out["times"] = json!(times);
            }
        }
        Ok(out)
    }

    /// Levels ascending with their times: those of the calls, and between them those of the chain.
    fn times(&self) -> Vec<(f64, f64)> {
        /// Nearer in level than this an entry of the chain gives way to a call.
        const NEAR: f64 = 1e-3;
        let of_chain = |c: &betas::Chain| -> Vec<(f64, f64)> {
            c.sigmas().iter().enumerate().map(|(t, s)| (*s, t as f64)).collect()
        };
        let calls = self.calls.iter().map(|c| (c.at.level(), c.time));
        let mut all: Vec<(f64, f64, bool)> = calls.map(|(l, t)| (l, t, true)).collect();
        if self.frame == Frame::Preserving {
            let more = self.chain.as_ref().map(of_chain).unwrap_or_default();
            all.extend(more.into_iter().map(|(l, t)| (l, t, false)));
        }
        all.retain(|(l, ..)| *l > 0.0 && l.is_finite());
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.2.cmp(&a.2)));
        let near = |a: f64, b: f64| (a - b).abs() <= NEAR * a.max(b);
        let is_call: Vec<f64> = all.iter().filter(|e| e.2).map(|e| e.0).collect();
        let by_call = |l: f64| {
            let at = is_call.partition_point(|c| *c < l);
            let around = [at.checked_sub(1), Some(at)];
            around.into_iter().flatten().filter_map(|i| is_call.get(i)).any(|c| near(*c, l))
        };
        let mut out: Vec<(f64, f64)> = Vec::new();
        for (level, time, call) in all {
            let again = out.last().is_some_and(|o| level <= o.0 * (1.0 + 1e-7));
            if !again && (call || !by_call(level)) {
                out.push((level, time));
            }
        }
        if let [only] = out.as_slice() {
            let more = (only.0 * 2.0, only.1); // a table of one says nothing of levels
            out.push(more);
        }
        out
    }

    /// The table of `recurrence`: every form in terms of w, and what is left of the chain between calls.
    fn table(&self) -> Result<Value> {
        let (levels, scales) = (self.levels(), self.scales());
        let registers = self.registers();
        let shown = registers + 1;
        let (mut targets, mut sources, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let mut clip = Map::new();
        match self.clip {
            Clip::No => {}
            Clip::Range(range) => drop(clip.insert("clip".into(), json!(range))),
            Clip::Quantile { share, most } => {
                clip.insert("threshold".into(), json!(share));
                clip.insert("threshold_max".into(), json!(most));
            }
        }
        for target in 0..=shown {
            let forms: Vec<Form> = self.calls.iter().map(|c| c.target(target, shown)).collect();
            if target == shown && forms.iter().all(|f| *f == linear::D) {
                continue;
            }
            for source in 0..REGISTER + registers {
                let mut column = Vec::with_capacity(forms.len());
                for ((k, form), scale) in forms.iter().enumerate().zip(&scales) {
                    let mut value = form.0[source]; // below the width, as registers are
                    if source == SAMPLE {
                        value *= scale;
                    }
                    if target == 0 {
                        value /= scales[k + 1]; // one more than calls
                    }
                    if !value.is_finite() {
                        bail!(
                            Invalid,
                            "scheduler: step {k} has a coefficient {value}: this config has no such step"
                        );
                    }
                    column.push(value);
                }
                if column.iter().any(|v| *v != 0.0) {
                    targets.push(target);
                    sources.push(source);
                    values.extend(column);
                }
            }
        }
        let mut out = json!({
            "levels": levels,
            "registers": registers,
            "targets": targets,
            "sources": sources,
            "values": values,
        });
        if let Value::Object(map) = &mut out {
            map.extend(clip);
            let learned: Vec<usize> =
                (0..self.calls.len()).filter(|k| self.calls[*k].learned.is_some()).collect();
            if !learned.is_empty() {
                for (side, key) in ["log_small", "log_large"].into_iter().enumerate() {
                    // of the next state in w
                    let of = |(k, c): (usize, &linear::Call)| {
                        c.learned.map_or(0.0, |l| l[side] - 2.0 * scales[k + 1].ln())
                    };
                    let logs: Vec<f64> = self.calls.iter().enumerate().map(of).collect();
                    map.insert(key.into(), json!(logs));
                }
                map.insert("learned".into(), json!(learned));
            }
            if let Some(snr) = self.calls.iter().find_map(|c| c.snr) {
                let rows = self.calls.iter().enumerate().filter(|c| c.1.snr.is_some());
                map.insert("langevin".into(), json!(rows.map(|c| c.0).collect::<Vec<_>>()));
                map.insert("snr".into(), json!(snr));
            }
        }
        Ok(out)
    }

    /// How many registers the calls use.
    fn registers(&self) -> usize {
        let kept = self.calls.iter().flat_map(|c| c.keep.iter().map(|k| k.0 + 1)).max();
        kept.unwrap_or(0).min(REGISTERS)
    }
}

impl linear::Call {
    /// What one target of the table holds after this call.
    fn target(&self, target: usize, shown: usize) -> Form {
        match target {
            0 => self.next,
            t if t == shown => self.shown,
            t => {
                let kept = self.keep.iter().find(|k| k.0 + 1 == t);
                kept.map_or_else(|| linear::kept(t - 1), |k| k.1)
            }
        }
    }

    /// Whether the step draws.
    pub fn draws(&self) -> bool {
        self.snr.is_some() || self.learned.is_some() || self.next.0[DRAW] != 0.0
    }
}

fn setting(id: &str, config: Value) -> Setting {
    let config = match config {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    Setting { id: id.to_owned(), config }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_infinities_count_as_absent() {
        let map = parse(r#"{"a": -Infinity, "b": [NaN, 1], "c": "NaN\"Infinity", "d": Infinity}"#)
            .unwrap();
        assert_eq!(
            Value::Object(map).to_string(),
            r#"{"a":null,"b":[null,1],"c":"NaN\"Infinity","d":null}"#
        );
    }

    #[test]
    fn every_class_opens_with_its_defaults() {
        for class in classes() {
            let mut config = Map::from_iter([("_class_name".to_owned(), json!(class))]);
            let run = plan(&config, &Asked::steps(6)).unwrap_or_else(|e| panic!("{class}: {e:?}"));
            assert!(run.calls.len() >= 6, "{class}");
            let t = run.translate(&config).unwrap();
            assert!(t.sigma_min < t.sigma_max, "{class}");
            config.insert("num_train_timesteps".into(), json!("many"));
            let spoiled = plan(&config, &Asked::steps(6));
            let knows_no_steps = ["EDM", "ScoreSde", "SiT"].iter().any(|c| class.starts_with(c));
            assert!(spoiled.is_err() || knows_no_steps, "{class}");
        }
        let odd = Map::from_iter([("_class_name".to_owned(), json!("VQDiffusionScheduler"))]);
        assert!(plan(&odd, &Asked::steps(6)).is_err());
    }
}
