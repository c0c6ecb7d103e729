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
#[cfg(any(
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "openbsd",
    all(test, target_os = "linux")
))]
mod held;
mod host;
mod instance;
pub mod judge;
#[cfg_attr(
    not(any(
        target_os = "linux",
        target_os = "android",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "openbsd"
    )),
    path = "link_off.rs"
)]
mod link;
mod load;
#[cfg(feature = "layout-check")]
mod mirrors;
mod read;
mod registry;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod sealed;

pub use elf::check as check_library;
pub use entry::{Kind, LAYOUTS};
pub use host::{Host, Log};
pub use instance::Factory;
pub use load::Trust;
pub use registry::{Candidate, Choice, Notes, Registry};
