//! `diffx pilot`: measures the path of a model and writes the model with a grid that adapts to it.

use super::args::{Host, Pictures, Pilot, Sample};
use super::sample::{conditions, config};
use super::{Failure, engine, usage};
use diffx::engine::{JobOptions, OpenModel, Pipeline};
use serde_json::json;

pub(super) fn run(host: &Host, args: Pilot) -> std::result::Result<(), Failure> {
    let as_sample = Sample {
        model: args.model,
        process: args.process,
        sampler: args.sampler,
        grid: Some(args.grid),
        guidance: args.guidance,
        steps: args.steps,
        num: Some(args.num),
        seed: args.seed,
        first_sample: 0,
        cond: args.cond,
        networks: None,
        dtype: None,
        batch: None,
        pictures: Pictures::default(),
        out: Vec::new(),
    };
    let config = config(&as_sample).map_err(usage)?;
    let engine = engine(host)?;
    let model = OpenModel::open(&engine, &as_sample.model, "")?;
    let pipeline = Pipeline::new(&model, &config)?;
    let inputs = conditions(&model, &pipeline.parts.conds, as_sample.cond.as_deref())?;
    let options =
        JobOptions { seed: args.seed, n_samples: args.num, inputs, ..JobOptions::default() };
    let pilot = pipeline.pilot(&options)?;
    pipeline.save_model(&args.out)?;
    let (file, levels) = (args.out.display().to_string(), pilot.components[0].sigma.len());
    if host.json {
        println!("{}", json!({"samples": pilot.samples, "levels": levels, "model": file}));
    } else {
        println!("measured {} samples at {levels} levels, wrote {file}", pilot.samples);
    }
    Ok(())
}
