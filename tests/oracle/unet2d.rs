//! The U-Net of diffusers: alone, and the loss of DDPM.

use crate::array::Array;
use crate::case::Test;
use crate::compare::Got;
use crate::network::{Network, parameters};
use crate::{Answer, Row};
use serde_json::Value;
use std::path::PathBuf;

const CASES: &[&str] = &["ddpm_unet2d"];

pub(crate) const KINDS: &[Row] = &[
    Row { kind: "forward", cases: CASES, run: forward },
    Row { kind: "grad.ddpm_eps_mse", cases: CASES, run: loss },
];

/// The network's own folder, in a pipeline's or alone.
fn folder(test: &Test) -> Answer<PathBuf> {
    let path = test.checkpoint()?;
    let below = path.join("unet");
    Ok(if below.is_dir() { below } else { path })
}

/// Labels, where the network takes some.
fn labels(test: &Test, network: &Network) -> Answer<Option<Array>> {
    let info = network.model.network("base").ok_or("no network")?.info();
    let conds = info.map_err(|e| e.to_string())?.conds;
    let takes = conds.iter().any(|c| c.name == "class_labels") && test.has_input("class_labels");
    takes.then(|| test.input("class_labels")).transpose()
}

fn forward(test: &Test, got: &mut Got) -> Answer {
    let network = Network::open(&folder(test)?)?;
    let (x, t, labels) = (test.input("sample")?, test.input("timestep")?, labels(test, &network)?);
    let mut inputs = vec![("x", &x), ("sigma", &t)];
    inputs.extend(labels.as_ref().map(|l| ("class_labels", l)));
    got.put("sample", network.forward(0, &inputs)?);
    Ok(())
}

/// Signal left after each step, rounded where the scheduler rounds.
fn signal(config: &Value) -> Answer<Vec<f64>> {
    let number = |key: &str, default: f64| config[key].as_f64().unwrap_or(default);
    let steps = number("num_train_timesteps", 1000.0) as usize;
    let (first, last) = (number("beta_start", 1e-4), number("beta_end", 0.02));
    let along = |a: f64, b: f64, i: usize| a + (b - a) * i as f64 / (steps - 1).max(1) as f64;
    let beta = |i: usize| match config["beta_schedule"].as_str() {
        Some("linear") | None => Ok(along(first, last, i)),
        Some("scaled_linear") => Ok(along(first.sqrt(), last.sqrt(), i).powi(2)),
        Some(other) => Err(format!("the test knows no schedule {other}")),
    };
    let mut left = 1_f32;
    (0..steps)
        .map(|i| {
            left *= 1.0 - beta(i)? as f32;
            Ok(f64::from(left))
        })
        .collect()
}

/// mean (F(√a x0 + √(1-a) n, t) - n)².
fn loss(test: &Test, got: &mut Got) -> Answer {
    let network = Network::open(&folder(test)?)?;
    let labels = labels(test, &network)?;
    let (images, noise, t) =
        (test.input("images")?, test.input("noise")?, test.input("timesteps")?);
    let config = test.checkpoint()?.join("scheduler/scheduler_config.json");
    let signal = signal(&test.json(&config)?)?;
    let n = images.stride();
    let a = |i: usize| signal[t.values[i / n] as usize];
    let mixed = images.values.iter().zip(&noise.values).enumerate();
    let mixed = mixed.map(|(i, (x, n))| a(i).sqrt() * x + (1.0 - a(i)).sqrt() * n).collect();
    let x = Array::new(&images.dims, mixed);
    let mut inputs = vec![("x", &x), ("sigma", &t)];
    inputs.extend(labels.as_ref().map(|l| ("class_labels", l)));

    let miss = network.forward(0, &inputs)?.zip(&noise, |f, n| f - n);
    got.put("loss", Array::new(&[], vec![miss.map(|m| m * m).mean()]));
    let slope = miss.map(|m| 2.0 * m / miss.values.len() as f64);
    let names = parameters(test)?;
    let mut by: Vec<String> = names.iter().map(|n| format!("weight.{n}")).collect();
    by.push("x".into());
    let grads = network.gradients(0, &inputs, &slope, &by)?;
    for name in &names {
        got.put_grad(name, grads[&format!("weight.{name}")].clone());
    }
    let by_x = grads["x"].values.iter().enumerate().map(|(i, g)| a(i).sqrt() * g).collect();
    got.put("grad_in.images", Array::new(&images.dims, by_x));
    Ok(())
}
