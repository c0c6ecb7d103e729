//! Convolution and its gradients: the geometry, and how many tiles.

use super::product::{DEPTH, TILE, TILE_THREADS};
use super::{Call, Lower, Operand, whole};
use crate::bail;
use crate::base::{DType, Result};
use crate::cuda::args::Args;
use crate::cuda::device::Kernel;
use crate::graph::{AttrKey, Op};
use bytemuck::Zeroable;

/// Kernels find their way within an image in 32 bits with a sign, and a window reaches beyond an image.
const LONGEST: usize = 1 << 30;

impl Lower<'_> {
    pub(super) fn conv(&mut self, call: &Call<'_>) -> Result<()> {
        let (a, b, out) = (call.input(0)?, call.input(1)?, call.out);
        let (x, w, y) = match call.op {
            Op::Conv => (a, b, out),
            Op::ConvInputGrad => (out, b, a),
            _ => (a, out, b),
        };
        let (kernel, size) = match (call.op, out.desc.dtype) {
            (Op::Conv, DType::F32) => (Kernel::conv_f32, 4),
            (Op::Conv, DType::F64) => (Kernel::conv_f64, 8),
            (Op::ConvInputGrad, DType::F32) => (Kernel::conv_input_f32, 4),
            (Op::ConvInputGrad, DType::F64) => (Kernel::conv_input_f64, 8),
            (_, DType::F32) => (Kernel::conv_weight_f32, 4),
            (_, DType::F64) => (Kernel::conv_weight_f64, 8),
            (_, other) => return call.refuse(other),
        };
        let flat = x.dims().len() < 4;
        // one dimension is two with a height of 1
        let list = |key, step: usize, default: usize| {
            let v = call.attrs.ints(key);
            let at = |i: usize| v.get(i * step).map_or(default, |v| *v as usize);
            if flat { [default, at(0)] } else { [at(0), at(1)] }
        };
        let groups = call.attrs.int(AttrKey::Groups, 1).max(1) as usize;
        let (images, channels) = (lengths(&x).0, lengths(&x).1 / groups);
        let outputs = lengths(&w).0 / groups;
        let (input, output, taps) = (sizes(&x), sizes(&y), sizes(&w));
        let (stride, dilation) = (list(AttrKey::Stride, 1, 1), list(AttrKey::Dilation, 1, 1));
        let before = list(AttrKey::Padding, 2, 0);
        let mut args = Args::zeroed();
        (args.p[0], args.p[1], args.p[2]) = (out.at, a.at, b.at);
        args.set(0, whole(&[groups, images, channels, outputs]));
        for (i, pair) in [input, output, taps, stride, dilation, before].iter().enumerate() {
            args.set(4 + 2 * i, whole(pair));
        }
        args.n[16] = w.code();
        if let Some(bias) = call.inputs.get(2) {
            args.p[3] = bias.at;
            args.n[17] = bias.code();
        }
        let product = |[a, b]: [usize; 2]| a.saturating_mul(b);
        let (m, n) = match call.op {
            Op::Conv => (outputs, images * product(output)),
            Op::ConvInputGrad => (channels, images * product(input)),
            _ => (outputs, channels * product(taps)),
        };
        let taps_of = |n: usize| n.saturating_mul(product(taps));
        let reach = (0..2).map(|i| {
            let (window, step) =
                (taps[i].saturating_mul(dilation[i]), output[i].saturating_mul(stride[i]));
            window.saturating_add(step).saturating_add(before[i])
        });
        let lengths = [taps_of(channels), taps_of(outputs), product(input), product(output)];
        let longest = reach.chain(lengths).max().unwrap_or(0);
        if longest > LONGEST {
            let name = call.op.name();
            bail!(
                Unsupported,
                "{name}: {longest} elements in a plane or window, CUDA has at most {LONGEST}"
            );
        }
        let tiles = m.div_ceil(TILE) * n.div_ceil(TILE) * groups;
        self.launch(kernel, tiles, TILE_THREADS, 2 * DEPTH * TILE * size, args, 0)
    }
}

/// The first two lengths.
fn lengths(x: &Operand) -> (usize, usize) {
    match x.dims() {
        [a, b, ..] => (*a, *b),
        _ => (1, 1), // the shape rule asks for rank 3 or 4
    }
}

/// [height, width] of what comes after them.
fn sizes(x: &Operand) -> [usize; 2] {
    match x.dims() {
        [_, _, length] => [1, *length],
        [_, _, height, width, ..] => [*height, *width],
        _ => [1, 1],
    }
}
