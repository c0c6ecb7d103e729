//! What a kernel is given: operands, result, scratch, threads, and where the run stands.
//!
//! All tensors are contiguous and row-major. Memory of ours starts at a multiple of 64 bytes; a weight the host lent is
//! aligned for its elements only. `bool` is one byte, 0 or 1. The result and the scratch hold garbage on entry
//! (to a later share: what the one before left) and never overlap an operand.

use super::kernel::split::Share;
use super::pool::Pool;
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::exec::RunKey;
use crate::graph::{Attrs, Op};
use bytemuck::Pod;

/// An operand.
#[derive(Clone, Copy)]
pub struct In<'a> {
    pub desc: Desc,
    pub data: &'a [u8],
}

/// A result.
pub struct Out<'a> {
    pub desc: Desc,
    pub data: &'a mut [u8],
}

/// One application of an op.
pub struct Call<'a> {
    pub op: Op,
    pub attrs: &'a Attrs,
    pub inputs: &'a [In<'a>],
    pub out: Out<'a>,
    /// As many bytes as `kernel::scratch_bytes` asked for, at a multiple of 64.
    pub scratch: &'a mut [u8],
    pub pool: &'a Pool,
    /// What of it is to be done: less than all only where `kernel::shares` said so, and then in order.
    pub share: Share,
    pub key: RunKey,
}

impl<'a> In<'a> {
    /// The elements as `T`, which must have the size of the element type (`bool` is `u8`).
    pub fn elements<T: Pod>(&self) -> Result<&'a [T]> {
        if self.data.is_empty() {
            return Ok(&[]); // nothing, and that may lie anywhere
        }
        match bytemuck::try_cast_slice(self.data) {
            Ok(s) if size_of::<T>() == self.desc.dtype.bytes() => Ok(s),
            _ => bail!(Internal, "operand {} read as {} byte elements", self.desc, size_of::<T>()),
        }
    }

    pub fn dims(&self) -> &[usize] {
        self.desc.dims()
    }

    pub fn dtype(&self) -> DType {
        self.desc.dtype
    }
}

impl Out<'_> {
    /// The elements as `T`, which must have the size of the element type (`bool` is `u8`).
    pub fn elements<T: Pod>(&mut self) -> Result<&mut [T]> {
        if self.data.is_empty() {
            return Ok(&mut []);
        }
        match bytemuck::try_cast_slice_mut(self.data) {
            Ok(s) if size_of::<T>() == self.desc.dtype.bytes() => Ok(s),
            _ => {
                bail!(Internal, "result {} written as {} byte elements", self.desc, size_of::<T>())
            }
        }
    }

    pub fn dims(&self) -> &[usize] {
        self.desc.dims()
    }

    pub fn dtype(&self) -> DType {
        self.desc.dtype
    }
}
