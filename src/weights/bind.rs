//! Binding a file's tensors to the weights a network declares. Everything that does not fit is reported at once: whoever
//! has the wrong file wants to see how wrong.

use super::SafeTensors;
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

/// One tensor per wanted weight, in the declared type. The file may hold more than is wanted.
pub fn bind(
    file: &SafeTensors,
    wanted: &[Wanted],
    budget: &Arc<Budget>,
) -> Result<Vec<Arc<Tensor>>> {
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
pub fn check(file: &SafeTensors, wanted: &[Wanted]) -> Result<()> {
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

fn fault(file: &SafeTensors, want: &Wanted) -> Option<String> {
    let Wanted { name, desc } = want;
    let Some(entry) = file.entry(name) else {
        return Some(format!("weight {name}: want {desc}, file has none"));
    };
    let fits = entry
        .desc()
        .is_some_and(|found| found.shape == desc.shape && converts(found.dtype, desc.dtype));
    let found =
        || entry.desc().map_or(format!("{}{:?}", entry.type_name, entry.dims), |d| d.to_string());
    (!fits).then(|| format!("weight {name}: want {desc}, file has {}", found()))
}
