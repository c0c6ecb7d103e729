//! The families of networks in people's files: which of our plugins a class of a reference implementation is, how its
//! config reads as the plugin's, and what stands in place of a description of ours. Tables; `directory` walks them.
//!
//! A plugin takes the keys of its reference class, with that class's defaults, and names its weights as that class does.
//! So a config translates by keeping the keys the plugin knows; other keys are of no use here and are ignored.

use super::manifest::{Manifest, Part};
use super::setting::Setting;
use super::{Engine, schedulers, strict};
use crate::bail;
use crate::base::Result;
use crate::plugin::Kind;
use crate::sample::{Component, Predicts, Space, Stats};
use crate::weights::Source;
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
    /// Keys of the plugin that stand inside another key of the config.
    pub inside: &'static [(&'static str, &'static str)],
    /// Keys of the plugin that a tensor in the file says.
    pub stored: &'static [(&'static str, &'static str, &'static str)],
    /// Classes that bring the process `edm`, and its `precond`.
    pub precond: &'static [(&'static str, &'static str)],
    /// The scheduler its networks are published with, where no folder brings one: a config of diffusers.
    pub scheduler: Option<&'static str>,
    /// Keys of the config that are keys of that scheduler.
    pub chain: &'static [(&'static str, &'static str)],
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

/// What most rows have nothing of.
const PLAIN: Family = Family {
    plugin: "",
    classes: &[],
    only: None,
    inside: &[],
    stored: &[],
    precond: &[],
    scheduler: None,
    chain: &[],
    sample: &[],
};

/// All of them. The first row that fits is taken.
pub const FAMILIES: &[Family] = &[
    Family { plugin: "dit", classes: &["DiTTransformer2DModel"], scheduler: Some(LINEAR), ..PLAIN },
    Family {
        plugin: "dit",
        classes: &["Transformer2DModel"], // its name until diffusers 0.28
        only: Some(("norm_type", "ada_norm_zero")),
        scheduler: Some(LINEAR),
        ..PLAIN
    },
    Family {
        plugin: "dit_original",
        classes: &["DiT"],
        scheduler: Some(LINEAR),
        stored: POSITIONS,
        ..PLAIN
    },
    Family { plugin: "sit", classes: &["SiT"], stored: POSITIONS, ..PLAIN },
    Family {
        plugin: "unet2d",
        classes: &["UNet2DModel"],
        only: Some(("time_embedding_type", "fourier")), // it takes the noise level
        scheduler: Some(EXPLODING),
        sample: UNET_SAMPLE,
        ..PLAIN
    },
    Family {
        plugin: "unet2d",
        classes: &["UNet2DModel"],
        scheduler: Some(LINEAR),
        sample: UNET_SAMPLE,
        ..PLAIN
    },
    Family {
        plugin: "songunet",
        classes: PRECONDITIONED,
        only: Some(("model_type", "SongUNet")),
        precond: PRECONDITIONING,
        ..PLAIN
    },
    Family {
        plugin: "dhariwal",
        classes: PRECONDITIONED,
        only: Some(("model_type", "DhariwalUNet")),
        precond: PRECONDITIONING,
        ..PLAIN
    },
    Family {
        plugin: "autoencoder_kl",
        classes: &["AutoencoderKL"],
        sample: &[
            Key("latent_channels", 4),
            Halved("sample_size", 32, "down_block_types"),
            Halved("sample_size", 32, "down_block_types"),
        ],
        ..PLAIN
    },
    Family {
        plugin: "csdi",
        classes: &["diff_CSDI"],
        scheduler: Some(QUADRATIC),
        chain: &[
            ("num_steps", "num_train_timesteps"),
            ("beta_start", "beta_start"),
            ("beta_end", "beta_end"),
        ],
        ..PLAIN
    },
    Family {
        plugin: "tabddpm",
        classes: &["MLPDiffusion"],
        scheduler: Some(COSINE),
        chain: &[("num_timesteps", "num_train_timesteps")],
        inside: &[("rtdl_params", "d_layers")],
        ..PLAIN
    },
    Family {
        plugin: "tabsyn",
        classes: &["TabSynPrecond"],
        precond: &[("TabSynPrecond", "edm")],
        ..PLAIN
    },
    Family {
        plugin: "score_transformer",
        classes: &["ScoreTransformer"],
        scheduler: Some(LINEAR),
        sample: &[Key("max_len", 512), Key("d_in", 1)],
        ..PLAIN
    },
    Family {
        plugin: "llada",
        classes: &["LLaDAModelLM"],
        sample: &[Key("max_sequence_length", 1024)],
        ..PLAIN
    },
];

