//! Running graphs: a backend compiles planned graphs, a session owns the buffers they share and replays them.
//! Knows no diffusion.

pub mod backend;
pub mod session;

pub use backend::{Backend, Interrupt, RunKey, StepTime};
pub use session::{BufferId, PlanId, Session, SessionBuilder, WeightBinding};
