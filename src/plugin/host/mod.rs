//! The host as a plugin sees it: `dfx_host` with its memory, its log, and the tables of `graph` and `service`.

mod graph;
mod service;

pub(super) use service::{raw_component, raw_stats};

use super::{abi, read};
use std::alloc::Layout;
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;

/// Where messages of plugins go: level (0 error, 1 warning, 2 information, 3 debugging) and text.
pub type Log = Box<dyn Fn(i32, &str) + Send + Sync>;

/// One host table. Instances hold it, so that it outlives them.
pub struct Host {
    raw: abi::Host,
    log: Log,
}

// Safety: the raw table is never written after `new`; its pointers lead to constants and to this very value.
unsafe impl Send for Host {}
// Safety: as above; `log` is Sync by its type.
unsafe impl Sync for Host {}

impl Host {
    pub fn new(log: Log) -> Arc<Self> {
        Arc::new_cyclic(|this: &std::sync::Weak<Self>| Self {
            raw: abi::Host {
                struct_size: size_of::<abi::Host>() as u32,
                abi_major: abi::ABI_MAJOR,
                abi_minor: abi::ABI_MINOR,
                ctx: this.as_ptr().cast_mut().cast(),
                graph: &raw const graph::TABLE,
                build: &raw const service::TABLE,
                alloc: Some(alloc),
                free: Some(free),
                log: Some(log_message),
                extension: Some(extension),
                reserved: ptr::null(),
            },
            log,
        })
    }

    pub(super) fn raw(&self) -> *const abi::Host {
        &raw const self.raw
    }

    pub(super) fn log(&self, level: i32, message: &str) {
        (self.log)(level, message);
    }
}

/// Extensions by id. The version text is there for good, so that the lookup is always exercised.
const EXTENSIONS: &[(&CStr, &CStr)] = &[(c"diffx.version/1", VERSION)];

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(s) => s,
        Err(_) => c"",
    };

unsafe extern "C" fn alloc(_: *const abi::Host, size: usize, align: usize) -> *mut c_void {
    match Layout::from_size_align(size, align) {
        // Safety: the size is not 0.
        Ok(layout) if size > 0 => unsafe { std::alloc::alloc(layout) }.cast(),
        _ => ptr::null_mut(),
    }
}

unsafe extern "C" fn free(_: *const abi::Host, p: *mut c_void, size: usize, align: usize) {
    if let (false, Ok(layout)) = (p.is_null() || size == 0, Layout::from_size_align(size, align)) {
        // Safety: the contract of free: `p` came from alloc with this size and alignment.
        unsafe { std::alloc::dealloc(p.cast(), layout) };
    }
}

unsafe extern "C" fn log_message(h: *const abi::Host, level: i32, message: *const c_char) {
    // Safety: the host pointer is ours or null; the message is a C string or null.
    let (host, message) =
        unsafe { (h.as_ref(), read::text(message, read::MAX_TEXT, "log message")) };
    // Safety: ctx was set by `new` to the Host that holds this table.
    let host = host.and_then(|h| unsafe { h.ctx.cast::<Host>().as_ref() });
    if let (Some(host), Ok(message)) = (host, message)
        && let Err(panic) = catch_unwind(AssertUnwindSafe(|| host.log(level, message)))
    {
        std::mem::forget(panic); // dropping a payload may panic again
    }
}

unsafe extern "C" fn extension(_: *const abi::Host, id: *const c_char) -> *const c_void {
    if id.is_null() {
        return ptr::null();
    }
    // Safety: the id is a C string.
    let id = unsafe { CStr::from_ptr(id) };
    EXTENSIONS.iter().find(|(name, _)| *name == id).map_or(ptr::null(), |(_, p)| p.as_ptr().cast())
}
