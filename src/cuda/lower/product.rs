//! Matrix products and attention.

use super::reduce::ROW;
use super::{Call, Lower, whole};
use crate::base::{DType, Result};
use crate::cuda::args::Args;
use crate::cuda::device::Kernel;
use crate::graph::AttrKey;
use bytemuck::Zeroable;

/// Side of the tile a block computes, how far it looks ahead, and its threads: as in `kernels/tile.cuh`.
pub(super) const TILE: usize = 64;
pub(super) const DEPTH: usize = 16;
pub(super) const TILE_THREADS: usize = 256;
/// The same tile on the tensor cores, as in `kernels/tensor.cu`: its threads, and four matrices of 64 lines of 40 bf16.
const TENSOR_THREADS: usize = 128;
const TENSOR_ROOM: usize = 4 * TILE * 40 * 2;
/// Queries, and keys, of a tile of `attention_tiles`.
const QUERIES: usize = 32;

impl Lower<'_> {
    pub(super) fn matmul(&mut self, call: &Call<'_>) -> Result<()> {
        let (a, b, out) = (call.input(0)?, call.input(1)?, call.out);
        // kernel, threads, bytes in which a tile is fetched
        let room = 2 * DEPTH * TILE;
        let (kernel, threads, room) = match (out.desc.dtype, b.desc.dtype) {
            (DType::F32, DType::BF16) => (Kernel::matmul_bf16, TENSOR_THREADS, TENSOR_ROOM),
            (DType::F32, _) => (Kernel::matmul_f32, TILE_THREADS, room * 4),
            (DType::F64, _) => (Kernel::matmul_f64, TILE_THREADS, room * 8),
            (other, _) => return call.refuse(other),
        };
        let (ta, tb) = (call.attrs.flag(AttrKey::TransA), call.attrs.flag(AttrKey::TransB));
        let (lead, [mut m, n]) = ends(out.dims());
        let (a_lead, [a_rows, a_columns]) = ends(a.dims());
        let (b_lead, _) = ends(b.dims());
        let k = if ta { a_rows } else { a_columns };
        let mut batch: usize = lead.iter().product();
        let mut lead = lead.to_vec();
        // one matrix b for all: the leading axes of a are more rows
        let all_of_a = a.elements() == batch * m * k;
        if !ta && all_of_a && b.elements() == k * n {
            (m, batch) = (batch * m, 1);
            lead.clear();
        }
        let (a_rs, a_cs) = if ta { (1, m) } else { (k, 1) };
        let (b_rs, b_cs) = if tb { (1, k) } else { (n, 1) };
        let mut args = Args::zeroed();
        (args.p[0], args.p[1], args.p[2]) = (out.at, a.at, b.at);
        args.set(0, [batch, m, n, k, a_rs, a_cs, b_rs, b_cs].map(|v| v as i64));
        args.n[8] = b.code();
        if let Some(bias) = call.inputs.get(2) {
            args.p[3] = bias.at;
            args.n[9] = bias.code();
        }
        args.n[10] = call.attrs.int(AttrKey::Activation, 0);
        args.n[11] = lead.len() as i64;
        args.set(12, whole(&lead));
        args.set(20, whole(&repeated(a_lead, &lead, m * k)));
        args.set(28, whole(&repeated(b_lead, &lead, k * n)));
        let tiles = m.div_ceil(TILE) * n.div_ceil(TILE) * batch;
        self.launch(kernel, tiles, threads, room, args, 0)
    }

    pub(super) fn attention(&mut self, call: &Call<'_>) -> Result<()> {
        let (q, k, v, out) = (call.input(0)?, call.input(1)?, call.input(2)?, call.out);
        match q.desc.dtype {
            DType::F32 | DType::F64 => {}
            other => return call.refuse(other),
        }
        let (lead, [s, d]) = ends(q.dims());
        let (_, [t, e]) = ends(v.dims());
        let mut args = Args::zeroed();
        (args.p[0], args.p[1], args.p[2], args.p[3]) = (out.at, q.at, k.at, v.at);
        let queries = lead.iter().product::<usize>() * s;
        args.set(0, [queries, s, t, d, e].map(|v| v as i64));
        args.n[5] = i64::from(call.attrs.flag(AttrKey::Causal));
        args.n[7] = q.code();
        args.n[8] = lead.len() as i64;
        args.set(9, whole(lead));
        if let Some(mask) = call.inputs.get(3) {
            args.p[4] = mask.at;
            args.n[6] = mask.code();
            let full: Vec<usize> = lead.iter().copied().chain([s, t]).collect();
            let strides = repeated(mask.dims(), &full, 1);
            let (leading, last) = strides.split_at(strides.len().saturating_sub(2));
            args.set(17, whole(leading));
            args.set(25, whole(last));
        }
        args.f[0] = call.attrs.float(AttrKey::Scale, 1.0 / (d as f64).sqrt());
        // queries, keys, values, sums and scores of a tile
        let tile = QUERIES * (2 * (d + 1) + 2 * e + QUERIES + 1) * size_of::<f32>();
        if q.desc.dtype == DType::F32 && tile <= self.most_shared {
            let tiles = lead.iter().product::<usize>() * s.div_ceil(QUERIES);
            return self.launch(Kernel::attention_tiles, tiles, ROW, tile, args, 0);
        }
        // a score a key, in f64
        self.launch(Kernel::attention_rows, queries, ROW, (ROW + t) * size_of::<f64>(), args, 0)
    }
}

/// The leading axes and the last two.
fn ends(dims: &[usize]) -> (&[usize], [usize; 2]) {
    match dims {
        [lead @ .., rows, columns] => (lead, [*rows, *columns]),
        _ => (&[], [1, 1]), // the shape rule asks for rank 2
    }
}

/// Strides by which a tensor of `own` extents, `unit` elements each, is read beside one of `to`, to which it broadcasts.
fn repeated(own: &[usize], to: &[usize], unit: usize) -> Vec<usize> {
    let mut strides = vec![0; to.len()];
    let mut stride = unit;
    for (s, dim) in strides.iter_mut().rev().zip(own.iter().rev()) {
        *s = if *dim == 1 { 0 } else { stride };
        stride *= dim;
    }
    strides
}
