//! Blocks of device memory, charged to the cap of the device.

use super::device::Device;
use super::driver::{self, CUdeviceptr};
use crate::bail;
use crate::base::Result;
use crate::exec::backend::Memory;
use crate::mem::Budget;
use crate::mem::arena::Charge;
use std::sync::Arc;

/// Zeroed memory of a device.
pub(super) struct Block {
    device: Arc<Device>,
    at: CUdeviceptr,
    bytes: usize,
    _charge: Charge,
}

impl Block {
    pub(super) fn new(
        device: &Arc<Device>,
        bytes: usize,
        budget: &Arc<Budget>,
        what: &str,
    ) -> Result<Self> {
        let room = bytes.max(1);
        let charge = budget.charge(room as u64, what)?;
        device.enter()?;
        let mut at = 0;
        // Safety: the pointer is good for one address; the context is current.
        if let Err(e) = unsafe { driver::cuMemAlloc_v2(&raw mut at, room) } {
            return Err(e.within(format_args!("{what} of {bytes} bytes")));
        }
        let block = Self { device: Arc::clone(device), at, bytes, _charge: charge };
        // Safety: the block is `room` bytes long and nobody else knows it.
        unsafe { driver::cuMemsetD8Async(at, 0, room, device.stream()) }?;
        Ok(block)
    }

    pub(super) fn at(&self) -> CUdeviceptr {
        self.at
    }

    /// The address of `len` bytes at `offset`.
    fn range(&self, offset: usize, len: usize, what: &str) -> Result<CUdeviceptr> {
        match offset.checked_add(len) {
            Some(end) if end <= self.bytes => Ok(self.at + offset as u64),
            _ => bail!(Internal, "{what} of {len} bytes at {offset} is outside"),
        }
    }
}

impl Memory for Block {
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<()> {
        let to = self.range(offset, bytes.len(), "write")?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.device.enter()?;
        let from = bytes.as_ptr().cast();
        // Safety: both ranges are `len` bytes long; the driver has taken pageable bytes when it returns.
        unsafe { driver::cuMemcpyHtoDAsync_v2(to, from, bytes.len(), self.device.stream()) }
    }

    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        let from = self.range(offset, bytes.len(), "read")?;
        self.device.enter()?;
        let (to, stream) = (bytes.as_mut_ptr().cast(), self.device.stream());
        if !bytes.is_empty() {
            // Safety: both ranges are `len` bytes long, and the stream is waited for before they go.
            unsafe { driver::cuMemcpyDtoHAsync_v2(to, from, bytes.len(), stream) }?;
        }
        self.device.wait()
    }

    fn base(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.at as usize) // never followed on the host
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // what still runs may use it; where waiting or freeing fails the device is lost, and its memory with it
        let _ = self.device.enter().and_then(|()| self.device.wait());
        // Safety: the address came from the driver and goes once.
        let _ = unsafe { driver::cuMemFree_v2(self.at) };
    }
}
