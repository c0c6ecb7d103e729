//! What a rollout leaves for the updates: levels whatever else is recorded, states only where there is one trajectory,
//! all of it out of the engine's memory and in the number that was promised.

use crate::probe::MOST_ROWS;
use crate::rig::{engine, engine_with, file, linear, open};
use diffx::base::Status;
use diffx::engine::tuner::Tuner;
use diffx::engine::{Engine, OpenModel, Options, Pipeline};
use serde_json::{Value, json};
use std::sync::Arc;

fn model(engine: &Arc<Engine>, name: &str) -> Arc<OpenModel> {
    let path = file(engine, name, "mixture:{\"width\":16}", &[2], 3);
    let model = open(engine, &path);
    std::fs::remove_file(path).unwrap();
    model
}

fn config(objective: &str, samples: usize, rollout: &Value) -> String {
    json!({
        "objective": objective, "samples": samples, "batch": samples / 4, "rounds": 2, "seed": 5,
        "rollout": rollout,
    })
    .to_string()
}

fn refused(model: &Arc<OpenModel>, config: &str) -> String {
    let e = Tuner::new(model, config).err().unwrap();
    assert_eq!(e.status, Status::Unsupported, "{e}");
    e.message
}

#[test]
fn levels_and_kernels_are_told_without_states() {
    let engine = engine();
    let model = model(&engine, "levels.safetensors");
    let rollout = json!({"sampler": "flow_sde", "steps": 6});
    let mut t =
        Tuner::new(&model, &config("org.tuning.levels:{\"also\":32}", 8, &rollout)).unwrap();
    t.rollout(&[]).unwrap();
    t.reward(linear(&t.result(None).unwrap())).unwrap();
    let told = t.advance().unwrap().metrics.split_off(2); // behind reward and valid
    let rows = Pipeline::new(&model, &rollout.to_string()).unwrap().rows(0).unwrap();
    assert_eq!((rows.levels.len(), rows.kernels.len()), (7, 18));
    for (i, level) in rows.levels.iter().enumerate() {
        assert_eq!(told[i], f64::from(*level as f32), "level {i}");
    }
    for (i, kernel) in rows.kernels.chunks(3).enumerate() {
        assert_eq!(told[MOST_ROWS + i], f64::from(kernel[0] as f32), "step {i}");
    }
    assert!(rows.levels[0] > 0.0 && rows.kernels[0] > 0.0, "zeros tell nothing");
    let carries = refused(&model, &config("org.tuning.levels:{\"also\":4}", 8, &rollout));
    assert!(carries.contains("reads the carries of a sweep and has no sweep"), "{carries}");
}

/// Samples that are drawn again have no trajectory in common; an objective that reads none may have them.
#[test]
fn states_of_redrawn_samples_are_refused() {
    let engine = engine();
    let model = model(&engine, "redrawn.safetensors");
    let with = |objective: &str, redraws: u32| {
        let reject =
            json!([{"id": "reject", "config": {"event": "x[0] >= 0.5", "redraws": redraws}}]);
        config(objective, 8, &json!({"sampler": "em", "steps": 6, "guidance": reject}))
    };
    let message = refused(&model, &with("org.tuning.levels:{\"also\":1}", 60));
    assert!(message.contains("a guidance redraws samples"), "{message}");
    let mut once = Tuner::new(&model, &with("org.tuning.levels:{\"also\":1}", 0)).unwrap();
    once.rollout(&[]).unwrap();
    let mut t = Tuner::new(&model, &with("elbo_pg:{\"draws\":2}", 60)).unwrap();
    t.rollout(&[]).unwrap();
    let x = t.result(Some("x")).unwrap();
    assert!(x.elements::<f32>().unwrap().chunks(2).all(|x| x[0] >= 0.5));
    let draws = t.result(Some("draws")).unwrap();
    assert!(draws.elements::<i32>().unwrap().iter().any(|d| *d > 1), "nothing was drawn again");
}

#[test]
fn a_rollout_takes_what_was_planned_and_no_more() {
    let rollout = json!({"sampler": "flow_sde", "steps": 24, "batch": 16});
    for objective in ["elbo_pg:{\"draws\":2}", "flow_grpo", "adjoint_matching"] {
        let engine = engine();
        let model = model(&engine, "planned.safetensors");
        let config = config(objective, 64, &rollout);
        let planned = Tuner::plan(&model, &config).unwrap();
        let before = engine.budget().used();
        let mut t = Tuner::new(&model, &config).unwrap();
        let session = engine.budget().used() - before;
        for _ in 0..2 {
            t.rollout(&[]).unwrap();
            let good = linear(&t.result(None).unwrap());
            t.reward(good.clone()).unwrap();
            t.reward(good).unwrap(); // said again: the first carries go before the second come
            for _ in 0..t.left() {
                t.advance().unwrap();
            }
        }
        let taken = engine.budget().peak() - before;
        assert!(taken <= planned, "{objective}: {taken} bytes, planned {planned}");
        let records = if objective.starts_with("elbo_pg") { 0 } else { 25 * 64 * 8 };
        assert!(taken >= session + records, "{objective}: {taken} of which {session} the session");
    }
}

#[test]
fn a_cap_refuses_records_that_do_not_fit() {
    const RECORDS: u64 = 51 * 1024 * 8;
    let open_with = |arena_bytes: u64| {
        let engine = engine_with(Options { threads: 2, arena_bytes, ..Options::default() });
        let model = model(&engine, "capped.safetensors");
        (engine, model)
    };
    let rollout = json!({"sampler": "flow_sde", "steps": 50, "batch": 64});
    for (objective, what) in [("flow_grpo", "a trajectory"), ("adjoint_matching", "a sweep")] {
        let config = config(objective, 1024, &rollout);
        let (engine, model) = open_with(0);
        let planned = Tuner::plan(&model, &config).unwrap();
        let all = engine.budget().used() + planned; // beside the weights of the file
        let (_engine, model) = open_with(all);
        let run = |model: &Arc<OpenModel>| {
            let mut t = Tuner::new(model, &config).unwrap();
            t.rollout(&[])?;
            t.reward(linear(&t.result(None).unwrap()))
        };
        run(&model).unwrap();
        let (_engine, model) = open_with(all - RECORDS / 2);
        let e = run(&model).unwrap_err();
        assert_eq!(e.status, Status::NoMemory, "{e}");
        assert!(e.message.contains(what), "{objective}: {e}");
    }
}
