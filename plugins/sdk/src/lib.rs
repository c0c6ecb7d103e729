//! Write a diffx plugin in safe Rust.
//!
//! A plugin describes graphs; the host runs them. Implement one of the six traits ([`Model`], [`Process`],
//! [`Guidance`], [`Sampler`], [`Grid`], [`Objective`]) for a type that also implements [`Factory`], list the types in
//! [`diffx_plugin!`], and build a `cdylib`. In between, a formula reads as it stands on paper:
//!
//! ```ignore
//! let d = skip * w + out * f;
//! ```
//!
//! Plugin code never sees tensor memory and holds no global state; a panic becomes an error of the host. The modules
//! under [`abi`] mirror `diffx_plugin.h`, which is the contract.

pub mod abi;
mod builder;
mod config;
mod error;
pub mod event;
mod fit;
mod grid;
mod guidance;
mod info;
mod instance;
#[cfg(feature = "layout-check")]
pub mod layout_check;
#[cfg(test)]
mod mock;
mod model;
mod node;
mod objective;
mod plugin;
mod process;
mod sampler;
mod schema;
mod service;

pub use abi::{attr, op, purpose};
pub use builder::{Attr, Builder, Init, Shape};
pub use config::{Config, FINITE, POSITIVE};
pub use error::{Error, Result};
pub use fit::{Data, Fitted, Moments};
pub use grid::{AsGrid, Grid, Pilot};
pub use guidance::{
    AsGuidance, Guidance, GuidanceInfo, Guide, Hooks, Redraw, Stage, Wrap, WrapEval,
};
pub use info::{Component, ComponentView, Cond, Like, Slot, Space, Stats};
pub use instance::{Factory, FactoryOf, Kind};
pub use model::{AsModel, Model, ModelInfo, ModelIo, Predicts};
pub use node::{Node, Operand};
pub use objective::{Advantage, AsObjective, Loss, Objective, ObjectiveInfo, Sweep, record};
pub use process::{AsProcess, Cx, Function, Functions, Precond, Process, ProcessInfo};
pub use sampler::{AsSampler, Knots, Plan, Sampler, SamplerInfo, Step};
#[doc(hidden)]
pub use schema::c_text;
pub use service::{Denoiser, Eval, Law};
