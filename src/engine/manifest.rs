//! What a model file says about itself: the JSON of its `__metadata__.diffx`. Names plugins by id, never by path.

use super::pilot::{self, Pilot};
use super::setting::Setting;
use super::strict::{self, Fields};
use crate::bail;
use crate::base::Result;
use crate::sample::Stats;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The newest format this engine reads, and the one it writes.
pub const FORMAT: u64 = 1;

/// Key of the metadata of a safetensors file.
pub const KEY: &str = "diffx";

/// A model file's description.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub model: Setting,
    pub components: Vec<Part>,
    /// Further networks of the file: slot and model; their tensors are called `slot/name`.
    pub networks: BTreeMap<String, Setting>,
    // defaults of a pipeline
    pub sampler: Option<Setting>,
    pub grid: Option<Setting>,
    pub guidance: Vec<Setting>,
    pub steps: Option<u32>,
    /// What a pilot run measured, for a grid that adapts.
    pub pilot: Option<Pilot>,
    /// Free-form, for the command.
    pub data: Map<String, Value>,
    pub provenance: Map<String, Value>,
}

/// One component of the state.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub name: String,
    pub dims: Vec<i64>,
    pub process: Setting,
    pub stats: Stats,
    pub sigma_min: Option<f64>,
    pub sigma_max: Option<f64>,
}

impl Manifest {
    pub fn parse(text: &str) -> Result<Self> {
        let what = "model metadata";
        let mut f = strict::parse_up_to(strict::MAX_MANIFEST, what, text)?;
        match f.need("format")?.as_u64() {
            Some(FORMAT) => {}
            Some(newer) if newer > FORMAT => {
                bail!(Version, "{what}: format {newer}, this engine reads up to {FORMAT}")
            }
            _ => bail!(Format, "{what}: format is no whole number from 1 on"),
        }
        let model = Setting::from_value("model", f.need("model")?)?;
        let mut components = Vec::new();
        for value in f.list("components")?.unwrap_or_default() {
            components.push(Part::parse(value)?);
        }
        if components.is_empty() || components.len() > 64 {
            bail!(Format, "{what}: {} components, want 1 to 64", components.len());
        }
        let mut networks = BTreeMap::new();
        for (slot, value) in f.object("networks")?.unwrap_or_default() {
            networks.insert(slot.clone(), Setting::from_value(&slot, value)?);
        }
        let optional =
            |key: &str, v: Option<Value>| v.map(|v| Setting::from_value(key, v)).transpose();
        let out = Self {
            model,
            components,
            networks,
            sampler: optional("sampler", f.take("sampler"))?,
            grid: optional("grid", f.take("grid"))?,
            guidance: Setting::list("guidance", f.take("guidance"))?,
            steps: f.whole("steps", 1, 100_000)?.map(|n| n as u32),
            pilot: pilot::taken(f.take("pilot"))?,
            data: f.object("data")?.unwrap_or_default(),
            provenance: f.object("provenance")?.unwrap_or_default(),
        };
        f.done()?;
        Ok(out)
    }

    pub fn to_json(&self) -> String {
        let mut map = Map::new();
        map.insert("format".into(), json!(FORMAT));
        map.insert("model".into(), self.model.to_value());
        let components: Vec<Value> = self.components.iter().map(Part::to_value).collect();
        map.insert("components".into(), Value::Array(components));
        if !self.networks.is_empty() {
            let networks = self.networks.iter().map(|(k, v)| (k.clone(), v.to_value()));
            map.insert("networks".into(), Value::Object(networks.collect()));
        }
        let defaults = [("sampler", &self.sampler), ("grid", &self.grid)];
        for (key, setting) in defaults {
            if let Some(s) = setting {
                map.insert(key.into(), s.to_value());
            }
        }
        if !self.guidance.is_empty() {
            let list = self.guidance.iter().map(Setting::to_value).collect();
            map.insert("guidance".into(), Value::Array(list));
        }
        if let Some(n) = self.steps {
            map.insert("steps".into(), json!(n));
        }
        if let Some(pilot) = &self.pilot {
            map.insert("pilot".into(), pilot.to_value());
        }
        map.insert("data".into(), Value::Object(self.data.clone()));
        map.insert("provenance".into(), Value::Object(self.provenance.clone()));
        Value::Object(map).to_string()
    }
}

impl Part {
    fn parse(value: Value) -> Result<Self> {
        let mut f = Fields::new("component", value)?;
        let Some(name) = f.text("name")?.filter(|n| !n.is_empty()) else {
            bail!(Format, "component: name is missing");
        };
        let what = format!("component {name}");
        let mut dims = Vec::new();
        for d in f.list("dims")?.unwrap_or_default() {
            match d.as_i64().filter(|d| (1..=1 << 32).contains(d)) {
                Some(d) => dims.push(d),
                None => bail!(Format, "{what}: dimension {d}, want 1 to 2^32"),
            }
        }
        let process = Setting::from_value(&what, f.need("process")?)?;
        let mut stats = Stats::default();
        if let Some(map) = f.object("stats")? {
            let mut s = Fields::new("stats", Value::Object(map))?;
            let fields = [
                ("x_mean", &mut stats.x_mean),
                ("x_var", &mut stats.x_var),
                ("w_mean", &mut stats.w_mean),
                ("w_var", &mut stats.w_var),
            ];
            for (key, to) in fields {
                *to = s.number(key)?.unwrap_or(*to);
            }
            s.done()?;
        }
        let (sigma_min, sigma_max) = (f.number("sigma_min")?, f.number("sigma_max")?);
        f.done()?;
        Ok(Self { name, dims, process, stats, sigma_min, sigma_max })
    }

    fn to_value(&self) -> Value {
        let s = self.stats;
        let mut v = json!({
            "name": self.name,
            "dims": self.dims,
            "process": self.process.to_value(),
            "stats": {"x_mean": s.x_mean, "x_var": s.x_var, "w_mean": s.w_mean, "w_var": s.w_var},
        });
        if let Value::Object(map) = &mut v {
            for (key, sigma) in [("sigma_min", self.sigma_min), ("sigma_max", self.sigma_max)] {
                if let Some(s) = sigma {
                    map.insert(key.into(), json!(s));
                }
            }
        }
        v
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"format":1,"model":"mlp","components":[{"name":"x","dims":[32],
        "process":"cir:{\"kappa\":1.0}","stats":{"w_var":2.0},"sigma_max":8.0}],
        "sampler":"heun","guidance":["cfg"],"steps":24,"x-note":"kept out"}"#;

    #[test]
    fn reads_back_what_it_writes() {
        let m = Manifest::parse(TEXT).unwrap();
        assert_eq!(m.components[0].stats.w_var, 2.0);
        assert_eq!(m.components[0].sigma_max, Some(8.0));
        assert_eq!(m.steps, Some(24));
        assert_eq!(Manifest::parse(&m.to_json()).unwrap(), m);
    }

    #[test]
    fn newer_formats_and_unknown_keys_are_named() {
        let newer = TEXT.replace("\"format\":1", "\"format\":2");
        assert_eq!(Manifest::parse(&newer).unwrap_err().status, crate::base::Status::Version);
        let odd = TEXT.replace("\"steps\"", "\"step\"");
        assert!(Manifest::parse(&odd).unwrap_err().message.contains("unknown key step"));
        for bad in ["", "[]", "{", r#"{"format":1}"#, r#"{"format":"1"}"#] {
            assert!(Manifest::parse(bad).is_err(), "{bad}");
        }
    }
}
