//! The networks of EDM: alone, as the denoiser of their preconditioning, their loss.

use crate::array::Array;
use crate::case::Test;
use crate::compare::Got;
use crate::network::{Network, parameters};
use crate::{Answer, Row};
use diffx::base::DType;
use diffx::engine::{Evaluation, Pipeline};

const CASES: &[&str] = &["edm"];

pub(crate) const KINDS: &[Row] = &[
    Row { kind: "forward.raw_unet", cases: CASES, run: raw },
    Row { kind: "forward.precond", cases: CASES, run: precond },
    Row { kind: "grad.edm_loss", cases: CASES, run: loss },
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
