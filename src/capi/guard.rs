//! The border: no panic crosses it, every failure becomes a status and a message in the caller's `dfx_error`.

use crate::base::{Error, Result, Status};
use crate::engine::Engine;
use crate::fail;
use std::ffi::{CStr, c_char};
use std::mem::offset_of;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// `dfx_error`.
#[repr(C)]
pub struct CError {
    struct_size: u32,
    status: i32,
    source: u32,
    message_len: u32,
    message: [c_char; 496],
}

const _: () = assert!(size_of::<CError>() == 512);

/// Longest text a host may send: models and data go by file.
const MAX_TEXT: usize = 64 << 20;

/// Runs the body of a function that returns a status. A panic is a bug of ours: it poisons the engine, if there is one.
pub(super) fn guard(
    err: *mut CError,
    engine: Option<&Engine>,
    body: impl FnOnce() -> Result<()>,
) -> i32 {
    shield(err, engine, || {
        engine.map_or(Ok(()), Engine::check)?;
        body()
    })
}

/// Like `guard`, for what may be asked of a poisoned engine: a job says how it ended.
pub(super) fn shield(
    err: *mut CError,
    engine: Option<&Engine>,
    body: impl FnOnce() -> Result<()>,
) -> i32 {
    let out = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(out) => out,
        Err(panic) => {
            std::mem::forget(panic); // dropping a payload may panic again
            if let Some(engine) = engine {
                engine.poison();
            }
            Err(fail!(Internal, "a bug in diffx; please report it"))
        }
    };
    match out {
        Ok(()) => 0,
        Err(e) => {
            // Safety: the contract of the header: NULL, or a dfx_error whose struct_size says how much of it there is.
            unsafe { write(err, &e) };
            e.status.code()
        }
    }
}

/// Like `guard`, for functions without a status.
pub(super) fn quiet<T>(default: T, body: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(out) => out,
        Err(panic) => {
            std::mem::forget(panic);
            default
        }
    }
}

/// Writes at most `struct_size` bytes. The message is cut at a character and ends in NUL.
///
/// # Safety
/// `err` must be null or valid for writes of as many bytes as its `struct_size` says.
unsafe fn write(err: *mut CError, e: &Error) {
    if err.is_null() {
        return;
    }
    // Safety: as the caller promised; the first field is always there.
    unsafe {
        let size =
            ((&raw const (*err).struct_size).read_unaligned() as usize).min(size_of::<CError>());
        if size >= offset_of!(CError, status) + 4 {
            (&raw mut (*err).status).write_unaligned(e.status.code());
        }
        if size >= offset_of!(CError, source) + 4 {
            (&raw mut (*err).source).write_unaligned(e.source);
        }
        let room = size.saturating_sub(offset_of!(CError, message));
        let mut len = e.message.len().min(room.saturating_sub(1));
        while !e.message.is_char_boundary(len) {
            len -= 1;
        }
        if size >= offset_of!(CError, message_len) + 4 {
            (&raw mut (*err).message_len).write_unaligned(len as u32);
        }
        if room > 0 {
            let to = (&raw mut (*err).message).cast::<u8>();
            for (i, b) in e.message.bytes().take(len).enumerate() {
                // a message is text: a NUL inside would hide the rest
                to.add(i).write(if b == 0 { b' ' } else { b });
            }
            to.add(len).write(0);
        }
    }
}

/// A text the caller lends; `what` names it in errors.
///
/// # Safety
/// `p` must be null or a NUL-terminated string that lives for `'a`.
pub(super) unsafe fn text<'a>(p: *const c_char, what: &str) -> Result<Option<&'a str>> {
    if p.is_null() {
        return Ok(None);
    }
    // Safety: as the caller promised.
    let bytes = unsafe { CStr::from_ptr(p) };
    if bytes.count_bytes() > MAX_TEXT {
        return Err(fail!(Invalid, "{what}: is longer than {MAX_TEXT} bytes"));
    }
    match bytes.to_str() {
        Ok(s) => Ok(Some(s)),
        Err(_) => Err(fail!(Invalid, "{what}: is not UTF-8")),
    }
}

/// # Safety
/// As [`text`].
pub(super) unsafe fn needed<'a>(p: *const c_char, what: &str) -> Result<&'a str> {
    // Safety: as the caller promised.
    match unsafe { text(p, what) }? {
        Some(s) if !s.is_empty() => Ok(s),
        _ => Err(fail!(Invalid, "{what}: is NULL or empty")),
    }
}

/// # Safety
/// As [`text`].
pub(super) unsafe fn path(p: *const c_char, what: &str) -> Result<PathBuf> {
    // Safety: as the caller promised.
    Ok(PathBuf::from(unsafe { needed(p, what) }?))
}

/// A list the caller lends.
///
/// # Safety
/// `p` must be null or point to `n` readable elements that live for `'a`.
pub(super) unsafe fn list<'a, T>(p: *const T, n: u32, most: u32, what: &str) -> Result<&'a [T]> {
    if n == 0 {
        return Ok(&[]);
    }
    if n > most {
        return Err(fail!(Invalid, "{what}: {n} of them, want at most {most}"));
    }
    if p.is_null() || !p.is_aligned() {
        return Err(fail!(Invalid, "{what}: {n} are announced, but the pointer is {p:p}"));
    }
    // Safety: as the caller promised.
    Ok(unsafe { std::slice::from_raw_parts(p, n as usize) })
}

/// Where a result goes.
///
/// # Safety
/// `p` must be null or valid for a write of `T`.
pub(super) unsafe fn out<'a, T>(p: *mut T, what: &str) -> Result<&'a mut std::mem::MaybeUninit<T>> {
    if p.is_null() || !p.is_aligned() {
        return Err(Error::new(Status::Invalid, format!("{what}: the out pointer is {p:p}")));
    }
    // Safety: as the caller promised; MaybeUninit asks nothing of what was there.
    Ok(unsafe { &mut *p.cast::<std::mem::MaybeUninit<T>>() })
}
