//! What plugins declare about themselves, in Rust and as the C structs made of it. The C forms are made once, when an
//! instance is created, and live in it: the header lets the host keep pointers into them.

use crate::abi;
use crate::builder::{Shape, text};
use crate::error::{Error, Result};
use core::ffi::c_char;
use std::ffi::CString;

pub use crate::abi::Stats;

impl Default for Stats {
    /// Those of standardised data.
    fn default() -> Self {
        Self { x_mean: 0.0, x_var: 1.0, w_mean: 0.0, w_var: 1.0 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Space {
    Continuous = abi::SPACE_CONTINUOUS,
    Discrete = abi::SPACE_DISCRETE,
}

/// One part of the state of a model; dims without the batch, -1 is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    pub name: String,
    pub dims: Vec<i64>,
    pub space: Space,
    /// Discrete: size of the vocabulary, mask included.
    pub classes: u32,
}

impl Component {
    pub fn continuous(name: &str, dims: &[i64]) -> Self {
        Self { name: name.into(), dims: dims.into(), space: Space::Continuous, classes: 0 }
    }

    pub fn discrete(name: &str, dims: &[i64], classes: u32) -> Self {
        Self { name: name.into(), dims: dims.into(), space: Space::Discrete, classes }
    }
}

/// A component of the pipeline, as the host describes it.
#[derive(Debug, Clone, Copy)]
pub struct ComponentView<'b> {
    pub name: &'b str,
    /// One sample, without the batch.
    pub shape: Shape,
    pub dtype: u32,
    pub discrete: bool,
    pub classes: u32,
}

impl ComponentView<'_> {
    /// # Safety
    /// The name is null or NUL-terminated and lives as long as the build call the view is used in.
    pub(crate) unsafe fn new(raw: &abi::Component) -> Self {
        Self {
            // Safety: by the caller's promise.
            name: unsafe { text(raw.name) },
            shape: Shape::of(&raw.desc),
            dtype: raw.desc.dtype,
            discrete: raw.space == abi::SPACE_DISCRETE,
            classes: raw.classes,
        }
    }
}

/// One named condition of a model; dims without the batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Cond {
    pub name: String,
    pub dims: Vec<i64>,
    /// 0 = the state's float type.
    pub dtype: u32,
    /// Every element of the null condition.
    pub null_value: f64,
}

/// A per-sample tensor that lives across steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    pub name: String,
    pub like: Like,
    /// Every element before the first step.
    pub init: f64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Like {
    /// Shaped and typed as this component.
    Component(u32),
    /// Of this type (0 = the float type) and these dims without the batch.
    Tensor(u32, Vec<i64>),
}

// ---- C forms

fn c_string(s: &str) -> Result<CString> {
    CString::new(s).map_err(|_| Error::invalid(format!("name {s:?} holds a NUL byte")))
}

fn desc(dtype: u32, dims: &[i64]) -> Result<abi::Desc> {
    if dims.len() >= abi::MAX_RANK {
        let most = abi::MAX_RANK - 1;
        return Err(Error::invalid(format!("{} dimensions, want at most {most}", dims.len())));
    }
    let mut out = abi::Desc { dtype, rank: dims.len() as u32, dims: [0; abi::MAX_RANK] };
    out.dims[..dims.len()].copy_from_slice(dims);
    Ok(out)
}

/// Structs that point to names they own.
pub(crate) struct Owned<T> {
    pub(crate) list: Vec<T>,
    _names: Vec<CString>,
}

impl<T> Owned<T> {
    fn new<D>(
        from: &[D],
        make: impl Fn(&D) -> Result<(CString, T)>,
        set: impl Fn(&mut T, *const c_char),
    ) -> Result<Self> {
        let (mut list, mut names) = (Vec::new(), Vec::new());
        for d in from {
            let (name, mut item) = make(d)?;
            set(&mut item, name.as_ptr()); // a CString's bytes stay where they are when it moves
            names.push(name);
            list.push(item);
        }
        Ok(Self { list, _names: names })
    }

    pub(crate) fn len(&self) -> u32 {
        self.list.len() as u32
    }

    /// Null when empty.
    pub(crate) fn ptr(&self) -> *const T {
        if self.list.is_empty() { core::ptr::null() } else { self.list.as_ptr() }
    }
}

const NO_NAME: *const c_char = core::ptr::null();

pub(crate) fn components(from: &[Component]) -> Result<Owned<abi::Component>> {
    let make = |c: &Component| {
        let dtype = if c.space == Space::Discrete { abi::I32 } else { 0 };
        let item = abi::Component {
            desc: desc(dtype, &c.dims)?,
            space: c.space as u32,
            classes: c.classes,
            name: NO_NAME,
            reserved: core::ptr::null(),
        };
        Ok((c_string(&c.name)?, item))
    };
    Owned::new(from, make, |item, name| item.name = name)
}

pub(crate) fn conds(from: &[Cond]) -> Result<Owned<abi::Cond>> {
    let make = |c: &Cond| {
        let item = abi::Cond {
            desc: desc(c.dtype, &c.dims)?,
            null_value: c.null_value,
            name: NO_NAME,
            reserved: core::ptr::null(),
        };
        Ok((c_string(&c.name)?, item))
    };
    Owned::new(from, make, |item, name| item.name = name)
}

pub(crate) fn slots(from: &[Slot]) -> Result<Owned<abi::Slot>> {
    let make = |s: &Slot| {
        let (like, desc) = match &s.like {
            Like::Component(c) => (c + 1, desc(0, &[])?),
            Like::Tensor(dtype, dims) => (0, desc(*dtype, dims)?),
        };
        let item = abi::Slot {
            desc,
            init: s.init,
            like,
            reserved: 0,
            name: NO_NAME,
            reserved_ptr: core::ptr::null(),
        };
        Ok((c_string(&s.name)?, item))
    };
    Owned::new(from, make, |item, name| item.name = name)
}

pub(crate) fn names(from: &[String]) -> Result<Owned<*const c_char>> {
    Owned::new(from, |s| Ok((c_string(s)?, NO_NAME)), |item, name| *item = name)
}
