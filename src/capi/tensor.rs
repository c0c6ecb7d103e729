//! Tensors: made, lent, exchanged, looked at.

use super::engine::{self, CEngine};
use super::guard::{CError, guard, list, needed, out, quiet};
use super::handle::{Handle, Object};
use super::model::MOST_NAMES;
use crate::base::{DType, Desc, MAX_RANK, Result};
use crate::engine::Engine;
use crate::mem::{Tensor, dlpack};
use crate::{bail, fail};
use std::ffi::{c_char, c_void};
use std::sync::Arc;

/// A tensor. It holds its memory and the budget that is on, and no engine: nothing has to run for it.
pub struct Shared {
    pub(super) tensor: Arc<Tensor>,
}

pub type CTensor = Handle<Shared>;

impl Object for Shared {
    const MAGIC: u64 = 0x6469_6666_7874_656e;
    const NAME: &'static str = "dfx_tensor";

    fn engine(&self) -> Option<&Arc<Engine>> {
        None
    }
}

impl CTensor {
    pub(super) fn of(tensor: Arc<Tensor>) -> *mut Self {
        Self::make(Shared { tensor })
    }
}

/// `dfx_desc`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CDesc {
    dtype: u32,
    rank: u32,
    dims: [i64; MAX_RANK],
}

const _: () = assert!(size_of::<CDesc>() == 72);

