//! Kernels of the ops that are not pointwise.

use super::call::Call;
use crate::bail;
use crate::base::{Desc, Result};
use crate::graph::{Attrs, Op};

/// Bytes of scratch `run` needs for this call with a pool of `threads`. Planned once; `run` allocates nothing.
pub fn scratch_bytes(op: Op, attrs: &Attrs, inputs: &[Desc], out: Desc, threads: usize) -> usize {
    let _ = (op, attrs, inputs, out, threads);
    0
}

/// Computes `call.out`.
pub fn run(call: &mut Call<'_>) -> Result<()> {
    bail!(Unsupported, "{}: the CPU has no kernel for it", call.op.name())
}
