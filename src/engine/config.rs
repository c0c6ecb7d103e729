//! The JSON a pipeline is made from. Every key is optional; what is not said comes from the model file.

use super::pilot::{self, Pilot};
use super::schedulers;
use super::setting::Setting;
use super::strict::{self, Fields};
use crate::bail;
use crate::base::{DType, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// A pipeline's config, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// One per component, or fewer; empty = the file's.
    pub process: Vec<Setting>,
    pub sampler: Option<Setting>,
    /// One for all components or one each; empty = the file's.
    pub grid: Vec<Setting>,
    /// None = the file's.
    pub guidance: Option<Vec<Setting>>,
    pub steps: Option<u32>,
    /// One for all components or one each; empty = the file's.
    pub sigma_min: Vec<f64>,
    pub sigma_max: Vec<f64>,
    /// f32 or f64.
    pub dtype: DType,
    pub batch: Option<usize>,
    /// Network slots and the model each is taken from: a path or a carried name.
    pub networks: BTreeMap<String, String>,
    /// What a pilot run measured; None = the file's.
    pub pilot: Option<Pilot>,
    /// A scheduler of another library, whose process, grid and sampler `follow` takes, whatever process the file names.
    pub scheduler: Option<Value>,
    /// Draws are those of PyTorch's CPU generator.
    pub torch_noise: bool,
    /// A run sets out from data that its job brings, noised so that this share of the steps is left.
    pub strength: Option<f64>,
    /// The network `vae` makes a picture of each sample, the result `image`.
    pub image: bool,
}

impl Config {
    pub fn parse(text: &str) -> Result<Self> {
        let mut f = strict::parse("pipeline config", text)?;
        let dtype = match f.text("dtype")?.as_deref() {
            None | Some("f32") => DType::F32,
            Some("f64") => DType::F64,
            Some(other) => bail!(Unsupported, "pipeline config: dtype {other}, want f32 or f64"),
        };
        let networks = networks("pipeline config", &mut f)?;
        if f.take("lora").is_some() {
            bail!(Unsupported, "pipeline config: lora is not served yet");
        }
        let setting =
            |key: &str, v: Option<Value>| v.map(|v| Setting::from_value(key, v)).transpose();
        let guidance = f.take("guidance");
        let torch_noise = match f.text("noise")?.as_deref() {
            None | Some("philox") => false,
            Some("torch_cpu") => true,
            Some(other) => {
                bail!(Unsupported, "pipeline config: noise {other}, want philox or torch_cpu")
            }
        };
        let out = Self {
            process: Setting::list("process", f.take("process"))?,
            sampler: setting("sampler", f.take("sampler"))?,
            grid: Setting::list("grid", f.take("grid"))?,
            guidance: match guidance {
                None => None,
                some => Some(Setting::list("guidance", some)?),
            },
            steps: f.whole("steps", 1, 100_000)?.map(|n| n as u32),
            sigma_min: f.numbers("sigma_min")?,
            sigma_max: f.numbers("sigma_max")?,
            dtype,
            batch: f.whole("batch", 1, 1 << 20)?.map(|n| n as usize),
            networks,
            pilot: pilot::taken(f.take("pilot"))?,
            scheduler: f.take("scheduler"),
            torch_noise,
            strength: f.number("strength")?,
            image: f.flag("image")?.unwrap_or(false),
        };
        f.done()?;
        if let Some(s) = out.strength.filter(|s| !(*s > 0.0 && *s <= 1.0)) {
            bail!(Format, "pipeline config: strength is {s}, want above 0 to 1");
        }
        Ok(out)
    }

    /// The scheduler of the model, where nothing here says what it would; its process alone, where this names another
    /// sampler, grid or range. Says whether it is the latter.
    pub fn or_scheduler(&mut self, own: Option<&Value>) -> Result<bool> {
        let Some(own) = own.filter(|_| self.scheduler.is_none() && self.process.is_empty()) else {
            return Ok(false);
        };
        let free = self.grid.is_empty() && self.sampler.is_none();
        if free && self.sigma_min.is_empty() && self.sigma_max.is_empty() {
            self.scheduler = Some(own.clone());
            return Ok(false);
        }
        match schedulers::process_alone(own, self.sigma_max.first().copied()) {
            Ok(process) => self.process = vec![process],
            Err(e) => {
                return Err(e.within(
                    "the model follows a scheduler, and the pipeline config names another sampler, grid or range; \
                     name process too, or scheduler in their place",
                ));
            }
        }
        Ok(true)
    }

