//! `diffx eval`: one forward of the denoiser, or of a network slot, on named tensors; gradients on request.

use super::Failure;
use super::args::{Eval, Host};
use super::engine;
use diffx::base::DType;
use diffx::engine::{Evaluation, OpenModel, Pipeline};
use diffx::weights::{Out, SafeTensors, convert, write};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn run(host: &Host, args: &Eval) -> std::result::Result<(), Failure> {
    let engine = engine(host)?;
    let budget = engine.budget();
    let model = OpenModel::open(&engine, &args.model, "")?;
    let file = SafeTensors::open(&args.inputs)?;
    let mut inputs = Vec::new();
    let mut wide = false;
    for entry in file.entries() {
        let tensor = file.tensor(&entry.name, budget)?;
        wide |= tensor.desc().dtype == DType::F64;
        inputs.push((entry.name.clone(), tensor));
    }
    // f64 inputs ask for f64 arithmetic
    let (config, float) =
        if wide { (r#"{"dtype":"f64"}"#, DType::F64) } else { ("{}", DType::F32) };
    let mut given = Vec::new();
    for (name, tensor) in inputs {
        let is_float = tensor.desc().dtype.is_float();
        let tensor = if is_float { convert::convert(tensor, float, budget)? } else { tensor };
        given.push((name, Arc::new(tensor)));
    }
    let pipeline = Pipeline::new(&model, config)?;
    let mut names: Vec<String> = pipeline.parts.components.iter().map(|c| c.name.clone()).collect();
    if args.grad {
        let floats = given
            .iter()
            .filter(|(n, t)| t.desc().dtype.is_compute_float() && !n.starts_with("cotangent."));
        names.extend(floats.map(|(n, _)| format!("grad.{n}")));
    }
    let slot = args.slot.as_deref().unwrap_or("");
    let tensors =
        pipeline.evaluate(&Evaluation { slot, phase: 0, inputs: &given, outputs: &names })?;
    let out: Vec<Out<'_>> = names
        .iter()
        .zip(&tensors)
        .map(|(name, t)| Out { name, desc: t.desc(), bytes: t.bytes() })
        .collect();
    write(&args.out, &BTreeMap::new(), &out)?;
    if host.json {
        println!("{}", json!({"outputs": names, "file": args.out}));
    } else {
        println!("{}, wrote {}", names.join(", "), args.out.display());
    }
    Ok(())
}
