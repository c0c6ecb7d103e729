//! An objective: a scalar loss of a batch, or of a recorded rollout, an optional sweep over its records, and what is
//! made of the rewards of a whole rollout before its batches are trained on.

use crate::abi;
use crate::builder::Builder;
use crate::error::Result;
use crate::info::{self, Owned};
use crate::instance::{Factory, Instance, Kind, fill, guard, input, slice, slice_mut};
use crate::model::{read, write};
use crate::node::Node;
use core::ffi::{c_char, c_void};
use core::marker::PhantomData;

/// What a rollout must record; see `DFX_RECORD_*` in the header.
pub mod record {
    pub const STATES: u32 = 1;
    pub const SIGMAS: u32 = 2;
    pub const CARRY: u32 = 4;
    pub const REWARD: u32 = 8;
    pub const REWARD_GRAD: u32 = 16;
    pub const KERNELS: u32 = 32;
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectiveInfo {
    /// `record::*`; 0 = trains on data.
    pub records: u32,
    /// Slots it needs besides `base`.
    pub networks: Vec<String>,
    pub metrics: Vec<String>,
    pub sweep_backwards: bool,
    pub n_rewards: u32,
}

pub trait Objective: Factory {
    const SWEEP: bool = false;
    const ADVANTAGE: bool = false;
    fn info(&self) -> ObjectiveInfo;
    fn loss<'b>(&self, b: Builder<'b>, io: &mut Loss<'b>) -> Result<()>;

    fn sweep<'b>(&self, b: Builder<'b>, _io: &mut Sweep<'b>) -> Result<()> {
        b.fail(abi::E_UNSUPPORTED, "this objective has no sweep");
        Ok(())
    }

    /// Once per rollout, over all of its samples.
    fn advantage<'b>(&self, b: Builder<'b>, _io: &mut Advantage<'b>) -> Result<()> {
        b.fail(abi::E_UNSUPPORTED, "this objective has no advantage");
        Ok(())
    }
}

/// Inputs and outputs of `loss`.
pub struct Loss<'b> {
    b: Builder<'b>,
    x0: &'b [abi::Node],
    states: &'b [abi::Node],
    carry: &'b [abi::Node],
    reward_grad: &'b [abi::Node],
    sigmas: &'b [abi::Node],
    kernels: &'b [abi::Node],
    reward: abi::Node,
    valid: abi::Node,
    advantage: abi::Node,
    group: u32,
    loss: &'b mut abi::Node,
    metrics: &'b mut [abi::Node],
}

impl<'b> Loss<'b> {
    pub const fn components(&self) -> usize {
        self.x0.len()
    }

    /// Data `[batch, ...]`, not encoded; or the final samples.
    pub fn x0(&self, component: usize) -> Node<'b> {
        read(self.b, self.x0, component, "component")
    }

    /// `[rows + 1, batch, ...]`.
    pub fn states(&self, component: usize) -> Node<'b> {
        read(self.b, self.states, component, "recorded component")
    }

    /// `[rows + 1, batch, ...]`.
    pub fn carry(&self, component: usize) -> Node<'b> {
        read(self.b, self.carry, component, "recorded carry")
    }

    pub fn reward_grad(&self, component: usize) -> Node<'b> {
        read(self.b, self.reward_grad, component, "reward gradient")
    }

    /// `[rows + 1]`.
    pub fn sigmas(&self, component: usize) -> Node<'b> {
        read(self.b, self.sigmas, component, "recorded level")
    }

    /// `[batch, n_rewards]`.
    pub const fn reward(&self) -> Node<'b> {
        self.b.node(self.reward)
    }

    /// `[rows, 3]`: a, c, v of each step `w' = a w + c D + sqrt(v) z`.
    pub fn kernels(&self, component: usize) -> Node<'b> {
        read(self.b, self.kernels, component, "recorded kernel")
    }

    /// `[batch]`: 1, or 0 where the host had no reward for the sample.
    pub const fn valid(&self) -> Node<'b> {
        self.b.node(self.valid)
    }

    /// `[batch]`: what `advantage` made of the whole rollout.
    pub const fn advantage(&self) -> Node<'b> {
        self.b.node(self.advantage)
    }

    /// Samples per condition; a batch holds whole groups, one after another.
    pub fn group(&self) -> i64 {
        i64::from(self.group.max(1))
    }

    pub const fn set_loss(&mut self, value: Node<'b>) {
        *self.loss = value.id;
    }

    pub fn set_metric(&mut self, i: usize, value: Node<'b>) {
        write(self.b, self.metrics, i, value, "metric");
    }
}

