//! Reading what came over the border: text, arrays and structs behind raw pointers. Null, misaligned and oversized
//! arguments become errors here, once; what cannot be tested (a pointer into nowhere) is the caller's contract.

use super::abi;
use crate::base::{DType, Desc, Result, Shape};
use crate::graph::NodeId;
use crate::{bail, fail};
use std::ffi::c_char;

/// Most inputs of one op, as the op table has it (`grad`: 1 + 64).
pub(super) const MAX_INPUTS: usize = 65;
pub(super) const MAX_ATTRS: usize = 32;
pub(super) const MAX_INTS: usize = 4096;
/// Components, conditions, outputs: what one array of nodes may hold.
pub(super) const MAX_NODES: usize = 256;
/// Struct sizes above this are garbage, whatever the minor.
pub(super) const MAX_STRUCT: usize = 4096;
pub(super) const MAX_NAME: usize = 256;
pub(super) const MAX_TEXT: usize = 1 << 16;

/// A mirror that starts with `struct_size`, may grow at its end, and for which all zeros is a value.
///
/// # Safety
/// The type must be `#[repr(C)]` without padding, begin with a `u32` size and be valid when zeroed.
pub(super) unsafe trait Growing: Copy {
    const NAME: &'static str;
    /// Bytes every version has.
    const LEAST: usize;
}

macro_rules! growing {
    ($($ty:ident $name:literal up to $last:ident: $last_ty:ty;)*) => {$(
        // Safety: a mirror of a header struct; pointers, function pointers and numbers are valid as zeros.
        unsafe impl Growing for abi::$ty {
            const NAME: &'static str = $name;
            const LEAST: usize = std::mem::offset_of!(abi::$ty, $last) + size_of::<$last_ty>();
        }
    )*};
}

growing! {
    Call "dfx_call" up to reserved: u32;
    ModelIo "dfx_model_io" up to out: *mut u32;
    Plugin "dfx_plugin" up to license: *const c_char;
    Factory "dfx_factory" up to destroy: Option<unsafe extern "C" fn(*mut std::ffi::c_void)>;
    ModelApi "dfx_model_api" up to build: usize;
    ProcessApi "dfx_process_api" up to precond: abi::ProcessFn;
    GuidanceApi "dfx_guidance_api" up to info: usize;
    SamplerApi "dfx_sampler_api" up to step: usize;
    GridApi "dfx_grid_api" up to knots: usize;
    ObjectiveApi "dfx_objective_api" up to loss: usize;
}

/// What the caller passes as a value: fields missing at its end are zero, fields unknown to us must be zero.
///
/// # Safety
/// A non-null `p` must point to a struct of the size it says.
pub(super) unsafe fn value<T: Growing>(p: *const T) -> Result<T> {
    // Safety: as the caller promised.
    let (out, size) = unsafe { prefix(p) }?;
    for at in size_of::<T>()..size {
        // Safety: inside the struct's own size.
        if unsafe { p.cast::<u8>().add(at).read() } != 0 {
            bail!(
                Unsupported,
                "{}: byte {at} of {size} is set, this engine knows the first {}",
                T::NAME,
                size_of::<T>()
            );
        }
    }
    Ok(out)
}

/// A table of a plugin: functions missing at its end are absent, functions unknown to us are never called.
///
/// # Safety
/// As for [`value`].
pub(super) unsafe fn table<T: Growing>(p: *const T) -> Result<T> {
    // Safety: as the caller promised.
    Ok(unsafe { prefix(p) }?.0)
}

/// The part of the struct that we know, and the size it says it has.
unsafe fn prefix<T: Growing>(p: *const T) -> Result<(T, usize)> {
    if p.is_null() || !p.is_aligned() {
        bail!(Invalid, "{}: pointer {p:p} is null or misaligned", T::NAME);
    }
    // Safety: every growing struct begins with its size.
    let size = unsafe { p.cast::<u32>().read() } as usize;
    if size == size_of::<T>() {
        // Safety: the caller says all of it is there.
        return Ok((unsafe { p.read() }, size));
    }
    if size < T::LEAST || size > MAX_STRUCT {
        bail!(Invalid, "{}: struct_size is {size}, want {} to {MAX_STRUCT}", T::NAME, T::LEAST);
    }
    // Safety: all zeros is a value of a growing struct.
    let mut out: T = unsafe { std::mem::zeroed() };
    let known = size.min(size_of::<T>());
    // Safety: `known` bytes lie inside both structs, which cannot overlap.
    unsafe { std::ptr::copy_nonoverlapping(p.cast::<u8>(), (&raw mut out).cast::<u8>(), known) };
    Ok((out, size))
}

/// An array of `n`, which may be null when `n` is 0.
///
/// # Safety
/// A non-null `p` must point to `n` elements that live for `'a`.
pub(super) unsafe fn slice<'a, T>(p: *const T, n: u32, most: usize, what: &str) -> Result<&'a [T]> {
    let n = n as usize;
    if n == 0 {
        return Ok(&[]);
    }
    if n > most {
        bail!(Invalid, "{what}: {n} elements, at most {most}");
    }
    if p.is_null() || !p.is_aligned() {
        bail!(Invalid, "{what}: pointer {p:p} is null or misaligned");
    }
    // Safety: as the caller promised.
    Ok(unsafe { std::slice::from_raw_parts(p, n) })
}

