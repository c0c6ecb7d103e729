//! Training: parameters, the update as one graph, data, checkpoints and the loop over them. Knows no plugin: `plugin`
//! implements [`Objective`] over the C table.

pub mod assemble;
mod checkpoint;
pub mod data;
pub mod objective;
pub mod optimizer;
pub mod parameter;
pub mod rollout;
pub mod run;
pub mod sweep;
pub mod tune;
pub mod update;

pub use assemble::{Actor, Lag, TunePlan};
pub use data::{Dataset, Series};
pub use objective::{AdvantageIo, LossIo, Objective, ObjectiveInfo, SweepIo};
pub use optimizer::{Optimizer, Schedule};
pub use rollout::Reward;
pub use run::{Plan, Report, Training};
pub use sweep::{Sweep, SweepPlan};
pub use tune::Tuning;
