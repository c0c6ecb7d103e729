//! Guidance: a denoiser made of a denoiser, and constraints on the state.

use crate::abi;
use crate::builder::Builder;
use crate::error::Result;
use crate::info::{self, Owned, Slot};
use crate::instance::{Factory, Instance, Kind, fill, guard, input, null, slice, slice_mut};
use crate::model::{read, write};
use crate::node::Node;
use crate::service::Denoiser;
use core::ffi::{c_char, c_void};
use core::marker::PhantomData;

/// Where a guidance stands in the chain: lower stages wrap first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    Condition = 10,
    Rescale = 20,
    Score = 30,
    State = 40,
    Particle = 50,
}

/// Which hooks a guidance has; the others are NULL in its table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hooks {
    pub wrap: bool,
    pub start: bool,
    pub project: bool,
    pub permute: bool,
    pub finish: bool,
    /// `variant` chooses between forms of `wrap`.
    pub variant: bool,
}

impl Hooks {
    pub const NONE: Self = Self {
        wrap: false,
        start: false,
        project: false,
        permute: false,
        finish: false,
        variant: false,
    };
    pub const WRAP: Self = Self { wrap: true, ..Self::NONE };
}

#[derive(Debug, Clone, PartialEq)]
pub struct GuidanceInfo {
    pub stage: Stage,
    pub slots: Vec<Slot>,
    /// Network slots it needs.
    pub networks: Vec<String>,
    /// Particles that interact, 1 = none.
    pub group: u32,
    /// Stochasticity it is exact for: 0 ODE, 1 SDE, -1 any.
    pub exact_for: f64,
}

/// What happens to a sample that `finish` finds outside of feasible: its last rows are run again with new draws.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Redraw {
    /// At most so often, up to 1023.
    pub times: u32,
    /// Which share of the rows, counted from the last; 1, and for the second half of the times any: the whole run
    /// from a new prior.
    pub share: f64,
}

pub trait Guidance: Factory {
    const HOOKS: Hooks;
    fn info(&self) -> GuidanceInfo;

    /// None = the sample stays as it is.
    fn redraw(&self) -> Option<Redraw> {
        None
    }

    /// One D per evaluation and component, from the inner denoiser.
    fn wrap<'b>(&self, b: Builder<'b>, _io: &mut Wrap<'b>) -> Result<()> {
        absent(b, "wrap")
    }

    /// The form of `wrap` for rows that ask for D at levels from `lowest[c]` to `highest[c]` of each component. 0 is
    /// also used where nobody asks, and is right at every level.
    fn variant(&self, _lowest: &[f64], _highest: &[f64]) -> Result<u32> {
        Ok(0)
    }

    /// Tilts the initial law, after the prior.
    fn start<'b>(&self, b: Builder<'b>, _io: &mut Guide<'b>) -> Result<()> {
        absent(b, "start")
    }

    /// After each step.
    fn project<'b>(&self, b: Builder<'b>, _io: &mut Guide<'b>) -> Result<()> {
        absent(b, "project")
    }

    /// After project, before the next step.
    fn permute<'b>(&self, b: Builder<'b>, _io: &mut Guide<'b>) -> Result<()> {
        absent(b, "permute")
    }

    /// Once, on decoded samples.
    fn finish<'b>(&self, b: Builder<'b>, _io: &mut Guide<'b>) -> Result<()> {
        absent(b, "finish")
    }
}

fn absent(b: Builder<'_>, hook: &str) -> Result<()> {
    b.fail(abi::E_UNSUPPORTED, &format!("this guidance has no {hook}"));
    Ok(())
}

/// One evaluation to answer.
pub struct WrapEval<'b> {
    pub phase: u32,
    pub x: Vec<Node<'b>>,
    pub sigma: Vec<Node<'b>>,
    /// None = the conditions of the job.
    pub cond: Option<Vec<Node<'b>>>,
}

/// Inputs and outputs of `wrap`.
pub struct Wrap<'b> {
    b: Builder<'b>,
    pub inner: Denoiser,
    pub evals: Vec<WrapEval<'b>>,
    n_components: usize,
    variant: u32,
    slot: &'b [abi::Node],
    slot_out: &'b mut [abi::Node],
    out: &'b mut [abi::Node],
}

