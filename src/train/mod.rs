//! Training: parameters, the update as one graph, data, checkpoints and the loop over them. Knows no plugin: `plugin`
//! implements [`Objective`] over the C table.

pub mod data;
pub mod objective;
pub mod optimizer;
pub mod parameter;
pub mod run;
pub mod sweep;
pub mod update;

pub use data::{Dataset, Series};
pub use objective::{LossIo, Objective, ObjectiveInfo, SweepIo};
pub use optimizer::{Optimizer, Schedule};
pub use run::{Plan, Report, Training};
pub use sweep::Sweep;
