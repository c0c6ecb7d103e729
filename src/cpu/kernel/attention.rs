//! Attention, one block of queries against one block of keys at a time, with the running maximum and sum of the online
//! softmax: the matrix of all scores never exists.
//!
//! Keys are always cut at the same places and a query row never looks at its neighbours, so its bits do not depend on
//! the batch, the heads or how many queries there are.

use super::fold::{self, Max, halve};
use super::gemm::{Gemm, View, scratch_elements};
use super::real::Real;
use super::scratch;
use super::split::{for_units, share_count};
use super::wide::wide;
use crate::base::{DType, Desc, MAX_RANK, Result};
use crate::cpu::call::{Call, In};
use crate::graph::AttrKey;

/// Queries and keys per block: scores of a block stay in the second cache.
const QUERIES: usize = 96;
const KEYS: usize = 128;

pub(super) fn scratch_bytes(inputs: &[Desc], out: Desc, threads: usize) -> usize {
    let [q, k, ..] = inputs else { return 0 };
    let size = Size::of(*q, *k, out);
    threads * size.scratch() * out.dtype.bytes()
}

/// How many shares a call is cut into.
pub(super) fn shares(inputs: &[Desc], out: Desc) -> usize {
    let [q, k, ..] = inputs else { return 1 };
    let size = Size::of(*q, *k, out);
    share_count(size.units(), size.work() * out.dtype.bytes() / 4)
}

pub(super) fn run(call: &mut Call<'_>) -> Result<()> {
    match call.out.dtype() {
        DType::F64 => typed::<f64>(call),
        _ => typed::<f32>(call),
    }
}

/// q[heads, s, d], k[heads, t, d], v[heads, t, e]; heads are all leading axes.
#[derive(Debug, Clone, Copy)]
struct Size {
    heads: usize,
    s: usize,
    t: usize,
    d: usize,
    e: usize,
}

impl Size {
    fn of(q: Desc, k: Desc, out: Desc) -> Self {
        let r = q.shape.rank();
        let heads = q.dims()[..r - 2].iter().product();
        let (s, d) = (q.dims()[r - 2], q.dims()[r - 1]);
        Self { heads, s, t: k.dims()[r - 2], d, e: out.dims()[r - 1] }
    }

    /// Blocks of queries, over all heads.
    fn units(&self) -> usize {
        self.heads * self.s.div_ceil(QUERIES)
    }

    /// Work of one of them.
    fn work(&self) -> usize {
        QUERIES.min(self.s) * self.t * (self.d + self.e + 16) / 4
    }

    /// Scores, maxima, sums, and the panels of either product.
    fn scratch(&self) -> usize {
        let keys = self.t.min(KEYS);
        let panels = scratch_elements(keys, self.d).max(scratch_elements(self.e, keys));
        QUERIES.min(self.s) * (keys + 2) + panels
    }
}

