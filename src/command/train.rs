//! `diffx train`: a config or options to a recipe, steps with a bar, a checkpoint now and then, a model at the end. A
//! run that is stopped by a signal leaves a checkpoint; one that is killed has the last.

use super::args::{Host, Train};
use super::progress::Progress;
use super::recipe::recipe;
use super::{Failure, engine};
use diffx::base::Result;
use diffx::engine::trainer::Trainer;
use diffx::exec::Interrupt;
use diffx::fail;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A killed run loses at most this much work.
pub(super) const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// Exit code of the second Ctrl-C: what a shell says of a program that SIGINT ended.
const QUIT: i32 = 130;

pub(super) fn run(host: &Host, args: &Train) -> std::result::Result<(), Failure> {
    let recipe = recipe(args)?;
    let stop = stop_on_signals()?;
    let engine = engine(host)?;
    let started = Instant::now();
    let mut trainer = Trainer::new(&engine, recipe)?;
    let checkpoint = beside(&args.out);
    if args.resume && checkpoint.exists() {
        trainer.resume(&checkpoint)?;
    } else if args.resume && !host.json {
        println!("no checkpoint {}: from the beginning", checkpoint.display());
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
        if stop.load(Ordering::Relaxed) {
            progress.finish();
            return Err(stopped(&trainer, &checkpoint).into());
        }
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
        let due = match args.save_every {
            Some(steps) => report.step.is_multiple_of(steps.max(1)),
            None => saved.elapsed() > CHECKPOINT_EVERY,
        };
        if due {
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

/// A flag that SIGINT and SIGTERM set; a second one ends the program at once.
pub(super) fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // in this order: the first signal finds the flag down, and only then raises it
        flag::register_conditional_shutdown(signal, QUIT, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .map_err(|e| fail!(Io, "signal {signal}: {e}"))?;
    }
    Ok(stop)
}

/// Leaves a checkpoint and says so.
fn stopped(trainer: &Trainer, checkpoint: &Path) -> diffx::base::Error {
    let training = trainer.training();
    let (done, total) = (training.done(), training.steps());
    match trainer.save_checkpoint(checkpoint) {
        Ok(()) => fail!(
            Cancelled,
            "stopped after step {done} of {total}; {} has it, --resume goes on",
            checkpoint.display()
        ),
        Err(e) => e.within(format!("stopped after step {done} of {total}, and no checkpoint")),
    }
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
pub(super) fn beside(out: &Path) -> PathBuf {
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!("{stem}.checkpoint.safetensors"))
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
