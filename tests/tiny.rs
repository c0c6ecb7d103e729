//! The first test to run: everything from a file to samples in twenty lines. If this fails, read no other failure.

use diffx::engine::{Engine, Job, JobOptions, OpenModel, Options, Pipeline};
use std::time::Duration;

#[test]
fn the_carried_model_gives_a_path() {
    let engine = Engine::new(Options::default()).unwrap();
    let model = OpenModel::open(&engine, "vix", "").unwrap();
    let pipeline = Pipeline::new(&model, r#"{"steps":2}"#).unwrap();
    let job = Job::start(&pipeline, JobOptions { seed: 1, n_samples: 1, ..Default::default() });
    let job = job.unwrap();
    assert!(job.wait(Duration::from_secs(600)), "not over after ten minutes");
    let x = job.result("x").unwrap();
    assert!(x.elements::<f32>().unwrap().iter().all(|v| v.is_finite() && *v > 0.0));
}
