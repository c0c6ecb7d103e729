//! The CUDA backend: planned graphs as one captured CUDA graph each, replayed with its key in device memory.
//!
//! Path of a plan: `device` opens the driver and loads the images `build.rs` embedded, `lower` turns each step into
//! launches of kernels of `kernels/`, `executable` captures and replays them. Nothing of CUDA is linked or looked for
//! until somebody asks for a device; what is missing then is one sentence and no panic.

mod args;
mod device;
mod driver;
mod executable;
mod lower;
mod memory;

use crate::bail;
use crate::base::{Desc, Result};
use crate::exec::Backend;
use crate::exec::backend::{Executable, Layout, Memory};
use crate::graph::plan::{Plan, Scratch};
use crate::graph::program::Program;
use crate::graph::{Attrs, Op};
use crate::mem::Budget;
use device::Device;
use std::ffi::c_void;
use std::sync::Arc;

/// Which device, and what of it.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// `cuda` or `cuda:N`.
    pub device: &'a str,
    /// A stream of the host's to work on; null = one of our own.
    pub stream: *mut c_void,
    /// Bytes of device memory; 0 = no cap.
    pub bytes: u64,
}

/// A device by name.
pub fn open(options: Options<'_>) -> Result<Arc<dyn Backend>> {
    let name = options.device;
    let index = match name.strip_prefix("cuda") {
        Some("") => Some(0),
        Some(rest) => rest.strip_prefix(':').and_then(|n| n.parse::<u16>().ok()),
        None => None,
    };
    let Some(index) = index else { bail!(Invalid, "device {name:?}: want cpu or cuda:N") };
    let device = Device::open(i32::from(index), options.stream, options.bytes);
    match device {
        Ok(device) => Ok(Arc::new(Cuda { name: format!("cuda:{index}"), device })),
        Err(e) => Err(e.within(format_args!("device {name}"))),
    }
}

/// Whether this build holds kernels.
pub fn has_kernels() -> bool {
    !device::IMAGES.is_empty()
}

struct Cuda {
    name: String,
    device: Arc<Device>,
}

impl Scratch for Cuda {
    fn kernel(&self, _: Op, _: &Attrs, _: &[Desc], _: Desc) -> usize {
        0 // what a kernel needs beside its operands is in shared memory
    }

    fn program(&self, _: &Program) -> usize {
        0
    }
}

impl Backend for Cuda {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> Result<String> {
        Ok(format!("{}, {}", self.name, self.device.describe()))
    }

    fn scratch(&self) -> &dyn Scratch {
        self
    }

    fn reads_host_memory(&self) -> bool {
        false
    }

    fn budget(&self) -> Option<&Arc<Budget>> {
        Some(self.device.budget())
    }

    fn memory(&self, bytes: usize, budget: &Arc<Budget>) -> Result<Box<dyn Memory>> {
        Ok(Box::new(memory::Block::new(&self.device, bytes, budget, "a session")?))
    }

    fn load(
        &self,
        plan: Plan,
        layout: Layout,
        memory: &mut dyn Memory,
        profile: bool,
    ) -> Result<Box<dyn Executable>> {
        let lowered = lower::lower(&self.device, plan, &layout, memory.base() as u64)?;
        Ok(Box::new(executable::Loaded::new(&self.device, lowered, profile)?))
    }
}
