//! The tensors of a training in a file: raw and averaged weights, moments, lagging copies, and what step they are of.

use super::update::{Place, Step};
use crate::base::Result;
use crate::exec::{BufferId, Session};
use crate::weights::{self, SafeTensors, Wanted, write_pieces};
use crate::{bail, fail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Key of the metadata.
const KEY: &str = "diffx_checkpoint";

/// Longest state that is read.
const MOST_STATE: usize = 4096;

/// Writes the tensors and `state`, atomically. `metadata` travels with them.
pub(super) fn save(
    session: &Session,
    step: &Step,
    path: &Path,
    metadata: &BTreeMap<String, String>,
    state: &Value,
) -> Result<()> {
    let held = held(step);
    let list: Vec<_> = held.iter().map(|(w, _)| (w.name.as_str(), w.desc)).collect();
    let mut metadata = metadata.clone();
    metadata.insert(KEY.into(), state.to_string());
    write_pieces(path, &metadata, &list, &mut |i, put| match held.get(i) {
        Some((_, buffer)) => session.show(*buffer, put),
        None => bail!(Internal, "a checkpoint has no tensor {i}"),
    })
}

/// The state of a checkpoint: of this seed and fingerprint, or an error that says what differs.
pub(super) fn state(file: &SafeTensors, seed: u64, fingerprint: &str) -> Result<Value> {
    let label = file.label();
    let Some(state) = file.metadata().get(KEY) else {
        bail!(Format, "{label}: not a checkpoint of a training");
    };
    if state.len() > MOST_STATE {
        bail!(Format, "{label}: {KEY} has {} bytes, want at most {MOST_STATE}", state.len());
    }
    let state: Value = serde_json::from_str(state)
        .map_err(|e| fail!(Format, "{label}: {KEY} is not JSON: {e}"))?;
    let step = whole(&state, "step");
    let (Some(_), Some(of)) = (step, state.get("seed").and_then(Value::as_u64)) else {
        bail!(Format, "{label}: {KEY} is {state}, want step and seed");
    };
    if of != seed {
        bail!(Invalid, "{label}: trained with seed {of}, this run has {seed}");
    }
    if state.get("fingerprint").and_then(Value::as_str) != Some(fingerprint) {
        bail!(
            Invalid,
            "{label}: was saved by a training with other data or other settings; resume it with the same"
        );
    }
    Ok(state)
}

/// A count of the state.
pub(super) fn whole(state: &Value, key: &str) -> Option<u32> {
    state.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok())
}

/// Fails unless the file holds every tensor of the step.
pub(super) fn check(step: &Step, file: &SafeTensors) -> Result<()> {
    let wanted: Vec<Wanted> = held(step).into_iter().map(|(w, _)| w).collect();
    weights::bind::check(file, &wanted)
}

/// Puts the tensors back. After a failure some are and some are not.
pub(super) fn load(session: &mut Session, step: &Step, file: &SafeTensors) -> Result<()> {
    for (want, buffer) in held(step) {
        session.fill(buffer, &mut |at, piece| file.read_as(&want, at, piece))?;
    }
    Ok(())
}

/// The tensors of a checkpoint, and where they are.
fn held(step: &Step) -> Vec<(Wanted, BufferId)> {
    let mut out = Vec::new();
    for (p, place) in &step.parameters {
        for (kind, buffer) in kinds(place) {
            out.push((Wanted { name: format!("{kind}/{}", p.name), desc: p.desc }, buffer));
        }
    }
    out
}

/// The tensors of a parameter.
fn kinds(place: &Place) -> impl Iterator<Item = (&'static str, BufferId)> {
    let all = [
        ("raw", Some(place.weight)),
        ("ema", Some(place.ema)),
        ("adam_m", Some(place.m)),
        ("adam_v", Some(place.v)),
        ("old", place.old),
    ];
    all.into_iter().filter_map(|(kind, buffer)| Some((kind, buffer?)))
}