impl<'b> Wrap<'b> {
    /// What `variant` said of the rows of this step.
    pub const fn variant(&self) -> u32 {
        self.variant
    }

    pub const fn components(&self) -> usize {
        self.n_components
    }

    /// The denoised estimate of a component at an evaluation.
    pub fn set_out(&mut self, eval: usize, component: usize, value: Node<'b>) {
        let i = eval * self.n_components + component;
        write(self.b, self.out, i, value, "denoised output");
    }

    pub fn slot(&self, i: usize) -> Node<'b> {
        read(self.b, self.slot, i, "slot")
    }

    pub fn set_slot(&mut self, i: usize, value: Node<'b>) {
        write(self.b, self.slot_out, i, value, "slot");
    }
}

/// Inputs and outputs of the other hooks; outputs are preset, so a hook may leave them.
pub struct Guide<'b> {
    b: Builder<'b>,
    pub inner: Denoiser,
    x: &'b [abi::Node],
    sigma: &'b [abi::Node],
    out: &'b mut [abi::Node],
    slot: &'b [abi::Node],
    slot_out: &'b mut [abi::Node],
    index: &'b mut [abi::Node],
    feasible: &'b mut [abi::Node],
    log_weight: &'b mut [abi::Node],
}

impl<'b> Guide<'b> {
    pub const fn components(&self) -> usize {
        self.x.len()
    }

    /// The state in w; in `finish` the decoded sample.
    pub fn x(&self, component: usize) -> Node<'b> {
        read(self.b, self.x, component, "component")
    }

    pub fn sigma(&self, component: usize) -> Node<'b> {
        read(self.b, self.sigma, component, "noise level")
    }

    pub fn set_out(&mut self, component: usize, value: Node<'b>) {
        write(self.b, self.out, component, value, "component");
    }

    pub fn slot(&self, i: usize) -> Node<'b> {
        read(self.b, self.slot, i, "slot")
    }

    pub fn set_slot(&mut self, i: usize, value: Node<'b>) {
        write(self.b, self.slot_out, i, value, "slot");
    }

    /// permute: `i32[batch]`, each row's parent within its group.
    pub fn set_index(&mut self, value: Node<'b>) {
        write(self.b, self.index, 0, value, "index");
    }

    /// finish: `bool[batch]`.
    pub fn set_feasible(&mut self, value: Node<'b>) {
        write(self.b, self.feasible, 0, value, "feasible");
    }

    /// start, permute, finish: `float[batch]`.
    pub fn set_log_weight(&mut self, value: Node<'b>) {
        write(self.b, self.log_weight, 0, value, "log weight");
    }
}

/// A plugin type as a guidance.
pub struct AsGuidance<T>(PhantomData<T>);

pub struct Forms {
    stage: Stage,
    group: u32,
    exact_for: f64,
    redraw: Option<Redraw>,
    slots: Owned<abi::Slot>,
    networks: Owned<*const c_char>,
}

impl<T: Guidance> Kind for AsGuidance<T> {
    type Plugin = T;
    type Info = Forms;
    const KIND: u32 = abi::KIND_GUIDANCE;
    const API: *const c_void = (&raw const *Self::TABLE).cast();

    fn info(plugin: &T) -> Result<Forms> {
        let info = plugin.info();
        Ok(Forms {
            stage: info.stage,
            group: info.group,
            exact_for: info.exact_for,
            redraw: plugin.redraw(),
            slots: info::slots(&info.slots)?,
            networks: info::names(&info.networks)?,
        })
    }
}

const START: u32 = 0;
const PROJECT: u32 = 1;
const PERMUTE: u32 = 2;
const FINISH: u32 = 3;

impl<T: Guidance> AsGuidance<T> {
    const TABLE: &'static abi::GuidanceApi = &abi::GuidanceApi {
        struct_size: size_of::<abi::GuidanceApi>() as u32,
        reserved: 0,
        info: Some(guidance_info::<T>),
        wrap: if T::HOOKS.wrap { Some(wrap::<T>) } else { None },
        start: if T::HOOKS.start { Some(guide::<T, START>) } else { None },
        project: if T::HOOKS.project { Some(guide::<T, PROJECT>) } else { None },
        permute: if T::HOOKS.permute { Some(guide::<T, PERMUTE>) } else { None },
        finish: if T::HOOKS.finish { Some(guide::<T, FINISH>) } else { None },
        variant: if T::HOOKS.variant { Some(variant::<T>) } else { None },
    };
}

