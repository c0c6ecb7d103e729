//! `diffx simulate`: paths of a process, no network.

use super::args::{Host, Simulate};
use super::output::{Format, Results};
use super::{Failure, engine, npy, usage};
use diffx::base::Result;
use diffx::engine::{Paths, Setting};
use diffx::fail;
use diffx::mem::{Budget, Tensor};
use diffx::sample::Scheme;
use diffx::weights::convert::to_f64;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub(super) fn run(host: &Host, args: &Simulate) -> std::result::Result<(), Failure> {
    let format = Format::of(&args.out).map_err(usage)?;
    let process = Setting::parse(&args.process).map_err(usage)?;
    let engine = engine(host)?;
    let x0 = numbers("--x0", &args.x0, engine.budget())?;
    let times = to_f64(&numbers("--times", &args.times, engine.budget())?)?;
    let keep = kept(args.keep.as_deref(), times.len()).map_err(usage)?;
    if args.per_sample && x0.dims().first() != Some(&args.num) {
        let (dims, num) = (x0.dims(), args.num);
        return Err(usage(fail!(Invalid, "--x0 is {dims:?}, want {num} starts for --per-sample")));
    }
    let paths = engine.simulate(&Paths {
        process: &process,
        x0: &x0,
        per_sample: args.per_sample,
        times: &times,
        keep: &keep,
        scheme: args.euler.map_or(Scheme::Exact, |substeps| Scheme::Euler { substeps }),
        n_samples: args.num,
        seed: args.seed,
        first_sample: args.first_sample,
    })?;
    let shown: Vec<f64> = match keep.is_empty() {
        true => times,
        false => keep.iter().filter_map(|k| times.get(*k as usize).copied()).collect(),
    };
    let headings: Vec<String> = shown.iter().map(|t| format!("t={t}")).collect();
    let shape = paths.desc().shape;
    let results = Results {
        tensors: &[("x".to_owned(), Arc::new(paths))],
        headings: &headings,
        first_sample: args.first_sample,
        metadata: BTreeMap::from([(
            "diffx_paths".to_owned(),
            json!({
                "process": process.to_value(), "times": shown, "seed": args.seed, "euler": args.euler
            })
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

/// The numbers of the times that come out; none for all.
fn kept(text: Option<&str>, times: usize) -> Result<Vec<u32>> {
    match text {
        None => Ok(Vec::new()),
        Some("last") => Ok(vec![times.saturating_sub(1) as u32]),
        Some(list) => {
            let parts: std::result::Result<Vec<u32>, _> =
                list.split(',').map(|p| p.trim().parse()).collect();
            parts.map_err(|_| {
                fail!(Invalid, "--keep {list:?} is neither last nor a list of numbers")
            })
        }
    }
}

/// A number is a scalar, a list a vector, anything else a file.
fn numbers(name: &str, text: &str, budget: &Arc<Budget>) -> Result<Tensor> {
    if let Ok(value) = text.parse::<f64>() {
        return Tensor::from_f64(&[], &[value], budget);
    }
    let parts: std::result::Result<Vec<f64>, _> =
        text.split(',').map(|p| p.trim().parse::<f64>()).collect();
    match parts {
        Ok(values) => Tensor::from_f64(&[values.len()], &values, budget),
        Err(_) if Path::new(text).exists() => npy::read(Path::new(text), budget),
        Err(_) => {
            Err(fail!(Invalid, "{name} {text:?} is no number, no list of numbers and no file"))
        }
    }
}
