//! Models as other programs leave them: a component's folder with `config.json` and weights, the folder of a pipeline
//! (`model_index.json`), or a file of weights alone. Gives the weights under our names and the description that a file of
//! ours would carry. Nothing outside the folder is opened, whatever its files say.

use super::families::{self, Config};
use super::manifest::Manifest;
use super::{Engine, spelling, strict};
use crate::base::Result;
use crate::weights::{Source, index, plain_file};
use crate::{bail, fail};
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};

pub(super) const CONFIG: &str = "config.json";
pub(super) const PIPELINE: &str = "model_index.json";

/// What components lack that we have no use for.
const WITHOUT_WEIGHTS: &[&str] = &[
    "scheduler",
    "tokenizer",
    "tokenizer_2",
    "tokenizer_3",
    "feature_extractor",
    "safety_checker",
];

/// Where a pipeline keeps its denoiser, and its autoencoder.
const DENOISERS: &[&str] = &["transformer", "unet", "denoiser"];
const AUTOENCODER: &str = "vae";

/// What a host says beside the path.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// As in `model.fp16.safetensors`.
    pub variant: Option<String>,
    /// Keys of the model's plugin, in the place of those of the config.
    pub model: Config,
    /// The config of a file that holds weights alone, or its folder.
    pub config: Option<PathBuf>,
}

impl Asked {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut f = strict::parse("model config", text)?;
        let variant = f.text("variant")?;
        if let Some(name) = &variant {
            index::check_plain(name).map_err(|e| e.within("model config: variant"))?;
        }
        let model = f.object("model")?.unwrap_or_default();
        let config = f.text("config")?.map(PathBuf::from);
        f.done()?;
        Ok(Self { variant, model, config })
    }
}

/// Weights and description.
pub(super) struct Opened {
    pub source: Source,
    pub manifest: Manifest,
}

/// Opens a folder.
pub(super) fn folder(engine: &Engine, path: &Path, asked: &Asked) -> Result<Opened> {
    if let Some(config) = &asked.config {
        bail!(
            Invalid,
            "{}: is a folder, and config {} is for a file of weights alone",
            path.display(),
            config.display()
        );
    }
    if path.join(PIPELINE).exists() {
        return pipeline(engine, path, asked);
    }
    if !path.join(CONFIG).exists() {
        bail!(NotFound, "{}: holds neither {PIPELINE} nor {CONFIG}", path.display());
    }
    component(engine, path, asked)
}

/// The description of a file that has none of ours: by a config beside it, else by its tensors.
pub(super) fn file(engine: &Engine, source: Source, asked: &Asked) -> Result<Opened> {
    let label = PathBuf::from(source.label());
    let beside = match &asked.config {
        Some(path) if path.is_dir() => Some(path.join(CONFIG)),
        Some(path) => Some(path.clone()),
        None => label.parent().map(|folder| folder.join(CONFIG)).filter(|p| p.exists()),
    };
    let config = match &beside {
        Some(path) => Some(config_of(path)?),
        None => families::detect(&source)?,
    };
    match config {
        Some(config) => opened(engine, source, config, asked, beside.as_deref().unwrap_or(&label)),
        None => bail!(
            Format,
            "{}: no diffx model: its metadata has no entry {}, no {CONFIG} lies beside it, and its tensors are of \
             no family that is known by them",
            label.display(),
            super::manifest::KEY
        ),
    }
}

fn component(engine: &Engine, path: &Path, asked: &Asked) -> Result<Opened> {
    let config = path.join(CONFIG);
    let read = config_of(&config)?;
    families::of(&read).map_err(|e| e.within(config.display()))?; // before its weights are looked for
    let source = Source::folder(path, asked.variant.as_deref())?;
    opened(engine, source, read, asked, &config)
}

fn opened(
    engine: &Engine,
    source: Source,
    config: Config,
    asked: &Asked,
    about: &Path,
) -> Result<Opened> {
    let family = families::of(&config).map_err(|e| e.within(about.display()))?;
    let source = spelling::canonical(family.plugin, source)?;
    let manifest = family.manifest(engine, &config, &source, &asked.model);
    let mut manifest = manifest.map_err(|e| e.within(about.display()))?;
    manifest.provenance.insert("class".into(), families::classes(&config).join(", ").into());
    Ok(Opened { manifest, source })
}

/// The denoiser of a pipeline, with its autoencoder as slot `vae`.
fn pipeline(engine: &Engine, path: &Path, asked: &Asked) -> Result<Opened> {
    let about = path.join(PIPELINE);
    let label = about.display().to_string();
    let index = config_of(&about)?;
    let classes = listed(&label, &index)?;
    let Some(base) = DENOISERS.iter().find(|n| classes.contains_key(**n)) else {
        let names: Vec<&str> = classes.keys().map(String::as_str).collect();
        bail!(
            Unsupported,
            "{label}: no component is called {}; there are: {}",
            DENOISERS.join(" or "),
            names.join(", ")
        );
    };
    let mut out = component(engine, &path.join(base), asked)?;
    let mut missing = Vec::new();
    for (name, class) in &classes {
        let folder = path.join(name);
        if name == base || WITHOUT_WEIGHTS.contains(&name.as_str()) {
            continue;
        }
        let known = config_of(&folder.join(CONFIG)).and_then(|c| families::of(&c).map(|_| ()));
        if name != AUTOENCODER || known.is_err() {
            missing.push(json!({"component": name, "class": class}));
            continue;
        }
        let without = Asked { variant: asked.variant.clone(), ..Asked::default() };
        let other = component(engine, &folder, &without)?;
        out.source = out.source.with(name, other.source)?;
        out.manifest.networks.insert(name.clone(), other.manifest.model);
    }
    let scheduler = path.join("scheduler").join("scheduler_config.json");
    let provenance = &mut out.manifest.provenance;
    if scheduler.exists() {
        provenance.insert("scheduler".into(), Value::Object(config_of(&scheduler)?));
    }
    if let Some(labels) = index.get("id2label") {
        provenance.insert("id2label".into(), labels.clone());
    }
    provenance.insert("pipeline".into(), index.get("_class_name").cloned().unwrap_or_default());
    provenance.insert("base".into(), (*base).into());
    provenance.insert("components".into(), Value::Object(classes));
    provenance.insert("missing".into(), Value::Array(missing));
    out.source = out.source.labelled(&path.display().to_string());
    Ok(out)
}

/// Name and class of each component of a pipeline's folder.
pub(super) fn components(path: &Path) -> Result<Map<String, Value>> {
    let about = path.join(PIPELINE);
    listed(&about.display().to_string(), &config_of(&about)?)
}

fn listed(label: &str, index: &Config) -> Result<Map<String, Value>> {
    let mut classes = Map::new();
    for (name, value) in index.iter().filter(|(name, _)| !name.starts_with('_')) {
        // a component is a list of two texts; all else is about the pipeline
        let Some([Value::String(_), class @ Value::String(_)]) =
            value.as_array().map(Vec::as_slice)
        else {
            continue;
        };
        index::check_plain(name).map_err(|e| e.within(format!("{label}: {name}")))?;
        classes.insert(name.clone(), class.clone());
    }
    Ok(classes)
}

/// A JSON object of a file, of bounded length.
pub(super) fn config_of(path: &Path) -> Result<Config> {
    let label = path.display().to_string();
    let (file, _) = plain_file(path)?;
    let mut text = String::new();
    let read = file.take(strict::MAX_CONFIG as u64 + 1).read_to_string(&mut text);
    read.map_err(|e| fail!(Io, "{label}: {e}"))?;
    families::config(&label, &text)
}
