//! The networks of EDM: alone, as the denoiser of their preconditioning, their loss.

use crate::array::Array;
use crate::case::Test;
use crate::compare::Got;
use crate::network::{Network, parameters};
use crate::{Answer, Row};
use diffx::base::{DType, Error, Result as Done};
use diffx::engine::{Evaluation, Pipeline, Setting};
use diffx::exec::{Interrupt, SessionBuilder};
use diffx::mem::Budget;
use diffx::sample::{Advance, Noise, Program, Replay, Request, Rows};
use serde_json::{Map, Value, json};
use std::sync::Arc;

const CASES: &[&str] = &["edm"];

pub(crate) const KINDS: &[Row] = &[
    Row { kind: "forward.raw_unet", cases: CASES, run: raw },
    Row { kind: "forward.precond", cases: CASES, run: precond },
    Row { kind: "grad.edm_loss", cases: CASES, run: loss },
    Row { kind: "sampler.edm_heun", cases: CASES, run: sampled },
];

/// Deviation of the data in the loss of the manifest.
const SIGMA_DATA: f64 = 0.5;

/// Labels that the network takes; the oracle writes some for those that do not.
fn labels(test: &Test, network: &Network) -> Answer<Vec<(String, Array)>> {
    let info = network.model.network("base").ok_or("no network")?.info();
    let mut out = Vec::new();
    for cond in info.map_err(|e| e.to_string())?.conds {
        if test.has_input(&cond.name) {
            out.push((cond.name.clone(), test.input(&cond.name)?));
        }
    }
    Ok(out)
}

fn raw(test: &Test, got: &mut Got) -> Answer {
    let network = Network::open(&test.checkpoint()?)?;
    let (x, level, labels) =
        (test.input("x")?, test.input("noise_labels")?, labels(test, &network)?);
    let mut inputs = vec![("x", &x), ("sigma", &level)];
    inputs.extend(labels.iter().map(|(name, a)| (name.as_str(), a)));
    got.put("F", network.forward(0, &inputs)?);
    Ok(())
}

/// The denoiser of the folder, with its process as the class implies it: `x` and gradients.
fn denoise(
    network: &Network,
    x: &Array,
    sigma: &Array,
    more: &[(String, Array)],
    outputs: &[String],
) -> Answer<Vec<Array>> {
    let pipeline = Pipeline::new(&network.model, "{}").map_err(|e| e.to_string())?;
    let mut inputs: Vec<_> = more.iter().map(|(n, a)| (n.clone(), a.tensor(DType::F32))).collect();
    inputs.push(("x".into(), x.tensor(DType::F32)));
    inputs.push(("sigma".into(), sigma.reshaped(&[sigma.values.len()]).tensor(DType::F32)));
    let e = Evaluation { slot: "", phase: 0, inputs: &inputs, outputs };
    let out = pipeline.evaluate(&e).map_err(|e| e.to_string())?;
    Ok(out.iter().map(Array::of).collect())
}

fn precond(test: &Test, got: &mut Got) -> Answer {
    let network = Network::open(&test.checkpoint()?)?;
    let labels = labels(test, &network)?;
    let (x, sigma) = (test.input("x")?, test.input("sigma")?);
    let mut out = denoise(&network, &x, &sigma, &labels, &["x".into()])?;
    got.put("D", out.remove(0));
    Ok(())
}

/// mean lambda(sigma) (D(x + sigma z) - x)², lambda = (sigma² + sd²)/(sigma sd)².
fn loss(test: &Test, got: &mut Got) -> Answer {
    let network = Network::open(&test.checkpoint()?)?;
    let mut labels = labels(test, &network)?;
    let (images, noise, sigma) =
        (test.input("images")?, test.input("noise")?, test.input("sigma")?);
    let noisy = noise.values.iter().enumerate();
    let noisy = noisy.map(|(i, z)| sigma.values[i / images.stride()] * z).collect();
    let noisy = Array::new(&images.dims, noisy).zip(&images, |n, x| x + n);
    let d = denoise(&network, &noisy, &sigma, &labels, &["x".into()])?.remove(0);
    let n = images.stride();
    let weight = |i: usize| {
        let s = sigma.values[i / n];
        (s * s + SIGMA_DATA * SIGMA_DATA) / (s * SIGMA_DATA).powi(2)
    };
    let miss = d.zip(&images, |d, x| d - x);
    let (all, by_element) = (miss.values.len() as f64, miss.values.iter().enumerate());
    let total: f64 = by_element.clone().map(|(i, m)| weight(i) * m * m).sum();
    got.put("loss", Array::new(&[], vec![total / all]));
    let slope = by_element.map(|(i, m)| 2.0 * weight(i) * m / all).collect();
    labels.push(("cotangent.x".into(), Array::new(&miss.dims, slope)));
    let names = parameters(test)?;
    let wanted: Vec<String> = names.iter().map(|n| format!("grad.weight.{n}")).collect();
    let grads = denoise(&network, &noisy, &sigma, &labels, &wanted)?;
    for (name, grad) in names.iter().zip(grads) {
        got.put_grad(name, grad);
    }
    Ok(())
}

