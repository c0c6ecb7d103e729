//! The plugin ABI from outside: the header in every dialect it promises, both sides' mirrors of it, files and plugins
//! that break each rule, and one plugin in three languages. C and C++ are compiled while the tests run; without a
//! compiler those tests say so and are skipped.

#![allow(
    unexpected_cfgs,
    reason = "diffx_plugin! asks for `export`, a feature of crates that build a library"
)]

mod compiler;
mod cost;
mod header;
mod languages;
mod loading;
mod misuse;
mod prototypes;
mod rig;
mod rust;
mod services;