/// An array to be filled; the rules of [`slice`].
///
/// # Safety
/// As for [`slice`], and nothing else may touch the elements during `'a`.
pub(super) unsafe fn slice_mut<'a, T>(
    p: *mut T,
    n: usize,
    most: usize,
    what: &str,
) -> Result<&'a mut [T]> {
    if n == 0 {
        return Ok(&mut []);
    }
    if n > most {
        bail!(Invalid, "{what}: {n} elements, at most {most}");
    }
    if p.is_null() || !p.is_aligned() {
        bail!(Invalid, "{what}: pointer {p:p} is null or misaligned");
    }
    // Safety: as the caller promised.
    Ok(unsafe { std::slice::from_raw_parts_mut(p, n) })
}

/// A place for one result.
///
/// # Safety
/// A non-null `p` must be writable and not otherwise used during `'a`.
pub(super) unsafe fn place<'a, T>(p: *mut T, what: &str) -> Result<&'a mut T> {
    // Safety: as the caller promised.
    match unsafe { slice_mut(p, 1, 1, what) }? {
        [one] => Ok(one),
        _ => bail!(Invalid, "{what}: no place for the result"),
    }
}

/// Node numbers, as ids.
///
/// # Safety
/// As for [`slice`].
pub(super) unsafe fn nodes(p: *const u32, n: u32, what: &str) -> Result<Vec<NodeId>> {
    // Safety: as the caller promised.
    Ok(unsafe { slice(p, n, MAX_NODES, what) }?.iter().map(|n| NodeId(*n)).collect())
}

/// NUL-terminated UTF-8 of at most `most` bytes.
///
/// # Safety
/// A non-null `p` must point to a NUL-terminated string that lives for `'a`.
pub(super) unsafe fn text<'a>(p: *const c_char, most: usize, what: &str) -> Result<&'a str> {
    if p.is_null() {
        bail!(Invalid, "{what}: is NULL");
    }
    // Safety: strnlen reads up to the NUL, or `most + 1` bytes of a string that is longer.
    let n = unsafe { libc::strnlen(p, most + 1) };
    if n > most {
        bail!(Invalid, "{what}: is longer than {most} bytes");
    }
    // Safety: `n` bytes before the NUL.
    let bytes = unsafe { std::slice::from_raw_parts(p.cast::<u8>(), n) };
    std::str::from_utf8(bytes).map_err(|e| fail!(Invalid, "{what}: is not UTF-8 ({e})"))
}

/// A name: text that is not empty and has no control characters.
///
/// # Safety
/// As for [`text`].
pub(super) unsafe fn name<'a>(p: *const c_char, what: &str) -> Result<&'a str> {
    // Safety: as the caller promised.
    let name = unsafe { text(p, MAX_NAME, what) }?;
    if name.is_empty() || name.chars().any(char::is_control) {
        bail!(Invalid, "{what}: {name:?} is empty or has control characters");
    }
    Ok(name)
}

/// The message a plugin left in an error, without trusting its length or its encoding.
pub(super) fn message(e: &abi::Error) -> String {
    let bytes: Vec<u8> = e.message.iter().map(|c| *c as u8).take_while(|c| *c != 0).collect();
    String::from_utf8_lossy(&bytes).trim_end_matches('\u{fffd}').to_owned()
}

/// A shape whose every dimension is known; `zero` stands for dtype 0.
pub(super) fn desc(d: &abi::Desc, zero: Option<DType>, what: &str) -> Result<Desc> {
    let dtype = match (d.dtype, zero) {
        (0, Some(zero)) => zero,
        (code, _) => DType::from_code(code)
            .ok_or_else(|| fail!(Unsupported, "{what}: dtype {code} is not known"))?,
    };
    let mut out = [0; abi::MAX_RANK];
    let dims = dims(d, what)?;
    for (out, d) in out.iter_mut().zip(dims) {
        *out =
            usize::try_from(*d).map_err(|_| fail!(Invalid, "{what}: dimension {d} is negative"))?;
    }
    Ok(Desc { dtype, shape: Shape::new(&out[..dims.len()]).map_err(|e| e.within(what))? })
}

/// The dimensions as they stand, free ones too.
pub(super) fn dims<'a>(d: &'a abi::Desc, what: &str) -> Result<&'a [i64]> {
    match d.dims.get(..d.rank as usize) {
        Some(dims) => Ok(dims),
        None => bail!(Invalid, "{what}: rank {} is above the limit of {}", d.rank, abi::MAX_RANK),
    }
}

/// The mirror of a shape.
pub(super) fn raw_desc(d: &Desc) -> abi::Desc {
    let mut out = abi::Desc { dtype: d.dtype.code(), rank: d.dims().len() as u32, dims: [0; 8] };
    for (out, d) in out.dims.iter_mut().zip(d.dims()) {
        *out = *d as i64;
    }
    out
}