/// Draws of a file, in the order in which they are asked for.
struct Given(std::vec::IntoIter<Vec<f32>>);

impl Noise for Given {
    fn fill(&mut self, out: &mut [f32]) -> Done<()> {
        out.copy_from_slice(&self.0.next().expect("as many draws as the file has"));
        Ok(())
    }
}

/// Our samplers on our grid, with the file's noise: `heun` without churn, `churn` with it.
fn sampled(test: &Test, got: &mut Got) -> Answer {
    let text = |e: Error| e.to_string();
    let network = Network::open(&test.checkpoint()?)?;
    let params = &test.params["sampler"];
    let number = |key: &str, default: f64| params[key].as_f64().unwrap_or(default);
    let (churn, steps) = (number("S_churn", 0.0), number("num_steps", 18.0) as u32);
    let (s_min, s_max) = (number("S_min", 0.0), number("S_max", f64::MAX));
    let mut config = json!({"churn": churn, "s_min": s_min, "s_noise": number("S_noise", 1.0)});
    if s_max < f64::MAX {
        config["s_max"] = s_max.into();
    }
    let setting = |id: &str, config: Value| Setting {
        id: id.to_owned(),
        config: config.as_object().cloned().unwrap_or_else(Map::new),
    };
    let engine = crate::network::engine();
    let sampler = match churn > 0.0 {
        true => engine.sampler(&setting("churn", config)).map_err(text)?,
        false => engine.sampler(&setting("heun", json!({}))).map_err(text)?,
    };
    let grid = engine.grid(&setting("edm", json!({"rho": number("rho", 7.0)}))).map_err(text)?;
    let ends = (number("sigma_min", 0.002), number("sigma_max", 80.0));
    let knots = grid.knots(steps, ends.0, ends.1).map_err(text)?;
    got.put("t_steps", Array::new(&[knots.len()], knots.clone()));

    let (latents, noise) = (test.input("latents")?, test.input("noise")?);
    // the file has a draw for every step, also for those that put nothing back
    let puts = |k: &usize| churn > 0.0 && knots[*k] >= s_min && knots[*k] <= s_max;
    let mut draws = vec![latents.f32()];
    draws.extend((0..steps as usize).filter(puts).map(|k| noise.at(k).f32()));

    let pipeline = Pipeline::new(&network.model, "{}").map_err(text)?;
    let parts = &pipeline.parts;
    let mut rows = Rows::new(&*sampler, parts, std::slice::from_ref(&knots)).map_err(text)?;
    rows.given_noise = true;
    let rows = Arc::new(rows);
    let (batch, budget) = (latents.dims[0], Budget::unlimited());
    let mut session = SessionBuilder::new(Arc::clone(engine.backend()));
    let program =
        Program::new(parts, &*sampler, &rows, batch, false, &mut session, &mut |weights| {
            let wanted: Vec<_> = weights.iter().collect();
            let tensors = network.model.bind("base", &wanted)?;
            Ok(tensors.into_iter().map(diffx::exec::WeightBinding::Tensor).collect())
        })
        .map_err(text)?;
    let mut replay = Replay::new(program, session.allocate(&budget).map_err(text)?);
    let conds = labels(test, &network)?;
    let conds = conds.iter().map(|(name, a)| (name.clone(), a.tensor(DType::F32))).collect();
    let request = Request { seed: 0, first_sample: 0, n_samples: batch, preview_every: 0, conds };
    replay.begin(&rows, request, &[], &budget).map_err(text)?;
    replay.give_noise(Box::new(Given(draws.into_iter()))).map_err(text)?;
    while replay.advance(&mut || Interrupt::Continue).map_err(text)? != Advance::Done {}
    let mut bytes = vec![0; 4 * latents.values.len()];
    replay.read_state(0, &mut bytes).map_err(text)?;
    let floats = bytes.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    got.put("x", Array::new(&latents.dims, floats.map(f64::from).collect()));
    Ok(())
}
