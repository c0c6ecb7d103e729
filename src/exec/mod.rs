//! Running graphs: a backend compiles planned graphs, a session owns the buffers they share and replays them.
//! Knows no diffusion.

pub mod backend;
pub mod session;

pub use backend::{Backend, RunKey};
pub use session::{BufferId, Interrupt, PlanId, Session, SessionBuilder, WeightBinding};
