//! `diffx tune`: rounds of samples, rewards and updates, a line for each round, a checkpoint now and then, a model at the
//! end. A run that is stopped by a signal or by a reward that fails leaves the last checkpoint as it was.

use super::args::{Host, Tune};
use super::progress::Progress;
use super::reward::Source;
use super::sample::conditions;
use super::train::{CHECKPOINT_EVERY, beside, stop_on_signals};
use super::{Failure, engine, usage};
use diffx::base::Result;
use diffx::engine::tuner::Tuner;
use diffx::engine::{OpenModel, Setting};
use diffx::fail;
use diffx::mem::Tensor;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

pub(super) fn run(host: &Host, args: &Tune) -> std::result::Result<(), Failure> {
    let config = config(args)?;
    let reward = Setting::parse(&args.reward).map_err(usage)?;
    let stop = stop_on_signals()?;
    let engine = engine(host)?;
    let started = Instant::now();
    let model = OpenModel::open(&engine, &args.model, "")?;
    let parts = &model.manifest.components;
    let sizes = |dims: &[i64]| dims.iter().filter_map(|d| usize::try_from(*d).ok()).collect();
    let components: Vec<(String, Vec<usize>)> =
        parts.iter().map(|p| (p.name.clone(), sizes(&p.dims))).collect();
    let mut source = Source::open(&reward, &components)?;
    let mut tuner = Tuner::new(&model, &config)?;
    let conds = conditions(&model, tuner.conds(), args.cond.as_deref())?;
    let checkpoint = beside(&args.out);
    if args.resume && checkpoint.exists() {
        tuner.resume(&checkpoint)?;
    } else if args.resume && !host.json {
        println!("no checkpoint {}: from the beginning", checkpoint.display());
    }
    let rounds = tuner.tuning().plan().rounds;
    let gradient = tuner.wants_gradient();
    let progress = Progress::new(u64::from(rounds), host.json);
    let every = (rounds / 20).max(1);
    let mut saved = Instant::now();
    while tuner.tuning().done().0 < rounds {
        let round = tuner.tuning().done().0;
        if stop.load(Ordering::Relaxed) {
            progress.finish();
            tuner.save_checkpoint(&checkpoint)?;
            let at = checkpoint.display();
            let text = fail!(
                Cancelled,
                "stopped after round {round} of {rounds}; {at} has it, --resume goes on"
            );
            return Err(text.into());
        }
        let said = turn(&mut tuner, &conds, &mut source, &components, gradient)?;
        let line = json!({"round": round + 1, "of": rounds, "reward": said.0, "loss": said.1});
        let message = format!("reward {:.4}", said.0);
        if (round + 1).is_multiple_of(every) && !host.json {
            progress.say(&format!("round {}  reward {:.4}  loss {:.4}", round + 1, said.0, said.1));
        }
        progress.at(u64::from(round + 1), &message, Some(line));
        let due = match args.save_every {
            Some(rounds) => (round + 1).is_multiple_of(rounds.max(1)),
            None => saved.elapsed() > CHECKPOINT_EVERY,
        };
        if due {
            tuner.save_checkpoint(&checkpoint)?;
            saved = Instant::now();
        }
    }
    progress.finish();
    tuner.save(&args.out)?;
    let _ = std::fs::remove_file(&checkpoint); // all of it is in the model now
    let seconds = started.elapsed().as_secs_f64();
    if host.json {
        println!("{}", json!({"model": args.out, "rounds": rounds, "seconds": seconds}));
    } else {
        println!("{rounds} rounds in {seconds:.1} s, wrote {}", args.out.display());
    }
    Ok(())
}

/// One round: the mean reward of its samples, and the loss of its last update.
fn turn(
    tuner: &mut Tuner,
    conds: &[(String, Arc<Tensor>)],
    source: &mut Source,
    components: &[(String, Vec<usize>)],
    gradient: bool,
) -> Result<(f64, f64)> {
    tuner.rollout(conds)?;
    let samples = components.iter().map(|(name, _)| Ok((name.clone(), tuner.result(Some(name))?)));
    let samples = samples.collect::<Result<Vec<(String, Arc<Tensor>)>>>()?;
    tuner.reward(source.judge(&samples, gradient, tuner.budget())?)?;
    let mut said = (f64::NAN, f64::NAN);
    for _ in 0..tuner.left() {
        let report = tuner.advance()?;
        said = (report.metrics.first().copied().unwrap_or(f64::NAN), report.loss);
    }
    Ok(said)
}

/// The config file with the options over it.
fn config(args: &Tune) -> std::result::Result<String, Failure> {
    let mut config = match &args.config {
        None => Map::new(),
        Some(path) => {
            let label = path.display();
            let text = std::fs::read_to_string(path).map_err(|e| fail!(Io, "{label}: {e}"))?;
            match serde_json::from_str(&text) {
                Ok(Value::Object(map)) => map,
                Ok(_) => return Err(fail!(Format, "{label}: want an object").into()),
                Err(e) => return Err(fail!(Format, "{label}: {e}").into()),
            }
        }
    };
    if let Some(objective) = &args.objective {
        let setting = Setting::parse(objective).map_err(usage)?;
        config.insert("objective".into(), setting.to_value());
    }
    let mut rollout = match config.remove("rollout") {
        None => Map::new(),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(fail!(Format, "the config's rollout is no object").into()),
    };
    for (key, text) in [("sampler", &args.sampler), ("grid", &args.grid)] {
        if let Some(text) = text {
            rollout.insert(key.into(), Setting::parse(text).map_err(usage)?.to_value());
        }
    }
    if let Some(steps) = args.steps {
        rollout.insert("steps".into(), json!(steps));
    }
    config.insert("rollout".into(), Value::Object(rollout));
    for (key, value) in [
        ("rounds", args.rounds.map(u64::from)),
        ("samples", args.samples.map(|n| n as u64)),
        ("batch", args.batch.map(|n| n as u64)),
        ("seed", args.seed),
    ] {
        if let Some(value) = value {
            config.insert(key.into(), json!(value));
        }
    }
    if let Some(rate) = args.rate {
        config.insert("rate".into(), json!(rate));
    }
    if let Some(path) = &args.metrics {
        config.insert("metrics".into(), json!({"path": path, "every": 1}));
    }
    Ok(Value::Object(config).to_string())
}
