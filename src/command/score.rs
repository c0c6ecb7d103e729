//! `diffx score`: the log-likelihood of data, one number per sample, in nats and in bits per dimension.

use super::args::{Host, Score};
use super::output::{Format, Results};
use super::{Failure, engine, npy, usage};
use diffx::base::{DType, Result};
use diffx::engine::{OpenModel, Pipeline, Scoring};
use diffx::fail;
use diffx::mem::{Budget, Tensor};
use diffx::weights::{SafeTensors, convert};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub(super) fn run(host: &Host, args: &Score) -> std::result::Result<(), Failure> {
    let format = Format::of(&args.out).map_err(usage)?;
    let engine = engine(host)?;
    let model = OpenModel::open(&engine, &args.model, "")?;
    let mut config = serde_json::Map::new();
    for (key, value) in [("sigma_min", args.sigma_min), ("sigma_max", args.sigma_max)] {
        if let Some(value) = value {
            config.insert(key.to_owned(), json!(value));
        }
    }
    let given = read(&args.data, &model, engine.budget())?;
    // f64 data asks for f64 arithmetic
    let wide = given.iter().any(|(_, t)| t.desc().dtype == DType::F64);
    let float = if wide { DType::F64 } else { DType::F32 };
    config.insert("dtype".to_owned(), json!(float.to_string()));
    let config = serde_json::Value::Object(config).to_string();
    let pipeline = Pipeline::new(&model, &config)?;
    let mut inputs = Vec::new();
    for (name, tensor) in given {
        let is_float = tensor.desc().dtype.is_float();
        let tensor =
            if is_float { convert::convert(tensor, float, engine.budget())? } else { tensor };
        inputs.push((name, Arc::new(tensor)));
    }
    let nats = pipeline.score(&Scoring {
        inputs: &inputs,
        steps: args.steps,
        probes: args.probes,
        seed: args.seed,
        first_sample: args.first_sample,
    })?;
    let values = nats.elements::<f64>()?.to_vec();
    let unit = -1.0 / (pipeline.dimensions()? as f64 * std::f64::consts::LN_2);
    let bits: Vec<f64> = values.iter().map(|v| v * unit).collect();
    let n = values.len();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (mean_nats, mean_bits) = (mean(&values), mean(&bits));
    let bits = Tensor::from_f64(&[n], &bits, engine.budget())?;
    Results {
        tensors: &[
            ("log_likelihood".to_owned(), Arc::new(nats)),
            ("bits_per_dim".to_owned(), Arc::new(bits)),
        ],
        headings: &["log_likelihood".to_owned()],
        first_sample: args.first_sample,
        metadata: BTreeMap::from([(
            "diffx_score".to_owned(),
            json!({"model": args.model, "steps": args.steps, "probes": args.probes, "seed": args.seed})
                .to_string(),
        )]),
    }
    .write(&args.out, format)?;
    if host.json {
        let line = json!({
            "samples": n, "log_likelihood": mean_nats, "bits_per_dim": mean_bits, "file": args.out
        });
        println!("{line}");
    } else {
        println!(
            "{n} samples: {mean_nats:.5} nats, {mean_bits:.5} bits per dimension on average, wrote {}",
            args.out.display()
        );
    }
    Ok(())
}

/// The samples of a .npy file, or the tensors of a .safetensors file by name.
fn read(path: &Path, model: &OpenModel, budget: &Arc<Budget>) -> Result<Vec<(String, Tensor)>> {
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy")) {
        let name = model.manifest.components.first().map(|c| c.name.clone());
        let name = name.ok_or_else(|| fail!(Internal, "a model without components"))?;
        return Ok(vec![(name, npy::read(path, budget)?)]);
    }
    let file = SafeTensors::open(path)?;
    file.entries().iter().map(|e| Ok((e.name.clone(), file.tensor(&e.name, budget)?))).collect()
}
