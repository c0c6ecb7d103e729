//! What to train on what, as the command line and a training config write it.

use super::setting::Setting;
use super::strict::{self, Fields};
use crate::bail;
use crate::base::{DType, Result};
use crate::train::data::Stamp;
use crate::train::{Optimizer, Plan, Schedule};
use std::path::PathBuf;

/// Everything a training is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    pub data: Source,
    pub model: Setting,
    pub process: Setting,
    pub objective: Setting,
    /// Defaults written into the model file for whoever samples it.
    pub sampler: Option<Setting>,
    pub grid: Option<Setting>,
    pub guidance: Vec<Setting>,
    pub sample_steps: Option<u32>,
    pub plan: Plan,
    /// Type of the weights in the released file: f32, bf16 or f16.
    pub dtype: DType,
}

/// A series and how it is cut.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    pub path: PathBuf,
    /// What the series is called in pictures; else its column.
    pub name: Option<String>,
    pub column: Option<String>,
    pub window: usize,
    pub history: usize,
    pub stride: usize,
    /// Nothing from this date on is trained on.
    pub split: Option<String>,
    /// The window whose past and outcome the file carries starts at this date, or at the split.
    pub show: Option<String>,
}

impl Recipe {
    pub fn parse(text: &str) -> Result<Self> {
        let what = "training config";
        let mut f = strict::parse(what, text)?;
        let data = Source::parse(f.need("data")?)?;
        let setting = |f: &mut Fields, key: &str| {
            f.take(key).map(|v| Setting::from_value(key, v)).transpose()
        };
        let model = Setting::from_value("model", f.need("model")?)?;
        let process = Setting::from_value("process", f.need("process")?)?;
        let objective = setting(&mut f, "objective")?.unwrap_or_else(|| Setting::of("dsm"));
        let (sampler, grid) = (setting(&mut f, "sampler")?, setting(&mut f, "grid")?);
        let guidance = Setting::list("guidance", f.take("guidance"))?;
        let sample_steps = f.whole("sample_steps", 1, 100_000)?.map(|n| n as u32);
        let default = Optimizer::default();
        let schedule = match f.text("schedule")?.as_deref() {
            None | Some("cosine") => Schedule::Cosine,
            Some("constant") => Schedule::Constant,
            Some(other) => bail!(Format, "{what}: schedule is {other}, want cosine or constant"),
        };
        let optimizer = Optimizer {
            rate: f.number("rate")?.unwrap_or(default.rate),
            warmup: f.whole("warmup", 0, 1 << 31)?.map_or(default.warmup, |n| n as u32),
            schedule,
            beta1: f.number("beta1")?.unwrap_or(default.beta1),
            beta2: f.number("beta2")?.unwrap_or(default.beta2),
            epsilon: f.number("epsilon")?.unwrap_or(default.epsilon),
            decay: f.number("decay")?.unwrap_or(default.decay),
            clip: f.number("clip")?.unwrap_or(default.clip),
            ema: f.number("ema")?.unwrap_or(default.ema),
        };
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
        f.done()?;
        Ok(Self {
            data,
            model,
            process,
            objective,
            sampler,
            grid,
            guidance,
            sample_steps,
            plan,
            dtype,
        })
    }
}

impl Source {
    fn parse(value: serde_json::Value) -> Result<Self> {
        let mut f = Fields::new("data", value)?;
        let Some(path) = f.text("path")? else {
            bail!(Format, "data: path is missing");
        };
        let date = |f: &mut Fields, key: &str| -> Result<Option<String>> {
            match f.text(key)? {
                Some(d) if Stamp::date(&d).is_none() => {
                    bail!(Format, "data: {key} is {d:?}, want year-month-day")
                }
                other => Ok(other),
            }
        };
        let out = Self {
            path: path.into(),
            name: f.text("name")?,
            column: f.text("column")?,
            window: f.whole("window", 1, 1 << 20)?.map_or(32, |n| n as usize),
            history: f.whole("history", 0, 1 << 20)?.map_or(0, |n| n as usize),
            stride: f.whole("stride", 1, 1 << 20)?.map_or(1, |n| n as usize),
            split: date(&mut f, "split")?,
            show: date(&mut f, "show")?,
        };
        f.done()?;
        Ok(out)
    }
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
            (r#"{"model":"mlp","process":"cir"}"#, "data is missing"),
            (r#"{"data":{},"model":"mlp","process":"cir"}"#, "path is missing"),
            (
                r#"{"data":{"path":"a","split":"2019"},"model":"m","process":"c"}"#,
                "split is \"2019\"",
            ),
            (r#"{"data":{"path":"a"},"model":"m","process":"c","stepz":3}"#, "unknown key stepz"),
            (r#"{"data":{"path":"a"},"model":"m","process":"c","dtype":"i8"}"#, "dtype is i8"),
        ] {
            let e = Recipe::parse(text).unwrap_err();
            assert!(e.message.contains(want), "{text}: {e}");
        }
    }
}
