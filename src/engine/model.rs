//! An open model file: its description, its networks, and its weights as they are asked for. Immutable and shared.

use super::Engine;
use super::carried;
use super::directory::{self, Asked};
use super::manifest::{self, Manifest};
use super::setting::Setting;
use crate::bail;
use crate::base::{DType, Result};
use crate::graph::Weight;
use crate::mem::Tensor;
use crate::sample::{Component, Model, ModelInfo};
use crate::weights::{Out, SafeTensors, Source, Wanted, bind, convert};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A model of an engine.
/// A network of another model, for a slot.
pub(super) struct Lender {
    pub(super) slot: String,
    /// The slot's name in that model.
    pub(super) name: String,
    pub(super) model: Arc<OpenModel>,
    pub(super) network: Arc<dyn Model>,
}

pub struct OpenModel {
    pub engine: Arc<Engine>,
    pub manifest: Manifest,
    file: Source,
    /// `base` and the other networks of the file.
    networks: BTreeMap<String, Arc<dyn Model>>,
    info: ModelInfo,
    tensors: Mutex<HashMap<(String, DType), Arc<Tensor>>>,
    digest: OnceLock<String>,
}

impl OpenModel {
    /// Opens a file, a folder, or a carried model by its name. A path is one that has a separator or a dot.
    pub fn open(engine: &Arc<Engine>, path: &str, config: &str) -> Result<Arc<Self>> {
        let asked = Asked::parse(config)?;
        let is_path = path.contains(['/', '\\', '.']);
        let file = match carried::find(path) {
            Some(bytes) if !is_path => Source::of(SafeTensors::from_static(path, bytes)?)?,
            None if !is_path && !Path::new(path).exists() => {
                let names: Vec<&str> = carried::names().collect();
                bail!(
                    NotFound,
                    "no file and no carried model is called {path:?}; carried: {}",
                    names.join(", ")
                )
            }
            _ if Path::new(path).is_dir() => {
                let opened = directory::folder(engine, Path::new(path), &asked)?;
                return Self::described(engine, opened.source, opened.manifest);
            }
            _ => Source::open(Path::new(path))?,
        };
        if !file.metadata().contains_key(manifest::KEY) {
            let opened = directory::file(engine, file, &asked)?;
            return Self::described(engine, opened.source, opened.manifest);
        }
        Self::own(engine, file)
    }

    /// The model of a file that is open already.
    pub fn from_file(engine: &Arc<Engine>, file: SafeTensors) -> Result<Arc<Self>> {
        Self::own(engine, Source::of(file)?)
    }

    fn own(engine: &Arc<Engine>, file: Source) -> Result<Arc<Self>> {
        let label = file.label();
        let Some(text) = file.metadata().get(manifest::KEY) else {
            bail!(Format, "{label}: no diffx model: its metadata has no entry {}", manifest::KEY);
        };
        let manifest = Manifest::parse(text).map_err(|e| e.within(label))?;
        Self::described(engine, file, manifest)
    }

    fn described(engine: &Arc<Engine>, file: Source, mut manifest: Manifest) -> Result<Arc<Self>> {
        let label = file.label().to_owned();
        let mut networks = BTreeMap::new();
        let build = |s: &Setting| engine.model(s).map_err(|e| e.within(&label));
        networks.insert("base".to_owned(), build(&manifest.model)?);
        for (slot, setting) in &manifest.networks {
            networks.insert(slot.clone(), build(setting)?);
        }
        let info = networks["base"].info()?; // inserted above
        check_components(&manifest, &info).map_err(|e| e.within(&label))?;
        engine.canonical(&mut manifest)?;
        Ok(Arc::new(Self {
            engine: Arc::clone(engine),
            manifest,
            file,
            networks,
            info,
            tensors: Mutex::new(HashMap::new()),
            digest: OnceLock::new(),
        }))
    }

    /// Opens the model that lends a network to a slot of another, and says by which name: a file trained as this slot
    /// carries it under its name, any other lends its base.
    pub(super) fn lender(engine: &Arc<Engine>, slot: &str, path: &str) -> Result<Lender> {
        let model = Self::open(engine, path, "")?;
        let name = if model.network(slot).is_some() { slot } else { "base" };
        let Some(network) = model.network(name).cloned() else {
            bail!(Internal, "a model without a base network");
        };
        Ok(Lender { slot: slot.to_owned(), name: name.to_owned(), model, network })
    }

    /// Where it came from.
    pub fn label(&self) -> &str {
        self.file.label()
    }

    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    pub fn network(&self, slot: &str) -> Option<&Arc<dyn Model>> {
        self.networks.get(slot)
    }

