//! The functions of the CUDA driver, declared once: what is called is what is looked for before anything is called.
//!
//! cudarc opens the library and resolves a symbol at its first use, and panics where either is missing; [`find`] asks
//! for all of them first. Result codes become one sentence and a status.

#![allow(non_snake_case)] // the driver's own names

use crate::base::{Error, Result, Status};
use crate::{bail, fail};
use cudarc::driver::sys;
use std::ffi::{c_char, c_void};
pub(super) use sys::{
    CUcontext, CUdevice, CUdeviceptr, CUevent, CUfunction, CUgraph, CUgraphExec, CUmodule, CUstream,
};
use sys::{CUdevice_attribute, CUfunction_attribute, CUresult, CUstreamCaptureMode};

macro_rules! functions {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        const NEEDED: &[&str] = &[$(stringify!($name)),*];

        $(
            /// # Safety
            /// As the driver documents it; [`find`] has succeeded.
            pub(super) unsafe fn $name($($arg: $type),*) -> Result<()> {
                // Safety: the caller's promise.
                check(stringify!($name), unsafe { sys::$name($($arg),*) })
            }
        )*
    };
}

functions! {
    cuInit(flags: u32);
    cuDriverGetVersion(version: *mut i32);
    cuDeviceGetCount(count: *mut i32);
    cuDeviceGet(device: *mut CUdevice, index: i32);
    cuDeviceGetName(name: *mut c_char, len: i32, device: CUdevice);
    cuDeviceTotalMem_v2(bytes: *mut usize, device: CUdevice);
    cuDeviceGetAttribute(value: *mut i32, attribute: CUdevice_attribute, device: CUdevice);
    cuDevicePrimaryCtxRetain(context: *mut CUcontext, device: CUdevice);
    cuDevicePrimaryCtxRelease_v2(device: CUdevice);
    cuCtxSetCurrent(context: CUcontext);
    cuStreamCreate(stream: *mut CUstream, flags: u32);
    cuStreamDestroy_v2(stream: CUstream);
    cuStreamSynchronize(stream: CUstream);
    cuStreamBeginCapture_v2(stream: CUstream, mode: CUstreamCaptureMode);
    cuStreamEndCapture(stream: CUstream, graph: *mut CUgraph);
    cuEventCreate(event: *mut CUevent, flags: u32);
    cuEventDestroy_v2(event: CUevent);
    cuEventRecord(event: CUevent, stream: CUstream);
    cuEventSynchronize(event: CUevent);
    cuMemAlloc_v2(at: *mut CUdeviceptr, bytes: usize);
    cuMemFree_v2(at: CUdeviceptr);
    cuMemcpyHtoDAsync_v2(to: CUdeviceptr, from: *const c_void, bytes: usize, stream: CUstream);
    cuMemcpyDtoHAsync_v2(to: *mut c_void, from: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemcpyDtoDAsync_v2(to: CUdeviceptr, from: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemsetD8Async(to: CUdeviceptr, value: u8, bytes: usize, stream: CUstream);
    cuModuleLoadData(module: *mut CUmodule, image: *const c_void);
    cuModuleUnload(module: CUmodule);
    cuModuleGetFunction(function: *mut CUfunction, module: CUmodule, name: *const c_char);
    cuFuncSetAttribute(function: CUfunction, attribute: CUfunction_attribute, value: i32);
    cuLaunchKernel(
        function: CUfunction, blocks_x: u32, blocks_y: u32, blocks_z: u32, threads_x: u32, threads_y: u32,
        threads_z: u32, shared: u32, stream: CUstream, args: *mut *mut c_void, extra: *mut *mut c_void
    );
    cuGraphInstantiateWithFlags(exec: *mut CUgraphExec, graph: CUgraph, flags: u64);
    cuGraphLaunch(exec: CUgraphExec, stream: CUstream);
    cuGraphExecDestroy(exec: CUgraphExec);
    cuGraphDestroy(graph: CUgraph);
}

pub(super) const MAJOR: CUdevice_attribute =
    CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
pub(super) const MINOR: CUdevice_attribute =
    CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR;
pub(super) const MOST_SHARED: CUdevice_attribute =
    CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
pub(super) const DYNAMIC_SHARED: CUfunction_attribute =
    CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
/// Only this thread's calls are watched: a call elsewhere that may not be captured does not spoil ours.
pub(super) const CAPTURE: CUstreamCaptureMode =
    CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
/// A stream that does not wait for the default one.
pub(super) const NON_BLOCKING: u32 = 1;
/// An event that takes no time stamps.
pub(super) const NO_TIMING: u32 = 2;

/// The driver that runs images of the toolkit they were made with (CUDA 13.0).
const OLDEST: i32 = 13000;

/// What [`find`] found.
pub(super) enum Driver {
    Absent,
    /// A driver; `Some` image where it brings kernels of its own, as that of the tests does.
    Present(Option<[u8; 8]>),
}

/// Looks for the library, and in it for every function of the table.
pub(super) fn find() -> Result<Driver> {
    // Safety: opening the driver runs its initialisers, which is what asking for a device means.
    if !unsafe { sys::is_culib_present() } {
        return Ok(Driver::Absent);
    }
    // Safety: the library is present, so this neither panics nor opens another one.
    let library = unsafe { sys::culib() };
    for name in NEEDED {
        // Safety: the symbol is only looked for.
        if unsafe { library.get::<*const c_void>(name.as_bytes()) }.is_err() {
            bail!(
                Unsupported,
                "the CUDA driver here has no {name}: want driver 580 (CUDA 13.0) or newer"
            );
        }
    }
    // Safety: whoever exports this name, the driver of our tests, exports eight bytes.
    let own = unsafe { library.get::<*const [u8; 8]>(b"diffx_emulated_kernels") };
    // Safety: as above.
    Ok(Driver::Present(own.ok().map(|bytes| unsafe { **bytes })))
}

/// Starts the driver and asks how old it is.
pub(super) fn start() -> Result<()> {
    // Safety: may be called any number of times.
    unsafe { cuInit(0) }?;
    let mut version = 0;
    // Safety: the pointer is good for one number.
    unsafe { cuDriverGetVersion(&raw mut version) }?;
    if version < OLDEST {
        bail!(
            Unsupported,
            "the CUDA driver here is for CUDA {}.{}, want driver 580 (CUDA 13.0) or newer",
            version / 1000,
            version % 1000 / 10
        );
    }
    Ok(())
}

/// What a code means for whoever has to act on it.
const MEANINGS: &[(u32, Status, &str)] = &[
    (2, Status::NoMemory, "the device has no memory left"),
    (34, Status::Unsupported, "this libcuda is the stub of a toolkit, not a driver"),
    (100, Status::Unsupported, "there is no CUDA device on this machine"),
    (101, Status::Unsupported, "there is no device of this number"),
    (200, Status::Unsupported, "this driver does not take our images"),
    (209, Status::Unsupported, "this build has no kernels for this card"),
    (218, Status::Unsupported, "this driver does not take our PTX"),
    (222, Status::Unsupported, "this driver is older than our PTX"),
    (
        700,
        Status::Device,
        "a kernel touched memory that is not its own; the device is lost to this process",
    ),
    (701, Status::Device, "a launch asks for more than the device has"),
    (
        702,
        Status::Device,
        "a kernel ran too long for a card with a screen; the device is lost to this process",
    ),
    (719, Status::Device, "a kernel failed; the device is lost to this process"),
    (
        802,
        Status::Device,
        "the system of the device is not ready (its fabric manager, where it needs one)",
    ),
    (803, Status::Unsupported, "the driver and its kernel module are of different versions"),
];

fn check(call: &str, result: CUresult) -> Result<()> {
    match result as u32 {
        0 => Ok(()),
        code => Err(meaning(call, code)),
    }
}

fn meaning(call: &str, code: u32) -> Error {
    match MEANINGS.iter().find(|m| m.0 == code) {
        Some((_, status, text)) => Error::new(*status, format!("{text} ({call}: {code})")),
        None => fail!(Device, "{call} failed with code {code} of the CUDA driver"),
    }
}
