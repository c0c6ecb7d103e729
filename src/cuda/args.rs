//! The records that kernels read, as `kernels/device.cuh`, `program.cu` and `draw.cu` declare them.

use bytemuck::{Pod, Zeroable};

/// The one argument of every kernel; what its fields mean is said above the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(super) struct Args {
    pub p: [u64; 8],
    pub n: [i64; 48],
    pub f: [f64; 4],
}

/// An instruction of a pointwise program.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(super) struct Instr {
    pub op: i32,
    pub dtype: i32,
    pub register: i32,
    pub store: i32,
    pub kind: [i32; 3],
    pub arg: [i32; 3],
    pub param: f64,
    /// Where the table of the op stands among the tables.
    pub table: i64,
}

/// An input of a program.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(super) struct Feed {
    pub at: u64,
    pub dtype: i32,
    pub access: i32,
    pub rank: i64,
    pub extent: [i64; 8],
    pub stride: [i64; 8],
}

/// An output of a program.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(super) struct Out {
    pub at: u64,
    pub dtype: i64,
}

/// A value all elements share: `value`, or the single element of an input.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(super) struct Splat {
    pub value: f64,
    pub input: i64,
}

/// Where a run stands in the address space of the generator; lies at the start of the tables of a plan.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(super) struct Key {
    pub seed: u64,
    pub first_sample: u64,
    pub step: u32,
    pub unused: u32,
}

impl Args {
    /// A run of `n`, from `at` on.
    pub(super) fn set(&mut self, at: usize, values: impl IntoIterator<Item = i64>) {
        self.n.iter_mut().skip(at).zip(values).for_each(|(to, v)| *to = v);
    }
}
