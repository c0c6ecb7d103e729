//! Engines, their plugins, and simulation, which needs nothing else.

use super::guard::{CError, guard, list, needed, out, path, quiet, text};
use super::handle::{Handle, Object};
use super::option::{self, Allocator, EngineOptions, SimulateOptions, check_flags};
use super::tensor::CTensor;
use crate::base::Result;
use crate::engine::{Engine, LogSink, Options, Paths, Setting};
use crate::mem::arena::HostAllocator;
use crate::mem::callback;
use crate::plugin::abi::Plugin;
use crate::sample::Scheme;
use crate::{bail, fail};
use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;

pub type CEngine = Handle<Arc<Engine>>;

impl Object for Arc<Engine> {
    const MAGIC: u64 = 0x6469_6666_7865_6e67;
    const NAME: &'static str = "dfx_engine";

    fn engine(&self) -> Option<&Arc<Engine>> {
        Some(self)
    }
}

const NO_THREADS: u32 = 1;
const LOAD_PLUGINS: u32 = 2;
const ENV_PLUGINS: u32 = 4;
const LOG_ANYWHERE: u32 = 8;

const MOST_TIMES: u32 = 1 << 24;

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_engine_create(
    options: *const EngineOptions,
    result: *mut *mut CEngine,
    err: *mut CError,
) -> i32 {
    guard(err, None, || {
        // Safety: the contract of the header, here and below.
        let (result, options) = unsafe { (out(result, "engine")?, read(options)?) };
        let engine = Engine::new(options)?;
        result.write(CEngine::make(engine));
        Ok(())
    })
}

unsafe fn read(options: *const EngineOptions) -> Result<Options> {
    // Safety: the contract of the header.
    let o = unsafe { option::read(options) }?;
    check_flags(
        o.flags,
        NO_THREADS | LOAD_PLUGINS | ENV_PLUGINS | LOG_ANYWHERE,
        "dfx_engine_options",
    )?;
    // Safety: as above.
    let device = unsafe { text(o.device, "device") }?.unwrap_or_default().to_owned();
    let mut allocator = None;
    if !o.allocator.is_null() {
        // Safety: as above.
        let a: Allocator = unsafe { option::read(o.allocator) }?;
        allocator = match (a.alloc, a.free) {
            (Some(alloc), Some(free)) => Some(HostAllocator { user: a.user, alloc, free }),
            _ => bail!(Invalid, "dfx_allocator: alloc or free is NULL"),
        };
    }
    let user = User(o.log_user);
    let log = o.log.map(|log| -> LogSink {
        Arc::new(move |level, message: &str| {
            let user = &user;
            let text = CString::new(message.replace('\0', " ")).unwrap_or_default();
            // Safety: the function and its argument are the host's, for the life of the engine.
            callback::call("log", || unsafe { log(user.0, level, text.as_ptr()) });
        })
    });
    Ok(Options {
        no_threads: o.flags & NO_THREADS != 0,
        load_plugins: o.flags & LOAD_PLUGINS != 0,
        env_plugins: o.flags & ENV_PLUGINS != 0,
        log_anywhere: o.flags & LOG_ANYWHERE != 0,
        arena_bytes: o.arena_bytes,
        threads: o.n_threads as usize,
        device,
        device_bytes: o.device_bytes,
        cuda_stream: o.cuda_stream.expose_provenance(),
        allocator,
        log,
    })
}

/// A pointer of the host that is given back to it.
pub struct User(pub(super) *mut c_void);

