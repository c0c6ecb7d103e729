//! Ops that move elements, as copies of strided boxes; and patterns.

use super::{Call, Lower, Operand, whole};
use crate::bail;
use crate::base::{DType, Result};
use crate::cuda::args::Args;
use crate::cuda::device::Kernel;
use crate::graph::{AttrKey, Op};
use bytemuck::Zeroable;

/// A box of the source and where it goes: extents, and strides and first elements on either side.
struct Box<'a> {
    dims: &'a [usize],
    from: (i64, Vec<i64>),
    to: (i64, Vec<i64>),
}

fn strides(x: &Operand) -> Vec<i64> {
    x.desc.shape.strides().iter().take(x.dims().len()).map(|s| *s as i64).collect()
}

impl Box<'_> {
    fn args(&self, x: &Operand, out: &Operand) -> Args {
        let mut args = Args::zeroed();
        (args.p[0], args.p[1]) = (out.at, x.at);
        let elements = self.dims.iter().product::<usize>() as i64;
        let (rank, bytes) = (self.dims.len() as i64, x.desc.dtype.bytes() as i64);
        args.set(0, [elements, rank, bytes, self.from.0, self.to.0]);
        args.set(5, whole(self.dims));
        args.set(13, self.from.1.iter().copied());
        args.set(21, self.to.1.iter().copied());
        args
    }

    fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

impl Lower<'_> {
    pub(super) fn pattern(&mut self, call: &Call<'_>) -> Result<()> {
        let (out, mut args) = (call.out, Args::zeroed());
        args.p[0] = out.at;
        args.set(0, [out.elements() as i64, out.code()]);
        if call.op == Op::Full {
            args.f[0] = call.attrs.float(AttrKey::Value, 0.0);
            return self.each(Kernel::fill, out.elements(), args, 0);
        }
        match out.desc.dtype {
            DType::F32 | DType::F64 | DType::I32 | DType::I64 => {}
            other => return call.refuse(other),
        }
        let (_, n, inner) = call.axis(&out);
        args.set(2, [n as i64, inner as i64]);
        self.each(Kernel::iota, out.elements(), args, 0)
    }

    pub(super) fn layout(&mut self, call: &Call<'_>) -> Result<()> {
        let (x, out) = (call.input(0)?, call.out);
        match call.op {
            Op::Reshape => self.whole(&x, &out),
            Op::Concat => self.concat(call),
            Op::Pad => self.pad(call, &x),
            Op::DynamicSlice => self.dynamic(call, &x, &call.input(1)?, &out, out.dims(), x.dims()),
            Op::DynamicUpdate => {
                self.whole(&x, &out)?;
                let (part, corner) = (call.input(1)?, call.input(2)?);
                self.dynamic(call, &part, &corner, &out, part.dims(), out.dims())
            }
            _ => self.walk(call, &x),
        }
    }

    /// transpose, broadcast_to, slice, flip: one strided walk of the source.
    fn walk(&mut self, call: &Call<'_>, x: &Operand) -> Result<()> {
        let (own, out) = (strides(x), call.out);
        let dims = out.dims();
        let ints = |key, i: usize| call.attrs.ints(key).get(i).copied().unwrap_or(0);
        let stride = |i: usize| own.get(i).copied().unwrap_or(0);
        let lead = dims.len().saturating_sub(x.dims().len());
        let mut from = (0, Vec::with_capacity(dims.len()));
        for i in 0..dims.len() {
            let s = match call.op {
                Op::Transpose => stride(ints(AttrKey::Perm, i) as usize),
                Op::BroadcastTo => match i.checked_sub(lead) {
                    Some(a) if x.dims()[a] != 1 => stride(a),
                    _ => 0,
                },
                Op::Slice => {
                    from.0 += ints(AttrKey::Start, i) * stride(i);
                    stride(i) * ints(AttrKey::Step, i).max(1)
                }
                Op::Flip if call.attrs.ints(AttrKey::Axes).contains(&(i as i64)) => {
                    from.0 += (dims[i] as i64 - 1) * stride(i);
                    -stride(i)
                }
                Op::Flip => stride(i),
                op => bail!(Internal, "{}: is no strided walk", op.name()),
            };
            from.1.push(s);
        }
        let all = Box { dims, from, to: (0, strides(&out)) };
        self.each(Kernel::copy_box, all.elements(), all.args(x, &out), 0)
    }

    /// All of it, in order.
    fn whole(&mut self, x: &Operand, out: &Operand) -> Result<()> {
        let n = x.elements();
        let all = Box { dims: &[n], from: (0, vec![1]), to: (0, vec![1]) };
        self.each(Kernel::copy_box, n, all.args(x, out), 0)
    }

    fn concat(&mut self, call: &Call<'_>) -> Result<()> {
        let (_, _, inner) = call.axis(&call.out);
        let mut before = 0;
        for x in call.inputs {
            let (_, n, _) = call.axis(x);
            let to = ((before * inner) as i64, strides(&call.out));
            let part = Box { dims: x.dims(), from: (0, strides(x)), to };
            self.each(Kernel::copy_box, part.elements(), part.args(x, &call.out), 0)?;
            before += n;
        }
        Ok(())
    }

    fn pad(&mut self, call: &Call<'_>, x: &Operand) -> Result<()> {
        let (out, mut args) = (call.out, Args::zeroed());
        args.p[0] = out.at;
        args.set(0, [out.elements() as i64, out.code()]);
        args.f[0] = call.attrs.float(AttrKey::Value, 0.0);
        self.each(Kernel::fill, out.elements(), args, 0)?;
        let to = strides(&out);
        let first = call.attrs.ints(AttrKey::Lo).iter().zip(&to).map(|(lo, s)| lo * s).sum();
        let part = Box { dims: x.dims(), from: (0, strides(x)), to: (first, to) };
        self.each(Kernel::copy_box, part.elements(), part.args(x, &out), 0)
    }

    /// A box of `dims` whose corner in `whole_dims` (of the source, or of the result of an update) is data.
    fn dynamic(
        &mut self,
        call: &Call<'_>,
        from: &Operand,
        corner: &Operand,
        out: &Operand,
        dims: &[usize],
        whole_dims: &[usize],
    ) -> Result<()> {
        let part = Box { dims, from: (0, strides(from)), to: (0, strides(out)) };
        let mut args = part.args(from, out);
        args.p[2] = corner.at;
        args.set(29, [corner.code(), i64::from(call.op == Op::DynamicUpdate)]);
        args.set(32, whole(whole_dims));
        self.each(Kernel::copy_dynamic, part.elements(), args, 0)
    }
}
