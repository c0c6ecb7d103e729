//! A job in a file: options, where it stands, and every tensor of the run, as safetensors written in one piece.

use super::job::{Job, JobOptions};
use super::pipeline::Pipeline;
use super::strict;
use crate::bail;
use crate::base::{Desc, Result};
use crate::mem::Tensor;
use crate::sample::{At, Replay, Rows};
use crate::weights::{self, SafeTensors};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const KEY: &str = "diffx_job";
const FORMAT: u64 = 1;

/// Writes a job that is between two plans.
pub(super) fn write(job: &Job, replay: &mut Replay, path: &Path) -> Result<()> {
    let snapshot = replay.save()?;
    let (stage, row) = snapshot.at.encode();
    let o = &job.options;
    let meta = json!({
        "format": FORMAT,
        "fingerprint": job.pipeline.fingerprint(&job.rows, replay.program.batch)?,
        // u64 as text: not every reader of JSON has 64-bit numbers
        "seed": o.seed.to_string(),
        "first_sample": o.first_sample.to_string(),
        "n_samples": o.n_samples,
        "n_steps": o.n_steps,
        "preview_every": o.preview_every,
        "batch": snapshot.batch,
        "stage": stage,
        "row": row,
    });
    let given = replay.inputs();
    let inputs: Vec<String> = given.iter().map(|(n, _)| format!("input.{n}")).collect();
    let mut tensors: Vec<(&str, Desc)> =
        snapshot.tensors.iter().map(|(name, desc)| (name.as_str(), *desc)).collect();
    let own = tensors.len();
    tensors.extend(inputs.iter().zip(given).map(|(n, (_, t))| (n.as_str(), t.desc())));
    let metadata = BTreeMap::from([(KEY.to_owned(), meta.to_string())]);
    weights::write_pieces(path, &metadata, &tensors, &mut |i, put| match i.checked_sub(own) {
        None => replay.show_saved(i, put),
        Some(input) => put(given.get(input).map_or(&[], |(_, t)| t.bytes())),
    })
}

/// A saved job, open.
pub(super) struct Saved {
    file: SafeTensors,
    pub(super) options: JobOptions,
    fingerprint: String,
    batch: usize,
    at: At,
}

impl Saved {
    pub(super) fn read(file: SafeTensors) -> Result<Self> {
        let label = file.label().to_owned();
        let Some(text) = file.metadata().get(KEY) else {
            bail!(Format, "{label}: no saved job: its metadata has no entry {KEY}");
        };
        let mut f = strict::parse(&label, text)?;
        match f.need("format")?.as_u64() {
            Some(FORMAT) => {}
            Some(n) => bail!(Version, "{label}: saved by format {n}, this engine reads {FORMAT}"),
            None => bail!(Format, "{label}: format is no number"),
        }
        let fingerprint = f.text("fingerprint")?.unwrap_or_default();
        let mut long = |key: &str| match f.need(key)? {
            Value::String(s) if s.parse::<u64>().is_ok() => Ok(s.parse().unwrap_or(0)),
            other => bail!(Format, "{label}: {key} is {other}, want a 64-bit number as text"),
        };
        let (seed, first_sample) = (long("seed")?, long("first_sample")?);
        let mut whole = |key: &str, hi: u64| Ok::<u64, _>(f.whole(key, 0, hi)?.unwrap_or(0));
        let n_samples = whole("n_samples", 1 << 32)? as usize;
        let n_steps = whole("n_steps", 100_000)? as u32;
        let preview_every = whole("preview_every", u64::from(u32::MAX))? as u32;
        let batch = whole("batch", 1 << 32)? as usize;
        let (stage, row) = (whole("stage", 4)? as u32, whole("row", 1 << 32)?);
        f.done()?;
        let Some(at) = At::decode(stage, row) else {
            bail!(Format, "{label}: stage {stage} is unknown");
        };
        let inputs = Vec::new();
        let options = JobOptions { seed, first_sample, n_samples, n_steps, preview_every, inputs };
        Ok(Self { file, options, fingerprint, batch, at })
    }

    /// The pipeline is set up as it was when the job was saved, and the file has a result of so many samples for each
    /// component. Takes no memory: after this, what a job takes is no more than the file has.
    pub(super) fn check(&self, pipeline: &Pipeline, rows: &Rows, batch: usize) -> Result<()> {
        if pipeline.fingerprint(rows, batch)? != self.fingerprint {
            bail!(
                Invalid,
                "{}: was saved by a pipeline with another model or other settings",
                self.file.label()
            );
        }
        let n = self.options.n_samples;
        for c in &pipeline.parts.components {
            let name = format!("result.{}", c.name);
            let samples = self.file.entry(&name).and_then(|e| e.dims.first().copied());
            if samples != Some(n) {
                let has = samples.map_or("is missing".into(), |has| format!("has {has} samples"));
                bail!(Format, "{}: {name} {has}, want {n}", self.file.label());
            }
        }
        Ok(())
    }

    /// The conditions the job was started with.
    pub(super) fn inputs(&self, pipeline: &Pipeline) -> Result<Vec<(String, Arc<Tensor>)>> {
        let mut inputs = Vec::new();
        for e in self.file.entries() {
            if let Some(name) = e.name.strip_prefix("input.") {
                let tensor = self.file.tensor(&e.name, pipeline.engine.budget())?;
                inputs.push((name.to_owned(), Arc::new(tensor)));
            }
        }
        Ok(inputs)
    }

    pub(super) fn restore(&self, replay: &mut Replay) -> Result<()> {
        replay.restore(self.batch, self.at, &mut |name, want, at, out| {
            self.file.read_part(name, want, at, out)
        })
    }
}
