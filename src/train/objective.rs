//! The objective as the core sees it. Field for field the table of `diffx_plugin.h`, whose comments are the contract.

use crate::bail;
use crate::base::Result;
use crate::graph::NodeId;
use crate::sample::Build;

/// What an objective must be given (`DFX_RECORD_*`).
pub mod record {
    pub const STATES: u32 = 1;
    pub const SIGMAS: u32 = 2;
    pub const CARRY: u32 = 4;
    pub const REWARD: u32 = 8;
    pub const REWARD_GRAD: u32 = 16;
    pub const KERNELS: u32 = 32;
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObjectiveInfo {
    /// `record::*`; 0 = trains on data.
    pub records: u32,
    /// Network slots it needs besides `base`.
    pub networks: Vec<String>,
    pub metrics: Vec<String>,
    /// Sweeps run from the last record to the first.
    pub sweep_backwards: bool,
    pub n_rewards: u32,
}

/// What `loss` gets and gives (`dfx_loss_io`). What was not recorded is empty or absent.
#[derive(Debug, Clone, Default)]
pub struct LossIo {
    /// Data [batch, ...] per component, not encoded; or the final samples.
    pub x0: Vec<NodeId>,
    pub states: Vec<NodeId>,
    pub carry: Vec<NodeId>,
    pub reward_grad: Vec<NodeId>,
    /// `[records]` per component.
    pub sigmas: Vec<NodeId>,
    /// [rows, 3] per component.
    pub kernels: Vec<NodeId>,
    pub reward: Option<NodeId>,
    /// `[batch]`: 1, or 0 where the host had no reward for the sample.
    pub valid: Option<NodeId>,
    /// `[batch]`: what `advantage` made of the whole rollout.
    pub advantage: Option<NodeId>,
    /// Samples per condition.
    pub group: u32,
    /// Out: a scalar.
    pub loss: Option<NodeId>,
    /// Out: scalars, one per declared metric.
    pub metrics: Vec<NodeId>,
}

/// One record of a stored trajectory (`dfx_sweep_io`).
#[derive(Debug, Clone)]
pub struct SweepIo {
    pub x: Vec<NodeId>,
    pub x_next: Vec<NodeId>,
    pub carry: Vec<NodeId>,
    pub carry_out: Vec<NodeId>,
    /// Scalars per component: at this record, and at the one visited just before.
    pub sigma: Vec<NodeId>,
    pub sigma_next: Vec<NodeId>,
    /// `[3]` per component: a, c, v of the step between the two; empty unless recorded.
    pub kernel: Vec<NodeId>,
}

/// The rewards of a whole rollout (`dfx_advantage_io`).
#[derive(Debug, Clone)]
pub struct AdvantageIo {
    /// [samples, rewards]
    pub reward: NodeId,
    /// `[samples]`
    pub valid: NodeId,
    pub group: u32,
    /// Out: `[samples]`
    pub advantage: Option<NodeId>,
}

/// The table of the data that says what each example is worth.
pub const REWARDS: &str = "reward";

/// Whether the rewards an objective asks for may be those of examples: it takes nothing else of a rollout, and compares
/// the network with no copy of it.
pub fn of_examples(objective: &dyn Objective) -> Result<bool> {
    let info = objective.info()?;
    let copies = ["old", "ema", "ref"];
    let alone = !info.networks.iter().any(|n| copies.contains(&n.as_str()));
    Ok(info.records == record::REWARD && alone && !objective.has_advantage())
}

pub trait Objective: Send + Sync {
    fn info(&self) -> Result<ObjectiveInfo>;
    fn loss(&self, b: &mut Build<'_>, io: &mut LossIo) -> Result<()>;
    fn has_sweep(&self) -> bool;
    fn sweep(&self, b: &mut Build<'_>, io: &mut SweepIo) -> Result<()>;
    fn has_advantage(&self) -> bool {
        false
    }
    fn advantage(&self, _: &mut Build<'_>, _: &mut AdvantageIo) -> Result<()> {
        bail!(State, "advantage: this objective has none")
    }
}
