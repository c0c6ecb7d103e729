//! Shapes and descriptors: small values, copied freely, outermost dimension first, row-major.

use super::{DType, Result};
use crate::bail;
use std::fmt;

pub const MAX_RANK: usize = 8;

/// Up to [`MAX_RANK`] dimensions. Every dimension is at least 0 and the element count fits an `isize` in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    rank: u8,
    dims: [usize; MAX_RANK],
}

impl Shape {
    pub const SCALAR: Self = Self { rank: 0, dims: [0; MAX_RANK] };

    /// Fails when there are more than [`MAX_RANK`] dimensions or the size overflows.
    pub fn new(dims: &[usize]) -> Result<Self> {
        if dims.len() > MAX_RANK {
            bail!(Invalid, "rank {} is above the limit of {MAX_RANK}", dims.len());
        }
        let mut n: usize = 8; // bytes of the widest element
        for &d in dims {
            n = match n.checked_mul(d.max(1)) {
                Some(n) if n <= isize::MAX as usize => n,
                _ => bail!(Invalid, "shape {dims:?} has more elements than an address space holds"),
            };
        }
        let mut out = Self { rank: dims.len() as u8, dims: [0; MAX_RANK] };
        out.dims[..dims.len()].copy_from_slice(dims);
        Ok(out)
    }

    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }

    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    pub fn elements(&self) -> usize {
        self.dims().iter().product()
    }

    /// The dimension at `axis`, which must be below the rank.
    pub fn dim(&self, axis: usize) -> usize {
        self.dims()[axis]
    }

    /// Row-major strides in elements.
    pub fn strides(&self) -> [usize; MAX_RANK] {
        let mut out = [0; MAX_RANK];
        let mut n = 1;
        for i in (0..self.rank()).rev() {
            out[i] = n;
            n *= self.dims[i];
        }
        out
    }

    /// NumPy broadcasting of two shapes, or `None` when they do not fit.
    pub fn broadcast(&self, other: &Self) -> Option<Self> {
        let rank = self.rank().max(other.rank());
        let mut dims = [0; MAX_RANK];
        for i in 0..rank {
            let a = if i < self.rank() { self.dims[self.rank() - 1 - i] } else { 1 };
            let b = if i < other.rank() { other.dims[other.rank() - 1 - i] } else { 1 };
            dims[rank - 1 - i] = match (a, b) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return None,
            };
        }
        Some(Self { rank: rank as u8, dims })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, d) in self.dims().iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Element type and shape of a tensor or node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Desc {
    pub dtype: DType,
    pub shape: Shape,
}

impl Desc {
    pub fn new(dtype: DType, dims: &[usize]) -> Result<Self> {
        Ok(Self { dtype, shape: Shape::new(dims)? })
    }

    pub fn scalar(dtype: DType) -> Self {
        Self { dtype, shape: Shape::SCALAR }
    }

    pub fn bytes(&self) -> usize {
        self.shape.elements() * self.dtype.bytes()
    }

    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }
}

impl fmt::Display for Desc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}