/// What the process `edm` takes of such a config.
const EDM_KEYS: &[&str] = &["sigma_data", "beta_d", "beta_min", "epsilon_t", "M", "C_1", "C_2"];
const UNET_SAMPLE: &[Size] =
    &[Key("in_channels", 3), Key("sample_size", 64), Key("sample_size", 64)];
/// Chains: of the score SDE, of DDPM, of CSDI, of tab-ddpm.
const EXPLODING: &str = r#"{"_class_name":"ScoreSdeVeScheduler"}"#;
const LINEAR: &str = r#"{"_class_name":"DDIMScheduler","clip_sample":false}"#;
const QUADRATIC: &str = r#"{"_class_name":"DDPMScheduler","clip_sample":false,"beta_schedule":"scaled_linear",
    "beta_end":0.5,"num_train_timesteps":50}"#;
const COSINE: &str =
    r#"{"_class_name":"DDPMScheduler","clip_sample":false,"beta_schedule":"squaredcos_cap_v2"}"#;
const POSITIONS: &[(&str, &str, &str)] = &[("pos_embed", "pos_embed", "stored")];
/// The preconditioning of a class, as the process `edm` calls it.
const PRECONDITIONING: &[(&str, &str)] =
    &[("EDMPrecond", "edm"), ("VPPrecond", "vp"), ("VEPrecond", "ve"), ("iDDPMPrecond", "iddpm")];
const PRECONDITIONED: &[&str] = &["EDMPrecond", "VPPrecond", "VEPrecond", "iDDPMPrecond"];
/// A size that neither the plugin nor the config says, as of a series of any length.
const ANY: i64 = 32;

/// What a config says its class is.
pub fn classes(config: &Config) -> Vec<&str> {
    let listed = config.get("architectures").and_then(Value::as_array);
    let mut classes: Vec<&str> = listed.into_iter().flatten().filter_map(Value::as_str).collect();
    classes.extend(config.get("_class_name").and_then(Value::as_str));
    classes
}

/// The family of a config.
pub fn of(config: &Config) -> Result<&'static Family> {
    let classes = classes(config);
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    let fits = |f: &&Family| {
        f.classes.iter().any(|c| classes.contains(c))
            && f.only.is_none_or(|(key, want)| text(key) == Some(want))
    };
    let found = FAMILIES.iter().find(fits);
    match found {
        Some(family) => Ok(family),
        None if classes.is_empty() => {
            bail!(Format, "the config has neither _class_name nor architectures")
        }
        None => {
            let mut known: Vec<&str> = FAMILIES.iter().flat_map(|f| f.classes).copied().collect();
            known.sort_unstable();
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
    /// The plugin with the settings of a config, and what tensors of the file say.
    fn setting(&self, engine: &Engine, config: &Config, source: &Source) -> Result<Setting> {
        let mut setting = engine.resolve(Kind::Model, &Setting::of(self.plugin))?;
        let known = engine.config_keys(Kind::Model, &setting.id)?;
        let takes = |key: &str| known.as_ref().is_none_or(|k| k.iter().any(|n| n == key));
        let class = config.get("_class_name").and_then(Value::as_str).unwrap_or_default();
        for (tensor, key, value) in self.stored {
            if source.entry(tensor).is_some() {
                setting.config.insert((*key).to_owned(), json!(value));
            }
        }
        for (outer, key) in self.inside {
            if let Some(value) = config.get(*outer).and_then(|o| o.get(key)) {
                setting.config.insert((*key).to_owned(), value.clone());
            }
        }
        // null too: where it differs from nothing said the plugin knows
        let named = config.iter().filter(|(key, _)| !key.starts_with('_') && takes(key));
        setting.config.extend(named.map(|(key, value)| (key.clone(), value.clone())));
        if class == "iDDPMPrecond" {
            // the class asks its network for twice the channels: the second half is a variance
            let channels = config.get("img_channels").and_then(Value::as_u64).unwrap_or(3);
            setting.config.insert("out_channels".into(), json!(channels.saturating_mul(2)));
        }
        Ok(setting)
    }

    /// The description of a network alone, as a file of ours would have it. `over` replaces keys of the plugin.
    pub fn manifest(
        &self,
        engine: &Engine,
        config: &Config,
        source: &Source,
        over: &Config,
    ) -> Result<Manifest> {
        let mut model = self.setting(engine, config, source)?;
        model.config.extend(over.iter().map(|(k, v)| (k.clone(), v.clone())));
        let info = engine.model(&model)?.info()?;
        let components = info.components.iter().map(|c| Part {
            name: c.name.clone(),
            dims: self.dims(c, config),
            process: self.process(config, info.predicts, c),
            stats: Stats::default(),
            sigma_min: None,
            sigma_max: None,
        });
        let mut scheduler =
            self.scheduler.and_then(|text| serde_json::from_str::<Value>(text).ok());
        for (key, of_chain) in self.chain {
            if let (Some(chain), Some(value)) = (&mut scheduler, config.get(*key)) {
                chain[*of_chain] = value.clone();
            }
        }
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
            provenance: scheduler.map(|s| ("scheduler".to_owned(), s)).into_iter().collect(),
        })
    }

    /// The process that a prediction is made for, where no scheduler says which.
    fn process(&self, config: &Config, predicts: Predicts, component: &Component) -> Setting {
        let class = config.get("_class_name").and_then(Value::as_str).unwrap_or_default();
        if let Some((_, precond)) = self.precond.iter().find(|p| p.0 == class) {
            let mut setting = Setting::of("edm");
            setting.config.insert("precond".into(), json!(precond));
            for key in EDM_KEYS {
                if let Some(value) =
                    config.get(*key).filter(|v| v.as_f64().is_some_and(f64::is_finite))
                {
                    setting.config.insert((*key).to_owned(), value.clone());
                }
            }
            return setting;
        }
        if component.space == Space::Discrete {
            return Setting::of("mask");
        }
        Setting::of(match predicts {
            Predicts::Noise | Predicts::V => "vp",
            Predicts::Velocity => "flow",
            _ if self.scheduler.is_some() => "vp",
            _ => "ve",
        })
    }

    fn dims(&self, component: &Component, config: &Config) -> Vec<i64> {
        let size =
            |i: usize| self.sample.get(i).map_or(ANY, |s| s.of(i, self.sample.len(), config));
        component.dims.iter().enumerate().map(|(i, d)| if *d < 0 { size(i) } else { *d }).collect()
    }
}

