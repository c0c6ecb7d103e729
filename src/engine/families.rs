//! The families of networks in people's files: which of our plugins a class of a reference implementation is, how its
//! config reads as the plugin's, and what stands in place of a description of ours. Tables; `directory` walks them.
//!
//! A plugin takes the keys of its reference class, with that class's defaults, and names its weights as that class does.
//! So a config translates by keeping the keys the plugin knows; other keys are of no use here and are ignored.

use super::manifest::{Manifest, Part};
use super::setting::Setting;
use super::{Engine, strict};
use crate::bail;
use crate::base::Result;
use crate::plugin::Kind;
use crate::sample::{Component, Predicts, Space, Stats};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A config of a file, as it stands.
pub type Config = Map<String, Value>;

/// A family.
#[derive(Debug)]
pub struct Family {
    /// Id of our plugin.
    pub plugin: &'static str,
    /// `_class_name` of a config, or one of its `architectures`.
    pub classes: &'static [&'static str],
    /// The class says nothing alone: this key of the config must be this too.
    pub only: Option<(&'static str, &'static str)>,
    /// Keys of the plugin that the class implies.
    pub implied: &'static [(&'static str, &'static str)],
    /// Sizes of a sample that the plugin leaves free, by the config.
    pub sample: &'static [Size],
}

/// One size of a sample.
#[derive(Debug, Clone, Copy)]
pub enum Size {
    /// Of a key, or its class default; of a list by the place from behind.
    Key(&'static str, i64),
    /// The same divided by 2 for every entry of the list behind its first (an autoencoder's latents).
    Halved(&'static str, i64, &'static str),
}

use Size::{Halved, Key};

/// All of them. The first row that fits is taken.
pub const FAMILIES: &[Family] = &[
    Family {
        plugin: "dit",
        classes: &["DiTTransformer2DModel"],
        only: None,
        implied: &[],
        sample: &[Key("in_channels", 4), Key("sample_size", 32), Key("sample_size", 32)],
    },
    Family {
        plugin: "dit",
        classes: &["Transformer2DModel"], // its name until diffusers 0.28
        only: Some(("norm_type", "ada_norm_zero")),
        implied: &[],
        sample: &[Key("in_channels", 4), Key("sample_size", 32), Key("sample_size", 32)],
    },
    Family {
        plugin: "dit_original",
        classes: &["DiT"],
        only: None,
        implied: &[("pos_embed", "stored")],
        sample: &[Key("in_channels", 4), Key("input_size", 32), Key("input_size", 32)],
    },
    Family {
        plugin: "sit",
        classes: &["SiT"],
        only: None,
        implied: &[("pos_embed", "stored")],
        sample: &[Key("in_channels", 4), Key("input_size", 32), Key("input_size", 32)],
    },
    Family {
        plugin: "unet2d",
        classes: &["UNet2DModel"],
        only: None,
        implied: &[],
        sample: &[Key("in_channels", 3), Key("sample_size", 64), Key("sample_size", 64)],
    },
    Family {
        plugin: "songunet",
        classes: PRECONDITIONED,
        only: Some(("model_type", "SongUNet")),
        implied: &[],
        sample: EDM_SAMPLE,
    },
    Family {
        plugin: "dhariwal",
        classes: PRECONDITIONED,
        only: Some(("model_type", "DhariwalUNet")),
        implied: &[],
        sample: EDM_SAMPLE,
    },
    Family {
        plugin: "autoencoder_kl",
        classes: &["AutoencoderKL"],
        only: None,
        implied: &[],
        sample: &[
            Key("latent_channels", 4),
            Halved("sample_size", 32, "down_block_types"),
            Halved("sample_size", 32, "down_block_types"),
        ],
    },
    Family { plugin: "csdi", classes: &["diff_CSDI"], only: None, implied: &[], sample: &[] },
    Family {
        plugin: "tabddpm",
        classes: &["MLPDiffusion"],
        only: None,
        implied: &[],
        sample: &[Key("d_in", 1)],
    },
    Family {
        plugin: "tabsyn",
        classes: &["TabSynPrecond"],
        only: None,
        implied: &[],
        sample: &[Key("d_in", 1)],
    },
    Family {
        plugin: "score_transformer",
        classes: &["ScoreTransformer"],
        only: None,
        implied: &[],
        sample: &[Key("max_len", 32), Key("d_in", 1)],
    },
    Family {
        plugin: "llada",
        classes: &["LLaDAModelLM"],
        only: None,
        implied: &[],
        sample: &[Key("max_sequence_length", 1024)],
    },
];

const PRECONDITIONED: &[&str] = &["EDMPrecond", "VPPrecond", "VEPrecond", "iDDPMPrecond"];
const EDM_SAMPLE: &[Size] =
    &[Key("img_channels", 3), Key("img_resolution", 32), Key("img_resolution", 32)];

/// A size that neither the plugin nor the config says, as of a series of any length.
const ANY: i64 = 32;

/// The family of a config, by what it says its class is.
pub fn of(config: &Config) -> Result<&'static Family> {
    let listed = config.get("architectures").and_then(Value::as_array);
    let mut classes: Vec<&str> = listed.into_iter().flatten().filter_map(Value::as_str).collect();
    classes.extend(config.get("_class_name").and_then(Value::as_str));
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    let fits = |f: &&Family| {
        f.classes.iter().any(|c| classes.contains(c))
            && f.only.is_none_or(|(key, want)| text(key) == Some(want))
    };
    match FAMILIES.iter().find(fits) {
        Some(family) => Ok(family),
        None if classes.is_empty() => {
            bail!(Format, "the config has neither _class_name nor architectures")
        }
        None => {
            let mut known: Vec<&str> = FAMILIES.iter().flat_map(|f| f.classes).copied().collect();
            known.dedup();
            bail!(
                Unsupported,
                "no network here reads class {}; there are: {}",
                classes.join(", "),
                known.join(", ")
            )
        }
    }
}

