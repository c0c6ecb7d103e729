//! Tuning by rewards: what a tuner promises, and every objective at its analytic answer (specs objectives 6).
#![allow(
    unexpected_cfgs,
    reason = "diffx_plugin! asks for `export`, a feature of crates that build a library"
)]

mod analytic;
mod coarse;
mod contract;
mod control;
mod mixture;
mod normal;
mod probe;
mod records;
mod reference;
mod rig;
mod rounds;
mod suite;
