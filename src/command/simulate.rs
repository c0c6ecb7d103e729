//! `diffx simulate`: exact paths of a process, no network.

use super::args::{Host, Simulate};
use super::output::{Format, Results};
use super::{Failure, engine, npy, usage};
use diffx::base::Result;
use diffx::engine::{Paths, Setting};
use diffx::fail;
use diffx::mem::{Budget, Tensor};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub(super) fn run(host: &Host, args: &Simulate) -> std::result::Result<(), Failure> {
    let format = Format::of(&args.out).map_err(usage)?;
    let process = Setting::parse(&args.process).map_err(usage)?;
    let engine = engine(host)?;
    let x0 = start(&args.x0, engine.budget())?;
    if args.per_sample && x0.dims().first() != Some(&args.num) {
        let (dims, num) = (x0.dims(), args.num);
        return Err(usage(fail!(Invalid, "--x0 is {dims:?}, want {num} starts for --per-sample")));
    }
    let paths = engine.simulate(&Paths {
        process: &process,
        x0: &x0,
        per_sample: args.per_sample,
        times: &args.times,
        n_samples: args.num,
        seed: args.seed,
        first_sample: args.first_sample,
    })?;
    let headings: Vec<String> = args.times.iter().map(|t| format!("t={t}")).collect();
    let shape = paths.desc().shape;
    let results = Results {
        tensors: &[("x".to_owned(), Arc::new(paths))],
        headings: &headings,
        first_sample: args.first_sample,
        metadata: BTreeMap::from([(
            "diffx_paths".to_owned(),
            json!({"process": process.to_value(), "times": args.times, "seed": args.seed})
                .to_string(),
        )]),
    };
    results.write(&args.out, format)?;
    if host.json {
        println!("{}", json!({"samples": args.num, "file": args.out}));
    } else {
        println!("{} paths {shape} of {}, wrote {}", args.num, process.id, args.out.display());
    }
    Ok(())
}

/// A number is a scalar, a list a vector, anything else a file.
fn start(text: &str, budget: &Arc<Budget>) -> Result<Tensor> {
    if let Ok(value) = text.parse::<f64>() {
        return Tensor::from_f64(&[], &[value], budget);
    }
    let parts: std::result::Result<Vec<f64>, _> =
        text.split(',').map(|p| p.trim().parse::<f64>()).collect();
    match parts {
        Ok(values) => Tensor::from_f64(&[values.len()], &values, budget),
        Err(_) if Path::new(text).exists() => npy::read(Path::new(text), budget),
        Err(_) => Err(fail!(Invalid, "--x0 {text:?} is no number, no list of numbers and no file")),
    }
}
