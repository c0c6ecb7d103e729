//! Models as other programs leave them: a folder with `config.json` and weights, or a file of weights beside one. Gives
//! the weights and the description a file of ours would carry.

use super::Engine;
use super::families::{self, Config};
use super::manifest::Manifest;
use crate::base::Result;
use crate::weights::{SafeTensors, plain_file};
use crate::{bail, fail};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Names of the config and, in the order they are looked up, of the weights of a component.
const CONFIG: &str = "config.json";
const WEIGHTS: &[&str] = &["diffusion_pytorch_model.safetensors", "model.safetensors"];

/// Opens a folder.
pub(super) fn open(engine: &Engine, folder: &Path) -> Result<(SafeTensors, Manifest)> {
    let config = config_of(folder)?;
    let file = weights_of(folder)?;
    describe(engine, config, &folder.join(CONFIG)).map(|manifest| (file, manifest))
}

/// The description of a file of weights that has none of ours, where a config lies beside it.
pub(super) fn beside(engine: &Engine, file: &SafeTensors) -> Result<Option<Manifest>> {
    let Some(folder) = Path::new(file.label()).parent() else { return Ok(None) };
    let path = folder.join(CONFIG);
    if !path.exists() {
        return Ok(None);
    }
    describe(engine, config_of(folder)?, &path).map(Some)
}

fn describe(engine: &Engine, config: Config, path: &Path) -> Result<Manifest> {
    let read = || families::of(&config)?.manifest(engine, &config);
    read().map_err(|e| e.within(path.display()))
}

fn config_of(folder: &Path) -> Result<Config> {
    let path = folder.join(CONFIG);
    let label = path.display().to_string();
    families::config(&label, &text(&path)?)
}

/// A text file; longer ones than any config are not read.
fn text(path: &Path) -> Result<String> {
    let (file, _) = plain_file(path)?;
    let mut out = String::new();
    let most = super::strict::MAX_CONFIG as u64 + 1;
    match file.take(most).read_to_string(&mut out) {
        Ok(_) => Ok(out),
        Err(e) => Err(fail!(Io, "{}: {e}", path.display())),
    }
}

fn weights_of(folder: &Path) -> Result<SafeTensors> {
    let path: Option<PathBuf> = WEIGHTS.iter().map(|n| folder.join(n)).find(|p| p.exists());
    match path {
        Some(path) => SafeTensors::open(&path),
        None => bail!(
            NotFound,
            "{}: holds no weights, want one of {}",
            folder.display(),
            WEIGHTS.join(", ")
        ),
    }
}
