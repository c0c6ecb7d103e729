//! An objective over `dfx_objective_api`.

use super::super::frame::Role;
use super::super::instance::{Factory, Instance, raw};
use super::super::{abi, read};
use super::{names, sized};
use crate::bail;
use crate::base::Result;
use crate::graph::NodeId;
use crate::sample::Build;
use crate::train::{AdvantageIo, LossIo, Objective, ObjectiveInfo, SweepIo};
use std::ptr;
use std::sync::Arc;

/// The records this engine can make.
const RECORDS: u32 = 63;
const MAX_REWARDS: u32 = 1024;

pub(in super::super) struct ObjectivePlugin {
    instance: Instance,
    api: abi::ObjectiveApi,
    info: ObjectiveInfo,
}

// Safety: the table is function pointers and a reserved pointer that is never followed.
unsafe impl Send for ObjectivePlugin {}
// Safety: as above.
unsafe impl Sync for ObjectivePlugin {}

impl ObjectivePlugin {
    pub(in super::super) fn new(factory: &Arc<Factory>, config: &str) -> Result<Self> {
        let instance = Instance::create(factory, config)?;
        // Safety: the table was checked when the factory was registered.
        let api = unsafe { read::table::<abi::ObjectiveApi>(instance.api().cast()) }?;
        // Safety: a mirror that begins with its size.
        let mut out: abi::ObjectiveInfo = unsafe { sized() };
        instance.call(|this, error| match api.info {
            // Safety: the contract of the table.
            Some(info) => unsafe { info(this, &raw mut out, error) },
            None => abi::OK,
        })?;
        let read = || {
            if out.records & !RECORDS != 0 || out.n_rewards > MAX_REWARDS {
                bail!(Unsupported, "records {:#x} or {} rewards", out.records, out.n_rewards);
            }
            // Safety: the plugin filled it; its arrays are owned by the instance.
            let (networks, metrics) = unsafe {
                (
                    names(out.networks, out.n_networks, "networks")?,
                    names(out.metrics, out.n_metrics, "metrics")?,
                )
            };
            Ok(ObjectiveInfo {
                records: out.records,
                networks,
                metrics,
                sweep_backwards: out.sweep_backwards != 0,
                n_rewards: out.n_rewards,
            })
        };
        let info = read().map_err(|e| instance.broke(format!("info: {e}")))?;
        Ok(Self { instance, api, info })
    }
}

/// An array of nodes, or null when there are none.
fn array(nodes: &[u32]) -> *const u32 {
    if nodes.is_empty() { ptr::null() } else { nodes.as_ptr() }
}

impl Objective for ObjectivePlugin {
    fn info(&self) -> Result<ObjectiveInfo> {
        Ok(self.info.clone())
    }

    fn loss(&self, b: &mut Build<'_>, io: &mut LossIo) -> Result<()> {
        let n = b.parts.components.len();
        for nodes in [&io.x0, &io.states, &io.carry, &io.reward_grad, &io.sigmas, &io.kernels] {
            if !nodes.is_empty() && nodes.len() != n {
                bail!(Invalid, "loss: {} nodes for {n} components", nodes.len());
            }
        }
        let (x0, states) = (raw(&io.x0), raw(&io.states));
        let (carry, reward_grad) = (raw(&io.carry), raw(&io.reward_grad));
        let (sigmas, kernels) = (raw(&io.sigmas), raw(&io.kernels));
        let mut metrics = vec![0; self.info.metrics.len()];
        let mut c = abi::LossIo {
            struct_size: size_of::<abi::LossIo>() as u32,
            n_components: n as u32,
            n_metrics: metrics.len() as u32,
            reserved: 0,
            x0: array(&x0),
            states: array(&states),
            carry: array(&carry),
            reward_grad: array(&reward_grad),
            sigmas: array(&sigmas),
            metrics: metrics.as_mut_ptr(),
            reward: io.reward.map_or(0, |n| n.0),
            loss: 0,
            kernels: array(&kernels),
            valid: io.valid.map_or(0, |n| n.0),
            advantage: io.advantage.map_or(0, |n| n.0),
            group: io.group.max(1),
            reserved2: 0,
        };
        let built =
            self.instance.build(b, Role::Composer, |this, g, error| match self.api.loss {
                // Safety: the contract of the table; every array is as long as the io says.
                Some(loss) => unsafe { loss(this, g, &raw mut c, error) },
                None => abi::OK,
            })?;
        io.loss = Some(built.node(b, c.loss, "a loss")?);
        io.metrics = built.nodes(b, &metrics, "metric")?;
        for node in io.loss.iter().chain(&io.metrics) {
            let desc = b.graph.desc(*node);
            if desc.shape.rank() != 0 || !desc.dtype.is_compute_float() {
                return Err(self.instance.broke(format!("loss: gave {desc}, want a scalar")));
            }
        }
        Ok(())
    }

    fn has_sweep(&self) -> bool {
        self.api.sweep.is_some()
    }

    fn sweep(&self, b: &mut Build<'_>, io: &mut SweepIo) -> Result<()> {
        let Some(sweep) = self.api.sweep else { bail!(State, "sweep: this objective has none") };
        let n = io.x.len();
        let kernels = io.kernel.is_empty() || io.kernel.len() == n;
        let full = [&io.x_next, &io.carry, &io.sigma, &io.sigma_next].iter().all(|v| v.len() == n);
        if !full || !kernels {
            bail!(Invalid, "sweep: want a next state, a carry and two levels per component");
        }
        let kernel = raw(&io.kernel);
        let (x, x_next, carry) = (raw(&io.x), raw(&io.x_next), raw(&io.carry));
        let (sigma, sigma_next) = (raw(&io.sigma), raw(&io.sigma_next));
        let mut carry_out = vec![NodeId::ERROR.0; n];
        let mut c = abi::SweepIo {
            struct_size: size_of::<abi::SweepIo>() as u32,
            n_components: n as u32,
            x: x.as_ptr(),
            x_next: x_next.as_ptr(),
            carry: carry.as_ptr(),
            carry_out: carry_out.as_mut_ptr(),
            sigma: sigma.as_ptr(),
            sigma_next: sigma_next.as_ptr(),
            kernel: array(&kernel),
        };
        // Safety: the contract of the table; every array is as long as the io says.
        let built = self.instance.build(b, Role::Composer, |this, g, error| unsafe {
            sweep(this, g, &raw mut c, error)
        })?;
        io.carry_out = built.nodes(b, &carry_out, "a carry, component")?;
        Ok(())
    }

    fn has_advantage(&self) -> bool {
        self.api.advantage.is_some()
    }

    fn advantage(&self, b: &mut Build<'_>, io: &mut AdvantageIo) -> Result<()> {
        let Some(advantage) = self.api.advantage else {
            bail!(State, "advantage: this objective has none")
        };
        let mut c = abi::AdvantageIo {
            struct_size: size_of::<abi::AdvantageIo>() as u32,
            group: io.group.max(1),
            n_rewards: self.info.n_rewards,
            reserved: 0,
            reward: io.reward.0,
            valid: io.valid.0,
            advantage: 0,
            reserved2: 0,
        };
        // Safety: the contract of the table; io holds no pointers.
        let built = self.instance.build(b, Role::Composer, |this, g, error| unsafe {
            advantage(this, g, &raw mut c, error)
        })?;
        io.advantage = Some(built.node(b, c.advantage, "an advantage")?);
        Ok(())
    }
}
