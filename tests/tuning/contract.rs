//! What a tuner promises whatever the objective: samples by id, the same bits for any split and after a resume, slots,
//! adapters that merge, and one sentence for what does not fit.

use crate::probe::MOST_ROWS;
use crate::rig::{drive, engine, file, linear, open, rows, temporary};
use diffx::base::Status;
use diffx::engine::tuner::Tuner;
use diffx::engine::{Engine, OpenModel, Pipeline};
use diffx::mem::{Budget, Tensor};
use diffx::train::Reward;
use serde_json::{Value, json};
use std::sync::Arc;

fn mixture(name: &str) -> (Arc<Engine>, Arc<OpenModel>) {
    let engine = engine();
    let path = file(&engine, name, "mixture:{\"width\":16}", &[2], 3);
    let model = open(&engine, &path);
    std::fs::remove_file(path).unwrap();
    (engine, model)
}

fn config(more: &Value) -> String {
    let mut all = json!({
        "objective": "elbo_pg:{\"draws\":2}", "samples": 8, "rounds": 3, "seed": 5, "rate": 1e-3,
        "rollout": {"sampler": "em", "steps": 6},
    });
    for (key, value) in more.as_object().unwrap() {
        all[key] = value.clone();
    }
    all.to_string()
}

fn weights(tuner: &mut Tuner, name: &str) -> Vec<u8> {
    let path = temporary(name);
    tuner.save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    bytes
}

#[test]
fn samples_depend_on_their_ids_alone() {
    let (_engine, model) = mixture("ids.safetensors");
    let first = |batch: u32| {
        let rollout = json!({"sampler": "em", "steps": 6, "batch": batch});
        let mut t = Tuner::new(&model, &config(&json!({"rollout": rollout}))).unwrap();
        t.rollout(&[]).unwrap();
        t.result(Some("x")).unwrap().bytes().to_vec()
    };
    let whole = first(8);
    assert_eq!(whole, first(3));
    assert_eq!(whole, first(1));
    // a job of the same ids and seed draws the same: nothing has been learned yet
    let pipeline = Pipeline::new(&model, r#"{"sampler":"em","steps":6}"#).unwrap();
    let options = diffx::engine::JobOptions { seed: 5, n_samples: 8, ..Default::default() };
    let job = diffx::engine::Job::start(&pipeline, options).unwrap();
    assert!(job.wait(std::time::Duration::from_secs(600)));
    assert_eq!(whole, job.result("x").unwrap().bytes());
}

/// Line h of the plan: log-densities of a rollout, by the trainer, for every split.
#[test]
fn log_densities_have_the_same_bits_for_every_split() {
    let (_engine, model) = mixture("split.safetensors");
    let mut seen: Vec<Vec<u64>> = Vec::new();
    for (batch, draw) in [(8, 8), (4, 8), (2, 3), (1, 8)] {
        let rollout = json!({"sampler": "flow_sde", "steps": 6, "batch": draw});
        let more =
            json!({"objective": "org.tuning.probe", "batch": batch, "rate": 0, "rollout": rollout});
        let mut t = Tuner::new(&model, &config(&more)).unwrap();
        t.rollout(&[]).unwrap();
        t.reward(linear(&t.result(Some("x")).unwrap())).unwrap();
        let mut densities = Vec::new();
        for _ in 0..8 / batch {
            let report = t.advance().unwrap();
            let own = &report.metrics[2..2 + batch]; // behind reward and valid
            densities.extend(own.iter().map(|v| v.to_bits()));
        }
        assert!(batch <= MOST_ROWS);
        densities.sort_unstable(); // batches come in an order of their own
        seen.push(densities);
    }
    assert!(seen.iter().all(|s| *s == seen[0]), "{seen:?}");
    assert!(seen[0].windows(2).all(|w| w[0] != w[1]), "rows are told apart");
}

/// The numbers of a model file.
fn numbers(file: &[u8]) -> Vec<f32> {
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let of = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap());
    file[8 + header..].chunks_exact(4).map(of).collect()
}

/// An update of several batches is that of one of all their samples, but for the last digits.
#[test]
fn gradients_of_several_batches_are_one_update() {
    let (_engine, model) = mixture("several.safetensors");
    let tuned = |batch: usize, accumulate: usize| {
        let more = json!({"samples": 32, "batch": batch, "accumulate": accumulate, "sweeps": 2, "epsilon": 0.01});
        let mut t = Tuner::new(&model, &config(&more)).unwrap();
        let last = drive(&mut t, &linear).unwrap();
        assert_eq!(t.tuning().done(), (3, 3 * 2 * 32 / (batch * accumulate) as u32));
        (numbers(&weights(&mut t, "several.tuned.safetensors")), last)
    };
    let (whole, told) = tuned(32, 1);
    let far = |x: &[f32]| {
        let gap = |(a, b): (&f32, &f32)| f64::from((a - b).abs());
        x.iter().zip(&whole).map(gap).fold(0.0, f64::max)
    };
    for (batch, accumulate) in [(8, 4), (1, 32)] {
        let (same, last) = tuned(batch, accumulate);
        println!("{accumulate} batches of {batch}: largest difference {:.1e}", far(&same));
        assert!(same.len() == whole.len() && far(&same) < 2e-6);
        assert!((last.loss - told.loss).abs() < 1e-4 * told.loss.abs().max(1.0));
        assert!((last.norm - told.norm).abs() < 1e-4 * told.norm);
    }
    let (two, _) = tuned(8, 2);
    assert!(far(&two) > 1e-4, "twice as many updates are others");
    assert_eq!(two, tuned(8, 2).0);
}