    /// Every network of the file.
    pub fn networks(&self) -> impl Iterator<Item = (&str, &Arc<dyn Model>)> {
        self.networks.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// The state: the model's components with the sizes of the file, in the float type of the pipeline.
    pub fn components(&self, float: DType) -> Vec<Component> {
        let parts = self.info.components.iter().zip(&self.manifest.components);
        parts
            .map(|(c, p)| {
                let dtype = if c.dtype.is_float() { float } else { c.dtype };
                Component { dims: p.dims.clone(), dtype, ..c.clone() }
            })
            .collect()
    }

    /// Tensors for the weights of network `slot` of this file; everything missing is one error.
    pub fn bind(&self, slot: &str, weights: &[&Weight]) -> Result<Vec<Arc<Tensor>>> {
        let name = |w: &Weight| stored_name(slot, &w.name);
        // held while reading: a weight is read once
        let mut known = self.tensors.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: Vec<Wanted> = weights
            .iter()
            .map(|w| Wanted { name: name(w), desc: w.desc })
            .filter(|w| {
                known.get(&(w.name.clone(), w.desc.dtype)).is_none_or(|t| t.desc() != w.desc)
            })
            .collect();
        let read = bind::bind(&self.file, &missing, self.engine.budget())?;
        for (want, tensor) in missing.into_iter().zip(read) {
            known.insert((want.name, want.desc.dtype), tensor);
        }
        let mut out = Vec::with_capacity(weights.len());
        for w in weights {
            match known.get(&(name(w), w.desc.dtype)) {
                Some(tensor) => out.push(Arc::clone(tensor)),
                None => bail!(Internal, "weight {} was bound and is not there", w.name),
            }
        }
        Ok(out)
    }

    /// That the file holds the weights of network `slot`; reads none.
    pub(super) fn check(&self, slot: &str, weights: &[&Weight]) -> Result<()> {
        let wanted: Vec<Wanted> = weights
            .iter()
            .map(|w| Wanted { name: stored_name(slot, &w.name), desc: w.desc })
            .collect();
        bind::check(&self.file, &wanted)
    }

    /// The scheduler of another library that a pipeline follows unless it is told otherwise.
    pub(super) fn scheduler(&self) -> Option<&serde_json::Value> {
        let told = self.manifest.provenance.get("scheduler")?;
        told.get("_class_name").map(|_| told)
    }

    /// The tensors of the file.
    pub fn source(&self) -> &Source {
        &self.file
    }

    /// A tensor of the file as it is.
    pub fn weight(&self, name: &str) -> Result<Option<Tensor>> {
        match self.file.entry(name) {
            Some(_) => self.file.tensor(name, self.engine.budget()).map(Some),
            None => Ok(None),
        }
    }

    /// Writes the weights of this file under another description.
    pub fn write(&self, path: &Path, manifest: &Manifest) -> Result<()> {
        self.write_with(path, manifest, &mut |_| Ok(None))
    }

    /// The same with other tensors for some of the names, converted to the type they have in the file.
    pub fn write_with(
        &self,
        path: &Path,
        manifest: &Manifest,
        other: &mut dyn FnMut(&str) -> Result<Option<Tensor>>,
    ) -> Result<()> {
        let mut metadata = self.file.metadata().clone();
        metadata.insert(manifest::KEY.to_owned(), manifest.to_json());
        let mut tensors = Vec::new();
        for e in self.file.entries() {
            let tensor = match (other(&e.name)?, e.desc()) {
                (Some(t), Some(desc)) => convert::convert(t, desc.dtype, self.engine.budget())
                    .map_err(|err| err.within(format!("weight {}", e.name)))?,
                _ => self.file.tensor(&e.name, self.engine.budget())?,
            };
            tensors.push((e.name.as_str(), tensor));
        }
        let tensors: Vec<Out<'_>> = tensors
            .iter()
            .map(|(name, t)| Out { name, desc: t.desc(), bytes: t.bytes() })
            .collect();
        crate::weights::write(path, &metadata, &tensors)
    }

    /// SHA-256 of the tensors of the file, read once, one tensor at a time.
    pub fn digest(&self) -> Result<&str> {
        if let Some(known) = self.digest.get() {
            return Ok(known);
        }
        let mut hash = Sha256::new();
        for e in self.file.entries().iter().filter(|e| e.desc().is_some()) {
            hash.update(format!("{} {} {:?} ", e.name, e.type_name, e.dims));
            hash.update(self.file.tensor(&e.name, self.engine.budget())?.bytes());
        }
        let text = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Ok(self.digest.get_or_init(|| text))
    }

    /// Whether the file holds weights.
    pub fn is_trained(&self) -> bool {
        !self.file.entries().is_empty()
    }

    /// The description as JSON, with a list of the tensors in the file.
    pub fn to_json(&self) -> String {
        let mut map: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&self.manifest.to_json()).unwrap_or_default();
        let tensors = self
            .file
            .entries()
            .iter()
            .map(|e| serde_json::json!({"name": e.name, "dtype": e.type_name, "dims": e.dims}));
        map.insert("tensors".into(), tensors.collect());
        map.insert("file".into(), self.label().into());
        let conds = self.info.conds.iter().map(
            |c| serde_json::json!({"name": c.name, "dims": c.desc.dims(), "null": c.null_value}),
        );
        map.insert("conds".into(), conds.collect());
        serde_json::Value::Object(map).to_string()
    }
}

/// What the weight of a slot is called in a file.
fn stored_name(slot: &str, name: &str) -> String {
    match slot {
        "base" => name.to_owned(),
        other => format!("{other}/{name}"),
    }
}

/// The components of the file are those of its model, with every free dimension filled in.
fn check_components(manifest: &Manifest, info: &ModelInfo) -> Result<()> {
    if manifest.components.len() != info.components.len() {
        bail!(
            Format,
            "{} components, its model has {}",
            manifest.components.len(),
            info.components.len()
        );
    }
    for (part, c) in manifest.components.iter().zip(&info.components) {
        let fits = part.dims.len() == c.dims.len()
            && part.dims.iter().zip(&c.dims).all(|(p, d)| *d < 0 || p == d);
        if part.name != c.name || !fits {
            bail!(
                Format,
                "component {} {:?}, its model has {} {:?}",
                part.name,
                part.dims,
                c.name,
                c.dims
            );
        }
    }
    Ok(())
}
