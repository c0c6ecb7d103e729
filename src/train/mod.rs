//! Training: parameters, the update as one graph, data, checkpoints and the loop over them. Knows no plugin: `plugin`
//! implements [`Objective`] over the C table.

pub mod data;
pub mod objective;
pub mod parameter;

pub use data::{Dataset, Series};
pub use objective::{LossIo, Objective, ObjectiveInfo, SweepIo};
pub use parameter::Parameter;
