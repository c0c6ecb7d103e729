//! `diffx train`: a config or options to a recipe, steps with a bar, a checkpoint now and then, a model at the end.

use super::args::{Host, Train};
use super::progress::Progress;
use super::{Failure, engine, usage};
use diffx::base::Result;
use diffx::engine::Setting;
use diffx::engine::recipe::Recipe;
use diffx::engine::trainer::Trainer;
use diffx::exec::Interrupt;
use diffx::fail;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A killed run loses at most this much work.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

pub(super) fn run(host: &Host, args: &Train) -> std::result::Result<(), Failure> {
    let recipe = recipe(args)?;
    let engine = engine(host)?;
    let started = Instant::now();
    let mut trainer = Trainer::new(&engine, recipe)?;
    let checkpoint = beside(&args.out);
    if args.resume {
        trainer.resume(&checkpoint)?;
    }
    let total = trainer.training().steps();
    if !host.json {
        println!(
            "{}, {} values to train, {} skipped",
            trainer.what,
            trainer.training().parameters(),
            trainer.skipped,
        );
    }
    let progress = Progress::new(u64::from(total), host.json);
    let mut saved = Instant::now();
    let mut mean = Mean::default();
    let every = (total / 20).max(1);
    while trainer.training().done() < total {
        let Some(report) = trainer.advance(&mut || Interrupt::Continue)? else { continue };
        mean.add(report.loss);
        let message = format!("loss {:.4}", mean.value());
        let line = report
            .step
            .is_multiple_of(every)
            .then(|| line(&mut trainer, report.step, mean.value()));
        let line = line.transpose()?;
        if let (false, Some(line)) = (host.json, &line) {
            progress.say(&format!("step {}  loss {:.4}{}", report.step, mean.value(), held(line)));
        }
        progress.at(u64::from(report.step), &message, line);
        if saved.elapsed() > CHECKPOINT_EVERY {
            trainer.save_checkpoint(&checkpoint)?;
            saved = Instant::now();
        }
    }
    progress.finish();
    trainer.save(&args.out)?;
    let _ = std::fs::remove_file(&checkpoint); // all of it is in the model now
    let seconds = started.elapsed().as_secs_f64();
    let out = args.out.display();
    if host.json {
        println!("{}", json!({"model": args.out, "steps": total, "seconds": seconds}));
    } else {
        println!("{total} steps in {seconds:.1} s, wrote {out}");
    }
    Ok(())
}

/// A step as JSON, with the loss on data that is not trained on.
fn line(trainer: &mut Trainer, step: u32, loss: f64) -> Result<Value> {
    let mut line = json!({"step": step, "loss": loss});
    if let Some(held) = trainer.measure()? {
        line["held_out_loss"] = json!(held.loss);
    }
    Ok(line)
}

fn held(line: &Value) -> String {
    let value = line.get("held_out_loss").and_then(Value::as_f64);
    value.map_or(String::new(), |v| format!("  held out {v:.4}"))
}

/// `vix.safetensors` -> `vix.checkpoint.safetensors`
fn beside(out: &Path) -> PathBuf {
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!("{stem}.checkpoint.safetensors"))
}

/// The config file with the options over it.
fn recipe(args: &Train) -> std::result::Result<Recipe, Failure> {
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
    let mut data = match config.remove("data") {
        None => Map::new(),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(fail!(Format, "the config's data is no object").into()),
    };
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            data.insert(key.to_owned(), value);
        }
    };
    put("path", args.data.as_ref().map(|p| json!(p)));
    put("column", args.column.as_ref().map(|v| json!(v)));
    put("window", args.window.map(|v| json!(v)));
    put("history", args.history.map(|v| json!(v)));
    put("split", args.split.as_ref().map(|v| json!(v)));
    put("show", args.show.as_ref().map(|v| json!(v)));
    config.insert("data".into(), Value::Object(data));
    let settings = [
        ("model", &args.model),
        ("process", &args.process),
        ("objective", &args.objective),
        ("sampler", &args.sampler),
    ];
    for (key, text) in settings {
        if let Some(text) = text {
            let setting = Setting::parse(text).map_err(usage)?;
            config.insert(key.into(), setting.to_value());
        }
    }
    if !args.guidance.is_empty() {
        let list = args.guidance.iter().map(|t| Ok(Setting::parse(t)?.to_value()));
        let list = list.collect::<Result<Vec<_>>>().map_err(usage)?;
        config.insert("guidance".into(), Value::Array(list));
    }
    for (key, value) in [
        ("steps", args.steps.map(u64::from)),
        ("batch", args.batch.map(|b| b as u64)),
        ("seed", args.seed),
    ] {
        if let Some(value) = value {
            config.insert(key.into(), json!(value));
        }
    }
    if let Some(rate) = args.rate {
        config.insert("rate".into(), json!(rate));
    }
    Ok(Recipe::parse(&Value::Object(config).to_string())?)
}

/// A mean that forgets, for a loss that jumps from step to step.
#[derive(Default)]
struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    fn add(&mut self, v: f64) {
        if v.is_finite() {
            self.sum = 0.99 * self.sum + v;
            self.weight = 0.99 * self.weight + 1.0;
        }
    }

    fn value(&self) -> f64 {
        self.sum / self.weight.max(1e-9)
    }
}
