//! The pilot run: the same measurement whatever the batch, kept by the pipeline, the config or the model file, refused
//! where it does not hold.

#[path = "support/model.rs"]
mod model;

use diffx::base::Status;
use diffx::engine::{Engine, Job, JobOptions, OpenModel, Pipeline};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

fn file(name: &str) -> PathBuf {
    let path = model::temporary(name);
    model::save(&path, &model::manifest(&[6], "ve")).unwrap();
    path
}

fn pipeline(engine: &Arc<Engine>, path: &Path, config: &str) -> Arc<Pipeline> {
    let model = OpenModel::open(engine, path.to_str().unwrap(), "").unwrap();
    Pipeline::new(&model, config).unwrap()
}

fn options(seed: u64, n: usize) -> JobOptions {
    JobOptions { seed, n_samples: n, ..JobOptions::default() }
}

fn sample(pipeline: &Arc<Pipeline>) -> Vec<u8> {
    let job = Job::start(pipeline, options(1, 10)).unwrap();
    assert!(job.wait(Duration::from_secs(600)));
    job.result("x").unwrap().bytes().to_vec()
}

#[test]
fn a_grid_that_adapts_asks_for_its_pilot() {
    let path = file("asks.safetensors");
    let p = pipeline(&model::engine(1), &path, r#"{"grid":"art"}"#);
    assert!(p.wants_pilot());
    let e = Job::start(&p, options(1, 2)).err().unwrap();
    assert_eq!(e.status, Status::State);
    assert!(e.message.contains("wants a pilot run") && e.message.contains("there was none"), "{e}");
    p.pilot(&options(0, 0)).unwrap();
    assert!(!p.wants_pilot());
    sample(&p);
    let plain = pipeline(&model::engine(1), &path, "{}");
    assert_eq!(plain.pilot(&options(0, 0)).unwrap_err().status, Status::State);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn depends_on_seed_and_samples_only() {
    let path = file("seeds.safetensors");
    let run = |threads, batch, seed, n| {
        let config = format!("{{\"grid\":\"art\",\"batch\":{batch}}}");
        let pilot = pipeline(&model::engine(threads), &path, &config).pilot(&options(seed, n));
        pilot.unwrap().to_value()
    };
    let one = run(1, 64, 5, 0);
    assert_eq!(one["samples"], 64);
    assert_eq!(one["components"][0]["bend"].as_array().unwrap().len(), 64);
    assert!(one == run(3, 7, 5, 64), "batch and threads show");
    assert!(one != run(1, 64, 6, 0), "the seed does not show");
    assert!(one != run(1, 64, 5, 32), "the samples do not show");
    std::fs::remove_file(path).unwrap();
}

/// Samples that a guidance would draw again go down once in a pilot run, whichever share a batch.
#[test]
fn is_not_drawn_again_with_its_batch() {
    let path = file("redraws.safetensors");
    let run = |batch, redraws| {
        let reject = format!("reject:{{\"event\":\"x[0] >= 0.5\",\"redraws\":{redraws}}}");
        let config = serde_json::json!({"grid": "art", "batch": batch, "guidance": reject});
        let pilot = pipeline(&model::engine(1), &path, &config.to_string()).pilot(&options(5, 0));
        pilot.unwrap().to_value()["components"].clone()
    };
    let one = run(64, 50);
    assert!(one == run(8, 50), "the batch shows");
    assert!(one == run(64, 0), "samples were drawn again");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn is_kept_by_config_and_model_file() {
    let path = file("kept.safetensors");
    let engine = model::engine(1);
    let p = pipeline(&engine, &path, r#"{"grid":"art","sampler":"euler","steps":7}"#);
    let pilot = p.pilot(&options(5, 0)).unwrap();
    let own = sample(&p);
    let config = format!(
        "{{\"grid\":\"art\",\"sampler\":\"euler\",\"steps\":7,\"pilot\":{}}}",
        pilot.to_value()
    );
    assert!(own == sample(&pipeline(&engine, &path, &config)), "through the config");
    let kept = model::temporary("kept-with.safetensors");
    p.save_model(&kept).unwrap();
    let again = pipeline(&engine, &kept, "{}");
    assert!(!again.wants_pilot());
    assert!(own == sample(&again), "through the file");
    // any number of steps is read off the same measurement
    let (six, forty) = (again.rows(6).unwrap(), again.rows(40).unwrap());
    assert_eq!((six.len(), forty.len()), (6, 40));
    assert!(six.levels.iter().all(|l| l.is_finite()) && forty.levels[1] > six.levels[1]);
    // and it is another grid than the one it was measured on
    let even = pipeline(&engine, &path, r#"{"grid":"geometric","sampler":"euler","steps":7}"#);
    assert!(own != sample(&even));
    for file in [path, kept] {
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn holds_for_its_settings_only() {
    let path = file("holds.safetensors");
    let engine = model::engine(1);
    let p = pipeline(&engine, &path, r#"{"grid":"art"}"#);
    let pilot = p.pilot(&options(0, 4)).unwrap().to_value();
    for (config, want) in [
        (r#""guidance":"cfg:{\"scale\":2}","#, "other guidance"),
        (r#""process":"ve:{\"center\":3}","#, "other processes"),
        (r#""sigma_max":9,"#, "measured x from"),
    ] {
        let config = format!("{{{config}\"grid\":\"art\",\"pilot\":{pilot}}}");
        let p = pipeline(&engine, &path, &config);
        let e = Job::start(&p, options(1, 2)).err().unwrap();
        assert!(e.message.contains(want), "{config}: {e}");
    }
    std::fs::remove_file(path).unwrap();
}

/// The description that is written is the model's: weights lent by another file do not belong to it.
#[test]
fn a_model_is_saved_with_its_own_weights_only() {
    let (own, lent, out) =
        (file("own.safetensors"), file("lent.safetensors"), model::temporary("o"));
    let e = model::engine(1);
    let config = format!("{{\"networks\":{{\"base\":{{\"model\":{lent:?}}}}}}}");
    let mixed = pipeline(&e, &own, &config).save_model(&out).unwrap_err();
    assert_eq!(mixed.status, Status::Unsupported);
    assert!(mixed.message.contains("network base"), "{mixed}");
    assert!(!out.exists());
    pipeline(&e, &own, "{}").save_model(&out).unwrap();
    [own, lent, out].iter().for_each(|f| std::fs::remove_file(f).unwrap());
}