unsafe extern "C" fn variant<T: Guidance>(
    this: *const c_void,
    lowest: *const f64,
    highest: *const f64,
    n_components: u32,
    out: *mut u32,
    err: *mut abi::Error,
) -> abi::Status {
    // Safety: this came from create; both arrays have n_components elements.
    let body = || unsafe {
        let instance = Instance::<AsGuidance<T>>::of(this)?;
        let out = out.as_mut().ok_or_else(|| null("out"))?;
        *out =
            instance.plugin.variant(slice(lowest, n_components), slice(highest, n_components))?;
        Ok(())
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}

unsafe extern "C" fn guidance_info<T: Guidance>(
    this: *const c_void,
    out: *mut abi::GuidanceInfo,
    err: *mut abi::Error,
) -> abi::Status {
    // Safety: this came from create, out and err from the host.
    let body = || unsafe {
        let forms = &Instance::<AsGuidance<T>>::of(this)?.info;
        let info = abi::GuidanceInfo {
            struct_size: 0,
            stage: forms.stage as u32,
            n_slots: forms.slots.len(),
            n_networks: forms.networks.len(),
            group: forms.group,
            redraws: forms.redraw.map_or(0, |r| r.times),
            exact_for: forms.exact_for,
            slots: forms.slots.ptr(),
            networks: forms.networks.ptr(),
            redraw_share: forms.redraw.map_or(0.0, |r| r.share),
        };
        fill(out, info)
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}

unsafe extern "C" fn wrap<T: Guidance>(
    this: *const c_void,
    graph: *mut abi::Graph,
    io: *mut abi::WrapIo,
    err: *mut abi::Error,
) -> abi::Status {
    // Safety: this came from create; io and its arrays, of the lengths in io and in info, are the host's for this
    // call.
    let body = || unsafe {
        let instance = Instance::<AsGuidance<T>>::of(this)?;
        let io = input(io, "io")?;
        let core = instance.core(graph);
        let b = Builder::new(&core);
        let (n, n_slots) = (io.n_components, instance.info.slots.len());
        let nodes = |p, n| slice(p, n).iter().map(|id| b.node(*id)).collect::<Vec<_>>();
        let conds = b.conds() as u32;
        let evals = slice(io.evals, io.n_evals).iter().map(|e| WrapEval {
            phase: e.phase,
            x: nodes(e.x, n),
            sigma: nodes(e.sigma, n),
            cond: (!e.cond.is_null()).then(|| nodes(e.cond, conds)),
        });
        let mut io = Wrap {
            b,
            inner: Denoiser(io.inner),
            evals: evals.collect(),
            n_components: n as usize,
            variant: io.variant,
            slot: slice(io.slot, n_slots),
            slot_out: slice_mut(io.slot_out, n_slots),
            out: slice_mut(io.out, n.saturating_mul(io.n_evals)),
        };
        instance.plugin.wrap(b, &mut io)
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}

unsafe extern "C" fn guide<T: Guidance, const HOOK: u32>(
    this: *const c_void,
    graph: *mut abi::Graph,
    io: *mut abi::GuideIo,
    err: *mut abi::Error,
) -> abi::Status {
    // Safety: this came from create; io and its arrays, of the lengths in io, are the host's for this call.
    let body = || unsafe {
        let instance = Instance::<AsGuidance<T>>::of(this)?;
        let io = input(io, "io")?;
        let core = instance.core(graph);
        let b = Builder::new(&core);
        let (n, n_slots) = (io.n_components, io.n_slots);
        let mut io = Guide {
            b,
            inner: Denoiser(io.inner),
            x: slice(io.x, n),
            sigma: slice(io.sigma, n),
            out: slice_mut(io.out, n),
            slot: slice(io.slot, n_slots),
            slot_out: slice_mut(io.slot_out, n_slots),
            index: slice_mut(io.index, 1),
            feasible: slice_mut(io.feasible, 1),
            log_weight: slice_mut(io.log_weight, 1),
        };
        match HOOK {
            START => instance.plugin.start(b, &mut io),
            PROJECT => instance.plugin.project(b, &mut io),
            PERMUTE => instance.plugin.permute(b, &mut io),
            _ => instance.plugin.finish(b, &mut io),
        }
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}
