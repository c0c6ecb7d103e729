//! Addressing by data, and sorting.

use super::reduce::ROW;
use super::{Call, Lower};
use crate::base::{DType, Result};
use crate::cuda::args::Args;
use crate::cuda::device::Kernel;
use crate::graph::{AttrKey, Op};
use bytemuck::Zeroable;

impl Lower<'_> {
    pub(super) fn index(&mut self, call: &Call<'_>) -> Result<()> {
        let (x, idx, out) = (call.input(0)?, call.input(1)?, call.out);
        let adds = matches!(call.op, Op::ScatterAdd | Op::ScatterAddAlong);
        let along = matches!(call.op, Op::TakeAlong | Op::ScatterAddAlong);
        let (_, axis, inner) = call.axis(&x);
        let positions = if along { call.axis(&idx).1 } else { idx.elements() };
        let mut args = Args::zeroed();
        (args.p[0], args.p[1], args.p[2]) = (out.at, x.at, idx.at);
        let along = i64::from(along);
        args.set(0, [out.elements() as i64, axis as i64, inner as i64, positions as i64, along]);
        args.n[5] = idx.code();
        if !adds {
            args.n[6] = x.desc.dtype.bytes() as i64;
            return self.each(Kernel::take, out.elements(), args, 0);
        }
        match x.desc.dtype {
            DType::F32 | DType::F64 | DType::I32 | DType::I64 => {}
            other => return call.refuse(other),
        }
        args.p[3] = call.input(2)?.at;
        args.n[6] = x.code();
        self.each(Kernel::add_at, out.elements(), args, 0)
    }

    pub(super) fn sort(&mut self, call: &Call<'_>) -> Result<()> {
        let (x, out) = (call.input(0)?, call.out);
        match x.desc.dtype {
            DType::F32 | DType::F64 | DType::I32 | DType::I64 => {}
            other => return call.refuse(other),
        }
        let (_, n, inner) = call.axis(&x);
        let descending = call.op == Op::TopK || call.attrs.flag(AttrKey::Descending);
        let (_, kept, _) = call.axis(&out);
        let mut args = Args::zeroed();
        (args.p[0], args.p[1]) = (out.at, x.at);
        let places = i64::from(call.op != Op::Sort);
        args.set(0, [x.elements() as i64, places, x.code(), n as i64, inner as i64]);
        args.set(5, [i64::from(descending), kept as i64]);
        self.launch(Kernel::sort_axis, x.elements().div_ceil(ROW), ROW, 0, args, 0)
    }
}