// Safety: we only hand it back; the header says on which threads.
unsafe impl Send for User {}
// Safety: as above.
unsafe impl Sync for User {}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_engine_release(e: *mut CEngine) {
    // Safety: the contract of the header.
    quiet((), || unsafe { CEngine::release(e) });
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_engine_pump(e: *const CEngine, budget_us: u32) -> i32 {
    // Safety: the contract of the header.
    let handle = match unsafe { CEngine::get(e) } {
        Ok(handle) => handle,
        Err(e) => return e.status.code(),
    };
    let mut left = 0;
    let status = guard(std::ptr::null_mut(), Some(&handle.value), || {
        left = handle.value.pump(u64::from(budget_us));
        Ok(())
    });
    if status < 0 { status } else { i32::try_from(left).unwrap_or(i32::MAX) }
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_engine_memory(
    e: *const CEngine,
    used: *mut u64,
    peak: *mut u64,
    err: *mut CError,
) -> i32 {
    guard(err, None, || {
        // Safety: the contract of the header.
        unsafe {
            let handle = CEngine::get(e)?;
            let budget = handle.value.budget();
            if !used.is_null() {
                used.write_unaligned(budget.used());
            }
            if !peak.is_null() {
                peak.write_unaligned(budget.peak());
            }
        }
        Ok(())
    })
}

// ---- plugins

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_plugin_register(
    e: *mut CEngine,
    plugin: *const Plugin,
    err: *mut CError,
) -> i32 {
    with(e, err, |handle| {
        // Safety: the header asks for a descriptor that lives until the process ends.
        unsafe { handle.value.register(plugin.cast()) }.map(|_| ())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_plugin_load(
    e: *mut CEngine,
    file: *const c_char,
    sha256: *const c_char,
    err: *mut CError,
) -> i32 {
    with(e, err, |handle| {
        // Safety: the contract of the header.
        let (file, sha256) = unsafe { (path(file, "path")?, text(sha256, "sha256")?) };
        handle.value.load(&file, sha256).map(|_| ())
    })
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_factory_count(e: *const CEngine) -> u32 {
    // Safety: the contract of the header.
    quiet(0, || unsafe { CEngine::get(e) }.map_or(0, |h| h.value.factory_count() as u32))
}

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_factory_json(
    e: *const CEngine,
    i: u32,
    json: *mut *const c_char,
    err: *mut CError,
) -> i32 {
    with(e, err, |handle| {
        // Safety: the contract of the header.
        let json = unsafe { out(json, "json") }?;
        json.write(handle.keep(handle.value.factory(i as usize)?));
        Ok(())
    })
}

// ---- simulation

/// # Safety
/// The contract of `diffx.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_simulate(
    e: *const CEngine,
    options: *const SimulateOptions,
    result: *mut *mut CTensor,
    err: *mut CError,
) -> i32 {
    with(e, err, |handle| {
        // Safety: the contract of the header, for everything lent here.
        let (result, o) = unsafe { (out(result, "tensor")?, option::read(options)?) };
        check_flags(o.flags, 3, "dfx_simulate_options")?;
        // Safety: as above.
        let (process, times, keep, x0) = unsafe {
            (
                needed(o.process, "process")?,
                list(o.times, o.n_times, MOST_TIMES, "times")?,
                list(o.keep, o.n_keep, o.n_times, "keep")?,
                CTensor::get(o.x0)?,
            )
        };
        let scheme = match o.flags & 2 {
            0 if o.substeps > 1 => {
                bail!(Invalid, "substeps is {}, but exact transitions have none", o.substeps)
            }
            0 => Scheme::Exact,
            _ => Scheme::Euler { substeps: o.substeps.max(1) },
        };
        let n_samples = usize::try_from(o.n_samples.max(1))
            .map_err(|_| fail!(Invalid, "{} samples do not fit", o.n_samples))?;
        let tensor = handle.value.simulate(&Paths {
            process: &Setting::from_text("process", process)?,
            x0: &x0.value.tensor,
            per_sample: o.flags & 1 != 0,
            times,
            keep,
            scheme,
            n_samples,
            seed: o.seed,
            first_sample: o.first_sample,
        })?;
        result.write(CTensor::of(Arc::new(tensor)));
        Ok(())
    })
}

/// Guards a call on an engine.
pub(super) fn with(
    e: *const CEngine,
    err: *mut CError,
    body: impl FnOnce(&CEngine) -> Result<()>,
) -> i32 {
    // Safety: the header asks for an engine that is not released.
    match unsafe { CEngine::get(e) } {
        Ok(handle) => guard(err, Some(&handle.value), || body(&handle)),
        Err(e) => guard(err, None, || Err(e)),
    }
}