    /// Takes process, grid and sampler from the scheduler, if there is one, for the steps of this config. Says whether.
    pub fn follow(&mut self) -> Result<bool> {
        let Some(scheduler) = self.scheduler.take() else { return Ok(false) };
        let own = [
            ("process", self.process.is_empty()),
            ("grid", self.grid.is_empty()),
            ("sampler", self.sampler.is_none()),
            ("sigma_min", self.sigma_min.is_empty()),
            ("sigma_max", self.sigma_max.is_empty()),
        ];
        if let Some((key, _)) = own.iter().find(|o| !o.1) {
            bail!(Invalid, "pipeline config: {key} beside scheduler, which says it itself");
        }
        let steps = self.steps.unwrap_or(schedulers::STEPS);
        let t = schedulers::translate(scheduler, steps, self.strength)?;
        self.process = vec![t.process];
        self.grid = vec![t.grid];
        self.sampler = Some(t.sampler);
        self.steps = Some(t.steps);
        (self.sigma_min, self.sigma_max) = (vec![t.sigma_min], vec![t.sigma_max]);
        Ok(true)
    }

    /// The level of component `c`: its own, or the only one there is.
    pub fn level(list: &[f64], c: usize) -> Option<f64> {
        match list {
            [one] => Some(*one),
            many => many.get(c).copied(),
        }
    }
}

/// The setting of component `c`: its own, or the only one there is.
pub fn pick(list: &[Setting], c: usize) -> Option<&Setting> {
    match list {
        [one] => Some(one),
        many => many.get(c),
    }
}

/// `networks`: slots and the models that lend them a network.
pub(super) fn networks(what: &str, f: &mut Fields) -> Result<BTreeMap<String, String>> {
    let mut networks = BTreeMap::new();
    for (slot, value) in f.object("networks")?.unwrap_or_default() {
        let mut n = Fields::new(&slot, value)?;
        match n.text("model")? {
            Some(path) => networks.insert(slot.clone(), path),
            None => bail!(Format, "{what}: network {slot} names no model"),
        };
        n.done()?;
    }
    Ok(networks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Status;

    #[test]
    fn everything_is_optional_and_nothing_is_ignored() {
        let empty = Config::parse("").unwrap();
        assert_eq!(empty, Config::parse("{}").unwrap());
        assert_eq!(empty.dtype, DType::F32);
        let full = Config::parse(
            r#"{"process":["cir","gbm"],"sampler":"heun","grid":"log","guidance":[],"steps":8,
                "sigma_min":0.1,"sigma_max":2,"dtype":"f64","batch":3,"networks":{"h":{"model":"h.safetensors"}}}"#,
        )
        .unwrap();
        assert_eq!(full.process.len(), 2);
        assert_eq!(full.guidance, Some(vec![]));
        assert_eq!(full.networks["h"], "h.safetensors");
        let mut other = Config::parse(
            r#"{"scheduler":{"config":{"_class_name":"DDIMScheduler"},"eta":1},"steps":7,"noise":"torch_cpu"}"#,
        )
        .unwrap();
        assert!(other.follow().unwrap() && !other.follow().unwrap());
        assert_eq!((other.steps, other.torch_noise), (Some(7), true));
        assert_eq!(other.sampler.unwrap().id, "org.diffx.recurrence");
        for (text, status) in [
            (r#"{"step":8}"#, Status::Format),
            (r#"{"steps":0}"#, Status::Format),
            (r#"{"dtype":"bf16"}"#, Status::Unsupported),
            (r#"{"batch":-1}"#, Status::Format),
            (r#"{"noise":"cuda"}"#, Status::Unsupported),
            (r#"{"strength":0}"#, Status::Format),
            (r#"{"image":1}"#, Status::Format),
            (r#"{"scheduler":{"_class_name":"DDIMScheduler"},"sampler":"heun"}"#, Status::Invalid),
            (r#"{"scheduler":{"_class_name":"VQDiffusionScheduler"}}"#, Status::Unsupported),
            (
                r#"{"scheduler":{"config":{"_class_name":"DDIMScheduler"},"etta":1}}"#,
                Status::Format,
            ),
            (r#"{"scheduler":3}"#, Status::Format),
            ("[", Status::Format),
        ] {
            let read = Config::parse(text).and_then(|mut c| c.follow());
            assert_eq!(read.unwrap_err().status, status, "{text}");
        }
    }
}
