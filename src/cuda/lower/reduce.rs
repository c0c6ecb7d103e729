//! Folds: one block a row, 128 threads whatever its length, so that the order of a sum is that of the row alone.

use super::{Call, Lower, whole};
use crate::base::{DType, Result};
use crate::cuda::args::Args;
use crate::cuda::device::Kernel;
use crate::graph::{AttrKey, Op};
use bytemuck::Zeroable;

/// Threads of a row, and the bytes they fold in.
pub(super) const ROW: usize = 128;
const ROOM: usize = ROW * size_of::<f64>();

impl Lower<'_> {
    pub(super) fn reduce(&mut self, call: &Call<'_>) -> Result<()> {
        let (x, out) = (call.input(0)?, call.out);
        match x.desc.dtype {
            DType::F32 | DType::F64 => {}
            DType::I32 | DType::I64
                if matches!(call.op, Op::Sum | Op::ReduceMax | Op::ReduceMin) => {}
            other => return call.refuse(other),
        }
        let axes = call.attrs.ints(AttrKey::Axes);
        let strides = x.desc.shape.strides();
        let (mut kept, mut folded) = ((vec![], vec![]), (vec![], vec![]));
        for (i, (dim, stride)) in x.dims().iter().zip(strides).enumerate() {
            let to = match axes.is_empty() || axes.contains(&(i as i64)) {
                true => &mut folded,
                false => &mut kept,
            };
            to.0.push(*dim);
            to.1.push(stride);
        }
        let n = folded.0.iter().product::<usize>() as i64;
        let mut args = Args::zeroed();
        (args.p[0], args.p[1]) = (out.at, x.at);
        let rows = out.elements();
        args.set(0, [rows as i64, i64::from(call.op.code()), x.code(), n, kept.0.len() as i64]);
        args.set(5, whole(&kept.0));
        args.set(13, whole(&kept.1));
        args.set(22, [folded.0.len() as i64]);
        args.set(23, whole(&folded.0));
        args.set(31, whole(&folded.1));
        self.launch(Kernel::reduce_rows, rows, ROW, ROOM, args, 0)
    }

    /// argmax, argmin, cumsum: one thread a column.
    pub(super) fn along(&mut self, call: &Call<'_>) -> Result<()> {
        let (x, out) = (call.input(0)?, call.out);
        match x.desc.dtype {
            DType::F32 | DType::F64 | DType::I32 | DType::I64 => {}
            other => return call.refuse(other),
        }
        let (outer, n, inner) = call.axis(&x);
        let (kernel, what) = match call.op {
            Op::CumSum => {
                let flag = |key| i64::from(call.attrs.flag(key));
                let (reverse, exclusive) = (flag(AttrKey::Reverse), flag(AttrKey::Exclusive));
                (Kernel::running_sum, reverse | exclusive << 1)
            }
            op => (Kernel::arg_best, i64::from(op.code())),
        };
        let columns = outer * inner;
        let mut args = Args::zeroed();
        (args.p[0], args.p[1]) = (out.at, x.at);
        args.set(0, [columns as i64, what, x.code(), n as i64, inner as i64]);
        self.launch(kernel, columns.div_ceil(ROW), ROW, 0, args, 0)
    }

    pub(super) fn softmax(&mut self, call: &Call<'_>) -> Result<()> {
        let (x, out) = (call.input(0)?, call.out);
        if !matches!(x.desc.dtype, DType::F32 | DType::F64) {
            return call.refuse(x.desc.dtype);
        }
        let (outer, n, inner) = call.axis(&x);
        let rows = outer * inner;
        let mut args = Args::zeroed();
        (args.p[0], args.p[1]) = (out.at, x.at);
        let op = i64::from(call.op.code());
        args.set(0, [rows as i64, op, x.code(), n as i64, inner as i64]);
        self.launch(Kernel::softmax_rows, rows, ROW, ROOM, args, 0)
    }

    pub(super) fn norm(&mut self, call: &Call<'_>) -> Result<()> {
        let (x, out) = (call.input(0)?, call.out);
        if !matches!(x.desc.dtype, DType::F32 | DType::F64) {
            return call.refuse(x.desc.dtype);
        }
        // elements normalised together; a channel is `run` of them; groups until the channels repeat
        let dims = x.dims();
        let (count, run, groups) = match call.op {
            Op::GroupNorm => {
                let groups = call.attrs.int(AttrKey::Groups, 1).max(1) as usize;
                let run = dims.iter().skip(2).product::<usize>();
                (dims.get(1).copied().unwrap_or(1) / groups * run, run, groups)
            }
            _ => (dims.last().copied().unwrap_or(1), 1, 1),
        };
        let rows = x.elements() / count.max(1);
        let mut args = Args::zeroed();
        (args.p[0], args.p[1]) = (out.at, x.at);
        args.set(0, [rows as i64, i64::from(call.op.code()), x.code(), count as i64]);
        args.set(4, [run as i64, groups as i64]);
        for (i, param) in call.inputs.iter().skip(1).take(2).enumerate() {
            args.p[2 + i] = param.at;
            args.n[6 + i] = param.code();
        }
        args.f[0] = call.attrs.float(AttrKey::Epsilon, 0.0);
        self.launch(Kernel::norm_rows, rows, ROW, ROOM, args, 0)
    }
}