/// A mask that broadcasts to `[.., s, t]`.
enum Mask<'a, R> {
    None,
    /// Not 0 = attend.
    Bool(&'a [u8]),
    Add(&'a [R]),
}

fn typed<R: Real>(call: &mut Call<'_>) -> Result<()> {
    let (q, k, v) = (call.inputs[0], call.inputs[1], call.inputs[2]);
    let size = Size::of(q.desc, k.desc, call.out.desc);
    let Size { s, t, d, e, .. } = size;
    let scale = R::of(call.attrs.float(AttrKey::Scale, 1.0 / (d as f64).sqrt()));
    let causal = call.attrs.flag(AttrKey::Causal);
    let mask_strides = call.inputs.get(3).map(|m| strides(m, &q));
    let mask = match call.inputs.get(3) {
        None => Mask::None,
        Some(m) if m.dtype() == DType::Bool => Mask::Bool(m.elements()?),
        Some(m) => Mask::Add(m.elements()?),
    };
    let lead = q.desc.shape;
    let (q, k, v) = (q.elements::<R>()?, k.elements::<R>()?, v.elements::<R>()?);
    let scratch = scratch::<R>(call.scratch)?;
    let (pool, share) = (call.pool, call.share);
    let out = call.out.elements::<R>()?;
    let blocks = s.div_ceil(QUERIES);
    let start = |u: usize| (u / blocks.max(1) * s + (u % blocks.max(1) * QUERIES).min(s)) * e;
    let (units, work) = (size.units(), size.work());
    for_units(
        pool,
        share,
        out,
        scratch,
        size.scratch(),
        units,
        work,
        start,
        |range, out, scratch| {
            let base = start(range.start);
            for u in range {
                let (head, first) = (u / blocks, u % blocks * QUERIES);
                let rows = QUERIES.min(s - first);
                let (scores, rest) = scratch.split_at_mut(QUERIES.min(s) * t.min(KEYS));
                let (state, panels) = rest.split_at_mut(2 * QUERIES.min(s));
                let (largest, sums) = state.split_at_mut(QUERIES.min(s));
                let out = &mut out[start(u) - base..][..rows * e];
                out.fill(R::ZERO);
                largest.fill(R::NEG_INFINITY);
                sums.fill(R::ZERO);
                let q = View { data: &q[(head * s + first) * d..][..rows * d], rs: d, cs: 1 };
                let (k, v) = (&k[head * t * d..][..t * d], &v[head * t * e..][..t * e]);
                let mask_at = mask_strides.map(|m| (mask_offset(&m, lead.dims(), head), m));
                for t0 in (0..t).step_by(KEYS) {
                    let keys = KEYS.min(t - t0);
                    // the last row of this block sees keys up to first + rows - 1 + t - s
                    if causal && first + rows + t <= t0 + s {
                        break;
                    }
                    let b = View { data: &k[t0 * d..(t0 + keys) * d], rs: 1, cs: d };
                    Gemm { m: rows, n: keys, k: d, a: q, b: &b, accumulate: false, finish: None }
                        .run(scores, keys, panels);
                    wide(
                        #[inline(always)]
                        || {
                            for i in 0..rows {
                                let row = &mut scores[i * keys..(i + 1) * keys];
                                row.iter_mut().for_each(|x| *x = *x * scale);
                                if let Some((at, m)) = mask_at {
                                    let at = at + (first + i) * m[1] + t0 * m[0];
                                    apply(&mask, at, m[0], row);
                                }
                                if causal {
                                    // key j is seen when j + s <= i + t
                                    let seen = (first + i + t + 1).saturating_sub(s + t0).min(keys);
                                    row[seen..].fill(R::NEG_INFINITY);
                                }
                                let out = &mut out[i * e..(i + 1) * e];
                                soften(row, &mut largest[i], &mut sums[i], out);
                            }
                        },
                    );
                    let a = View { data: &scores[..rows * keys], rs: keys, cs: 1 };
                    let b = View { data: &v[t0 * e..(t0 + keys) * e], rs: e, cs: 1 };
                    Gemm { m: rows, n: e, k: keys, a, b: &b, accumulate: true, finish: None }
                        .run(out, e, panels);
                }
                for (row, sum) in out.chunks_exact_mut(e.max(1)).zip(&*sums) {
                    let factor = if *sum == R::ZERO { R::ZERO } else { R::ONE / *sum };
                    row.iter_mut().for_each(|x| *x = *x * factor);
                }
            }
        },
    )
}

/// Scores of one row become weights relative to the new maximum; what was gathered before is scaled to it.
#[inline(always)]
fn soften<R: Real>(row: &mut [R], largest: &mut R, sum: &mut R, out: &mut [R]) {
    let before = *largest;
    let block = fold::row::<Max<R>, R>(row, |v| v);
    let now = if block > before || block.is_nan() { block } else { before };
    if now == R::NEG_INFINITY {
        row.fill(R::ZERO); // nothing to attend to so far
        return;
    }
    let mut lanes = [R::ZERO; 16];
    let (blocks, rest) = row.as_chunks_mut::<16>();
    for block in blocks {
        for l in 0..16 {
            block[l] = (block[l] - now).exp();
            lanes[l] += block[l];
        }
    }
    for (l, x) in rest.iter_mut().enumerate() {
        *x = (*x - now).exp();
        lanes[l] += *x;
    }
    halve!(lanes, |a, b| a + b);
    let keep = (before - now).exp();
    *sum = *sum * keep + lanes[0];
    out.iter_mut().for_each(|x| *x = *x * keep);
    *largest = now;
}

/// Strides of the mask along t, s and the leading axes from the innermost; 0 where it broadcasts.
fn strides(mask: &In<'_>, q: &In<'_>) -> [usize; MAX_RANK] {
    let own = mask.desc.shape;
    let mut out = [0; MAX_RANK];
    for i in 0..own.rank().min(q.dims().len()) {
        let axis = own.rank() - 1 - i;
        out[i] = if own.dim(axis) == 1 { 0 } else { own.strides()[axis] };
    }
    out
}

fn mask_offset(strides: &[usize; MAX_RANK], q_dims: &[usize], mut head: usize) -> usize {
    let mut at = 0;
    for i in 2..q_dims.len() {
        let dim = q_dims[q_dims.len() - 1 - i];
        at += head % dim * strides[i];
        head /= dim;
    }
    at
}

#[inline(always)]
fn apply<R: Real>(mask: &Mask<'_, R>, at: usize, step: usize, row: &mut [R]) {
    let n = row.len();
    match (mask, step) {
        (Mask::None, _) => {}
        (Mask::Bool(m), 0) => {
            if m[at] == 0 {
                row.fill(R::NEG_INFINITY);
            }
        }
        (Mask::Bool(m), _) => {
            for (x, m) in row.iter_mut().zip(&m[at..at + n]) {
                *x = if *m == 0 { R::NEG_INFINITY } else { *x };
            }
        }
        (Mask::Add(m), 0) => row.iter_mut().for_each(|x| *x += m[at]),
        (Mask::Add(m), _) => row.iter_mut().zip(&m[at..at + n]).for_each(|(x, m)| *x += *m),
    }
}
