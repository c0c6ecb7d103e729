//! Convolution in one and two dimensions and its two gradients, each as matrix products whose right operand is gathered
//! from windows while it is packed: no unfolded image is ever stored.
//!
//! Per image and group, with c = channels of the group, t = kernel taps, o = outputs of the group:
//!   conv              out[o, p]  = w[o, ct]   x[ct, p]      p over output positions
//!   conv_input_grad   dx[c, y]   = w[c, ot]   g[ot, y]      y over input positions
//!   conv_weight_grad  dw[o, ct] += g[o, p]    x[p, ct]      summed over images in order
//! Zeros of the padding, and in the input gradient those between strides, are multiplied like any other element.

use super::gemm::{Gemm, Panel, View, scratch_elements};
use super::norm::widen;
use super::real::Real;
use super::scratch;
use super::split::{Products, Share, for_units};
use super::turn::turn;
use crate::base::{DType, Desc, Result, Shape};
use crate::cpu::call::Call;
use crate::graph::{AttrKey, Attrs, Op};

/// The geometry of one convolution; one dimension is two with a height of 1.
#[derive(Debug, Clone, Copy)]
struct Geometry {
    images: usize,
    groups: usize,
    /// Input channels and outputs of one group.
    channels: usize,
    outputs: usize,
    /// [height, width] of everything.
    input: [usize; 2],
    output: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    /// Zeros before the first row and column.
    before: [usize; 2],
}

impl Geometry {
    fn of(attrs: &Attrs, x: Shape, w: Shape, out: Shape) -> Self {
        let spatial = x.rank() - 2;
        let sizes = |s: Shape| if spatial == 1 { [1, s.dim(2)] } else { [s.dim(2), s.dim(3)] };
        let list = |key, step: usize, default: usize| {
            let v = attrs.ints(key);
            let at = |i: usize| v.get(i * step).map_or(default, |v| *v as usize);
            if spatial == 1 { [default, at(0)] } else { [at(0), at(1)] }
        };
        let groups = attrs.int(AttrKey::Groups, 1).max(1) as usize;
        Self {
            images: x.dim(0),
            groups,
            channels: x.dim(1) / groups,
            outputs: w.dim(0) / groups,
            input: sizes(x),
            output: sizes(out),
            kernel: sizes(w),
            stride: list(AttrKey::Stride, 1, 1),
            dilation: list(AttrKey::Dilation, 1, 1),
            before: list(AttrKey::Padding, 2, 0),
        }
    }

