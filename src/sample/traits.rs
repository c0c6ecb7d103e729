//! The six kinds but one (the objective is `train`'s), as the core sees them. Field for field the tables of
//! `diffx_plugin.h`, whose comments are the contract.

use super::build::{Build, Eval};
use crate::base::{Desc, Result};
use crate::graph::NodeId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    Continuous,
    Discrete,
}

/// One part of the state: a sample without the batch axis. -1 is a free dimension of a model's declaration.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    pub name: String,
    pub dtype: crate::base::DType,
    pub dims: Vec<i64>,
    pub space: Space,
    pub classes: u32,
}

/// One named condition of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Cond {
    pub name: String,
    /// One sample, without the batch axis.
    pub desc: Desc,
    pub null_value: f64,
}

/// A per-sample tensor that lives across steps.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotDecl {
    pub name: String,
    /// One sample, without the batch axis; resolved (`like` is already applied).
    pub desc: Desc,
    /// Its type is the pipeline's float type, whatever stands in `desc`.
    pub free: bool,
    pub init: f64,
}

/// Moments of the data, per component.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stats {
    pub x_mean: f64,
    pub x_var: f64,
    pub w_mean: f64,
    pub w_var: f64,
}

impl Default for Stats {
    /// Standardised data.
    fn default() -> Self {
        Self { x_mean: 0.0, x_var: 1.0, w_mean: 0.0, w_var: 1.0 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predicts {
    Residual,
    Denoised,
    Noise,
    Velocity,
    Score,
    Logits,
    Value,
    V,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    pub predicts: Predicts,
    pub components: Vec<Component>,
    pub conds: Vec<Cond>,
    pub slots: Vec<SlotDecl>,
}

/// What a model's build call gets and gives (`dfx_model_io`).
#[derive(Debug, Clone)]
pub struct ModelIo {
    pub phase: u32,
    pub x: Vec<NodeId>,
    /// `[rows]` per component.
    pub sigma: Vec<NodeId>,
    pub cond: Vec<NodeId>,
    pub slots: Vec<NodeId>,
    pub slots_out: Vec<NodeId>,
    pub out: Vec<NodeId>,
}

pub trait Model: Send + Sync {
    fn info(&self) -> Result<ModelInfo>;
    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()>;
}

/// Functions of a process that build nodes; codes as `DFX_PROCESS_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ProcessFn {
    Encode = 1,
    Decode = 2,
    Perturb = 3,
    Prior = 4,
    Precond = 5,
    Renoise = 6,
    Ancestral = 7,
    ToScore = 8,
    LogTransition = 9,
    LossWeight = 10,
    Posterior = 11,
    Sde = 12,
}

impl ProcessFn {
    /// Function, name, number of inputs and outputs.
    pub const ALL: &'static [(Self, &'static str, usize, usize)] = &[
        (Self::Encode, "encode", 1, 1),
        (Self::Decode, "decode", 2, 1),
        (Self::Perturb, "perturb", 2, 2),
        (Self::Prior, "prior", 1, 1),
        (Self::Precond, "precond", 1, 5),
        (Self::Renoise, "renoise", 3, 1),
        (Self::Ancestral, "ancestral", 2, 1),
        (Self::ToScore, "to_score", 3, 1),
        (Self::LogTransition, "log_transition", 3, 1),
        (Self::LossWeight, "loss_weight", 1, 1),
        (Self::Posterior, "posterior", 4, 1),
        (Self::Sde, "sde", 2, 2),
    ];

    pub fn row(self) -> &'static (Self, &'static str, usize, usize) {
        &Self::ALL[self as usize - 1]
    }

    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.get((code as usize).wrapping_sub(1)).map(|r| r.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessInfo {
    pub space: Space,
    pub positive: bool,
    pub additive: bool,
    /// Transitions depend on the time between only.
    pub homogeneous: bool,
    pub sigma_min: f64,
    pub sigma_max: f64,
}

/// A setting that data says. Those of a group other than 0 belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    pub key: String,
    pub value: f64,
    pub group: u32,
}

pub trait Process: Send + Sync {
    fn info(&self, stats: &Stats) -> Result<ProcessInfo>;
    /// Settings that finite values say; `ordered` ones are one unit of time apart. None where it fits nothing.
    fn fit(&self, _values: &[f64], _ordered: bool) -> Result<Vec<Fitted>> {
        Ok(Vec::new())
    }
    /// Noise levels at natural times; an error where the process has no clock.
    fn clock(&self, times: &[f64]) -> Result<Vec<f64>>;
    fn has(&self, f: ProcessFn) -> bool;
    /// Emits the nodes of one function; arities are in [`ProcessFn::ALL`] and were checked.
    fn call(
        &self,
        b: &mut Build<'_>,
        f: ProcessFn,
        purpose: u8,
        component: &Component,
        stats: &Stats,
        inputs: &[NodeId],
    ) -> Result<Vec<NodeId>>;
}