impl Family {
    /// The plugin with the settings of a config.
    pub fn setting(&self, engine: &Engine, config: &Config) -> Result<Setting> {
        let mut setting = engine.resolve(Kind::Model, &Setting::of(self.plugin))?;
        let known = engine.config_keys(Kind::Model, &setting.id)?;
        let takes = |key: &str| known.as_ref().is_none_or(|k| k.iter().any(|n| n == key));
        // some classes keep the arguments of a part in an object of their own
        let parts = config.values().filter_map(Value::as_object).flatten();
        for (key, value) in parts.chain(config) {
            if !key.starts_with('_') && !value.is_null() && takes(key) {
                setting.config.insert(key.clone(), value.clone());
            }
        }
        for (key, value) in self.implied {
            setting.config.insert((*key).to_owned(), json!(value));
        }
        Ok(setting)
    }

    /// The description of a network alone, as a file of ours would have it.
    pub fn manifest(&self, engine: &Engine, config: &Config) -> Result<Manifest> {
        let model = self.setting(engine, config)?;
        let info = engine.model(&model)?.info()?;
        let components = info.components.iter().map(|c| Part {
            name: c.name.clone(),
            dims: self.dims(c, config),
            process: process(info.predicts, c),
            stats: stats(config),
            sigma_min: None,
            sigma_max: None,
        });
        Ok(Manifest {
            components: components.collect(),
            model,
            networks: BTreeMap::new(),
            sampler: None,
            grid: None,
            guidance: Vec::new(),
            steps: None,
            pilot: None,
            data: Map::new(),
            provenance: Map::new(),
        })
    }

    fn dims(&self, component: &Component, config: &Config) -> Vec<i64> {
        let size =
            |i: usize| self.sample.get(i).map_or(ANY, |s| s.of(i, self.sample.len(), config));
        component.dims.iter().enumerate().map(|(i, d)| if *d < 0 { size(i) } else { *d }).collect()
    }
}

impl Size {
    fn of(self, at: usize, of: usize, config: &Config) -> i64 {
        let read = |key: &str, default: i64| match config.get(key) {
            Some(Value::Array(list)) => {
                // a list has the last sizes of a sample
                let from_behind = of - at;
                let i = list.len().checked_sub(from_behind);
                i.and_then(|i| list.get(i)).and_then(Value::as_i64).unwrap_or(default)
            }
            Some(v) => v.as_i64().unwrap_or(default),
            None => default,
        };
        let size = match self {
            Key(key, default) => read(key, default),
            Halved(key, default, list) => {
                let levels = config.get(list).and_then(Value::as_array).map_or(1, Vec::len);
                read(key, default) >> levels.saturating_sub(1).min(62)
            }
        };
        size.clamp(1, 1 << 32)
    }
}

/// The process that a prediction is made for, where no scheduler says which.
fn process(predicts: Predicts, component: &Component) -> Setting {
    if component.space == Space::Discrete {
        return Setting::of("mask");
    }
    Setting::of(match predicts {
        Predicts::Noise | Predicts::V => "vp",
        Predicts::Velocity => "flow",
        _ => "ve",
    })
}

/// What a class that brings its preconditioning says of its data.
fn stats(config: &Config) -> Stats {
    let sd = config.get("sigma_data").and_then(Value::as_f64).filter(|s| *s > 0.0 && s.is_finite());
    let variance = sd.map_or(1.0, |s| s * s);
    Stats { x_var: variance, w_var: variance, ..Stats::default() }
}

/// A config file: any keys, of a bounded length.
pub fn config(label: &str, text: &str) -> Result<Config> {
    match strict::json_up_to(strict::MAX_CONFIG, label, text)? {
        Value::Object(map) => Ok(map),
        other => bail!(Format, "{label}: is {}, want an object", strict::kind(&other)),
    }
}
