//! Host tensors: a descriptor and bytes that are owned, or borrowed from the host with a release function.

use super::arena::{Block, Budget};
use super::callback;
use crate::bail;
use crate::base::{DType, Desc, Result};
use bytemuck::Pod;
use std::ffi::c_void;
use std::sync::Arc;

/// A contiguous row-major tensor in host memory. Immutable once shared; fill it before wrapping it in an `Arc`.
#[derive(Debug)]
pub struct Tensor {
    desc: Desc,
    storage: Storage,
}

#[derive(Debug)]
enum Storage {
    Owned(Block),
    Borrowed(Borrowed),
}

/// Memory of the host, given back through its function when the last user is done.
#[derive(Debug)]
struct Borrowed {
    data: *mut u8,
    len: usize,
    free: Option<Free>,
    user: *mut c_void,
}

/// `dfx_free_fn`.
pub type Free = unsafe extern "C-unwind" fn(user: *mut c_void, data: *mut c_void);

// Safety: the host promises that the memory may be read from any thread until `free` is called.
unsafe impl Send for Borrowed {}
// Safety: as above; shared access only reads.
unsafe impl Sync for Borrowed {}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            // Safety: called once, with the pointers the host gave for this purpose.
            callback::call("free_fn", || unsafe { free(self.user, self.data.cast()) });
        }
    }
}

impl Tensor {
    /// Zeros.
    pub fn new(desc: Desc, budget: &Arc<Budget>) -> Result<Self> {
        let block = Block::new(desc.bytes(), budget, "a tensor")?;
        Ok(Self { desc, storage: Storage::Owned(block) })
    }

    /// A copy of `bytes`, which must be as long as `desc` says.
    pub fn from_bytes(desc: Desc, bytes: &[u8], budget: &Arc<Budget>) -> Result<Self> {
        let mut out = Self::new(desc, budget)?;
        if bytes.len() != desc.bytes() {
            bail!(Invalid, "tensor {desc}: want {} bytes, got {}", desc.bytes(), bytes.len());
        }
        out.bytes_mut().copy_from_slice(bytes);
        Ok(out)
    }

    /// A copy of `values` with the given dimensions.
    pub fn from_f32(dims: &[usize], values: &[f32], budget: &Arc<Budget>) -> Result<Self> {
        Self::from_bytes(Desc::new(DType::F32, dims)?, bytemuck::cast_slice(values), budget)
    }

    pub fn from_f64(dims: &[usize], values: &[f64], budget: &Arc<Budget>) -> Result<Self> {
        Self::from_bytes(Desc::new(DType::F64, dims)?, bytemuck::cast_slice(values), budget)
    }

    /// Uses the host's memory without copying.
    ///
    /// # Safety
    /// `data` must be valid for reads of `desc.bytes()` bytes, aligned for the element type, and unchanged, until
    /// `free(user, data)` is called; `free` must be callable from any thread. With a null `free` that is forever.
    pub unsafe fn borrow(
        desc: Desc,
        data: *mut c_void,
        free: Option<Free>,
        user: *mut c_void,
    ) -> Self {
        let borrowed = Borrowed { data: data.cast(), len: desc.bytes(), free, user };
        Self { desc, storage: Storage::Borrowed(borrowed) }
    }

    pub fn desc(&self) -> Desc {
        self.desc
    }

    /// The same elements with other dimensions.
    pub fn reshaped(self, dims: &[usize]) -> Result<Self> {
        let desc = Desc::new(self.desc.dtype, dims)?;
        if desc.bytes() != self.desc.bytes() {
            bail!(Invalid, "tensor {} has not the elements of {desc}", self.desc);
        }
        Ok(Self { desc, storage: self.storage })
    }

    pub fn dims(&self) -> &[usize] {
        self.desc.dims()
    }

    pub fn bytes(&self) -> &[u8] {
        match &self.storage {
            Storage::Owned(block) => block.bytes(),
            Storage::Borrowed(b) if b.len == 0 => &[],
            // Safety: `borrow`'s contract.
            Storage::Borrowed(b) => unsafe { std::slice::from_raw_parts(b.data, b.len) },
        }
    }

    /// The bytes to fill. Borrowed memory is the host's and cannot be written: the slice is empty then.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.storage {
            Storage::Owned(block) => block.bytes_mut(),
            Storage::Borrowed(_) => &mut [],
        }
    }

    /// A bool of ours is 0 or 1.
    pub fn check_bools(&self) -> Result<()> {
        if self.desc.dtype != DType::Bool {
            return Ok(());
        }
        match self.bytes().iter().find(|b| **b > 1) {
            Some(bad) => bail!(Invalid, "a bool is {bad}, want 0 or 1"),
            None => Ok(()),
        }
    }

    /// The elements, if `T` is the element type's Rust type in size and the memory is aligned for it.
    pub fn elements<T: Pod>(&self) -> Result<&[T]> {
        if size_of::<T>() != self.desc.dtype.bytes() {
            bail!(Invalid, "tensor is {}, not of {} byte elements", self.desc, size_of::<T>());
        }
        match bytemuck::try_cast_slice(self.bytes()) {
            Ok(s) => Ok(s),
            Err(_) => bail!(Invalid, "tensor {} is not aligned for its elements", self.desc),
        }
    }
}
