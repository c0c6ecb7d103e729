//! matmul with leading axes, optional bias and activation, weights in f32, f64, f16 or bf16.

use super::gemm::{Gemm, Panel, View, scratch_elements};
use super::norm::widen;
use super::real::{Real, Storage};
use super::scratch;
use super::split::{Products, for_units};
use super::wide::wide;
use crate::base::{DType, Desc, Result, Shape};
use crate::cpu::call::{Call, In};
use crate::graph::{AttrKey, Attrs, Op};
use half::{bf16, f16};

/// What the operands' shapes amount to.
struct Plan {
    lead: Shape,
    batch: usize,
    m: usize,
    n: usize,
    k: usize,
    trans_a: bool,
    trans_b: bool,
}

impl Plan {
    fn of(attrs: &Attrs, a: Desc, b: Desc, out: Desc) -> Result<Self> {
        let (trans_a, trans_b) = (attrs.flag(AttrKey::TransA), attrs.flag(AttrKey::TransB));
        let rank = out.shape.rank();
        let lead = Shape::new(&out.dims()[..rank - 2])?;
        let (m, n) = (out.dims()[rank - 2], out.dims()[rank - 1]);
        let k = a.dims()[a.shape.rank() - if trans_a { 2 } else { 1 }];
        let mut plan = Self { lead, batch: lead.elements(), m, n, k, trans_a, trans_b };
        // one matrix b for all: the leading axes of a are more rows
        let rows_join = !trans_a && a.shape.elements() == plan.batch * m * k;
        if rows_join && b.shape.elements() == k * n {
            (plan.m, plan.batch, plan.lead) = (plan.batch * m, 1, Shape::SCALAR);
        }
        Ok(plan)
    }

    /// Work of one product, as `for_units` counts it.
    fn work(&self) -> usize {
        self.m * self.n * self.k / 4
    }

    fn cut<R: Real>(&self) -> Products {
        Products::of(self.batch, self.m, self.n, R::micro().nr, self.work() * size_of::<R>() / 4)
    }

    /// Which of an operand's own matrices belongs to matrix `i` of the result.
    fn matrix(&self, operand: &In<'_>, mut i: usize) -> usize {
        let own = &operand.dims()[..operand.dims().len() - 2];
        let (mut at, mut stride) = (0, 1);
        let missing = self.lead.rank().saturating_sub(own.len());
        for axis in (0..self.lead.rank()).rev() {
            let here = i % self.lead.dim(axis);
            i /= self.lead.dim(axis);
            if axis >= missing {
                at += if own[axis - missing] == 1 { 0 } else { here * stride };
                stride *= own[axis - missing];
            }
        }
        at
    }
}

pub(super) fn scratch_bytes(attrs: &Attrs, inputs: &[Desc], out: Desc, threads: usize) -> usize {
    let [a, b, ..] = inputs else { return 0 };
    let Ok(plan) = Plan::of(attrs, *a, *b, out) else { return 0 };
    let bias = if inputs.len() > 2 { plan.n } else { 0 };
    (bias + threads * scratch_elements(plan.n, plan.k)) * out.dtype.bytes()
}

/// How many shares a call is cut into.
pub(super) fn shares(attrs: &Attrs, inputs: &[Desc], out: Desc) -> usize {
    let [a, b, ..] = inputs else { return 1 };
    let Ok(plan) = Plan::of(attrs, *a, *b, out) else { return 1 };
    let cut = match out.dtype {
        DType::F64 => plan.cut::<f64>(),
        _ => plan.cut::<f32>(),
    };
    cut.shares(plan.batch)
}

pub(super) fn run(call: &mut Call<'_>) -> Result<()> {
    let b = call.inputs[1].dtype();
    match (call.out.dtype(), b) {
        (DType::F64, DType::F64) => typed::<f64, f64>(call),
        (DType::F64, DType::F16) => typed::<f64, f16>(call),
        (DType::F64, _) => typed::<f64, bf16>(call),
        (_, DType::F32) => typed::<f32, f32>(call),
        (_, DType::F16) => typed::<f32, f16>(call),
        _ => typed::<f32, bf16>(call),
    }
}

fn typed<R: Real, T: Storage>(call: &mut Call<'_>) -> Result<()> {
    let (left, right) = (call.inputs[0], call.inputs[1]);
    let p = Plan::of(call.attrs, left.desc, right.desc, call.out.desc)?;
    let (a, b) = (left.elements::<R>()?, right.elements::<T>()?);
    let scratch = scratch::<R>(call.scratch)?;
    let (bias, scratch) = scratch.split_at_mut(if call.inputs.len() > 2 { p.n } else { 0 });
    if let Some(x) = call.inputs.get(2) {
        widen(x, bias)?;
    }
    let act = u32::try_from(call.attrs.int(AttrKey::Activation, 0)).ok().and_then(Op::from_code);
    let bias = &*bias;
    let finish = |_: usize, j0: usize, row: &mut [R]| {
        if !bias.is_empty() {
            let n = row.len();
            row.iter_mut().zip(&bias[j0..j0 + n]).for_each(|(x, b)| *x += *b);
        }
        if let Some(act) = act {
            wide(
                #[inline(always)]
                || R::activate(act, row),
            );
        }
    };
    let needs_finish = !bias.is_empty() || act.is_some();
    let (size_a, size_b, size_c) = (p.m * p.k, p.k * p.n, p.m * p.n);
    let (a_rs, a_cs) = if p.trans_a { (1, p.m) } else { (p.k, 1) };
    let (b_rs, b_cs) = if p.trans_b { (1, p.k) } else { (p.n, 1) };
    let with = |i: usize, go: &mut dyn FnMut(&Gemm<'_, R>) -> Result<()>| {
        let a = &a[p.matrix(&left, i) * size_a..][..size_a];
        let b = View { data: &b[p.matrix(&right, i) * size_b..][..size_b], rs: b_rs, cs: b_cs };
        go(&Gemm {
            m: p.m,
            n: p.n,
            k: p.k,
            a: View { data: a, rs: a_rs, cs: a_cs },
            b: &b as &dyn Panel<R>,
            accumulate: false,
            finish: needs_finish.then_some(&finish),
        })
    };
    let (pool, share) = (call.pool, call.share);
    let out = call.out.elements::<R>()?;
    if let (true, Products::Cut(across, down)) = (share.of > 1, p.cut::<R>()) {
        let (i, piece) = (share.index / (across * down), share.index % (across * down));
        let c = &mut out[i * size_c..(i + 1) * size_c];
        return with(i, &mut |g| {
            g.run_piece((across, down), piece, c, p.n, scratch);
            Ok(())
        });
    }
    if p.batch < pool.threads() {
        for i in 0..p.batch {
            let c = &mut out[i * size_c..(i + 1) * size_c];
            with(i, &mut |g| g.run_on(pool, c, p.n, scratch))?;
        }
        return Ok(());
    }
    let per_task = scratch_elements(p.n, p.k);
    for_units(
        pool,
        share,
        out,
        scratch,
        per_task,
        p.batch,
        p.work(),
        |i| i * size_c,
        |range, out, scratch| {
            for (at, i) in range.enumerate() {
                let c = &mut out[at * size_c..(at + 1) * size_c];
                // a run on this thread alone cannot fail
                let _ = with(i, &mut |g| {
                    g.run(c, p.n, scratch);
                    Ok(())
                });
            }
        },
    )
}
