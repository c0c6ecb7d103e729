//! The words of the command line. Settings are an id, or an id and JSON after a colon: `cir:{"kappa":1.0}`.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Positive processes, networks and guidance: train and sample diffusion models.
///
/// Without a command: samples the model inside the program and writes diffx-sample.png and diffx-sample.csv.
#[derive(Debug, Parser)]
#[command(name = "diffx", disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) host: Host,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Host {
    /// Load a plugin from this absolute path, in the place of one of its id (repeatable)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) plugin: Vec<PathBuf>,
    /// Load the files named in DIFFX_PLUGIN_PATH too
    #[arg(long, global = true)]
    pub(crate) env_plugins: bool,
    /// Worker threads; 0 = one per core
    #[arg(long, global = true, default_value_t = 0, hide_default_value = true)]
    pub(crate) threads: usize,
    /// cpu or cuda:N
    #[arg(long, global = true, default_value = "", hide_default_value = true)]
    pub(crate) device: String,
    /// Print JSON lines instead of words and bars
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Draw samples of a model
    Sample(Box<Sample>),
    /// Measure the path of a model once, and write it with a grid that adapts to it
    Pilot(Pilot),
    /// Train a model on a series
    Train(Box<Train>),
    /// Tune a model by rewards of its samples
    Tune(Box<Tune>),
    /// Run the network of a model once on named tensors
    Eval(Eval),
    /// Log-likelihood of data under a model
    Score(Score),
    /// Simulate paths of a process
    Simulate(Simulate),
    /// List the plugins, or the settings of one
    Plugins {
        /// A short or full id: its settings, with their defaults
        id: Option<String>,
    },
    /// Check the file of a plugin in a process of its own
    Plugin {
        #[command(subcommand)]
        action: PluginAction,
    },
    /// Show what a model's file or folder holds, and what it takes to run
    Inspect(Inspect),
    /// Look at this machine and this build
    Doctor,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A file, a folder, or the name of a carried model
    pub(crate) file: String,
    /// Rows whose bytes are told
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) batch: u32,
    /// How to open it: {"variant": "fp16", "model": {...}}
    #[arg(long, value_name = "JSON")]
    pub(crate) config: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Sample {
    /// A file or folder, or the name of a carried model
    #[arg(default_value = "vix")]
    pub(crate) model: String,
    #[arg(long, value_name = "ID[:JSON]")]
    pub(crate) process: Option<String>,
    #[arg(long, value_name = "ID[:JSON]")]
    pub(crate) sampler: Option<String>,
    #[arg(long, value_name = "ID[:JSON]")]
    pub(crate) grid: Option<String>,
    #[command(flatten)]
    pub(crate) pictures: Pictures,
    /// Repeatable; replaces those of the file
    #[arg(long, value_name = "ID[:JSON]")]
    pub(crate) guidance: Vec<String>,
    /// Steps of the sampler
    #[arg(long)]
    pub(crate) steps: Option<u32>,
    /// How many samples; else one of each --class, 4 pictures, 512 of all else
    #[arg(long, short)]
    pub(crate) num: Option<usize>,
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Id of the first sample; the same id gives the same sample
    #[arg(long, default_value_t = 0)]
    pub(crate) first_sample: u64,
    /// Conditions: JSON {"name": [values]} or a .safetensors file; default: those the model carries
    #[arg(long, value_name = "FILE|JSON")]
    pub(crate) cond: Option<String>,
    /// Network slots of guidances: {"h": {"model": "FILE"}}
    #[arg(long, value_name = "JSON")]
    pub(crate) networks: Option<String>,
    /// f32 or f64
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<String>,
    /// Samples per run of the step
    #[arg(long)]
    pub(crate) batch: Option<usize>,
    /// .safetensors, .npy, .csv or .png (repeatable)
    #[arg(long, short)]
    pub(crate) out: Vec<PathBuf>,
}

/// Words about pictures, and of other programs.
#[derive(Debug, Default, Args)]
pub(crate) struct Pictures {
    /// A class by its number or its name in the model, or `all` (repeatable: samples take them in turn)
    #[arg(long, value_name = "CLASS")]
    pub(crate) class: Vec<String>,
    /// Scale of classifier-free guidance
    #[arg(long, value_name = "SCALE")]
    pub(crate) guidance_scale: Option<f64>,
    /// A scheduler of diffusers: a file, a folder, or its config
    #[arg(long, value_name = "PATH|JSON")]
    pub(crate) scheduler: Option<String>,
    /// philox, or torch_cpu: the draws of PyTorch's CPU generator
    #[arg(long, value_name = "KIND")]
    pub(crate) noise: Option<String>,
    /// Set out from this picture (.png, .npy), or keep what --mask leaves of it
    #[arg(long, value_name = "FILE")]
    pub(crate) image: Option<PathBuf>,
    /// What is white here is made anew, all else stays (.png, .npy)
    #[arg(long, value_name = "FILE")]
    pub(crate) mask: Option<PathBuf>,
    /// Share of the steps that are made of --image; without --mask 0.8
    #[arg(long, value_name = "SHARE")]
    pub(crate) strength: Option<f64>,
}

