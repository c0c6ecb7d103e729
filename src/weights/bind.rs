//! Binding a file's tensors to the weights a network declares. Everything that does not fit is reported at once: whoever
//! has the wrong file wants to see how wrong.

use super::convert::{convert, converts};
use crate::base::{Desc, Error, Result, Status};
use crate::mem::{Budget, Tensor};
use std::sync::Arc;

/// Most faults listed in one sentence; the rest is counted.
const LISTED: usize = 8;

/// A weight as declared, and what it is called in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    pub name: String,
    pub desc: Desc,
}

/// Tensors by name, wherever they are.
pub trait Named {
    /// What to call it in errors.
    fn label(&self) -> &str;
    fn found(&self, name: &str) -> Option<Found<'_>>;
    fn tensor(&self, name: &str, budget: &Arc<Budget>) -> Result<Tensor>;
}

/// A tensor of a file, before it is read.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// What it reads as; none where the engine has no such type or rank.
    pub desc: Option<Desc>,
    /// As the file spells it.
    pub type_name: &'a str,
    pub dims: &'a [usize],
}

/// One tensor per wanted weight, in the declared type. The file may hold more than is wanted.
pub fn bind(file: &dyn Named, wanted: &[Wanted], budget: &Arc<Budget>) -> Result<Vec<Arc<Tensor>>> {
    check(file, wanted)?;
    wanted
        .iter()
        .map(|w| {
            let tensor = file.tensor(&w.name, budget)?;
            let tensor = convert(tensor, w.desc.dtype, budget)
                .map_err(|e| e.within(format!("weight {}", w.name)))?;
            Ok(Arc::new(tensor))
        })
        .collect()
}

/// That the file holds all of them.
pub fn check(file: &dyn Named, wanted: &[Wanted]) -> Result<()> {
    let faults: Vec<String> = wanted.iter().filter_map(|w| fault(file, w)).collect();
    if !faults.is_empty() {
        let mut message = faults[..faults.len().min(LISTED)].join("; ");
        if faults.len() > LISTED {
            message.push_str(&format!("; and {} more", faults.len() - LISTED));
        }
        return Err(Error::new(Status::Format, message).within(file.label()));
    }
    Ok(())
}

fn fault(file: &dyn Named, want: &Wanted) -> Option<String> {
    let Wanted { name, desc } = want;
    let Some(entry) = file.found(name) else {
        return Some(format!("weight {name}: want {desc}, file has none"));
    };
    let fits = entry
        .desc
        .is_some_and(|found| found.shape == desc.shape && converts(found.dtype, desc.dtype));
    let found =
        || entry.desc.map_or(format!("{}{:?}", entry.type_name, entry.dims), |d| d.to_string());
    (!fits).then(|| format!("weight {name}: want {desc}, file has {}", found()))
}
