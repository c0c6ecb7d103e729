//! The reader of safetensors: named tensors, row i of each for example i: the components of the state, conditions,
//! labels. `held_out.NAME` is the table NAME of examples that are not trained on.

use super::Tables;
use super::reader::{Read, Reader, Source};
use crate::bail;
use crate::base::Result;
use crate::mem::Budget;
use crate::weights::SafeTensors;
use serde_json::{Map, json};
use std::path::Path;
use std::sync::Arc;

/// What the names of tables that are set aside begin with.
pub const ASIDE: &str = "held_out.";

/// Safetensors files.
#[derive(Debug)]
pub struct Stored;

impl Reader for Stored {
    fn kind(&self) -> &'static str {
        "safetensors"
    }

    fn keys(&self) -> &'static [&'static str] {
        &["column", "held_out"]
    }

    fn takes(&self, path: &Path) -> bool {
        path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"))
    }

    fn read(&self, source: &Source, budget: &Arc<Budget>) -> Result<Read> {
        let path = source.only_path()?;
        let file = SafeTensors::open(path)?;
        let bare = |name: &str| name.strip_prefix(ASIDE).unwrap_or(name).to_owned();
        for wanted in &source.columns {
            if file.entry(wanted).is_none() {
                bail!(NotFound, "{}: no tensor named {wanted}", file.label());
            }
        }
        let mut all = Vec::new();
        for entry in file.entries() {
            if source.columns.is_empty() || source.columns.contains(&bare(&entry.name)) {
                all.push((entry.name.clone(), Arc::new(file.tensor(&entry.name, budget)?)));
            }
        }
        let mut out = sorted(all, budget).map_err(|e| e.within(file.label()))?;
        out.about = Map::from_iter([
            ("kind".to_owned(), json!("safetensors")),
            ("file".to_owned(), json!(path.file_name().unwrap_or_default().to_string_lossy())),
            ("name".to_owned(), json!(source.name)),
            ("tables".to_owned(), json!(out.train.listed())),
        ]);
        Ok(out)
    }
}

/// Tables by name as training data: those with the prefix are set aside.
pub fn sorted(
    tables: Vec<(String, Arc<crate::mem::Tensor>)>,
    budget: &Arc<Budget>,
) -> Result<Read> {
    let (mut train, mut held) = (Tables::default(), Tables::default());
    for (name, table) in tables {
        match name.strip_prefix(ASIDE) {
            Some(name) => held.add(name, table, budget)?,
            None => train.add(&name, table, budget)?,
        }
    }
    if train.is_empty() {
        bail!(Invalid, "there are no examples to train on");
    }
    let aside = held.iter().next().is_some();
    Ok(Read {
        what: format!("{} examples of {}", train.len(), train.listed()),
        held_out: aside.then_some(held),
        about: Map::from_iter([
            ("kind".to_owned(), json!("memory")),
            ("tables".to_owned(), json!(train.listed())),
        ]),
        train,
        ..Read::default()
    })
}
