//! The loops of SiT's own samplers, by the engine's class of them.

use crate::array::Array;
use crate::case::Test;
use crate::compare::Got;
use crate::schedulers::Given;
use crate::{Answer, Row};
use diffx::base::{DType, Error};
use diffx::engine::{OpenModel, Pipeline};
use diffx::exec::Interrupt;
use diffx::mem::Budget;
use diffx::sample::{Advance, Request};
use serde_json::{Value, json};

pub(crate) const KINDS: &[Row] = &[
    Row { kind: "sampler.sit_ode", cases: &["sit"], run: ode },
    Row { kind: "sampler.sit_sde", cases: &["sit"], run: sde },
];

fn sentence(e: Error) -> String {
    e.to_string()
}

/// What a test asks for, as the class has it.
fn scheduler(test: &Test, mode: &str) -> Value {
    let mut config = json!({"_class_name": "SiTSampler", "mode": mode});
    for key in
        ["sampling_method", "diffusion_form", "diffusion_norm", "last_step", "last_step_size"]
    {
        if !test.params[key].is_null() {
            config[key] = test.params[key].clone();
        }
    }
    config
}

/// The first sample, and the sample after every call.
fn states(test: &Test, config: &Value) -> Answer<Vec<Vec<f64>>> {
    let path = test.checkpoint()?;
    let engine = crate::network::engine();
    let model = OpenModel::open(&engine, &path.to_string_lossy(), "").map_err(sentence)?;
    let pipeline = json!({"scheduler": config, "steps": test.params["num_steps"], "noise": "torch_cpu",
        "dtype": "f64"});
    let pipeline = Pipeline::new(&model, &pipeline.to_string()).map_err(sentence)?;
    let (z, labels) = (test.input("z")?, test.input("y")?);
    let n = z.dims[0];
    let rows = pipeline.rows(0).map_err(sentence)?;
    let mut replay = pipeline.replay(&rows, n, false).map_err(sentence)?;
    let request = Request {
        seed: 0,
        first_sample: 0,
        n_samples: n,
        preview_every: 0,
        conds: vec![("class_labels".into(), labels.tensor(DType::I32))],
    };
    replay.begin(&rows, request, &pipeline.nulls(), &Budget::unlimited()).map_err(sentence)?;
    let mut draws = vec![z.f32()];
    if test.has_input("noise") {
        let noise = test.input("noise")?;
        draws.extend((0..noise.dims[0]).map(|k| noise.at(k).f32()));
    }
    replay.give_noise(Box::new(Given { draws, next: 0 })).map_err(sentence)?;
    let mut out = vec![z.values.clone()];
    loop {
        match replay.advance(&mut || Interrupt::Continue).map_err(sentence)? {
            Advance::Row => {
                let mut bytes = vec![0; 8 * z.values.len()];
                replay.read_state(0, &mut bytes).map_err(sentence)?;
                // in w = x/t, with t of the level (1 - t)/t
                let t = 1.0 / (1.0 + rows.level(out.len(), 0));
                let w = bytes.as_chunks::<8>().0.iter().map(|b| f64::from_ne_bytes(*b));
                out.push(w.map(|w| w * t).collect());
            }
            Advance::Done => return Ok(out),
            _ => {}
        }
    }
}

fn put(test: &Test, got: &mut Got, at: &[&Vec<f64>]) -> Answer {
    let dims = test.input("z")?.dims;
    let all = at.iter().flat_map(|v| v.iter().copied()).collect();
    got.put("trajectory", Array::new(&[&[at.len()], dims.as_slice()].concat(), all));
    let last = at.last().ok_or("no samples")?;
    got.put("sample", Array::new(&dims, last.to_vec()));
    Ok(())
}

fn ode(test: &Test, got: &mut Got) -> Answer {
    let states = states(test, &scheduler(test, "ode"))?;
    let n = test.number("num_steps")? as usize;
    let each = (states.len() - 1) / (n - 1);
    let at: Vec<&Vec<f64>> = states.iter().step_by(each).collect();
    put(test, got, &at)?;
    let t = (0..n).map(|i| i as f64 / (n - 1) as f64).collect();
    got.put("t", Array::new(&[n], t));
    Ok(())
}

/// What the loop leaves after each step, and after the last one apart.
fn sde(test: &Test, got: &mut Got) -> Answer {
    let states = states(test, &scheduler(test, "sde"))?;
    let n = test.number("num_steps")? as usize;
    let each = (states.len() - 2) / (n - 1);
    let mut at: Vec<&Vec<f64>> = (1..n).map(|i| &states[i * each]).collect();
    at.extend(states.last());
    put(test, got, &at)
}
