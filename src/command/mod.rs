//! The `diffx` command: words in, files and one line out. A host like any other: everything it does goes through the
//! engine as a C host's calls do.

mod args;
mod chart;
mod doctor;
mod eval;
mod inspect;
mod npy;
mod output;
mod page;
mod picture;
mod pilot;
mod plugins;
mod progress;
mod recipe;
mod reward;
mod sample;
mod score;
mod simulate;
mod train;
mod tune;

use args::{Cli, Command, Host, PluginAction};
use clap::Parser;
use diffx::base::{Error, Result};
use diffx::engine::{Engine, Options};
use std::process::ExitCode;
use std::sync::Arc;

/// What went wrong, and whether the words on the command line did.
pub(crate) struct Failure {
    error: Error,
    usage: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, usage: false }
    }
}

/// A fault in the words themselves: exit code 2.
pub(crate) fn usage(error: Error) -> Failure {
    Failure { error, usage: true }
}

pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse(); // wrong words end here with code 2
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("diffx: {}", failure.error);
            ExitCode::from(if failure.usage { 2 } else { 1 })
        }
    }
}

fn dispatch(cli: Cli) -> std::result::Result<(), Failure> {
    let host = &cli.host;
    match cli.command {
        None => sample::carried(host),
        Some(Command::Sample(args)) => sample::run(host, &args),
        Some(Command::Pilot(args)) => pilot::run(host, args),
        Some(Command::Train(args)) => train::run(host, &args),
        Some(Command::Tune(args)) => tune::run(host, &args),
        Some(Command::Eval(args)) => eval::run(host, &args),
        Some(Command::Score(args)) => score::run(host, &args),
        Some(Command::Simulate(args)) => simulate::run(host, &args),
        Some(Command::Plugins { id: None }) => Ok(plugins::list(host)?),
        Some(Command::Plugins { id: Some(id) }) => Ok(plugins::settings(host, &id)?),
        Some(Command::Plugin { action: PluginAction::Check { file } }) => {
            Ok(plugins::check(host, &file)?)
        }
        Some(Command::Plugin { action: PluginAction::CheckHere { file } }) => {
            Ok(plugins::check_here(host, &file)?)
        }
        Some(Command::Inspect(args)) => Ok(inspect::run(&engine(host)?, &args, host.json)?),
        Some(Command::Doctor) => Ok(doctor::run(host)?),
    }
}

/// The engine the options ask for.
fn engine(host: &Host) -> Result<Arc<Engine>> {
    let engine = Engine::new(Options {
        load_plugins: true,
        env_plugins: host.env_plugins,
        threads: host.threads,
        device: host.device.clone(),
        log: Some(Arc::new(|level, text| {
            if level <= 1 {
                eprintln!("diffx: {text}");
            }
        })),
        log_anywhere: true,
        ..Options::default()
    })?;
    for path in &host.plugin {
        engine.load_instead(path, None)?;
    }
    Ok(engine)
}