#[test]
fn the_ratio_of_the_first_update_is_one() {
    let (_engine, model) = mixture("ratio.safetensors");
    for objective in ["flow_grpo", "ddpo"] {
        let rollout = json!({"sampler": "flow_sde", "steps": 6});
        let mut t = Tuner::new(
            &model,
            &config(&json!({"objective": objective, "rollout": rollout, "sweeps": 2})),
        )
        .unwrap();
        t.rollout(&[]).unwrap();
        t.reward(linear(&t.result(None).unwrap())).unwrap();
        let ratio = t.metrics().iter().position(|n| n == "ratio").unwrap();
        assert_eq!(t.advance().unwrap().metrics[ratio], 1.0, "{objective}");
        assert_ne!(t.advance().unwrap().metrics[ratio], 1.0, "{objective}: the second moved on");
    }
}

#[test]
fn a_resumed_tuning_ends_in_the_same_bits() {
    let (_engine, model) = mixture("resume.safetensors");
    let log = temporary("resume.jsonl");
    let more = json!({
        "objective": "elbo_pg:{\"draws\":2,\"kl\":0.01}", "old": {"rate": 0.3, "most": 0.9}, "actor": "old",
        "batch": 4, "sweeps": 2, "metrics": {"path": log, "every": 1},
    });
    let mut whole = Tuner::new(&model, &config(&more)).unwrap();
    drive(&mut whole, &linear).unwrap();
    let want = weights(&mut whole, "whole.safetensors");
    let lines = std::fs::read_to_string(&log).unwrap();
    assert_eq!(lines.lines().count(), 12);
    let line: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert!(line["reward"].is_f64() && line["valid"] == 1.0 && line["elbo"].is_f64(), "{line}");

    let checkpoint = temporary("resume.checkpoint.safetensors");
    let mut half = Tuner::new(&model, &config(&more)).unwrap();
    half.rollout(&[]).unwrap();
    half.reward(linear(&half.result(None).unwrap())).unwrap();
    half.advance().unwrap();
    let e = half.save_checkpoint(&checkpoint).unwrap_err();
    assert_eq!(
        (e.status, e.message.as_str()),
        (
            Status::State,
            "1 of 4 updates of this round are made; a checkpoint is taken between rounds"
        )
    );
    for _ in 0..3 {
        half.advance().unwrap();
    }
    half.rollout(&[]).unwrap(); // not in the checkpoint, and drawn again
    half.save_checkpoint(&checkpoint).unwrap();
    drop(half);
    let mut rest = Tuner::new(&model, &config(&more)).unwrap();
    rest.resume(&checkpoint).unwrap();
    assert_eq!(rest.tuning().done(), (1, 4));
    drive(&mut rest, &linear).unwrap();
    assert!(weights(&mut rest, "rest.safetensors") == want);
    let strip = |text: &str| -> Vec<Value> {
        let own = |l: &str| {
            let mut v: Value = serde_json::from_str(l).unwrap();
            v.as_object_mut().unwrap().remove("samples_per_second");
            v
        };
        text.lines().map(own).collect()
    };
    assert_eq!(strip(&std::fs::read_to_string(&log).unwrap()), strip(&lines));
    // and not another tuning's
    let mut other = Tuner::new(&model, &config(&json!({"rate": 2e-3}))).unwrap();
    let e = other.resume(&checkpoint).unwrap_err();
    assert!(e.message.contains("with other data or other settings"), "{e}");
    for path in [checkpoint, log] {
        std::fs::remove_file(path).unwrap();
    }
}

