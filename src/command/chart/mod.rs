//! Pictures of samples. `canvas` draws, the others decide what: a fan of futures, a grid of images, a cloud of points.

mod canvas;
mod date;
pub mod fan;
mod ticks;

pub use fan::Fan;
