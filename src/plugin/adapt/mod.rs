//! Adapters: the traits of `sample` and `train` over the C tables of plugins. What a plugin says about itself is read
//! and checked once, when the instance is created; what it emits is checked after each call.

mod grid;
mod guidance;
mod model;
mod objective;
mod process;
mod sampler;

pub(super) use grid::GridPlugin;
pub(super) use guidance::GuidancePlugin;
pub(super) use model::ModelPlugin;
pub(super) use objective::ObjectivePlugin;
pub(super) use process::ProcessPlugin;
pub(super) use sampler::SamplerPlugin;

use super::entry::Kind;
use super::{abi, read};
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::sample::{Component, SlotDecl};
use std::ffi::{c_char, c_void};

const MAX_SLOTS: usize = 256;
const MAX_NAMES: usize = 64;

/// The required functions of each kind are there.
///
/// # Safety
/// `api` must point to a table of this kind that says its own size.
pub(super) unsafe fn check_table(kind: Kind, api: *const c_void) -> Result<()> {
    // Safety: as the caller promised.
    let required: &[(&str, bool)] = unsafe {
        match kind {
            Kind::Model => {
                let t = read::table::<abi::ModelApi>(api.cast())?;
                &[("info", t.info.is_some()), ("build", t.build.is_some())]
            }
            Kind::Process => {
                let t = read::table::<abi::ProcessApi>(api.cast())?;
                &[
                    ("info", t.info.is_some()),
                    ("perturb", t.perturb.is_some()),
                    ("prior", t.prior.is_some()),
                ]
            }
            Kind::Guidance => {
                &[("info", read::table::<abi::GuidanceApi>(api.cast())?.info.is_some())]
            }
            Kind::Sampler => {
                let t = read::table::<abi::SamplerApi>(api.cast())?;
                &[
                    ("info", t.info.is_some()),
                    ("plan", t.plan.is_some()),
                    ("step", t.step.is_some()),
                ]
            }
            Kind::Grid => &[("knots", read::table::<abi::GridApi>(api.cast())?.knots.is_some())],
            Kind::Objective => {
                let t = read::table::<abi::ObjectiveApi>(api.cast())?;
                &[("info", t.info.is_some()), ("loss", t.loss.is_some())]
            }
        }
    };
    match required.iter().find(|(_, there)| !there) {
        Some((name, _)) => {
            bail!(Format, "its table has no function {name}, which every {} needs", kind.name())
        }
        None => Ok(()),
    }
}

/// Zeroed, and saying its own size.
///
/// # Safety
/// `T` must be a mirror that begins with `struct_size` and is valid as zeros.
unsafe fn sized<T>() -> T {
    // Safety: as the caller promised.
    let mut out: T = unsafe { std::mem::zeroed() };
    // Safety: the first field is a u32.
    unsafe { (&raw mut out).cast::<u32>().write(size_of::<T>() as u32) };
    out
}

/// A list of names.
///
/// # Safety
/// `p` must be null or point to `n` C strings.
unsafe fn names(p: *const *const c_char, n: u32, what: &str) -> Result<Vec<String>> {
    // Safety: as the caller promised.
    let list = unsafe { read::slice(p, n, MAX_NAMES, what) }?;
    let mut out = Vec::with_capacity(list.len());
    for p in list {
        // Safety: as the caller promised.
        let name = unsafe { read::name(*p, what) }?.to_owned();
        if out.contains(&name) {
            bail!(Invalid, "{what}: {name} is there twice");
        }
        out.push(name);
    }
    Ok(out)
}

/// A tensor that lives across steps, whose shape may be that of a component not known yet.
#[derive(Debug, Clone)]
struct Slot {
    name: String,
    init: f64,
    shape: SlotShape,
}

#[derive(Debug, Clone)]
enum SlotShape {
    Like(usize),
    /// `None` = the pipeline's float type.
    Own(Option<DType>, Vec<usize>),
}

/// # Safety
/// `p` must be null or point to `n` slots.
unsafe fn slots(p: *const abi::Slot, n: u32) -> Result<Vec<Slot>> {
    let mut out: Vec<Slot> = Vec::new();
    // Safety: as the caller promised.
    for raw in unsafe { read::slice(p, n, MAX_SLOTS, "slots") }? {
        // Safety: as the caller promised.
        let name = unsafe { read::name(raw.name, "name of a slot") }?;
        if out.iter().any(|s| s.name == name) {
            bail!(Invalid, "slot {name}: is there twice");
        }
        if raw.init.is_nan() {
            bail!(Invalid, "slot {name}: starts as NaN");
        }
        let shape = if raw.like > 0 {
            SlotShape::Like(raw.like as usize - 1)
        } else {
            let desc = read::desc(&raw.desc, Some(DType::F32), &format!("slot {name}"))?;
            let dtype = (raw.desc.dtype != 0).then_some(desc.dtype);
            SlotShape::Own(dtype, desc.dims().to_vec())
        };
        out.push(Slot { name: name.to_owned(), init: raw.init, shape });
    }
    Ok(out)
}

/// The slots of a plugin in a pipeline of these components.
fn resolve(slots: &[Slot], components: &[Component]) -> Result<Vec<SlotDecl>> {
    let float = components.iter().map(|c| c.dtype).find(|d| d.is_float()).unwrap_or(DType::F32);
    let one = |slot: &Slot| {
        let (desc, free) = match &slot.shape {
            SlotShape::Own(dtype, dims) => {
                (Desc::new(dtype.unwrap_or(float), dims)?, dtype.is_none())
            }
            SlotShape::Like(c) => {
                let Some(component) = components.get(*c) else {
                    bail!(
                        Invalid,
                        "slot {}: is like component {c}, there are {}",
                        slot.name,
                        components.len()
                    );
                };
                let mut dims = Vec::with_capacity(component.dims.len());
                for d in &component.dims {
                    match usize::try_from(*d) {
                        Ok(d) => dims.push(d),
                        Err(_) => bail!(
                            Invalid,
                            "slot {}: is like component {}, which leaves a dimension free",
                            slot.name,
                            component.name
                        ),
                    }
                }
                (Desc::new(component.dtype, &dims)?, component.dtype.is_float())
            }
        };
        Ok(SlotDecl { name: slot.name.clone(), desc, free, init: slot.init })
    };
    slots.iter().map(one).collect()
}
