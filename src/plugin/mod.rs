//! Plugins: everything behind `diffx_plugin.h`.

pub mod abi;
