//! What a file or a folder holds, for people who want to know before they run it: families, parameters, types, process
//! and scheduler, bytes to run, and what has no network here. Reads no weights. A component that does not open has its
//! fault in its row; the rest is told all the same.

use super::directory::{self, Asked, CONFIG, PIPELINE};
use super::families;
use super::{Engine, OpenModel};
use crate::bail;
use crate::base::{DType, Result};
use crate::weights::{Held, Source};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The description as JSON (`diffx inspect --json`): the key `components` has a row for each network.
pub fn inspect(engine: &Arc<Engine>, path: &str, config: &str, rows: usize) -> Result<Value> {
    let folder = Path::new(path);
    if folder.is_dir() && !is_model(folder) {
        bail!(NotFound, "{path}: holds neither {PIPELINE} nor {CONFIG}");
    }
    let model = OpenModel::open(engine, path, config);
    let mut out = Map::new();
    out.insert("file".into(), path.into());
    let mut rest = Vec::new();
    if folder.join(PIPELINE).exists() {
        rest = others(folder, config)?;
    }
    let mut components = Vec::new();
    match &model {
        Ok(model) => {
            for (slot, _) in model.networks() {
                components.push(network(model, slot, rows));
            }
            let told = &model.manifest;
            let parts = told
                .components
                .iter()
                .map(|p| json!({"name": p.name, "dims": p.dims, "process": p.process.to_value()}));
            out.insert("state".into(), parts.collect());
            let scheduler = told.provenance.get("scheduler").and_then(|s| s.get("_class_name"));
            out.insert("scheduler".into(), scheduler.cloned().unwrap_or_default());
        }
        Err(e) if !folder.is_dir() => return Err(e.clone()),
        Err(e) => {
            out.insert("fault".into(), e.message.clone().into());
            if rest.is_empty() {
                rest.push(foreign("base", folder, config)?);
            }
        }
    }
    // what opened is told above, with more
    let base = model.as_ref().ok().and_then(|m| m.manifest.provenance.get("base"));
    let opened = |row: &Value| {
        let name = row.get("name");
        (base.is_some() && name == base) || components.iter().any(|c| c.get("name") == name)
    };
    rest.retain(|row| !opened(row));
    let missing: Vec<Value> = rest
        .iter()
        .filter(|row| row.get("family").is_none_or(Value::is_null))
        .map(|row| json!({"component": row.get("name"), "class": row.get("class")}))
        .collect();
    components.extend(rest);
    out.insert("components".into(), Value::Array(components));
    out.insert("missing".into(), Value::Array(missing));
    Ok(Value::Object(out))
}

/// Whether a folder says what its weights are of.
pub fn is_model(folder: &Path) -> bool {
    [PIPELINE, CONFIG].iter().any(|n| folder.join(n).exists())
}

/// A network that opened.
fn network(model: &OpenModel, slot: &str, rows: usize) -> Value {
    let prefix = format!("{slot}/");
    let is_of = |e: &&Held| match slot {
        "base" => !e.name.contains('/') || model.networks().count() == 1,
        _ => e.name.starts_with(&prefix),
    };
    let held: Vec<&Held> = model.source().entries().iter().filter(is_of).collect();
    let setting = match slot {
        "base" => Some(&model.manifest.model),
        other => model.manifest.networks.get(other),
    };
    let mut row = stored(&held);
    row.insert("name".into(), slot.into());
    let told = &model.manifest.provenance;
    let class = match slot {
        "base" => told.get("class"),
        other => told.get("components").and_then(|c| c.get(other)),
    };
    row.insert("class".into(), class.cloned().unwrap_or_default());
    row.insert("family".into(), setting.map(|s| s.id.as_str()).into());
    match model.plan(slot, rows, DType::F32) {
        Ok(p) => {
            row.insert("parameters".into(), p.parameters.into());
            row.insert("weight_bytes".into(), p.weight_bytes.into());
            row.insert("work_bytes".into(), p.work_bytes.into());
            row.insert("fault".into(), p.fault.into());
        }
        Err(e) => {
            row.insert("fault".into(), e.message.into());
        }
    }
    Value::Object(row)
}

/// The components of a pipeline, by their configs alone.
fn others(folder: &Path, config: &str) -> Result<Vec<Value>> {
    let mut out = Vec::new();
    for (name, _) in directory::components(folder)? {
        if folder.join(&name).join(CONFIG).exists() {
            out.push(foreign(&name, &folder.join(&name), config)?);
        }
    }
    Ok(out)
}

fn foreign(name: &str, folder: &Path, config: &str) -> Result<Value> {
    let read = directory::config_of(&folder.join(CONFIG))?;
    let asked = Asked::parse(config)?;
    let mut row = match Source::folder(folder, asked.variant.as_deref()) {
        Ok(source) => stored(&source.entries().iter().collect::<Vec<_>>()),
        Err(e) => Map::from_iter([("fault".to_owned(), e.message.into())]),
    };
    row.insert("name".into(), name.into());
    row.insert("class".into(), families::classes(&read).join(", ").into());
    row.insert("family".into(), families::of(&read).ok().map(|f| f.plugin).into());
    Ok(Value::Object(row))
}

/// Tensors, values by type, bytes.
fn stored(held: &[&Held]) -> Map<String, Value> {
    let mut types: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut values, mut bytes) = (0u64, 0u64);
    for e in held {
        let n = e.dims.iter().fold(1u64, |n, d| n.saturating_mul(*d as u64));
        let of = types.entry(e.type_name).or_default();
        *of = of.saturating_add(n);
        values = values.saturating_add(n);
        bytes = bytes.saturating_add(e.bytes);
    }
    let row = json!({"tensors": held.len(), "values": values, "dtypes": types, "bytes": bytes});
    row.as_object().cloned().unwrap_or_default()
}
