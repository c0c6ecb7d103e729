//! Behind the C tables: instances, the guard every call runs in, and the reading and writing of structs that grow.
//!
//! No panic crosses the border: [`guard`] turns it into a status. Nothing here may unwrap what the host passes.

use crate::abi;
use crate::builder::{Builder, Core, Services, text};
use crate::config::Config;
use crate::error::{Error, Result};
use core::ffi::{CStr, c_char, c_void};
use core::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What every plugin type declares: its name and how it is made from a configuration.
pub trait Factory: Sized + Send + 'static {
    /// `org.example.name`, stable for ever.
    const ID: &'static CStr;
    /// One line.
    const SUMMARY: &'static CStr;
    /// JSON schema of the configuration, made by [`schema!`](crate::schema). Where there is one, `create` must ask for
    /// its keys as it says, all of them whatever their values.
    const SCHEMA: Option<&'static CStr> = None;

    /// Asks the configuration for every key the plugin knows; the others are refused after it returns.
    fn create(config: &mut Config) -> Result<Self>;
}

/// One of the six kinds, around a plugin type.
pub trait Kind: 'static {
    type Plugin: Factory;
    /// The C forms of what it declares, made once.
    type Info: 'static;
    const KIND: u32;
    const API: *const c_void;
    fn info(plugin: &Self::Plugin) -> Result<Self::Info>;
}

/// What `create` returns a pointer to.
pub(crate) struct Instance<K: Kind> {
    pub(crate) plugin: K::Plugin,
    pub(crate) info: K::Info,
    services: Services,
}

impl<K: Kind> Instance<K> {
    /// # Safety
    /// `this` came from [`create`] of the same kind and plugin and is not destroyed.
    pub(crate) unsafe fn of<'a>(this: *const c_void) -> Result<&'a Self> {
        // Safety: by the caller's promise.
        unsafe { this.cast::<Self>().as_ref() }.ok_or_else(|| null("self"))
    }

    /// The state of one build call.
    pub(crate) const fn core(&self, graph: *mut abi::Graph) -> Core<'_> {
        Core { services: &self.services, graph }
    }
}

impl<'b> Builder<'b> {
    pub(crate) const fn new(core: &'b Core<'b>) -> Self {
        Self { core }
    }
}

pub(crate) fn null(what: &str) -> Error {
    Error::invalid(format!("{what} is null"))
}

/// Runs the body of a C function: an error or panic becomes a status, with its text in `err`.
///
/// # Safety
/// `err` is null or points to a writable `dfx_error`.
pub(crate) unsafe fn guard(err: *mut abi::Error, body: impl FnOnce() -> Result<()>) -> abi::Status {
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return abi::OK,
        Ok(Err(error)) => error,
        Err(payload) => {
            let what = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
                (Some(s), _) => (*s).to_owned(),
                (_, Some(s)) => s.clone(),
                _ => "no message".to_owned(),
            };
            core::mem::forget(payload); // dropping it could panic again
            Error::new(abi::E_PLUGIN, format!("plugin panicked: {what}"))
        }
    };
    // Safety: by the caller's promise.
    unsafe { error.write(err) };
    // an error is never reported as success
    if error.status < 0 { error.status } else { abi::E_PLUGIN }
}

/// A copy of the first `size` bytes of a struct, the rest zero.
///
/// # Safety
/// `from` points to `size` readable bytes, and zero bytes are a valid `T`.
unsafe fn prefix<T: Copy>(from: *const T, size: u32) -> T {
    let mut out = core::mem::MaybeUninit::<T>::zeroed();
    let n = (size as usize).min(size_of::<T>());
    // Safety: by the caller's promise; n fits both.
    unsafe {
        core::ptr::copy_nonoverlapping(from.cast::<u8>(), out.as_mut_ptr().cast(), n);
        out.assume_init()
    }
}

/// Writes as much of `value` as the host's struct has room for; its struct_size stays.
///
/// # Safety
/// `out` is null or points to a struct whose first field is its struct_size in bytes, all writable; `T` is a mirror
/// that starts with struct_size.
pub(crate) unsafe fn fill<T: Copy>(out: *mut T, value: T) -> Result<()> {
    if out.is_null() {
        return Err(null("out"));
    }
    // Safety: not null, so by the caller's promise a struct that starts with its size.
    let room = unsafe { out.cast::<u32>().read() } as usize;
    let n = room.min(size_of::<T>());
    if n < size_of::<u32>() {
        return Err(Error::invalid(format!("out has struct_size {room}, want at least 4")));
    }
    let value = core::mem::ManuallyDrop::new(value);
    // Safety: bytes 4..n lie in both structs.
    unsafe {
        let from = (&raw const value).cast::<u8>().add(4);
        core::ptr::copy_nonoverlapping(from, out.cast::<u8>().add(4), n - 4);
    }
    Ok(())
}

