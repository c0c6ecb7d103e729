//! Pictures of samples. `canvas` draws, the others decide what: a fan of futures, a grid of images, a cloud of points.

mod canvas;
mod date;
mod fan;
mod ticks;
mod tiles;

pub(crate) use date::dates_after;
pub(crate) use fan::Fan;
pub(crate) use tiles::Tiles;
