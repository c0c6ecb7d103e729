//! Schedulers of diffusers without its checkpoints: one element of each loop of the oracle, carried here, replayed on the
//! host; and jobs of pipelines that name a scheduler, with the draws of PyTorch's generator.

#[path = "support/model.rs"]
mod model;

use diffx::base::torch::Torch;
use diffx::engine::schedulers::linear::{DENOISED, DRAW, RAW, REGISTER, REGISTERS, SAMPLE, SLOPES};
use diffx::engine::schedulers::run::{Asked, Clip, Run};
use diffx::engine::schedulers::{self, linear};
use diffx::engine::{Job, JobOptions, OpenModel, Pipeline};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

fn asked(row: &Value) -> Asked {
    let mut out = Asked::steps(row["steps"].as_u64().unwrap() as usize);
    let given = &row["asked"];
    out.eta = given["eta"].as_f64();
    out.use_clipped_model_output = given["use_clipped_model_output"] == true;
    out.s_churn = given["s_churn"].as_f64().unwrap_or(out.s_churn);
    out.s_tmin = given["s_tmin"].as_f64().unwrap_or(out.s_tmin);
    out.s_tmax = given["s_tmax"].as_f64().unwrap_or(out.s_tmax);
    out.s_noise = given["s_noise"].as_f64().unwrap_or(out.s_noise);
    out.mu = given["mu"].as_f64();
    out.sigmas = Some(numbers(&given["sigmas"])).filter(|s| !s.is_empty());
    out
}

/// One element through all calls, in f64.
fn replayed(run: &Run, x: f64, outputs: &[f64], draws: &[f64]) -> Vec<f64> {
    let mut draws = draws.iter();
    let mut registers = [0.0; REGISTERS];
    let (mut x, mut out) = (x, Vec::new());
    for (call, output) in run.calls.iter().zip(outputs) {
        let (level, w) = (call.at.level(), x / call.at.scale());
        let (skip, by) = run.frame.back(run.prediction, level);
        let raw = skip * w + by * output;
        let d = match run.clip {
            Clip::Range(range) => raw.clamp(-range, range),
            _ => raw,
        };
        let z = if call.draws() { *draws.next().expect("a draw") } else { 0.0 };
        let value = |form: &linear::Form, registers: &[f64; REGISTERS]| -> f64 {
            let f = &form.0;
            let own = f[SAMPLE] * x + f[DENOISED] * d + f[RAW] * raw + f[DRAW] * z;
            let kept: f64 = registers.iter().zip(&f[REGISTER..]).map(|(r, c)| r * c).sum();
            own + f[SLOPES] * (w - d) / level + kept
        };
        let next = value(&call.next, &registers);
        let mut after = registers;
        for (k, form) in &call.keep {
            after[*k] = value(form, &registers);
        }
        registers = after;
        x = next;
        out.push(x);
    }
    out
}

#[test]
fn loops_of_every_class_give_the_recorded_samples() {
    let rows: Value = serde_json::from_str(include_str!("schedulers/rows.json")).unwrap();
    let rows = rows.as_array().unwrap();
    let mut seen: Vec<&str> = Vec::new();
    for row in rows {
        let name = row["name"].as_str().unwrap();
        let config = row["config"].as_object().unwrap();
        let run = schedulers::plan(config, &asked(row)).unwrap_or_else(|e| panic!("{name}: {e}"));
        run.translate(config).unwrap_or_else(|e| panic!("{name}: {e}"));
        let times: Vec<f64> = run.calls.iter().map(|c| c.time).collect();
        let want = numbers(&row["times"]);
        assert_eq!(times.len(), want.len(), "{name}");
        for (a, b) in times.iter().zip(&want) {
            assert!((a - b).abs() < 2e-5 * b.abs().max(0.5), "{name}: time {a}, want {b}");
        }
        let x = row["x"].as_f64().unwrap();
        let got = replayed(&run, x, &numbers(&row["outputs"]), &numbers(&row["draws"]));
        let (want, atol) = (numbers(&row["samples"]), row["atol"].as_f64().unwrap());
        for (k, (a, b)) in got.iter().zip(&want).enumerate() {
            // at a level of 4096 the original itself is good to a thousandth
            let rounding = if k == 0 { x.abs() * 2e-7 } else { 0.0 };
            let near = (a - b).abs() <= 2.0 * atol + 2e-5 * b.abs() + rounding;
            assert!(near, "{name}: sample {k} is {a}, want {b}");
        }
        seen.push(config["_class_name"].as_str().unwrap());
    }
    let others: Vec<&str> = schedulers::classes().filter(|c| !seen.contains(c)).collect();
    // the first has its own test, of the order of its steps; the second is held by the oracle alone
    assert_eq!(others, ["SiTSampler", "ScoreSdeVeScheduler"], "classes without a row");
    println!("{} of {} loops of {} classes", rows.len(), rows.len(), seen.len());
}

fn pipeline(path: &Path, config: Value) -> Arc<Pipeline> {
    let model = OpenModel::open(&model::engine(1), path.to_str().unwrap(), "").unwrap();
    Pipeline::new(&model, &config.to_string()).unwrap()
}

fn run(pipeline: &Arc<Pipeline>, seed: u64, n: usize) -> Vec<f32> {
    let options = JobOptions { seed, n_samples: n, ..JobOptions::default() };
    let job = Job::start(pipeline, options).unwrap();
    assert!(job.wait(Duration::from_secs(600)));
    job.result("x").unwrap_or_else(|e| panic!("{e}")).elements::<f32>().unwrap().to_vec()
}

