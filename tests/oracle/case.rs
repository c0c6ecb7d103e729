//! Manifests: where they are, their tests, inputs, outputs and checkpoints.

use crate::Answer;
use crate::array::Array;
use diffx::weights::SafeTensors;
use serde_json::Value;
use std::path::{Path, PathBuf};

pub(crate) struct Case {
    pub name: String,
    pub tests: Vec<Test>,
}

pub(crate) struct Test {
    pub case: String,
    pub name: String,
    pub kind: String,
    /// What the manifest says about it.
    pub params: Value,
    /// Name and tolerance of each output.
    pub outputs: Vec<(String, Tolerance)>,
    pub grads: Option<PathBuf>,
    /// Its data: tensors `in.*` and `out.*`, or another file.
    pub file: PathBuf,
    /// The folder of the case.
    pub home: PathBuf,
    checkpoints: Value,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerance {
    pub exact: bool,
    pub atol: f64,
    pub rtol: f64,
}

pub(crate) fn root() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("DIFFX_ORACLE") {
        return Some(given.into());
    }
    let shared = std::env::var_os("DIFFX_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    Some(shared.join("oracle")).filter(|p| p.is_dir())
}

/// Every case below a folder, or the one it is.
pub(crate) fn read(root: &Path) -> Answer<Vec<Case>> {
    let folders = std::fs::read_dir(root).map_err(|e| format!("{}: {e}", root.display()))?;
    let mut homes: Vec<PathBuf> = folders.filter_map(|f| Some(f.ok()?.path())).collect();
    homes.push(root.to_owned());
    homes.retain(|p| p.join("manifest.json").is_file());
    homes.sort();
    if homes.is_empty() {
        return Err(format!("{}: no manifest.json here or one folder below", root.display()));
    }
    homes.iter().map(|home| case(home)).collect()
}

fn case(home: &Path) -> Answer<Case> {
    let path = home.join("manifest.json");
    let fault = |e: String| format!("{}: {e}", path.display());
    let text = std::fs::read_to_string(&path).map_err(|e| fault(e.to_string()))?;
    // Python writes what JSON has no word for
    let text = ["-Infinity", "Infinity", "NaN"]
        .iter()
        .fold(text, |t, word| t.replace(&format!(": {word}"), ": null"));
    let manifest: Value = serde_json::from_str(&text).map_err(|e| fault(e.to_string()))?;
    let word = |v: &Value, key: &str| v[key].as_str().map(str::to_owned);
    let name = word(&manifest, "case").ok_or_else(|| fault("no case".into()))?;
    let mut tests = Vec::new();
    for t in manifest["tests"].as_array().into_iter().flatten() {
        let need = |key: &str| word(t, key).ok_or_else(|| fault(format!("a test without {key}")));
        let number = |v: &Value, key: &str| v[key].as_f64().unwrap_or(0.0);
        let outputs = t["outputs"].as_object().into_iter().flatten().map(|(k, v)| {
            let exact = v["exact"].as_bool().unwrap_or(false);
            (k.clone(), Tolerance { exact, atol: number(v, "atol"), rtol: number(v, "rtol") })
        });
        tests.push(Test {
            case: name.clone(),
            name: need("name")?,
            kind: need("kind")?,
            params: t["params"].clone(),
            outputs: outputs.collect(),
            grads: word(t, "grads_json").map(|f| home.join(f)),
            file: home.join(need("file")?),
            home: home.to_owned(),
            checkpoints: manifest["checkpoints"].clone(),
        });
    }
    Ok(Case { name, tests })
}

impl Test {
    /// The file or folder of the test's checkpoint: `KEY` or `KEY/below` of the manifest's table.
    pub(crate) fn checkpoint(&self) -> Answer<PathBuf> {
        let ckpt = self.params["ckpt"].as_str().ok_or("the manifest names no checkpoint")?;
        self.checkpoint_of(ckpt)
    }

    pub(crate) fn checkpoint_of(&self, ckpt: &str) -> Answer<PathBuf> {
        let (key, below) = ckpt.split_once('/').unwrap_or((ckpt, ""));
        let path = self.checkpoints[key]["path"].as_str();
        let path = path.ok_or_else(|| format!("no checkpoint {key} in the manifest"))?;
        let path = self.home.join(path);
        Ok(if below.is_empty() { path } else { path.join(below) })
    }

    /// A JSON file below the case, such as `params.scheduler_config` + `scheduler_config.json`.
    pub(crate) fn json(&self, path: &Path) -> Answer<Value> {
        let path = self.home.join(path);
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
    }

    pub(crate) fn data(&self) -> Answer<SafeTensors> {
        SafeTensors::open(&self.file).map_err(|e| e.to_string())
    }

    /// `in.NAME` of the data.
    pub(crate) fn input(&self, name: &str) -> Answer<Array> {
        Array::read(&self.data()?, &format!("in.{name}"))
    }

    pub(crate) fn has_input(&self, name: &str) -> bool {
        self.data().is_ok_and(|f| f.entry(&format!("in.{name}")).is_some())
    }

    /// Names of all inputs, in ascending order.
    pub(crate) fn inputs(&self) -> Answer<Vec<String>> {
        let file = self.data()?;
        let names = file.entries().iter().filter_map(|e| e.name.strip_prefix("in."));
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// `out.NAME` of the data. For checks beside those of the driver, never to be put back as a result.
    pub(crate) fn expected(&self, name: &str) -> Answer<Array> {
        Array::read(&self.data()?, &format!("out.{name}"))
    }

    /// A number of the params.
    pub(crate) fn number(&self, key: &str) -> Answer<f64> {
        self.params[key].as_f64().ok_or_else(|| format!("params.{key} is no number"))
    }
}
