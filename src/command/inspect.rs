//! `diffx inspect`: what a file or a folder of a model says about itself, its tensors, and what it takes to run.

use super::args::Inspect;
use diffx::base::Result;
use diffx::engine::{Engine, carried, inspect, manifest};
use diffx::weights::Source;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

pub(crate) fn run(engine: &Arc<Engine>, args: &Inspect, as_json: bool) -> Result<()> {
    let path = args.file.as_str();
    let carried = carried::find(path).filter(|_| !Path::new(path).exists());
    let source = match carried {
        Some(bytes) => Some(Source::of(diffx::weights::SafeTensors::from_static(path, bytes)?)?),
        None if Path::new(path).is_dir() => {
            let told = inspect::is_model(Path::new(path));
            if told { None } else { Some(Source::folder(Path::new(path), None)?) }
        }
        None => Some(Source::open(Path::new(path))?),
    };
    // a file of tensors alone is shown as it is; a model also by what would run
    let config = args.config.as_deref().unwrap_or_default();
    let model = inspect::inspect(engine, path, config, args.batch as usize);
    let about = match (model, &source) {
        (Ok(about), _) => about,
        (Err(e), Some(s)) if s.metadata().contains_key(manifest::KEY) => return Err(e),
        (Err(_), Some(_)) => Value::Null,
        (Err(e), None) => return Err(e),
    };
    if let Some(source) = &source {
        tensors(source, &about, as_json);
    }
    if as_json {
        if source.is_none() {
            println!("{}", json!({"file": path, "model": about}));
        }
        return Ok(());
    }
    if !about.is_null() {
        summary(&about, args.batch);
    }
    Ok(())
}

fn tensors(source: &Source, about: &Value, as_json: bool) {
    let metadata: serde_json::Map<String, Value> = source
        .metadata()
        .iter()
        .map(|(k, v)| {
            // our own entries are JSON; others are shown as they stand
            let value = if k.starts_with("diffx") { serde_json::from_str(v).ok() } else { None };
            (k.clone(), value.unwrap_or_else(|| Value::String(v.clone())))
        })
        .collect();
    let mut entries: Vec<_> = source.entries().iter().collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    if as_json {
        let tensors: Vec<Value> = entries
            .iter()
            .map(|e| json!({"name": e.name, "dtype": e.type_name, "shape": e.dims, "bytes": e.bytes}))
            .collect();
        let mut line = json!({"file": source.label(), "metadata": metadata, "tensors": tensors});
        if let (Value::Object(map), false) = (&mut line, about.is_null()) {
            map.insert("model".into(), about.clone());
        }
        println!("{line}");
        return;
    }
    for (key, value) in &metadata {
        match value {
            Value::String(text) => println!("{key}: {text}"),
            other => println!("{key}: {other:#}"),
        }
    }
    let width = entries.iter().map(|e| e.name.len()).max().unwrap_or(0);
    for e in &entries {
        println!("{:width$}  {:<5} {:?}", e.name, e.type_name, e.dims);
    }
    let values: u128 = entries.iter().map(|e| elements(&e.dims)).sum();
    let bytes: u128 = entries.iter().map(|e| u128::from(e.bytes)).sum();
    println!("{} tensors, {values} values, {bytes} bytes", entries.len());
}

/// A few lines for people: each network, then what a run is made of.
fn summary(about: &Value, batch: u32) {
    let text = |v: &Value| v.as_str().map(str::to_owned);
    for row in about["components"].as_array().into_iter().flatten() {
        let name = text(&row["name"]).unwrap_or_default();
        let class = text(&row["class"]).map(|c| format!(" ({c})")).unwrap_or_default();
        let family = text(&row["family"]).unwrap_or_else(|| "no network here".into());
        println!("{name}{class}: {family}");
        let types = row["dtypes"].as_object().into_iter().flatten();
        let types: Vec<String> = types.map(|(t, n)| format!("{t} {n}")).collect();
        if row["tensors"].is_number() {
            let (n, bytes) = (&row["tensors"], &row["bytes"]);
            println!("  {n} tensors, {bytes} bytes; values: {}", types.join(", "));
        }
        if row["parameters"].is_number() {
            println!(
                "  {} parameters; to run {batch}: {} bytes of weights, {} of everything else",
                row["parameters"], row["weight_bytes"], row["work_bytes"]
            );
        }
        if let Some(fault) = text(&row["fault"]) {
            println!("  {fault}");
        }
    }
    for part in about["state"].as_array().into_iter().flatten() {
        let (name, dims, process) = (&part["name"], &part["dims"], &part["process"]);
        println!("state {}: {dims}, process {process}", name.as_str().unwrap_or_default());
    }
    if let Some(scheduler) = text(&about["scheduler"]) {
        println!("scheduler: {scheduler}");
    }
    if let Some(fault) = text(&about["fault"]) {
        println!("does not open: {fault}");
    }
    let missing = about["missing"].as_array().into_iter().flatten();
    let missing: Vec<String> = missing
        .map(|m| {
            let of = |key: &str| m[key].as_str().unwrap_or_default().to_owned();
            format!("{} ({})", of("component"), of("class"))
        })
        .collect();
    if !missing.is_empty() {
        println!("missing: {}", missing.join(", "));
    }
}

fn elements(dims: &[usize]) -> u128 {
    dims.iter().map(|d| *d as u128).product()
}