    fn of_call(op: Op, attrs: &Attrs, inputs: &[Desc], out: Desc) -> Option<Self> {
        let [a, b, ..] = inputs else { return None };
        let (x, w, y) = match op {
            Op::Conv => (a, b, &out),
            Op::ConvInputGrad => (&out, b, a),
            _ => (a, &out, b),
        };
        Some(Self::of(attrs, x.shape, w.shape, y.shape))
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Elements of one channel of the input, and of the output.
    fn planes(&self) -> (usize, usize) {
        (self.input[0] * self.input[1], self.output[0] * self.output[1])
    }

    /// Row, column of tap `t`, scaled by the dilation.
    fn tap(&self, t: usize) -> [usize; 2] {
        [t / self.kernel[1] * self.dilation[0], t % self.kernel[1] * self.dilation[1]]
    }

    /// Columns and inner length of the products, for the scratch.
    fn product(&self, op: Op) -> (usize, usize) {
        let (input, output) = self.planes();
        match op {
            Op::Conv => (output, self.channels * self.taps()),
            Op::ConvInputGrad => (input, self.outputs * self.taps()),
            _ => (self.channels * self.taps(), output),
        }
    }

    /// How conv and conv_input_grad are cut into shares.
    fn cut<R: Real>(&self, op: Op) -> Products {
        let (n, k) = self.product(op);
        let m = if op == Op::Conv { self.outputs } else { self.channels };
        let work = m * n * k / 4 * size_of::<R>() / 4;
        Products::of(self.images * self.groups, m, n, R::micro().nr, work)
    }

    /// A window that is the image itself.
    fn is_pointwise(&self) -> bool {
        self.taps() == 1 && self.stride == [1, 1] && self.input == self.output
    }
}

pub(super) fn scratch_bytes(
    op: Op,
    attrs: &Attrs,
    inputs: &[Desc],
    out: Desc,
    threads: usize,
) -> usize {
    let Some(g) = Geometry::of_call(op, attrs, inputs, out) else { return 0 };
    let (n, k) = g.product(op);
    // weights in the type of arithmetic (turned for the input gradient), and the bias
    let weights = match op {
        Op::Conv | Op::ConvInputGrad => inputs[1].shape.elements() + g.groups * g.outputs,
        _ => 0,
    };
    (weights + threads * scratch_elements(n, k)) * out.dtype.bytes()
}

/// How many shares a call is cut into. The gradient of the weights is one: its sums go on from image to image.
pub(super) fn shares(op: Op, attrs: &Attrs, inputs: &[Desc], out: Desc) -> usize {
    let Some(g) = Geometry::of_call(op, attrs, inputs, out) else { return 1 };
    let cut = match (op, out.dtype) {
        (Op::ConvWeightGrad, _) => return 1,
        (_, DType::F64) => g.cut::<f64>(op),
        _ => g.cut::<f32>(op),
    };
    cut.shares(g.images * g.groups)
}

pub(super) fn run(call: &mut Call<'_>) -> Result<()> {
    match (call.op, call.out.dtype()) {
        (Op::ConvWeightGrad, DType::F64) => weight_grad::<f64>(call),
        (Op::ConvWeightGrad, _) => weight_grad::<f32>(call),
        (_, DType::F64) => by_image::<f64>(call),
        _ => by_image::<f32>(call),
    }
}

/// conv and conv_input_grad: products per image and group, all independent.
fn by_image<R: Real>(call: &mut Call<'_>) -> Result<()> {
    let descs: [Desc; 2] = [call.inputs[0].desc, call.inputs[1].desc];
    let Some(g) = Geometry::of_call(call.op, call.attrs, &descs, call.out.desc) else {
        return Ok(());
    };
    let forward = call.op == Op::Conv;
    let (n, k) = g.product(call.op);
    let m = if forward { g.outputs } else { g.channels };
    let x = call.inputs[0].elements::<R>()?;
    let scratch = scratch::<R>(call.scratch)?;
    let (weights, scratch) = scratch.split_at_mut(descs[1].shape.elements());
    let (bias, scratch) = scratch.split_at_mut(g.groups * g.outputs);
    let has_bias = call.inputs.len() > 2;
    if has_bias {
        widen(&call.inputs[2], bias)?;
    }
    let in_type = call.inputs[1].dtype() == call.out.dtype();
    // later shares find them in the scratch
    if call.share.index == 0 && !forward {
        swap_channels(&g, &call.inputs[1], weights)?;
    } else if call.share.index == 0 && !in_type {
        widen(&call.inputs[1], weights)?;
    }
    let weights = if forward && in_type { call.inputs[1].elements::<R>()? } else { &*weights };
    let bias = &*bias;
    let (in_plane, out_plane) = g.planes();
    let (size_x, size_c) = match forward {
        true => (g.channels * in_plane, g.outputs * out_plane),
        false => (g.outputs * out_plane, g.channels * in_plane),
    };
    let with = |unit: usize, go: &mut dyn FnMut(&Gemm<'_, R>) -> Result<()>| {
        let group = unit % g.groups;
        let image = &x[unit * size_x..(unit + 1) * size_x];
        let whole = View { data: image, rs: n, cs: 1 };
        let windows = Windows { g: &g, image };
        let spread = Spread { g: &g, image };
        let b: &dyn Panel<R> = match (forward, g.is_pointwise() && g.before == [0, 0]) {
            (_, true) => &whole,
            (true, _) => &windows,
            _ => &spread,
        };
        let finish = |i: usize, _: usize, row: &mut [R]| {
            let add = bias[group * g.outputs + i];
            row.iter_mut().for_each(|v| *v += add);
        };
        go(&Gemm {
            m,
            n,
            k,
            a: View { data: &weights[group * m * k..(group + 1) * m * k], rs: k, cs: 1 },
            b,
            accumulate: false,
            finish: if has_bias { Some(&finish) } else { None },
        })
    };
    let units = g.images * g.groups;
    let (pool, share) = (call.pool, call.share);
    let out = call.out.elements::<R>()?;
    if let (true, Products::Cut(across, down)) = (share.of > 1, g.cut::<R>(call.op)) {
        let (i, piece) = (share.index / (across * down), share.index % (across * down));
        let c = &mut out[i * size_c..(i + 1) * size_c];
        return with(i, &mut |p| {
            p.run_piece((across, down), piece, c, n, scratch);
            Ok(())
        });
    }
    if units < pool.threads() {
        for i in 0..units {
            let c = &mut out[i * size_c..(i + 1) * size_c];
            with(i, &mut |g| g.run_on(pool, c, n, scratch))?;
        }
        return Ok(());
    }
    let per_task = scratch_elements(n, k);
    for_units(
        pool,
        share,
        out,
        scratch,
        per_task,
        units,
        m * n * k / 4,
        |i| i * size_c,
        |range, out, scratch| {
            for (at, i) in range.enumerate() {
                let c = &mut out[at * size_c..(at + 1) * size_c];
                // a run on this thread alone cannot fail
                let _ = with(i, &mut |p| {
                    p.run(c, n, scratch);
                    Ok(())
                });
            }
        },
    )
}

/// Weights `[groups, o, c, t]` as `[groups, c, o, t]`.
fn swap_channels<R: Real>(g: &Geometry, w: &crate::cpu::In<'_>, out: &mut [R]) -> Result<()> {
    fn each<R: Real, T: super::real::Storage>(g: &Geometry, w: &[T], out: &mut [R]) {
        let t = g.taps();
        for group in 0..g.groups {
            for c in 0..g.channels {
                for o in 0..g.outputs {
                    let from = ((group * g.outputs + o) * g.channels + c) * t;
                    let to = ((group * g.channels + c) * g.outputs + o) * t;
                    for (a, b) in out[to..to + t].iter_mut().zip(&w[from..from + t]) {
                        *a = b.widen();
                    }
                }
            }
        }
    }
    match w.dtype() {
        DType::F16 => each(g, w.elements::<half::f16>()?, out),
        DType::BF16 => each(g, w.elements::<half::bf16>()?, out),
        _ => each(g, w.elements::<R>()?, out),
    }
    Ok(())
}

/// Sums over images in order: the chain of each weight goes on from image to image. Groups and blocks of the weights
/// are what runs in parallel.
fn weight_grad<R: Real>(call: &mut Call<'_>) -> Result<()> {
    let descs: [Desc; 2] = [call.inputs[0].desc, call.inputs[1].desc];
    let Some(g) = Geometry::of_call(call.op, call.attrs, &descs, call.out.desc) else {
        return Ok(());
    };
    let (n, k) = g.product(call.op);
    let (in_plane, out_plane) = g.planes();
    let (size_x, size_y, size_w) =
        (g.channels * in_plane, g.outputs * out_plane, g.outputs * g.channels * g.taps());
    let (x, y) = (call.inputs[0].elements::<R>()?, call.inputs[1].elements::<R>()?);
    let scratch = scratch::<R>(call.scratch)?;
    let (pool, out) = (call.pool, call.out.elements::<R>()?);
    if g.images == 0 {
        out.fill(R::ZERO);
        return Ok(());
    }
    let with = |group: usize, i: usize, go: &mut dyn FnMut(&Gemm<'_, R>) -> Result<()>| {
        let unit = i * g.groups + group;
        let b = Unfolded { g: &g, image: &x[unit * size_x..(unit + 1) * size_x] };
        let a = View { data: &y[unit * size_y..(unit + 1) * size_y], rs: out_plane, cs: 1 };
        go(&Gemm { m: g.outputs, n, k, a, b: &b, accumulate: i > 0, finish: None })
    };
    if g.groups < pool.threads() {
        for group in 0..g.groups {
            let c = &mut out[group * size_w..(group + 1) * size_w];
            for i in 0..g.images {
                with(group, i, &mut |p| p.run_on(pool, c, n, scratch))?;
            }
        }
        return Ok(());
    }
    let per_task = scratch_elements(n, k);
    let work = g.images * size_w * k / 4;
    let start = |group: usize| group * size_w;
    for_units(
        pool,
        Share::ALL,
        out,
        scratch,
        per_task,
        g.groups,
        work,
        start,
        |range, out, scratch| {
            for (at, group) in range.enumerate() {
                let c = &mut out[at * size_w..(at + 1) * size_w];
                for i in 0..g.images {
                    // a run on this thread alone cannot fail
                    let _ = with(group, i, &mut |p| {
                        p.run(c, n, scratch);
                        Ok(())
                    });
                }
            }
        },
    )
}

/// B[ct, p] = x[c, window of p at tap t].
struct Windows<'a, R> {
    g: &'a Geometry,
    image: &'a [R],
}