unsafe fn read(p: *const CDesc) -> Result<Desc> {
    if p.is_null() {
        bail!(Invalid, "desc is NULL");
    }
    // Safety: the contract of the header.
    let d = unsafe { p.read_unaligned() };
    let Some(dtype) = DType::from_code(d.dtype) else {
        bail!(Unsupported, "desc: dtype {} is not known", d.dtype);
    };
    let Some(given) = d.dims.get(..d.rank as usize) else {
        bail!(Invalid, "desc: rank {}, want 0 to {MAX_RANK}", d.rank);
    };
    let mut dims = Vec::with_capacity(given.len());
    for d in given {
        dims.push(usize::try_from(*d).map_err(|_| fail!(Invalid, "desc: dimension {d}"))?);
    }
    Desc::new(dtype, &dims)
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tensor_create(
    e: *const CEngine,
    desc: *const CDesc,
    data: *const c_void,
    result: *mut *mut CTensor,
    err: *mut CError,
) -> i32 {
    engine::with(e, err, |handle| {
        // Safety: the contract of the header.
        let (result, desc) = unsafe { (out(result, "tensor")?, read(desc)?) };
        let budget = handle.value.budget();
        let tensor = if data.is_null() || desc.bytes() == 0 {
            Tensor::new(desc, budget)?
        } else {
            // Safety: the header asks for as many bytes as desc says.
            let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), desc.bytes()) };
            Tensor::from_bytes(desc, bytes, budget)?
        };
        tensor.check_bools()?;
        result.write(CTensor::of(Arc::new(tensor)));
        Ok(())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tensor_wrap(
    e: *const CEngine,
    desc: *const CDesc,
    data: *mut c_void,
    free: Option<unsafe extern "C-unwind" fn(*mut c_void, *mut c_void)>,
    user: *mut c_void,
    result: *mut *mut CTensor,
    err: *mut CError,
) -> i32 {
    engine::with(e, err, |_| {
        // Safety: the contract of the header.
        let (result, desc) = unsafe { (out(result, "tensor")?, read(desc)?) };
        if desc.bytes() > 0 && (data.is_null() || !data.addr().is_multiple_of(desc.dtype.bytes())) {
            bail!(Invalid, "data at {data:p} is NULL or not aligned for {}", desc.dtype);
        }
        // Safety: the header asks for memory that is alive and unchanged until `free`. It is looked at first without
        // `free`, which must not be called on failure.
        let look = unsafe { Tensor::borrow(desc, data, None, std::ptr::null_mut()) };
        look.check_bools()?;
        // Safety: as above.
        let tensor = unsafe { Tensor::borrow(desc, data, free, user) };
        result.write(CTensor::of(Arc::new(tensor)));
        Ok(())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tensor_from_dlpack(
    e: *const CEngine,
    source: *mut dlpack::Managed,
    _stream: *mut c_void,
    result: *mut *mut CTensor,
    err: *mut CError,
) -> i32 {
    engine::with(e, err, |_| {
        // Safety: the contract of the header.
        let result = unsafe { out(result, "tensor") }?;
        // Safety: as above.
        let tensor = unsafe { dlpack::import(source) }?;
        result.write(CTensor::of(Arc::new(tensor)));
        Ok(())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tensor_to_dlpack(
    t: *const CTensor,
    _stream: *mut c_void,
    result: *mut *mut dlpack::Managed,
    err: *mut CError,
) -> i32 {
    guard(err, None, || {
        // Safety: the contract of the header.
        let (handle, result) = unsafe { (CTensor::get(t)?, out(result, "dlpack")?) };
        result.write(dlpack::export(&handle.value.tensor));
        Ok(())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tensor_map(
    t: *const CTensor,
    data: *mut *const c_void,
    bytes: *mut usize,
    err: *mut CError,
) -> i32 {
    guard(err, None, || {
        // Safety: the contract of the header.
        let (handle, data) = unsafe { (CTensor::get(t)?, out(data, "data")?) };
        let slice = handle.value.tensor.bytes();
        if !bytes.is_null() {
            // Safety: as above.
            unsafe { bytes.write_unaligned(slice.len()) };
        }
        data.write(slice.as_ptr().cast());
        Ok(())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tensor_desc(
    t: *const CTensor,
    result: *mut CDesc,
    err: *mut CError,
) -> i32 {
    guard(err, None, || {
        // Safety: the contract of the header.
        let (handle, result) = unsafe { (CTensor::get(t)?, out(result, "desc")?) };
        let desc = handle.value.tensor.desc();
        let mut dims = [0; MAX_RANK];
        for (to, d) in dims.iter_mut().zip(desc.dims()) {
            *to = *d as i64;
        }
        result.write(CDesc { dtype: desc.dtype.code(), rank: desc.shape.rank() as u32, dims });
        Ok(())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tensor_retain(t: *const CTensor) {
    quiet((), || {
        // Safety: the contract of the header.
        if let Ok(handle) = unsafe { CTensor::get(t) } {
            handle.retain();
        }
    });
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_tensor_release(t: *const CTensor) {
    // Safety: the contract of the header.
    quiet((), || unsafe { CTensor::release(t) });
}

/// A tensor lent, or none.
///
/// # Safety
/// `t` must be null or a tensor that is not released.
pub(super) unsafe fn lent(t: *const CTensor) -> Result<Option<Arc<Tensor>>> {
    if t.is_null() {
        return Ok(None);
    }
    // Safety: as the caller promised.
    Ok(Some(Arc::clone(&unsafe { CTensor::get(t) }?.value.tensor)))
}

/// Tensors lent with their names.
///
/// # Safety
/// Both must be null or point to `n` strings and tensors.
pub(super) unsafe fn named(
    names: *const *const c_char,
    tensors: *const *const CTensor,
    n: u32,
) -> Result<Vec<(String, Arc<Tensor>)>> {
    // Safety: as the caller promised, here and below.
    let (names, tensors) = unsafe {
        (list(names, n, MOST_NAMES, "input_names")?, list(tensors, n, MOST_NAMES, "inputs")?)
    };
    let mut out: Vec<(String, Arc<Tensor>)> = Vec::with_capacity(names.len());
    for (name, t) in names.iter().zip(tensors) {
        // Safety: as above.
        let (name, t) = unsafe { (needed(*name, "input name")?, CTensor::get(*t)?) };
        if out.iter().any(|(known, _)| known == name) {
            bail!(Invalid, "input {name} is there twice");
        }
        out.push((name.to_owned(), Arc::clone(&t.value.tensor)));
    }
    Ok(out)
}