/// Adapters alone train, and the merged model draws what the tuner draws.
#[test]
fn adapters_merge_into_the_saved_model() {
    let (engine, model) = mixture("lora.safetensors");
    let more = json!({
        "lora": {"rank": 3, "scale": 0.5}, "rounds": 4, "rate": 0.05, "ema": 0.0,
        "objective": "elbo_pg:{\"draws\":2,\"kl\":0.01}",
    });
    let mut t = Tuner::new(&model, &config(&more)).unwrap();
    assert!(t.tuning().listed().all(|(n, _)| n.contains(".lora_")));
    for _ in 0..3 {
        t.rollout(&[]).unwrap();
        t.reward(linear(&t.result(None).unwrap())).unwrap();
        t.advance().unwrap();
    }
    t.rollout(&[]).unwrap();
    let drawn = rows(&t.result(None).unwrap());
    let path = temporary("merged.safetensors");
    t.save(&path).unwrap();
    let merged = open(&engine, &path);
    let samples = |model: &Arc<OpenModel>| {
        let pipeline = Pipeline::new(model, r#"{"sampler":"em","steps":6}"#).unwrap();
        let options = diffx::engine::JobOptions {
            seed: 5,
            first_sample: 24,
            n_samples: 8,
            ..Default::default()
        };
        let job = diffx::engine::Job::start(&pipeline, options).unwrap();
        assert!(job.wait(std::time::Duration::from_secs(600)));
        rows(&job.result("x").unwrap())
    };
    let far = |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0f64, |m, (x, y)| m.max((x - y).abs()));
    let (now, then) = (samples(&merged), samples(&model));
    // the moving average starts low and is not the weights themselves
    assert!(far(&then, &drawn) > 0.05, "nothing was learned: {}", far(&then, &drawn));
    assert!(far(&now, &then) > 0.01, "the file is the old one: {}", far(&now, &then));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn what_does_not_fit_is_one_sentence() {
    let (_engine, model) = mixture("refused.safetensors");
    let budget = Budget::unlimited();
    let message = |more: Value| Tuner::new(&model, &config(&more)).err().unwrap().message;
    assert!(message(json!({"objective": "dsm"})).contains("trains on data, not on rollouts"));
    assert!(
        message(json!({"objective": "flow_grpo", "rollout": {"sampler": "heun"}}))
            .contains("this sampler does not tell them: want one such as flow_sde")
    );
    assert!(message(json!({"rollout": {"step": 3}})).contains("unknown key step"));

    let mut t = Tuner::new(&model, &config(&json!({"objective": "adjoint_matching"}))).unwrap();
    let refuse = |t: &mut Tuner, reward: Reward, want: &str| {
        let e = t.reward(reward).unwrap_err();
        assert!(e.message.contains(want), "{e}");
    };
    assert!(t.result(None).unwrap_err().message.contains("there is no rollout"));
    assert!(t.advance().unwrap_err().message.contains("there is no rollout to train on"));
    t.rollout(&[]).unwrap();
    assert!(t.advance().unwrap_err().message.contains("the rollout has no rewards yet"));
    let good = linear(&t.result(None).unwrap());
    let with = |values: Vec<f64>| Reward { values, ..good.clone() };
    refuse(&mut t, with(vec![1.0; 7]), "7 rewards, want 8 samples of 1");
    let mut broken = vec![1.0; 8];
    broken[5] = f64::NAN;
    refuse(&mut t, with(broken.clone()), "the reward of sample 5 is NaN, want a finite number");
    refuse(
        &mut t,
        Reward { valid: vec![true; 3], ..good.clone() },
        "validity of 3 samples, want 8",
    );
    refuse(
        &mut t,
        Reward { valid: vec![false; 8], ..good.clone() },
        "no sample of 8 has a valid reward",
    );
    refuse(
        &mut t,
        Reward { grads: vec![], ..good.clone() },
        "wants the gradient of the reward by x",
    );
    let odd = Tensor::from_f32(&[8, 3], &[0.0; 24], &budget).unwrap();
    let odd = vec![("x".to_owned(), Arc::new(odd))];
    refuse(&mut t, Reward { grads: odd, ..good.clone() }, "is f32[8,3], want f32[8,2]");
    let bad = Tensor::from_f32(&[8, 2], &[f32::INFINITY; 16], &budget).unwrap();
    let bad = vec![("x".to_owned(), Arc::new(bad))];
    refuse(&mut t, Reward { grads: bad, ..good.clone() }, "of sample 0 is not finite");
    // and the round goes on with a good word; NaN in a row that does not count is nobody's concern
    let valid = (0..8).map(|i| i != 5).collect();
    t.reward(Reward { values: broken, valid, ..good }).unwrap();
    let report = t.advance().unwrap();
    assert!(report.loss.is_finite() && report.norm > 0.0);
    assert_eq!(report.metrics[1], 7.0 / 8.0);
    for _ in 0..2 {
        t.rollout(&[]).unwrap();
        t.reward(linear(&t.result(None).unwrap())).unwrap();
        t.advance().unwrap();
    }
    assert!(t.rollout(&[]).unwrap_err().message.contains("all 3 rounds are done"));
}

/// A row that is not valid changes nothing, whatever its reward is.
#[test]
fn rows_without_a_reward_do_not_count() {
    let (_engine, model) = mixture("valid.safetensors");
    for objective in
        ["elbo_pg:{\"draws\":2}", "flow_grpo", "nft:{\"draws\":2}", "adjoint_matching", "dpo"]
    {
        let after = |odd: f64| {
            let more = json!({"objective": objective, "rounds": 1});
            let mut t = Tuner::new(&model, &config(&more)).unwrap();
            t.rollout(&[]).unwrap();
            let mut reward = linear(&t.result(None).unwrap());
            reward.values[3] = odd;
            reward.valid = (0..8).map(|i| i != 3).collect();
            t.reward(reward).unwrap();
            t.advance().unwrap();
            weights(&mut t, "valid-out.safetensors")
        };
        assert!(after(1e30) == after(f64::NAN), "{objective}");
    }
}
