//! Training: parameters, the update as one graph, data, checkpoints and the loop over them. Knows no plugin: `plugin`
//! implements [`Objective`] over the C table.

pub mod objective;

pub use objective::{LossIo, Objective, ObjectiveInfo, SweepIo};
