//! The JSON a tuner is made from. Only the objective must be said.

use super::log::Metrics;
use super::recipe;
use super::setting::Setting;
use super::strict::{self, Fields};
use crate::base::Result;
use crate::graph::builder::Lora;
use crate::train::{Actor, Lag, Optimizer, Schedule, TunePlan};
use crate::{bail, fail};
use serde_json::Value;

/// A tuner's config, read.
#[derive(Debug, Clone, PartialEq)]
pub struct TuneConfig {
    pub objective: Setting,
    /// The config of the pipeline that draws the samples.
    pub rollout: String,
    pub plan: TunePlan,
    pub lora: Option<Lora>,
    /// The file of metrics, if one is kept.
    pub metrics: Option<Metrics>,
}

/// Slots whose weights may draw the samples.
const ACTORS: &[(&str, Actor)] =
    &[("base", Actor::Base), ("old", Actor::Old), ("ema", Actor::Ema), ("ref", Actor::Ref)];

impl TuneConfig {
    pub fn parse(text: &str) -> Result<Self> {
        let what = "tuning config";
        let mut f = strict::parse(what, text)?;
        let objective = Setting::from_value("objective", f.need("objective")?)?;
        let rollout = match f.object("rollout")? {
            Some(map) => Value::Object(map).to_string(),
            None => String::new(),
        };
        let size = |f: &mut Fields, key: &str, default: usize| {
            Ok::<_, crate::base::Error>(f.whole(key, 1, 1 << 20)?.map_or(default, |n| n as usize))
        };
        let samples = size(&mut f, "samples", 64)?;
        let default = Optimizer {
            rate: 3e-4,
            warmup: 0,
            schedule: Schedule::Constant,
            ..Optimizer::default()
        };
        let plan = TunePlan {
            rounds: f.whole("rounds", 1, 1 << 31)?.map_or(100, |n| n as u32),
            samples,
            group: size(&mut f, "group", 1)?,
            batch: size(&mut f, "batch", samples)?,
            accumulate: size(&mut f, "accumulate", 1)?,
            sweeps: size(&mut f, "sweeps", 1)? as u32,
            draw: samples,
            seed: f.whole("seed", 0, u64::MAX)?.unwrap_or(0),
            actor: actor(f.text("actor")?.as_deref())?,
            lag: lag(f.take("old"))?,
            optimizer: recipe::optimizer(&mut f, what, default)?,
        };
        let lora = f.take("lora").map(lora).transpose()?;
        let metrics = f.take("metrics").map(recipe::metrics).transpose()?;
        f.done()?;
        plan.check()?;
        Ok(Self { objective, rollout, plan, lora, metrics })
    }
}

fn actor(name: Option<&str>) -> Result<Actor> {
    let name = name.unwrap_or("base");
    let found = ACTORS.iter().find(|(n, _)| *n == name).map(|(_, a)| *a);
    found.ok_or_else(|| {
        let known: Vec<&str> = ACTORS.iter().map(|(n, _)| *n).collect();
        fail!(Format, "tuning config: actor is {name}, want one of {}", known.join(", "))
    })
}

/// `{"rate", "most"}`; without it slot `old` is the weights a round began with.
fn lag(value: Option<Value>) -> Result<Lag> {
    let Some(value) = value else { return Ok(Lag { rate: 0.0, most: 0.0 }) };
    let mut f = Fields::new("old", value)?;
    let lag =
        Lag { rate: f.number("rate")?.unwrap_or(0.001), most: f.number("most")?.unwrap_or(0.5) };
    f.done()?;
    if lag.rate < 0.0 || !(0.0..=1.0).contains(&lag.most) {
        bail!(Format, "old: rate {}, most {}, want at least 0, and in [0, 1]", lag.rate, lag.most);
    }
    Ok(lag)
}

fn lora(value: Value) -> Result<Lora> {
    let mut f = Fields::new("lora", value)?;
    let rank = f.whole("rank", 1, 1 << 16)?.map_or(8, |n| n as usize);
    let scale = f.number("scale")?.unwrap_or(1.0);
    let mut targets = Vec::new();
    for t in f.list("targets")?.unwrap_or_default() {
        match t {
            Value::String(t) => targets.push(t),
            other => bail!(Format, "lora: a target is {}, want a text", strict::kind(&other)),
        }
    }
    f.done()?;
    if scale == 0.0 {
        bail!(Format, "lora: scale is 0, want another number: an adapter of nothing never trains");
    }
    Ok(Lora { rank, scale, targets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_required_and_nothing_is_ignored() {
        let c = TuneConfig::parse(r#"{"objective":"flow_grpo"}"#).unwrap();
        assert_eq!((c.plan.samples, c.plan.batch, c.plan.actor), (64, 64, Actor::Base));
        assert_eq!(c.plan.optimizer.schedule, Schedule::Constant);
        let c = TuneConfig::parse(
            r#"{"objective":"nft","samples":96,"group":24,"batch":48,"sweeps":2,"rounds":7,"actor":"old",
                "old":{"most":0.9},"lora":{"rank":4,"targets":["attn"]},"rate":1e-4,
                "rollout":{"sampler":"heun","steps":10}}"#,
        )
        .unwrap();
        assert_eq!((c.plan.per_round(), c.plan.steps()), (4, 28));
        assert_eq!(c.lora.unwrap().targets, ["attn"]);
        for (text, want) in [
            (
                r#"{"objective":"dpo","samples":1048576,"batch":1,"sweeps":1048576,"rounds":2147483648}"#,
                "too many updates, want at most 4294967295",
            ),
            ("{}", "objective is missing"),
            (r#"{"objective":"nft","actor":"me"}"#, "actor is me, want one of base, old, ema, ref"),
            (r#"{"objective":"nft","samples":10,"batch":4}"#, "want whole batches of whole groups"),
            (r#"{"objective":"nft","batch":3,"samples":6,"group":2}"#, "whole groups"),
            (
                r#"{"objective":"nft","samples":12,"batch":4,"accumulate":2}"#,
                "12 samples in batches of 4, 2 batches an update: want whole updates",
            ),
            (r#"{"objective":"nft","accumulate":0}"#, "accumulate is 0"),
            (r#"{"objective":"nft","step":4}"#, "unknown key step"),
            (r#"{"objective":"nft","lora":{"scale":0}}"#, "scale is 0"),
            (r#"{"objective":"nft","old":{"most":1.5}}"#, "most 1.5"),
        ] {
            let e = TuneConfig::parse(text).unwrap_err();
            assert!(e.message.contains(want), "{text}: {e}");
        }
    }
}
