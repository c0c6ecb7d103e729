//! Plugins: everything behind `diffx_plugin.h`.
//!
//! The way in: `load` (a file) or a linked descriptor -> `entry` (the checks) -> `registry` (names) -> `instance` (one
//! created object) -> `adapt` (the traits of `sample` and `train` over its table). The way back: while a plugin emits,
//! `host` serves its calls on the build that `frame` says is running.

pub mod abi;
mod adapt;
mod elf;
mod entry;
mod frame;
mod host;
mod instance;
mod load;
#[cfg(feature = "layout-check")]
mod mirrors;
mod read;
mod registry;

pub use entry::Kind;
pub use host::{Host, Log};
pub use instance::Factory;
pub use load::Trust;
pub use registry::Registry;
