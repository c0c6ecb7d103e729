//! Sampling: what a model, process, guidance, sampler and grid are (traits), how they compose into one step graph
//! (`build`), and the loop that replays it. Knows no plugin: `plugin` implements these traits over C tables.

pub mod build;
mod convert;
pub mod held;
pub mod traits;

pub use build::{Build, Eval, Network, Networks, Parts};
pub use held::{Held, Owner};
pub use traits::*;