/// One record of a stored trajectory.
pub struct Sweep<'b> {
    b: Builder<'b>,
    x: &'b [abi::Node],
    x_next: &'b [abi::Node],
    carry: &'b [abi::Node],
    carry_out: &'b mut [abi::Node],
    sigma: &'b [abi::Node],
    sigma_next: &'b [abi::Node],
    kernel: &'b [abi::Node],
}

impl<'b> Sweep<'b> {
    pub const fn components(&self) -> usize {
        self.x.len()
    }

    pub fn x(&self, component: usize) -> Node<'b> {
        read(self.b, self.x, component, "component")
    }

    /// The state at the record visited just before.
    pub fn x_next(&self, component: usize) -> Node<'b> {
        read(self.b, self.x_next, component, "component")
    }

    pub fn carry(&self, component: usize) -> Node<'b> {
        read(self.b, self.carry, component, "component")
    }

    /// The level of a component at this record, a scalar.
    pub fn sigma(&self, component: usize) -> Node<'b> {
        read(self.b, self.sigma, component, "component")
    }

    /// The level at the record visited just before.
    pub fn sigma_next(&self, component: usize) -> Node<'b> {
        read(self.b, self.sigma_next, component, "component")
    }

    /// `[3]`: a, c, v of the step between this record and the one visited just before.
    pub fn kernel(&self, component: usize) -> Node<'b> {
        read(self.b, self.kernel, component, "recorded kernel")
    }

    pub fn set_carry(&mut self, component: usize, value: Node<'b>) {
        write(self.b, self.carry_out, component, value, "component");
    }
}

/// The rewards of a whole rollout.
pub struct Advantage<'b> {
    b: Builder<'b>,
    group: u32,
    reward: abi::Node,
    valid: abi::Node,
    advantage: &'b mut abi::Node,
}

impl<'b> Advantage<'b> {
    /// Samples per condition, which stand one after another.
    pub fn group(&self) -> i64 {
        i64::from(self.group.max(1))
    }

    /// `[samples, n_rewards]`, 0 where not valid.
    pub const fn reward(&self) -> Node<'b> {
        self.b.node(self.reward)
    }

    /// `[samples]`: 1, or 0 where the host had no reward.
    pub const fn valid(&self) -> Node<'b> {
        self.b.node(self.valid)
    }

    /// `[samples]`.
    pub const fn set_advantage(&mut self, value: Node<'b>) {
        *self.advantage = value.id;
    }
}

/// A plugin type as an objective.
pub struct AsObjective<T>(PhantomData<T>);

pub struct Forms {
    info: ObjectiveInfo,
    networks: Owned<*const c_char>,
    metrics: Owned<*const c_char>,
}

impl<T: Objective> Kind for AsObjective<T> {
    type Plugin = T;
    type Info = Forms;
    const KIND: u32 = abi::KIND_OBJECTIVE;
    const API: *const c_void = (&raw const *Self::TABLE).cast();

    fn info(plugin: &T) -> Result<Forms> {
        let info = plugin.info();
        let networks = info::names(&info.networks)?;
        let metrics = info::names(&info.metrics)?;
        Ok(Forms { info, networks, metrics })
    }
}

