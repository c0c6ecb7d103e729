//! Along one axis, in order: running sums, and where the largest and smallest stand.

use super::fold::for_column_tiles;
use super::split::{Share, for_rows, for_units};
use crate::bail;
use crate::base::{DType, Result};
use crate::cpu::call::Call;
use crate::graph::{AttrKey, Op};
use bytemuck::Pod;

pub(super) fn run(call: &mut Call<'_>) -> Result<()> {
    let dtype = call.inputs[0].dtype();
    if call.op == Op::CumSum {
        return match dtype {
            DType::F32 => running::<f32>(call),
            DType::F64 => running::<f64>(call),
            DType::I32 => running::<i32>(call),
            DType::I64 => running::<i64>(call),
            other => bail!(Unsupported, "cumsum: the CPU has no kernel for {other}"),
        };
    }
    match dtype {
        DType::F32 => position::<f32>(call),
        DType::F64 => position::<f64>(call),
        DType::I32 => position::<i32>(call),
        DType::I64 => position::<i64>(call),
        other => bail!(Unsupported, "{}: the CPU has no kernel for {other}", call.op.name()),
    }
}

/// What can be summed and compared.
pub(super) trait Number: Pod + Send + Sync + PartialOrd {
    /// What sums are kept in.
    type Total: Copy;
    const ZERO: Self::Total;
    fn add(total: Self::Total, x: Self) -> Self::Total;
    fn of(total: Self::Total) -> Self;
    /// Whether it is not a number.
    fn is_none(self) -> bool;
}

macro_rules! number {
    ($t:ty, $total:ty, $zero:literal, |$a:ident, $x:ident| $add:expr, $none:expr) => {
        impl Number for $t {
            type Total = $total;
            const ZERO: $total = $zero;
            #[inline(always)]
            fn add($a: $total, $x: $t) -> $total {
                $add
            }
            #[inline(always)]
            fn of(total: $total) -> $t {
                total as $t
            }
            #[inline(always)]
            fn is_none(self) -> bool {
                $none(self)
            }
        }
    };
}

number! { f32, f64, 0.0, |a, x| a + f64::from(x), f32::is_nan }
number! { f64, f64, 0.0, |a, x| a + x, f64::is_nan }
number! { i32, i32, 0, |a, x| a.wrapping_add(x), |_| false }
number! { i64, i64, 0, |a, x| a.wrapping_add(x), |_| false }

fn lengths(call: &Call<'_>) -> (usize, usize, usize) {
    let dims = call.inputs[0].dims();
    let axis = call.attrs.int(AttrKey::Axis, 0) as usize;
    (dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product())
}

fn running<T: Number>(call: &mut Call<'_>) -> Result<()> {
    let (_, n, inner) = lengths(call);
    let (reverse, exclusive) =
        (call.attrs.flag(AttrKey::Reverse), call.attrs.flag(AttrKey::Exclusive));
    let x = call.inputs[0].elements::<T>()?;
    let (pool, out) = call.pool_out::<T>()?;
    let slab = n * inner;
    for_rows(pool, Share::ALL, out, slab, slab, |slabs, out| {
        for (s, out) in slabs.zip(out.chunks_exact_mut(slab)) {
            let x = &x[s * slab..(s + 1) * slab];
            for_column_tiles!(0..inner, |first, W| {
                let mut total = [T::ZERO; W];
                for r in 0..n {
                    let at = if reverse { n - 1 - r } else { r } * inner + first;
                    for j in 0..W {
                        let before = total[j];
                        total[j] = T::add(before, x[at + j]);
                        out[at + j] = T::of(if exclusive { before } else { total[j] });
                    }
                }
            });
        }
    })
}

/// The first largest or smallest; the first NaN beats both, as it does in `reduce_max` and `reduce_min`.
fn position<T: Number>(call: &mut Call<'_>) -> Result<()> {
    let (outer, n, inner) = lengths(call);
    let largest = call.op == Op::ArgMax;
    let x = call.inputs[0].elements::<T>()?;
    let (pool, out) = call.pool_out::<i32>()?;
    for_units(
        pool,
        Share::ALL,
        out,
        &mut [0u8; 0],
        0,
        outer,
        n * inner,
        |o| o * inner,
        |slabs, out, _| {
            if inner == 0 {
                return;
            }
            for (o, out) in slabs.zip(out.chunks_exact_mut(inner)) {
                let x = &x[o * n * inner..(o + 1) * n * inner];
                out.fill(0);
                for r in 1..n {
                    for (j, best) in out.iter_mut().enumerate() {
                        let (old, new) = (x[*best as usize * inner + j], x[r * inner + j]);
                        let better = if largest { new > old } else { new < old };
                        if (better || new.is_none()) && !old.is_none() {
                            *best = r as i32;
                        }
                    }
                }
            }
        },
    )
}