impl<R: Real> Panel<R> for Windows<'_, R> {
    fn pack(&self, k0: usize, kc: usize, j0: usize, width: usize, nr: usize, dst: &mut [R]) {
        let g = self.g;
        let (taps, [h, w], ow) = (g.taps(), g.input, g.output[1]);
        for (row, k) in dst.chunks_exact_mut(nr).zip(k0..k0 + kc) {
            row.fill(R::ZERO);
            let [ty, tx] = g.tap(k % taps);
            let plane = &self.image[k / taps * h * w..][..h * w];
            // one stretch of `row` per line of the output it covers
            let mut j = 0;
            while j < width {
                let (oy, ox) = ((j0 + j) / ow, (j0 + j) % ow);
                let run = (ow - ox).min(width - j);
                let y = (oy * g.stride[0] + ty).wrapping_sub(g.before[0]);
                if y < h {
                    let line = &plane[y * w..(y + 1) * w];
                    let first = (ox * g.stride[1] + tx) as isize - g.before[1] as isize;
                    gather(line, first, g.stride[1], &mut row[j..j + run]);
                }
                j += run;
            }
        }
    }
}

/// `out[i] = line[first + i * step]` where that is inside the line; the rest of `out` stays.
#[inline(always)]
fn gather<R: Copy>(line: &[R], first: isize, step: usize, out: &mut [R]) {
    let skip = if first < 0 { first.unsigned_abs().div_ceil(step) } else { 0 };
    let at = first + (skip * step) as isize;
    if skip >= out.len() || at as usize >= line.len() {
        return;
    }
    let (out, line) = (&mut out[skip..], &line[at as usize..]);
    if step == 1 {
        let n = out.len().min(line.len());
        out[..n].copy_from_slice(&line[..n]);
    } else {
        out.iter_mut().zip(line.iter().step_by(step)).for_each(|(o, v)| *o = *v);
    }
}

