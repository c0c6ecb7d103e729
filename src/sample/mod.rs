//! Sampling: what a model, process, guidance, sampler and grid are (traits), how they compose into one step graph
//! (`build`), and the loop that replays it. Knows no plugin: `plugin` implements these traits over C tables.

pub mod build;
pub(crate) mod classes;
mod convert;
pub mod held;
pub mod likelihood;
pub mod normal;
pub mod pilot;
pub mod program;
pub mod record;
pub mod redraw;
mod replay;
pub mod rows;
mod schedule;
pub mod simulate;
mod stage;
pub mod state;
pub mod traits;

pub use build::{Build, Eval, Network, Networks, Parts};
pub use held::{Held, Owner};
pub use likelihood::Likelihood;
pub use normal::NormalRun;
pub use pilot::PilotRun;
pub use program::{Binder, Program};
pub use record::Trajectory;
pub use redraw::MOST_REDRAWS;
pub use replay::{Advance, At, Noise, Replay, Request};
pub use rows::{Rows, knots};
pub use schedule::Scheme;
pub use simulate::Simulation;
pub use stage::{IMAGE, start_input};
pub use state::Snapshot;
pub use traits::*;