/// The network gives 0 for its noise, so each step of DDIM divides by the signal: the samples are the first draws, scaled.
#[test]
fn a_seed_gives_the_draws_of_torch() {
    let path = model::temporary("scheduled.safetensors");
    let mut manifest = model::manifest(&[6], "ve");
    manifest.model = diffx::engine::Setting::parse(r#"null:{"dims":[6]}"#).unwrap();
    model::save(&path, &manifest).unwrap();
    let ddim = json!({"_class_name": "DDIMScheduler", "clip_sample": false});
    let p = pipeline(&path, json!({"scheduler": ddim, "steps": 5, "noise": "torch_cpu"}));
    let mut draws = [0.0f32; 18];
    Torch::new(7).normals_f32(&mut draws);
    let config: Map<String, Value> = ddim.as_object().unwrap().clone();
    let first = schedulers::plan(&config, &Asked::steps(5)).unwrap().calls[0].at;
    for (got, z) in run(&p, 7, 3).iter().zip(draws) {
        let want = f64::from(z) / first.alpha;
        assert!((f64::from(*got) - want).abs() < 1e-4 * want.abs().max(1.0), "{got}, want {want}");
    }
    let again = |e: JobOptions| Job::start(&p, e).err().map(|e| e.message);
    let late = again(JobOptions { n_samples: 3, first_sample: 2, ..JobOptions::default() });
    assert_eq!(late.unwrap(), "first_sample 2 by torch_cpu, whose draws begin with sample 0");
    std::fs::remove_file(path).unwrap();
}

/// Draws of steps follow those of the start, and a job that is saved half way goes on with the next.
#[test]
fn a_saved_job_goes_on_with_the_next_draw() {
    let path = model::temporary("scheduled-saved.safetensors");
    model::save(&path, &model::manifest(&[6], "ve")).unwrap();
    let ddpm = json!({"_class_name": "DDPMScheduler"});
    let config = json!({"scheduler": ddpm, "steps": 6, "noise": "torch_cpu"});
    let p = pipeline(&path, config);
    let whole = run(&p, 3, 4);
    assert_ne!(whole, run(&p, 4, 4));
    // on an engine without threads the job stands where we leave it
    let options = diffx::engine::Options { no_threads: true, ..Default::default() };
    let engine = diffx::engine::Engine::new(options).unwrap();
    let open = OpenModel::open(&engine, path.to_str().unwrap(), "").unwrap();
    let config = json!({"scheduler": {"config": {"_class_name": "DDPMScheduler"}}, "steps": 6,
        "noise": "torch_cpu"});
    let p = Pipeline::new(&open, &config.to_string()).unwrap();
    let options = JobOptions { seed: 3, n_samples: 4, ..JobOptions::default() };
    let job = Job::start(&p, options).unwrap();
    while job.progress().step < 3 {
        assert!(!job.progress().state.is_over(), "{:?}", job.error());
        engine.pump(0);
    }
    let saved = model::temporary("scheduled-job.safetensors");
    job.save(&saved).unwrap();
    drop(job);
    let rest = Job::resume(&p, &saved).unwrap();
    assert!(rest.wait(Duration::from_secs(600)));
    let tensor = rest.result("x").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(tensor.elements::<f32>().unwrap(), whole);
    for file in [path, saved] {
        std::fs::remove_file(file).unwrap();
    }
}

/// A network that declares a velocity takes the time of flow from 0 to 1, and a scheduler that counts to 1000 does not
/// change that: asked through it, the network gives what it gives under the process `flow`.
#[test]
fn a_velocity_is_told_the_time_it_declares() {
    let at = |name: &str, process: &str| {
        let path = model::temporary(name);
        let mut manifest = model::manifest(&[6], process);
        manifest.model.config.insert("predicts".into(), "velocity".into());
        manifest.components[0].stats = Default::default();
        model::save(&path, &manifest).unwrap();
        path
    };
    let flow = at("velocity-flow.safetensors", "flow");
    let frame = json!({"frame": "flow", "samples": "flow", "prediction": "flow_prediction", "clock": "flow",
        "time_scale": 1000});
    let counted = at("velocity-counted.safetensors", &format!("scheduled:{frame}"));
    let config =
        json!({"sampler": "euler", "grid": "edm", "steps": 5, "sigma_min": 0.01, "sigma_max": 50});
    let want = run(&pipeline(&flow, config.clone()), 2, 3);
    for (a, b) in run(&pipeline(&counted, config), 2, 3).iter().zip(&want) {
        assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{a}, want {b}");
    }
    let open = OpenModel::open(&model::engine(1), flow.to_str().unwrap(), "").unwrap();
    let under = |class: &str| {
        let config = json!({"scheduler": {"_class_name": class}, "steps": 5});
        Pipeline::new(&open, &config.to_string()).map(|_| ()).map_err(|e| e.message)
    };
    assert_eq!(under("FlowMatchEulerDiscreteScheduler"), Ok(()));
    let refused = under("DDIMScheduler").unwrap_err();
    assert!(refused.contains("predicts the velocity of a flow"), "{refused}");
    for file in [flow, counted] {
        std::fs::remove_file(file).unwrap();
    }
}