/// Heads of the published sizes, by width: the weights do not say.
const HEADS: &[(usize, u64)] = &[(384, 6), (768, 12), (1024, 16), (1152, 16)];

/// The config of a file that has none beside it, from its tensors: DiT and SiT as their authors publish them. They differ
/// in what they predict and in no tensor, so the name of the file must begin with one of the two. None where it is
/// something else.
pub fn detect(source: &Source) -> Result<Option<Config>> {
    let dims = |name: &str| source.entry(name).map(|e| e.dims.as_slice());
    let (Some(&[width, channels, patch, _]), Some(&[rows, _]), Some(&[outputs, _])) = (
        dims("x_embedder.proj.weight"),
        dims("y_embedder.embedding_table.weight"),
        dims("final_layer.linear.weight"),
    ) else {
        return Ok(None);
    };
    let Some(&[inner, _]) = dims("blocks.0.mlp.fc1.weight") else { return Ok(None) };
    let depth =
        (0..).take_while(|i| dims(&format!("blocks.{i}.attn.qkv.weight")).is_some()).count();
    let Some((_, heads)) = HEADS.iter().find(|(w, _)| *w == width) else {
        bail!(
            Unsupported,
            "{}: its tensors do not say how many heads of attention {width} features make; put a config.json with \
             _class_name DiT or SiT, num_heads and input_size beside it",
            source.label()
        );
    };
    // one patch per position; without a table of them, as for pictures of 256 pixels
    let side = match dims("pos_embed") {
        Some(&[_, n, _]) => n.isqrt().saturating_mul(patch),
        _ => 32,
    };
    let name = std::path::Path::new(source.label()).file_name().unwrap_or_default();
    let name = name.to_string_lossy().to_lowercase();
    let Some(class) = ["DiT", "SiT"].into_iter().find(|c| name.starts_with(&c.to_lowercase()))
    else {
        bail!(
            Unsupported,
            "{}: its tensors do not say whether it is a DiT (predicts noise) or a SiT (predicts velocity); begin its \
             name with the one it is, or put a config.json with _class_name DiT or SiT beside it",
            source.label()
        );
    };
    let config = json!({
        "_class_name": class,
        "input_size": side,
        "patch_size": patch,
        "in_channels": channels,
        "hidden_size": width,
        "depth": depth,
        "num_heads": heads,
        "mlp_ratio": inner as f64 / width as f64,
        "num_classes": rows.saturating_sub(1),
        "learn_sigma": outputs >= patch.saturating_mul(patch).saturating_mul(channels).saturating_mul(2),
    });
    Ok(config.as_object().cloned())
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

/// A config file: any keys, of a bounded length. Infinities and NaN, which Python writes, count as absent.
pub fn config(label: &str, text: &str) -> Result<Config> {
    match strict::json_up_to(strict::MAX_CONFIG, label, &schedulers::finite(text))? {
        Value::Object(map) => Ok(map),
        other => bail!(Format, "{label}: is {}, want an object", strict::kind(&other)),
    }
}
