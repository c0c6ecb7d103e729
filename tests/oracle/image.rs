//! Pictures of a class: the pipeline of a folder with guidance and autoencoder, and the ancestral loop of the authors'
//! code, through the graphs that a host's job runs.

use crate::array::Array;
use crate::case::Test;
use crate::compare::Got;
use crate::schedulers::Given;
use crate::{Answer, Row};
use diffx::base::DType;
use diffx::engine::schedulers::{self, run::Asked};
use diffx::engine::{OpenModel, Pipeline};
use diffx::mem::Budget;
use diffx::sample::Request;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(crate) const KINDS: &[Row] = &[
    Row { kind: "pipeline.dit", cases: &[], run: pipeline },
    Row { kind: "sampler.dit_gaussian_diffusion", cases: &[], run: ancestral },
];

fn sentence(e: diffx::base::Error) -> String {
    e.to_string()
}

/// A job of a pipeline whose draws are these; gives one of its results.
pub(crate) fn sampled(
    model: &Arc<OpenModel>,
    config: &Value,
    labels: &Array,
    draws: Vec<Vec<f32>>,
    result: &str,
) -> Answer<Array> {
    let pipeline = Pipeline::new(model, &config.to_string()).map_err(sentence)?;
    let rows = pipeline.rows(0).map_err(sentence)?;
    let n = labels.dims[0];
    let mut replay = pipeline.replay(&rows, n, false).map_err(sentence)?;
    let request = Request {
        seed: 0,
        first_sample: 0,
        n_samples: n,
        preview_every: 0,
        conds: vec![("class_labels".into(), labels.tensor(DType::I32))],
    };
    replay.begin(&rows, request, &pipeline.nulls(), &Budget::unlimited()).map_err(sentence)?;
    replay.give_noise(Box::new(Given { draws, next: 0 })).map_err(sentence)?;
    replay.finish().map_err(sentence)?;
    let results = replay.take_results();
    let found = results.iter().find(|(name, _)| name == result);
    Ok(Array::of(&found.ok_or_else(|| format!("no result {result}"))?.1))
}

/// `[n, c, h, w]` in -1 to 1 as the pipelines there show it: 0 to 1, channels last.
fn shown(x: &Array) -> Array {
    let &[n, c, h, w] = x.dims.as_slice() else { return x.clone() };
    let mut out = Vec::with_capacity(x.values.len());
    for i in 0..n {
        for p in 0..h * w {
            out.extend((0..c).map(|k| x.values[(i * c + k) * h * w + p]));
        }
    }
    Array::new(&[n, h, w, c], out).map(|v| (0.5 * v + 0.5).clamp(0.0, 1.0))
}

fn pipeline(test: &Test, got: &mut Got) -> Answer {
    let folder = test.checkpoint()?;
    let model = OpenModel::open(&crate::network::engine(), &folder.to_string_lossy(), "");
    let model = model.map_err(sentence)?;
    let null = model.info().conds.iter().find(|c| c.name == "class_labels").map(|c| c.null_value);
    if let Some(want) = test.params["class_null"].as_f64().filter(|want| Some(*want) != null) {
        return Err(format!("no class is {null:?}, want {want}"));
    }
    let scheduler = match test.params["scheduler_config"].as_str() {
        Some(path) => test.home.join(path),
        None => folder,
    };
    let config = json!({
        "scheduler": scheduler,
        "steps": test.params["steps"],
        "guidance": [{"id": "cfg", "config": {"scale": test.number("guidance_scale")?}}],
        "noise": "torch_cpu",
        "image": true,
    });
    let mut draws = vec![test.input("latents")?.f32()];
    if test.has_input("noise") {
        let noise = test.input("noise")?;
        draws.extend((0..noise.dims[0]).map(|k| noise.at(k).f32()));
    }
    let image = sampled(&model, &config, &test.input("class_labels")?, draws, "image")?;
    got.put("image_nhwc", shown(&image));
    Ok(())
}

/// The chain of the authors' code: steps spaced evenly from first to last, each with the variance the network learned.
fn ancestral(test: &Test, got: &mut Got) -> Answer {
    let respacing = test.params["respacing"].as_str().unwrap_or_default();
    let steps: usize =
        respacing.parse().map_err(|_| format!("respacing {respacing:?} is no number of steps"))?;
    let config: Map<String, Value> = json!({
        "_class_name": "DDPMScheduler",
        "beta_start": 1e-4,
        "beta_end": 2e-2,
        "beta_schedule": "linear",
        "num_train_timesteps": 1000,
        "variance_type": "learned_range",
        "clip_sample": false,
        "timestep_spacing": "linspace",
    })
    .as_object()
    .cloned()
    .unwrap_or_default();
    let run = schedulers::plan(&config, &Asked::steps(steps)).map_err(sentence)?;
    let mut times: Vec<f64> = run.calls.iter().map(|c| c.time).collect();
    times.reverse();
    let chain = run.chain.as_ref().ok_or("no chain")?;
    let mut before = 1.0;
    let betas = times.iter().map(|t| {
        let bar = f64::from(chain.bars[*t as usize]);
        let beta = 1.0 - bar / before;
        before = bar;
        beta
    });
    got.put("betas", Array::new(&[steps], betas.collect()));
    got.put("timestep_map", Array::new(&[steps], times.clone()));

    let path = test.checkpoint()?;
    let model = OpenModel::open(&crate::network::engine(), &path.to_string_lossy(), "");
    let model = model.map_err(sentence)?;
    // the second half of the rows there is the first once more, without a class
    let z = test.input("z")?;
    let (n, noise) = (z.dims[0], test.input("noise")?);
    let labels = test.input("y")?;
    let labels = Array::new(&[n], labels.values[..n].to_vec());
    let mut draws = vec![z.f32()];
    draws.extend((0..noise.dims[0]).map(|k| noise.at(k).f32()[..z.values.len()].to_vec()));
    let config = json!({
        "scheduler": config,
        "steps": steps,
        "guidance": [{"id": "cfg", "config": {"scale": test.number("cfg_scale")?, "channels": 3}}],
        "noise": "torch_cpu",
    });
    got.put("sample", sampled(&model, &config, &labels, draws, "x")?);
    Ok(())
}