#[derive(Debug, Args)]
pub(crate) struct Pilot {
    /// A file, or the name of a carried model
    #[arg(default_value = "vix")]
    pub(crate) model: String,
    #[arg(long, value_name = "ID[:JSON]")]
    pub(crate) process: Option<String>,
    /// Default of the new file
    #[arg(long, value_name = "ID[:JSON]")]
    pub(crate) sampler: Option<String>,
    #[arg(long, value_name = "ID[:JSON]", default_value = "art")]
    pub(crate) grid: String,
    /// Repeatable; replaces those of the file. The grid is for these
    #[arg(long, value_name = "ID[:JSON]")]
    pub(crate) guidance: Vec<String>,
    /// Steps of the sampler, default of the new file
    #[arg(long)]
    pub(crate) steps: Option<u32>,
    /// How many samples are measured; 0 = as many as the grid asks for
    #[arg(long, short, default_value_t = 0)]
    pub(crate) num: usize,
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Conditions: JSON {"name": [values]} or a .safetensors file; default: those the model carries
    #[arg(long, value_name = "FILE|JSON")]
    pub(crate) cond: Option<String>,
    /// The model file to write
    #[arg(long, short)]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Train {
    /// A training config; the options below change it
    pub(crate) config: Option<PathBuf>,
    /// A CSV file, a folder of pictures or a safetensors file (repeatable: CSV files joined by date)
    #[arg(long)]
    pub(crate) data: Vec<PathBuf>,
    /// A column of the CSV file, or a tensor (repeatable)
    #[arg(long)]
    pub(crate) column: Vec<String>,
    /// What pictures call the data
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Values per example
    #[arg(long)]
    pub(crate) window: Option<usize>,
    /// Values from one window to the next
    #[arg(long)]
    pub(crate) stride: Option<usize>,
    /// Values before the window that the model sees
    #[arg(long)]
    pub(crate) history: Option<usize>,
    /// level or log_return
    #[arg(long, value_name = "KIND")]
    pub(crate) values: Option<String>,
    /// Train on what lies before this date only
    #[arg(long, value_name = "DATE")]
    pub(crate) split: Option<String>,
    /// The held-out window the file carries starts at this date
    #[arg(long, value_name = "DATE")]
    pub(crate) show: Option<String>,
    /// Channels of pictures: rgb, rgba, premultiplied or grey
    #[arg(long)]
    pub(crate) channels: Option<String>,
    /// Labels of pictures: folders, or a CSV file
    #[arg(long, value_name = "folders|FILE")]
    pub(crate) labels: Option<String>,
    /// Share of pictures or stored examples that is not trained on
    #[arg(long, value_name = "SHARE")]
    pub(crate) held_out: Option<f64>,
    #[arg(long, value_name = "ID[:JSON]")]
    pub(crate) model: Option<String>,
    #[arg(long, value_name = "ID[:JSON]")]
    pub(crate) process: Option<String>,
    #[arg(long, value_name = "ID[:JSON]")]
    pub(crate) objective: Option<String>,
    /// Sampler, grid and guidance (repeatable) that the file will name
    #[arg(long, value_name = "ID[:JSON]")]
    pub(crate) sampler: Option<String>,
    #[arg(long, value_name = "ID[:JSON]")]
    pub(crate) grid: Option<String>,
    #[arg(long, value_name = "ID[:JSON]")]
    pub(crate) guidance: Vec<String>,
    #[arg(long)]
    pub(crate) steps: Option<u32>,
    #[arg(long)]
    pub(crate) batch: Option<usize>,
    /// Peak learning rate
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Type of the weights in the file: f32, bf16 or f16
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<String>,
    /// Write metrics as JSON lines into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) metrics: Option<PathBuf>,
    /// Steps from one line of metrics to the next
    #[arg(long, value_name = "STEPS", requires = "metrics")]
    pub(crate) metrics_every: Option<u32>,
    /// Steps from one checkpoint to the next; else one a minute
    #[arg(long, value_name = "STEPS")]
    pub(crate) save_every: Option<u32>,
    /// Go on from the checkpoint beside the output, if there is one
    #[arg(long)]
    pub(crate) resume: bool,
    #[arg(long, short)]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Tune {
    /// A file, or the name of a carried model
    pub(crate) model: String,
    /// A tuning config; the options below change it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// elbo_pg, flow_grpo, ddpo, nft, adjoint_matching, draft, dpo, or a plugin's
    #[arg(long, value_name = "ID[:JSON]")]
    pub(crate) objective: Option<String>,
    /// expression:{"text": ".."}, library:{"path": ".."} or process:{"command": [..]}
    #[arg(long, value_name = "NAME:JSON")]
    pub(crate) reward: String,
    /// Of the rollouts
    #[arg(long, value_name = "ID[:JSON]")]
    pub(crate) sampler: Option<String>,
    #[arg(long, value_name = "ID[:JSON]")]
    pub(crate) grid: Option<String>,
    /// Steps of the sampler
    #[arg(long)]
    pub(crate) steps: Option<u32>,
    /// Conditions of every rollout, as `sample` takes them: JSON, or a safetensors file; there one more axis is of samples or
    /// of groups. Without it: those the model carries
    #[arg(long, value_name = "JSON|FILE")]
    pub(crate) cond: Option<String>,
    /// Rollouts
    #[arg(long)]
    pub(crate) rounds: Option<u32>,
    /// Samples of a rollout
    #[arg(long)]
    pub(crate) samples: Option<usize>,
    /// Samples per update
    #[arg(long)]
    pub(crate) batch: Option<usize>,
    /// Learning rate
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Write metrics as JSON lines into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) metrics: Option<PathBuf>,
    /// Rounds from one checkpoint to the next; else one a minute
    #[arg(long, value_name = "ROUNDS")]
    pub(crate) save_every: Option<u32>,
    /// Go on from the checkpoint beside the output, if there is one
    #[arg(long)]
    pub(crate) resume: bool,
    #[arg(long, short)]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Eval {
    pub(crate) model: String,
    /// A .safetensors file with a tensor per component, `sigma`, and a tensor per condition
    #[arg(long)]
    pub(crate) inputs: PathBuf,
    /// A network slot instead of the complete denoiser (`base`)
    #[arg(long)]
    pub(crate) slot: Option<String>,
    /// Also the gradient of the sum of each output by each input
    #[arg(long)]
    pub(crate) grad: bool,
    #[arg(long, short)]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Score {
    pub(crate) model: String,
    /// A .npy file [n, ...], or a .safetensors file with the component and conditions by name; f64 asks for f64
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,
    /// Steps of the probability flow, of four evaluations each
    #[arg(long, default_value_t = 64)]
    pub(crate) steps: u32,
    /// Random directions of an estimated divergence; 0 = the exact one
    #[arg(long, default_value_t = 0)]
    pub(crate) probes: usize,
    #[arg(long)]
    pub(crate) sigma_min: Option<f64>,
    #[arg(long)]
    pub(crate) sigma_max: Option<f64>,
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    #[arg(long, default_value_t = 0)]
    pub(crate) first_sample: u64,
    /// .safetensors with `log_likelihood` and `bits_per_dim`; .csv and .npy hold the first
    #[arg(long, short)]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Simulate {
    #[arg(long, value_name = "ID[:JSON]")]
    pub(crate) process: String,
    /// A number, a list of numbers, or a .npy file
    #[arg(long, value_name = "VALUE|FILE")]
    pub x0: String,
    /// The first axis of --x0 holds one start per path, instead of one start for all
    #[arg(long)]
    pub(crate) per_sample: bool,
    /// Ascending times: a list of numbers, or a .npy file
    #[arg(long, value_name = "LIST|FILE")]
    pub(crate) times: String,
    /// Which times come out: "last", or numbers from 0 on; all if absent
    #[arg(long, value_name = "last|LIST")]
    pub(crate) keep: Option<String>,
    /// Euler steps in the type of --x0, so many from each time to the next, instead of exact transitions
    #[arg(long, value_name = "SUBSTEPS")]
    pub(crate) euler: Option<u32>,
    #[arg(long, short, default_value_t = 1)]
    pub(crate) num: usize,
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    #[arg(long, default_value_t = 0)]
    pub(crate) first_sample: u64,
    #[arg(long, short)]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginAction {
    /// Load it, create its factories with their defaults, say what is wrong
    Check { file: PathBuf },
    /// The same in this process
    #[command(hide = true)]
    CheckHere { file: PathBuf },
}
