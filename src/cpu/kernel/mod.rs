//! Kernels of the ops that are not pointwise.

mod attention;
mod conv;
mod draw;
mod fold;
pub mod gemm;
mod index;
mod layout;
mod matmul;
mod norm;
pub mod real;
mod reduce;
mod scan;
mod softmax;
mod sort;
mod source;
pub mod split;
mod turn;
pub mod wide;

use super::call::Call;
use crate::bail;
use crate::base::{Desc, Result};
use crate::graph::{Attrs, Op};

/// Bytes of scratch `run` needs for this call with a pool of `threads`. Planned once; `run` allocates nothing.
pub fn scratch_bytes(op: Op, attrs: &Attrs, inputs: &[Desc], out: Desc, threads: usize) -> usize {
    let threads = threads.max(1);
    if out.shape.elements() == 0 {
        return 0;
    }
    match op {
        Op::LayerNorm | Op::GroupNorm | Op::RmsNorm => norm::scratch_bytes(inputs, out),
        Op::Sort | Op::ArgSort | Op::TopK => sort::scratch_bytes(attrs, inputs, threads),
        Op::MatMul => matmul::scratch_bytes(attrs, inputs, out, threads),
        Op::Conv | Op::ConvInputGrad | Op::ConvWeightGrad => {
            conv::scratch_bytes(op, attrs, inputs, out, threads)
        }
        Op::Attention => attention::scratch_bytes(inputs, out, threads),
        _ => 0,
    }
}

/// How many shares a call may be cut into, so that a run can pause between them: about [`split::SHARE`] of work each.
/// Of most ops there is one: what moves or folds numbers is bound by memory, and short.
pub fn shares(op: Op, attrs: &Attrs, inputs: &[Desc], out: Desc) -> usize {
    if out.shape.elements() == 0 {
        return 1; // as `run` says
    }
    match op {
        Op::MatMul => matmul::shares(attrs, inputs, out),
        Op::Conv | Op::ConvInputGrad => conv::shares(op, attrs, inputs, out),
        Op::Attention => attention::shares(inputs, out),
        Op::Normal | Op::Uniform | Op::Gamma | Op::Poisson | Op::Categorical | Op::Brownian => {
            draw::shares(op, inputs, out)
        }
        Op::Softmax | Op::LogSoftmax => softmax::shares(attrs, out),
        Op::LayerNorm | Op::GroupNorm | Op::RmsNorm => norm::shares(op, attrs, out),
        _ => 1,
    }
}

/// Computes `call.out`, or of it the share that the call says.
pub fn run(call: &mut Call<'_>) -> Result<()> {
    // nothing to compute: and where an axis is 0 the others may be any number, whose products no word holds
    if call.out.desc.shape.elements() == 0 {
        return Ok(());
    }
    match call.op {
        Op::Full | Op::Iota => source::run(call),
        Op::Sum | Op::Mean | Op::ReduceMax | Op::ReduceMin | Op::Prod | Op::LogSumExp => {
            reduce::run(call)
        }
        Op::ArgMax | Op::ArgMin | Op::CumSum => scan::run(call),
        Op::Softmax | Op::LogSoftmax => softmax::run(call),
        Op::LayerNorm | Op::GroupNorm | Op::RmsNorm => norm::run(call),
        Op::Gather | Op::ScatterAdd | Op::TakeAlong | Op::ScatterAddAlong => index::run(call),
        Op::Sort | Op::ArgSort | Op::TopK => sort::run(call),
        Op::Reshape
        | Op::Transpose
        | Op::BroadcastTo
        | Op::Slice
        | Op::Pad
        | Op::Concat
        | Op::Flip
        | Op::DynamicSlice
        | Op::DynamicUpdate => layout::run(call),
        Op::MatMul => matmul::run(call),
        Op::Conv | Op::ConvInputGrad | Op::ConvWeightGrad => conv::run(call),
        Op::Attention => attention::run(call),
        Op::Normal | Op::Uniform | Op::Gamma | Op::Poisson | Op::Categorical | Op::Brownian => {
            draw::run(call)
        }
        op => bail!(Unsupported, "{}: the CPU has no kernel for it", op.name()),
    }
}

/// The scratch as elements. An empty one may lie anywhere.
fn scratch<T: bytemuck::Pod>(bytes: &mut [u8]) -> Result<&mut [T]> {
    let n = bytes.len() / size_of::<T>();
    if n == 0 {
        return Ok(&mut []);
    }
    match bytemuck::try_cast_slice_mut(&mut bytes[..n * size_of::<T>()]) {
        Ok(elements) => Ok(elements),
        Err(e) => bail!(Internal, "scratch of {n} elements: {e}"),
    }
}
