//! diffx: a diffusion engine to link into a program. See `ARCHITECTURE.md` for the map.
pub mod base;
pub mod capi;
pub mod cpu;
pub mod cuda;
pub mod engine;
pub mod exec;
pub mod graph;
pub mod mem;
pub mod plugin;
pub mod sample;
pub mod train;
pub mod weights;
