//! Files that must open with these numbers, and files that must not open at all, each refused with one sentence that
//! says what is wrong with it.

use crate::array::Array;
use crate::case::Test;
use crate::compare::Got;
use crate::{Answer, Row};
use diffx::mem::Budget;
use diffx::weights::Source;
use serde_json::Value;
use std::path::Path;

pub(crate) const KINDS: &[Row] = &[
    Row { kind: "loader", cases: &[], run: loader },
    Row { kind: "loader.gguf", cases: &[], run: gguf },
];

fn gguf(test: &Test, got: &mut Got) -> Answer {
    let file = test.params["file"].as_str().ok_or("params.file is missing")?;
    let source = open(&test.home.join(file))?;
    for (name, _) in &test.outputs {
        got.put(name, read(&source, name)?);
    }
    Ok(())
}

fn loader(test: &Test, got: &mut Got) -> Answer {
    let table = test.json(&test.file)?;
    let files = test.home.join("ckpt");
    let dtypes = open(&files.join("dtypes.safetensors"))?;
    for (name, row) in table["dtypes"].as_object().into_iter().flatten() {
        let dims: Vec<usize> = numbers(&row["shape"]).iter().map(|d| *d as usize).collect();
        same(name, &read(&dtypes, name)?, &numbers(&row["values"]), Some(&dims))?;
    }
    let sharded = Source::folder(&files.join("sharded"), None).map_err(|e| e.to_string())?;
    for (name, row) in table["sharded"].as_object().into_iter().flatten() {
        same(name, &read(&sharded, name)?, &numbers(row), None)?;
    }
    for (name, said) in table["malformed"].as_object().into_iter().flatten() {
        let path = files.join("malformed").join(name);
        let why = refusal(&path, name)?;
        println!("  {name}: {why}"); // so that people see the sentences; the reference says:
        let reference = said.as_str().unwrap_or_default();
        println!("    {}", reference.strip_prefix("rejected: ").unwrap_or(reference));
    }
    for name in ["missing_shard", "index_traversal"] {
        let folder = files.join(name);
        let indexed = index_of(&folder)?;
        let why = match Source::folder(&folder, None) {
            Ok(_) => return Err(format!("{name} opened")),
            Err(e) => e.to_string(),
        };
        println!("  {name}: {why}");
        let listed: Vec<&str> = indexed["weight_map"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|v| v.1.as_str())
            .collect();
        let bad = |f: &&&str| match name {
            "missing_shard" => !folder.join(f).exists(),
            _ => f.contains(['/', '\\']) || f.contains(".."),
        };
        let culprit = listed.iter().find(bad).ok_or("the index is sound")?;
        if !why.contains(culprit.trim_start_matches(['.', '/'])) {
            return Err(format!("{name}: {why:?} does not name {culprit}"));
        }
    }
    let pickles = std::fs::read_dir(files.join("pickles")).map_err(|e| e.to_string())?;
    for path in pickles.filter_map(|f| Some(f.ok()?.path())) {
        let why = refusal(&path, "a pickle")?;
        if !why.contains("convert-pickle.py") {
            return Err(format!("{}: {why:?} does not say how to convert it", path.display()));
        }
    }
    got.judged = true;
    Ok(())
}

fn index_of(folder: &Path) -> Answer<Value> {
    let path = folder.join("model.safetensors.index.json");
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    serde_json::from_str(&text).map_err(|e| e.to_string())
}

/// The sentence a file is refused with: it names the file.
fn refusal(path: &Path, name: &str) -> Answer<String> {
    match Source::open(path) {
        Ok(_) => Err(format!("{name} opened")),
        Err(e) if !e.message.contains(&*path.to_string_lossy()) => {
            Err(format!("{:?} does not name {name}", e.message))
        }
        Err(e) => Ok(e.message),
    }
}

fn open(path: &Path) -> Answer<Source> {
    Source::open(path).map_err(|e| e.to_string())
}

fn read(source: &Source, name: &str) -> Answer<Array> {
    let tensor = source.tensor(name, &Budget::new(0, None)).map_err(|e| e.to_string())?;
    Ok(Array::of(&tensor))
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

fn same(name: &str, got: &Array, want: &[f64], dims: Option<&[usize]>) -> Answer {
    // serde_json reads a decimal as one of the two nearest f64, not always the nearer
    let near = |(a, b): (&f64, &f64)| a == b || (a - b).abs() <= 2.0 * f64::EPSILON * b.abs();
    let equal = got.values.len() == want.len() && got.values.iter().zip(want).all(near);
    if !equal || dims.is_some_and(|d| d != got.dims) {
        return Err(format!(
            "{name} reads as {:?} {:?}, want {dims:?} {want:?}",
            got.dims, got.values
        ));
    }
    Ok(())
}