impl<T: Objective> AsObjective<T> {
    const TABLE: &'static abi::ObjectiveApi = &abi::ObjectiveApi {
        struct_size: size_of::<abi::ObjectiveApi>() as u32,
        reserved: 0,
        info: Some(objective_info::<T>),
        loss: Some(loss::<T>),
        sweep: if T::SWEEP { Some(sweep::<T>) } else { None },
        advantage: if T::ADVANTAGE { Some(advantage::<T>) } else { None },
    };
}

unsafe extern "C" fn objective_info<T: Objective>(
    this: *const c_void,
    out: *mut abi::ObjectiveInfo,
    err: *mut abi::Error,
) -> abi::Status {
    // Safety: this came from create, out and err from the host.
    let body = || unsafe {
        let Forms { info, networks, metrics } = &Instance::<AsObjective<T>>::of(this)?.info;
        let raw = abi::ObjectiveInfo {
            struct_size: 0,
            records: info.records,
            n_networks: networks.len(),
            n_metrics: metrics.len(),
            sweep_backwards: u32::from(info.sweep_backwards),
            n_rewards: info.n_rewards,
            networks: networks.ptr(),
            metrics: metrics.ptr(),
        };
        fill(out, raw)
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}

unsafe extern "C" fn loss<T: Objective>(
    this: *const c_void,
    graph: *mut abi::Graph,
    io: *mut abi::LossIo,
    err: *mut abi::Error,
) -> abi::Status {
    // Safety: this came from create; io and its arrays, of the lengths in io, are the host's for this call.
    let body = || unsafe {
        let instance = Instance::<AsObjective<T>>::of(this)?;
        let io = input(io, "io")?;
        let core = instance.core(graph);
        let b = Builder::new(&core);
        let n = io.n_components;
        let mut io = Loss {
            b,
            x0: slice(io.x0, n),
            states: slice(io.states, n),
            carry: slice(io.carry, n),
            reward_grad: slice(io.reward_grad, n),
            sigmas: slice(io.sigmas, n),
            kernels: slice(io.kernels, n),
            reward: io.reward,
            valid: io.valid,
            advantage: io.advantage,
            group: io.group,
            metrics: slice_mut(io.metrics, io.n_metrics),
            loss: &mut io.loss,
        };
        instance.plugin.loss(b, &mut io)
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}

unsafe extern "C" fn sweep<T: Objective>(
    this: *const c_void,
    graph: *mut abi::Graph,
    io: *mut abi::SweepIo,
    err: *mut abi::Error,
) -> abi::Status {
    // Safety: this came from create; io and its arrays, of the lengths in io, are the host's for this call.
    let body = || unsafe {
        let instance = Instance::<AsObjective<T>>::of(this)?;
        let io = input(io, "io")?;
        let core = instance.core(graph);
        let b = Builder::new(&core);
        let n = io.n_components;
        let mut io = Sweep {
            b,
            x: slice(io.x, n),
            x_next: slice(io.x_next, n),
            carry: slice(io.carry, n),
            carry_out: slice_mut(io.carry_out, n),
            sigma: slice(io.sigma, n),
            sigma_next: slice(io.sigma_next, n),
            kernel: slice(io.kernel, n),
        };
        instance.plugin.sweep(b, &mut io)
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}

unsafe extern "C" fn advantage<T: Objective>(
    this: *const c_void,
    graph: *mut abi::Graph,
    io: *mut abi::AdvantageIo,
    err: *mut abi::Error,
) -> abi::Status {
    // Safety: this came from create; io is the host's for this call.
    let body = || unsafe {
        let instance = Instance::<AsObjective<T>>::of(this)?;
        let io = input(io, "io")?;
        let core = instance.core(graph);
        let b = Builder::new(&core);
        let mut io = Advantage {
            b,
            group: io.group,
            reward: io.reward,
            valid: io.valid,
            advantage: &mut io.advantage,
        };
        instance.plugin.advantage(b, &mut io)
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}