/// A struct passed in by the host, checked to have the fields this crate knows.
///
/// # Safety
/// `io` is null or points to a struct whose first field is its struct_size, valid for the call.
pub(crate) unsafe fn input<'a, T>(io: *mut T, name: &str) -> Result<&'a mut T> {
    if io.is_null() {
        return Err(null(name));
    }
    // Safety: not null, so by the caller's promise a struct that starts with its size.
    let size = unsafe { io.cast::<u32>().read() } as usize;
    if size < size_of::<T>() {
        let want = size_of::<T>();
        let text = format!("{name} has struct_size {size}, want at least {want}");
        return Err(Error::new(abi::E_VERSION, text));
    }
    // Safety: whole by its size, and exclusively ours for the call.
    Ok(unsafe { &mut *io })
}

/// An array of the host; empty for null.
///
/// # Safety
/// `p` is null or points to `n` elements valid for `'a`.
pub(crate) unsafe fn slice<'a, T>(p: *const T, n: u32) -> &'a [T] {
    if p.is_null() {
        return &[];
    }
    // Safety: by the caller's promise.
    unsafe { core::slice::from_raw_parts(p, n as usize) }
}

/// The same, to write to.
///
/// # Safety
/// As [`slice`], and nobody else uses the elements meanwhile.
pub(crate) unsafe fn slice_mut<'a, T>(p: *mut T, n: u32) -> &'a mut [T] {
    if p.is_null() {
        return &mut [];
    }
    // Safety: by the caller's promise.
    unsafe { core::slice::from_raw_parts_mut(p, n as usize) }
}

// ---- factories

unsafe extern "C" fn create<K: Kind>(
    _factory: *const abi::Factory,
    host: *const abi::Host,
    config_json: *const c_char,
    out: *mut *mut c_void,
    err: *mut abi::Error,
) -> abi::Status {
    let body = || {
        if host.is_null() || out.is_null() {
            return Err(null(if host.is_null() { "host" } else { "out" }));
        }
        // Safety: not null, so the host of the ABI; tables are read up to their own struct_size, and all their
        // fields may be zero.
        let services = unsafe {
            let host = prefix(host, (*host).struct_size);
            if host.graph.is_null() || host.build.is_null() {
                return Err(null("host.graph or host.build"));
            }
            Services {
                graph: prefix(host.graph, (*host.graph).struct_size),
                build: prefix(host.build, (*host.build).struct_size),
            }
        };
        // Safety: null or a NUL-terminated text that lives through the call.
        let json = unsafe { text(config_json) };
        let mut config = Config::parse(if json.is_empty() { "{}" } else { json })?;
        let plugin = K::Plugin::create(&mut config)?;
        config.finish(K::Plugin::SCHEMA)?;
        let info = K::info(&plugin)?;
        let instance = Box::new(Instance::<K> { plugin, info, services });
        // Safety: out is not null and the host's to be written.
        unsafe { *out = Box::into_raw(instance).cast() };
        Ok(())
    };
    // Safety: err is null or the host's error.
    unsafe { guard(err, body) }
}

unsafe extern "C" fn destroy<K: Kind>(instance: *mut c_void) {
    if instance.is_null() {
        return;
    }
    let body = || {
        // Safety: by the ABI this pointer came from `create` and is destroyed once.
        drop(unsafe { Box::from_raw(instance.cast::<Instance<K>>()) });
        Ok(())
    };
    // Safety: a null error is allowed.
    unsafe { guard(core::ptr::null_mut(), body) };
}

/// The C descriptor of a plugin type as one of the kinds.
pub struct FactoryOf<K>(PhantomData<K>);

impl<K: Kind> FactoryOf<K> {
    pub const FACTORY: &'static abi::Factory = &abi::Factory {
        struct_size: size_of::<abi::Factory>() as u32,
        kind: K::KIND,
        api: K::API,
        id: K::Plugin::ID.as_ptr(),
        summary: K::Plugin::SUMMARY.as_ptr(),
        config_schema: match K::Plugin::SCHEMA {
            Some(schema) => schema.as_ptr(),
            None => core::ptr::null(),
        },
        create: Some(create::<K>),
        destroy: Some(destroy::<K>),
    };
}
