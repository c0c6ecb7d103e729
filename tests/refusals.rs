//! What a pipeline, a saved job and a trainer refuse: settings that would run and mean something else.

#[path = "support/model.rs"]
mod model;

use diffx::base::{Error, Status};
use diffx::engine::Evaluation;
use diffx::engine::manifest::Manifest;
use diffx::engine::recipe::Recipe;
use diffx::engine::trainer::Trainer;
use diffx::engine::{Engine, Job, JobOptions, OpenModel, Paths, Pipeline, Setting};
use diffx::exec::Interrupt;
use diffx::mem::Tensor;
use diffx::sample::Scheme;
use diffx::weights::{Out, SafeTensors, write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Files of one test, gone at its end.
struct Files(PathBuf);

impl Files {
    fn new(tag: &str) -> Self {
        let dir = model::temporary(tag);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn model(&self, name: &str, manifest: &Manifest) -> PathBuf {
        let path = self.at(name);
        model::save(&path, manifest).unwrap();
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(engine: &Arc<Engine>, path: &Path) -> Arc<OpenModel> {
    OpenModel::open(engine, path.to_str().unwrap(), "").unwrap()
}

fn refused<T>(made: Result<T, Error>, want: &str) {
    match made {
        Ok(_) => panic!("was accepted, want {want:?}"),
        Err(e) => {
            assert_eq!(e.status, Status::Invalid, "{e}");
            assert!(e.message.contains(want), "{e}, want {want:?}");
        }
    }
}

#[test]
fn a_trained_network_keeps_its_process() {
    let files = Files::new("refusals-process");
    let path = files.model("m.safetensors", &model::manifest(&[6], "besq:{\"delta\":3}"));
    let m = open(&model::engine(1), &path);
    refused(Pipeline::new(&m, r#"{"process":"gbm"}"#), "trained under process org.diffx.besq");
    Pipeline::new(&m, r#"{"process":"besq:{\"delta\":4}"}"#).unwrap();
}

#[test]
fn levels_and_grids_are_given_for_all_components_or_one_each() {
    let files = Files::new("refusals-levels");
    let path = files.model("m.safetensors", &model::manifest(&[6], "ve"));
    let m = open(&model::engine(1), &path);
    for (config, want) in [
        (r#"{"sigma_min":0}"#, "sigma_min 0, sigma_max"),
        (r#"{"sigma_min":[0.1,0.1]}"#, "sigma_min: 2 values, the model has 1"),
        (r#"{"sigma_max":[10,1]}"#, "sigma_max: 2 values, the model has 1"),
        (r#"{"grid":["edm","edm"]}"#, "grid: 2 values, the model has 1"),
    ] {
        refused(Pipeline::new(&m, config), want);
    }
    let p = Pipeline::new(&m, r#"{"sigma_min":[0.5],"sigma_max":[9],"grid":["edm"]}"#).unwrap();
    let levels = p.rows(4).unwrap().levels.clone();
    assert!((levels[0] - 9.0).abs() < 1e-9 && (levels[3] - 0.5).abs() < 1e-9, "{levels:?}");
}

#[test]
fn a_saved_job_is_resumed_by_the_same_weights_only() {
    let files = Files::new("refusals-job");
    let path = files.model("m.safetensors", &model::manifest(&[6], "ve"));
    let (other, saved) = (files.at("other.safetensors"), files.at("job.safetensors"));
    // the same description, one weight another
    let file = SafeTensors::open(&path).unwrap();
    let budget = diffx::mem::Budget::unlimited();
    let tensors: Vec<_> =
        file.entries().iter().map(|e| (&e.name, file.tensor(&e.name, &budget).unwrap())).collect();
    let mut bytes: Vec<Vec<u8>> = tensors.iter().map(|(_, t)| t.bytes().to_vec()).collect();
    bytes[0][0] ^= 1;
    let out: Vec<Out<'_>> = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, t), bytes)| Out { name, desc: t.desc(), bytes })
        .collect();
    write(&other, file.metadata(), &out).unwrap();

    let engine = Engine::new(diffx::engine::Options { no_threads: true, ..Default::default() });
    let engine = engine.unwrap();
    let pipeline = Pipeline::new(&open(&engine, &path), "").unwrap();
    let options = JobOptions { n_samples: 8, ..JobOptions::default() };
    let job = Job::start(&pipeline, options).unwrap();
    job.save(&saved).unwrap();
    let changed = Pipeline::new(&open(&engine, &other), "").unwrap();
    refused(Job::resume(&changed, &saved), "another model or other settings");
    let again = Job::resume(&pipeline, &saved).unwrap();
    assert!(job.wait(Duration::MAX) && again.wait(Duration::MAX));
    assert_eq!(job.result("x").unwrap().bytes(), again.result("x").unwrap().bytes());
}

fn series(path: &Path, scale: f64) {
    let rows = (0..200).map(|i| format!("{:.5}\n", scale * (10.0 + (f64::from(i) * 0.9).sin())));
    std::fs::write(path, format!("level\n{}", rows.collect::<String>())).unwrap();
}

fn trainer(data: &Path, model: &str, more: &str) -> Result<Trainer, Error> {
    let data = data.to_str().unwrap();
    let text = format!(
        r#"{{"data":{{"path":"{data}","window":8,"history":4}},"process":"ve","steps":6,"batch":2{more}}}"#
    );
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["model"] = model.into();
    Trainer::new(&model::engine(1), Recipe::parse(&value.to_string())?)
}

const SMALL: &str = r#"temporal:{"width":8,"heads":2,"depth":1}"#;

#[test]
fn a_fault_in_the_settings_of_a_model_is_told_by_the_model() {
    let files = Files::new("refusals-model");
    let data = files.at("a.csv");
    series(&data, 1.0);
    let told = |model| match trainer(&data, model, "") {
        Ok(_) => panic!("{model} was accepted"),
        Err(e) => e.message,
    };
    let message = told(r#"temporal:{"width":30}"#);
    assert!(message.contains("heads is 4, want a divisor of width"), "{message}");
    let message = told(r#"temporal:{"widht":30}"#);
    assert!(message.contains("no key widht"), "{message}");
    let message = told("mlp");
    assert!(message.contains("takes no history"), "{message}");
    assert_eq!(Setting::parse(SMALL).unwrap().id, "temporal");
}

#[test]
fn a_training_is_resumed_with_the_same_data_and_settings_only() {
    let files = Files::new("refusals-trainer");
    let (data, doubled, saved) =
        (files.at("a.csv"), files.at("b.csv"), files.at("checkpoint.safetensors"));
    series(&data, 1.0);
    series(&doubled, 2.0);
    let mut first = trainer(&data, SMALL, "").unwrap();
    first.advance(&mut || Interrupt::Continue).unwrap();
    first.save_checkpoint(&saved).unwrap();
    let want = "other data or other settings";
    refused(trainer(&doubled, SMALL, "").unwrap().resume(&saved), want);
    for more in [r#","rate":0.5"#, r#","batch":3"#, r#","steps":7"#] {
        refused(trainer(&data, SMALL, more).unwrap().resume(&saved), want);
    }
    // how it will be sampled is not part of a step, nor is the name of the file
    let moved = files.at("moved.csv");
    std::fs::rename(&data, &moved).unwrap();
    let mut same = trainer(&moved, SMALL, r#","sample_steps":9"#).unwrap();
    same.resume(&saved).unwrap();
    assert_eq!(same.training().done(), 1);
}

/// A checkpoint whose record of metrics is broken is refused as a whole: the trainer stands where it stood.
#[test]
fn a_checkpoint_that_is_refused_leaves_the_trainer_as_it_was() {
    let files = Files::new("refusals-metrics");
    let (data, saved) = (files.at("a.csv"), files.at("checkpoint.safetensors"));
    series(&data, 1.0);
    let metrics = |name: &str| {
        let path = serde_json::json!(files.at(name)).to_string();
        format!(r#","metrics":{{"path":{path},"every":2}}"#)
    };
    let go = |t: &mut Trainer, steps: u32| {
        (0..steps).for_each(|_| drop(t.advance(&mut || Interrupt::Continue).unwrap()));
    };
    let mut first = trainer(&data, SMALL, &metrics("first.jsonl")).unwrap();
    go(&mut first, 3);
    first.save_checkpoint(&saved).unwrap();
    let file = SafeTensors::open(&saved).unwrap();
    let mut metadata = file.metadata().clone();
    *metadata.get_mut("diffx_metrics").unwrap() = "much".into();
    let budget = diffx::mem::Budget::unlimited();
    let tensors: Vec<_> =
        file.entries().iter().map(|e| (&e.name, file.tensor(&e.name, &budget).unwrap())).collect();
    let out: Vec<Out<'_>> =
        tensors.iter().map(|(name, t)| Out { name, desc: t.desc(), bytes: t.bytes() }).collect();
    let broken = files.at("broken.safetensors");
    write(&broken, &metadata, &out).unwrap();

    let mut second = trainer(&data, SMALL, &metrics("second.jsonl")).unwrap();
    go(&mut second, 1);
    let before = second.training().weights(false).unwrap();
    let e = second.resume(&broken).unwrap_err();
    assert!(e.message.contains("the metrics of the checkpoint are \"much\""), "{e}");
    assert_eq!(second.training().done(), 1);
    assert_eq!(second.training().weights(false).unwrap(), before);
    second.resume(&saved).unwrap();
    assert_eq!(second.training().done(), 3);
    go(&mut second, 3);
    go(&mut first, 3);
    let weights = |t: &Trainer| t.training().weights(true).unwrap();
    assert_eq!(weights(&first), weights(&second));
}

/// All gradients come of one walk; a name twice would be the same again for the same price.
#[test]
fn an_output_is_evaluated_once() {
    let files = Files::new("refusals-eval");
    let engine = model::engine(1);
    let model = open(&engine, &files.model("a.safetensors", &model::manifest(&[6], "ve")));
    let pipeline = Pipeline::new(&model, "").unwrap();
    let tensor = |dims: &[usize], values: &[f32]| {
        Arc::new(Tensor::from_f32(dims, values, engine.budget()).unwrap())
    };
    let values: Vec<f32> = (0..12).map(|i| 0.1 * i as f32).collect();
    let inputs = [
        ("x".to_owned(), tensor(&[2, 6], &values)),
        ("sigma".to_owned(), tensor(&[2], &[0.5, 2.0])),
    ];
    let ask = |names: &[&str]| {
        let outputs: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        pipeline.evaluate(&Evaluation { slot: "", phase: 0, inputs: &inputs, outputs: &outputs })
    };
    let all = ask(&["grad.sigma", "x", "grad.x"]).unwrap();
    for (together, name) in all.iter().zip(["grad.sigma", "x", "grad.x"]) {
        let alone = ask(&[name]).unwrap();
        assert_eq!(together.desc(), alone[0].desc());
        let numbers = |t: &Tensor| t.elements::<f32>().unwrap().to_vec();
        let (a, b) = (numbers(together), numbers(&alone[0]));
        assert!(a.iter().any(|v| *v != 0.0), "{name}");
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs()), "{name}");
    }
    refused(ask(&["grad.x", "x", "grad.x"]), "eval: output grad.x is asked for twice");
}

#[test]
fn a_simulation_that_would_not_end_is_refused() {
    let engine = model::engine(1);
    let x0 = Tensor::from_f32(&[1], &[1.0], engine.budget()).unwrap();
    let process = Setting::parse("cir").unwrap();
    let paths = |substeps| {
        engine.simulate(&Paths {
            process: &process,
            x0: &x0,
            per_sample: false,
            times: &[1.0],
            keep: &[],
            scheme: Scheme::Euler { substeps },
            n_samples: 1,
            seed: 0,
            first_sample: 0,
        })
    };
    assert!(paths(100_000).is_ok());
    refused(paths(100_001), "100001 steps between two times, want 1 to 100000");
    refused(paths(0), "0 steps between two times, want 1 to 100000");
}