#[derive(Debug, Clone, PartialEq)]
pub struct GuidanceInfo {
    pub stage: u32,
    pub slots: Vec<SlotDecl>,
    pub networks: Vec<String>,
    pub group: u32,
    pub exact_for: f64,
}

/// What happens to samples that a guidance finds outside of feasible: their last rows are run again with new draws.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Redraw {
    /// At most so often.
    pub times: u32,
    /// Which share of the rows, counted from the last; 1, and for the second half of the times any: the whole run
    /// from a new prior.
    pub share: f64,
}

/// Which optional hooks a guidance has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    Wrap,
    Start,
    Project,
    Permute,
    Finish,
}

/// What start, project, permute and finish get and give (`dfx_guide_io`). Outputs are preset.
#[derive(Debug, Clone)]
pub struct GuideIo {
    pub x: Vec<NodeId>,
    pub sigma: Vec<NodeId>,
    pub out: Vec<NodeId>,
    pub slots: Vec<NodeId>,
    pub slots_out: Vec<NodeId>,
    pub index: Option<NodeId>,
    pub feasible: Option<NodeId>,
    pub log_weight: Option<NodeId>,
}

pub trait Guidance: Send + Sync {
    /// `components` lets slots declared `like` a component be resolved.
    fn info(&self, components: &[Component]) -> Result<GuidanceInfo>;
    fn has(&self, hook: Hook) -> bool;
    /// None = samples outside of feasible stay as they are.
    fn redraw(&self) -> Option<Redraw> {
        None
    }
    /// The form of `wrap` for rows that ask for D at levels from `lowest[c]` to `highest[c]` of each component. 0 is
    /// also the form where nobody asks.
    fn variant(&self, _lowest: &[f64], _highest: &[f64]) -> Result<u32> {
        Ok(0)
    }
    /// One D (all components) per evaluation. `inner` is the handle of the denoiser it wraps; `b.variant(inner)` is
    /// the form that was chosen.
    fn wrap(
        &self,
        b: &mut Build<'_>,
        inner: u32,
        evals: &[Eval],
        slots: &[NodeId],
        slots_out: &mut [NodeId],
    ) -> Result<Vec<Vec<NodeId>>>;
    fn guide(&self, b: &mut Build<'_>, hook: Hook, inner: u32, io: &mut GuideIo) -> Result<()>;
}

#[derive(Debug, Clone, PartialEq)]
pub struct SamplerInfo {
    pub n_coeff: usize,
    pub n_variants: usize,
    pub slots: Vec<SlotDecl>,
    pub control: bool,
    /// It adds Gaussian noise itself.
    pub additive: bool,
    pub stochasticity: f64,
}

/// Rows of coefficients, and which variant of the step each row runs.
#[derive(Debug, Clone, PartialEq)]
pub struct RowPlan {
    pub n_coeff: usize,
    /// [rows, n_coeff]
    pub rows: Vec<f64>,
    pub variants: Vec<u32>,
    /// [rows, components]: the noise level after each row. Empty = row k ends at knot k + 1.
    pub levels: Vec<f64>,
    /// [rows, components]: the highest level each row asks for D at. Empty = the level before the row.
    pub highest: Vec<f64>,
    /// [rows, components, 3]: a, c, v where every step is `w' = a w + c D + sqrt(v) z`; else empty.
    pub kernels: Vec<f64>,
}

/// What a step gets and gives (`dfx_step_io`).
#[derive(Debug, Clone)]
pub struct StepIo {
    pub variant: u32,
    pub x: Vec<NodeId>,
    pub coeff: Vec<NodeId>,
    pub slots: Vec<NodeId>,
    pub slots_out: Vec<NodeId>,
    pub next: Vec<NodeId>,
    pub control: Option<NodeId>,
    pub denoised: Vec<Option<NodeId>>,
}

pub trait Sampler: Send + Sync {
    /// `components` lets slots declared `like` a component be resolved.
    fn info(&self, components: &[Component]) -> Result<SamplerInfo>;
    /// `knots[c]` are the levels of component c, noisiest first.
    fn plan(&self, knots: &[Vec<f64>]) -> Result<RowPlan>;
    fn step(&self, b: &mut Build<'_>, io: &mut StepIo) -> Result<()>;
}

pub trait Grid: Send + Sync {
    /// Above 0: `refine` wants a pilot run of so many steps on the levels of `knots`, which must not end at 0 ...
    fn pilot_steps(&self) -> u32;
    /// ... and of so many samples, unless the host says otherwise.
    fn pilot_samples(&self) -> u32;
    /// n + 1 descending knots.
    fn knots(&self, n: u32, sigma_min: f64, sigma_max: f64) -> Result<Vec<f64>>;
    fn refine(
        &self,
        n: u32,
        sigma_min: f64,
        sigma_max: f64,
        sigma: &[f64],
        bend: &[f64],
    ) -> Result<Vec<f64>>;
}
