//! `diffx inspect`: what a file says about itself, and its tensors.

use diffx::base::Result;
use diffx::engine::carried;
use diffx::weights::SafeTensors;
use serde_json::{Value, json};
use std::path::Path;

pub(crate) fn run(path: &str, as_json: bool) -> Result<()> {
    let file = match carried::find(path) {
        Some(bytes) if !Path::new(path).exists() => SafeTensors::from_static(path, bytes)?,
        _ => SafeTensors::open(Path::new(path))?,
    };
    let metadata: serde_json::Map<String, Value> = file
        .metadata()
        .iter()
        .map(|(k, v)| {
            // our own entries are JSON; others are shown as they stand
            let value = if k.starts_with("diffx") { serde_json::from_str(v).ok() } else { None };
            (k.clone(), value.unwrap_or_else(|| Value::String(v.clone())))
        })
        .collect();
    let mut entries: Vec<_> = file.entries().iter().collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let bytes: u64 = entries.iter().map(|e| e.end - e.begin).sum();
    let values: u128 = entries.iter().map(|e| elements(&e.dims)).sum();
    if as_json {
        let tensors: Vec<Value> = entries
            .iter()
            .map(|e| {
                json!({"name": e.name, "dtype": e.type_name, "shape": e.dims, "bytes": e.end - e.begin})
            })
            .collect();
        println!("{}", json!({"file": file.label(), "metadata": metadata, "tensors": tensors}));
        return Ok(());
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
    println!("{} tensors, {values} values, {bytes} bytes", entries.len());
    Ok(())
}

fn elements(dims: &[usize]) -> u128 {
    dims.iter().map(|d| *d as u128).product()
}