/// B[ot, y] = g[o, the position whose window has y at tap t], 0 where the stride skips it.
struct Spread<'a, R> {
    g: &'a Geometry,
    image: &'a [R],
}

impl<R: Real> Panel<R> for Spread<'_, R> {
    fn pack(&self, k0: usize, kc: usize, j0: usize, width: usize, nr: usize, dst: &mut [R]) {
        let g = self.g;
        let (taps, [h, w], iw) = (g.taps(), g.output, g.input[1]);
        for (row, k) in dst.chunks_exact_mut(nr).zip(k0..k0 + kc) {
            row.fill(R::ZERO);
            let [ty, tx] = g.tap(k % taps);
            let plane = &self.image[k / taps * h * w..][..h * w];
            let mut j = 0;
            while j < width {
                let (y, x) = ((j0 + j) / iw, (j0 + j) % iw);
                let run = (iw - x).min(width - j);
                let oy = (y + g.before[0]).wrapping_sub(ty);
                if oy.is_multiple_of(g.stride[0]) && oy / g.stride[0] < h {
                    let oy = oy / g.stride[0];
                    let line = &plane[oy * w..(oy + 1) * w];
                    let first = (x + g.before[1]) as isize - tx as isize;
                    let out = &mut row[j..j + run];
                    if g.stride[1] == 1 {
                        gather(line, first, 1, out);
                    } else {
                        let s = g.stride[1] as isize;
                        let skip = (-first).rem_euclid(s) as usize;
                        let from = (first + skip as isize) / s;
                        let places = out.iter_mut().skip(skip).step_by(s as usize);
                        for (at, o) in (from..).zip(places) {
                            if let Some(v) = usize::try_from(at).ok().and_then(|i| line.get(i)) {
                                *o = *v;
                            }
                        }
                    }
                }
                j += run;
            }
        }
    }
}

/// B[p, ct] = x[c, window of p at tap t].
struct Unfolded<'a, R> {
    g: &'a Geometry,
    image: &'a [R],
}

impl<R: Real> Panel<R> for Unfolded<'_, R> {
    fn pack(&self, k0: usize, kc: usize, j0: usize, width: usize, nr: usize, dst: &mut [R]) {
        let g = self.g;
        let (taps, [h, w], ow) = (g.taps(), g.input, g.output[1]);
        // some lines of the transpose at a time, each gathered like a window; then turned into columns
        const LINES: usize = 16;
        const DEEP: usize = 64;
        let mut lines = [R::ZERO; LINES * DEEP];
        for p0 in (0..kc).step_by(DEEP) {
            let deep = DEEP.min(kc - p0);
            for j1 in (0..nr).step_by(LINES) {
                let count = LINES.min(nr - j1);
                for (j, line) in (j0 + j1..).zip(lines.chunks_exact_mut(DEEP).take(count)) {
                    line.fill(R::ZERO);
                    if j >= j0 + width {
                        continue;
                    }
                    let [ty, tx] = g.tap(j % taps);
                    let plane = &self.image[j / taps * h * w..][..h * w];
                    let mut p = 0;
                    while p < deep {
                        let (oy, ox) = ((k0 + p0 + p) / ow, (k0 + p0 + p) % ow);
                        let run = (ow - ox).min(deep - p);
                        let y = (oy * g.stride[0] + ty).wrapping_sub(g.before[0]);
                        if y < h {
                            let first = (ox * g.stride[1] + tx) as isize - g.before[1] as isize;
                            let out = &mut line[p..p + run];
                            gather(&plane[y * w..(y + 1) * w], first, g.stride[1], out);
                        }
                        p += run;
                    }
                }
                turn(&lines, DEEP, count, deep, &mut dst[p0 * nr + j1..], nr);
            }
        }
    }
}
