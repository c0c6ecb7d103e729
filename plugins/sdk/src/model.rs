//! A network: from a configuration to a graph, declaring each weight where it is used.

use crate::abi;
use crate::builder::Builder;
use crate::error::Result;
use crate::info::{self, Component, Cond, Owned, Slot};
use crate::instance::{Factory, Instance, Kind, fill, guard, input, slice, slice_mut};
use crate::node::Node;
use core::ffi::c_void;
use core::marker::PhantomData;

/// What the output of a model means; see `DFX_PREDICTS_*` in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Predicts {
    /// F in `D = c_skip w + c_out F(c_in w, c_noise)`.
    Residual = 0,
    Denoised = 1,
    Noise = 2,
    Velocity = 3,
    Score = 4,
    Logits = 5,
    Value = 6,
    /// Variance preserving: `v = a eps - s x0`, `a = 1/√(1 + sigma²)`, `s = a sigma`.
    V = 7,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    pub predicts: Predicts,
    pub components: Vec<Component>,
    pub conds: Vec<Cond>,
    /// Caches.
    pub slots: Vec<Slot>,
}

pub trait Model: Factory {
    fn info(&self) -> ModelInfo;
    /// Emits the network: one output per component.
    fn build<'b>(&self, b: Builder<'b>, io: &mut ModelIo<'b>) -> Result<()>;
}

/// Inputs and outputs of one build.
pub struct ModelIo<'b> {
    b: Builder<'b>,
    phase: u32,
    x: &'b [abi::Node],
    sigma: &'b [abi::Node],
    cond: &'b [abi::Node],
    slot: &'b [abi::Node],
    slot_out: &'b mut [abi::Node],
    out: &'b mut [abi::Node],
}

impl<'b> ModelIo<'b> {
    /// Which form of the model.
    pub const fn phase(&self) -> u32 {
        self.phase
    }

    /// `[rows, ...]`; rows may be a multiple of the batch.
    pub fn x(&self, component: usize) -> Node<'b> {
        read(self.b, self.x, component, "component")
    }

    /// The noise embedding input of a component, `[rows]`.
    pub fn sigma(&self, component: usize) -> Node<'b> {
        read(self.b, self.sigma, component, "noise level")
    }

    /// `[rows, ...]`.
    pub fn cond(&self, i: usize) -> Node<'b> {
        read(self.b, self.cond, i, "condition")
    }

    pub fn slot(&self, i: usize) -> Node<'b> {
        read(self.b, self.slot, i, "slot")
    }

    pub fn set_slot(&mut self, i: usize, value: Node<'b>) {
        write(self.b, self.slot_out, i, value, "slot");
    }

    pub fn set_out(&mut self, i: usize, value: Node<'b>) {
        write(self.b, self.out, i, value, "output");
    }
}

/// Node `i` of an array; a sticky error if there is none.
pub(crate) fn read<'b>(b: Builder<'b>, from: &[abi::Node], i: usize, what: &str) -> Node<'b> {
    match from.get(i) {
        Some(id) => b.node(*id),
        None => missing(b, from.len(), i, what),
    }
}

pub(crate) fn write<'b>(
    b: Builder<'b>,
    to: &mut [abi::Node],
    i: usize,
    value: Node<'b>,
    what: &str,
) {
    match to.get_mut(i) {
        Some(id) => *id = value.id,
        None => {
            missing(b, to.len(), i, what);
        }
    }
}

fn missing<'b>(b: Builder<'b>, count: usize, i: usize, what: &str) -> Node<'b> {
    b.fail(abi::E_PLUGIN, &format!("plugin used {what} {i}, there are {count}"))
}

/// A plugin type as a model.
pub struct AsModel<T>(PhantomData<T>);

pub struct Forms {
    predicts: Predicts,
    components: Owned<abi::Component>,
    conds: Owned<abi::Cond>,
    slots: Owned<abi::Slot>,
}

impl<T: Model> Kind for AsModel<T> {
    type Plugin = T;
    type Info = Forms;
    const KIND: u32 = abi::KIND_MODEL;
    const API: *const c_void = (&raw const *Self::TABLE).cast();

    fn info(plugin: &T) -> Result<Forms> {
        let info = plugin.info();
        Ok(Forms {
            predicts: info.predicts,
            components: info::components(&info.components)?,
            conds: info::conds(&info.conds)?,
            slots: info::slots(&info.slots)?,
        })
    }
}

impl<T: Model> AsModel<T> {
    const TABLE: &'static abi::ModelApi = &abi::ModelApi {
        struct_size: size_of::<abi::ModelApi>() as u32,
        reserved: 0,
        info: Some(model_info::<T>),
        build: Some(build::<T>),
    };
}

unsafe extern "C" fn model_info<T: Model>(
    this: *const c_void,
    out: *mut abi::ModelInfo,
    err: *mut abi::Error,
) -> abi::Status {
    // Safety: this came from create, out and err from the host.
    let body = || unsafe {
        let forms = &Instance::<AsModel<T>>::of(this)?.info;
        let info = abi::ModelInfo {
            struct_size: 0,
            predicts: forms.predicts as u32,
            n_components: forms.components.len(),
            n_conds: forms.conds.len(),
            n_slots: forms.slots.len(),
            reserved: 0,
            components: forms.components.ptr(),
            conds: forms.conds.ptr(),
            slots: forms.slots.ptr(),
            reserved_ptr: core::ptr::null(),
        };
        fill(out, info)
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}

unsafe extern "C" fn build<T: Model>(
    this: *const c_void,
    graph: *mut abi::Graph,
    io: *mut abi::ModelIo,
    err: *mut abi::Error,
) -> abi::Status {
    // Safety: this came from create; io and its arrays, of the lengths in io, are the host's for this call.
    let body = || unsafe {
        let instance = Instance::<AsModel<T>>::of(this)?;
        let io = input(io, "io")?;
        let core = instance.core(graph);
        let b = Builder::new(&core);
        let mut io = ModelIo {
            b,
            phase: io.phase,
            x: slice(io.x, io.n_components),
            sigma: slice(io.sigma, io.n_components),
            cond: slice(io.cond, io.n_conds),
            slot: slice(io.slot, io.n_slots),
            slot_out: slice_mut(io.slot_out, io.n_slots),
            out: slice_mut(io.out, io.n_out),
        };
        instance.plugin.build(b, &mut io)
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}
