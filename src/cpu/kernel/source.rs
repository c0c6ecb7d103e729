//! Patterns: full and iota.

use super::layout::fill_value;
use super::split::{Share, for_rows};
use crate::bail;
use crate::base::{DType, Result};
use crate::cpu::call::Call;
use crate::graph::{AttrKey, Op};
use bytemuck::Pod;

pub(super) fn run(call: &mut Call<'_>) -> Result<()> {
    let dtype = call.out.dtype();
    if call.op == Op::Full {
        return match dtype.bytes() {
            1 => full::<u8>(call),
            2 => full::<u16>(call),
            4 => full::<u32>(call),
            _ => full::<u64>(call),
        };
    }
    match dtype {
        DType::F32 => iota(call, |i| i as f32),
        DType::F64 => iota(call, |i| i as f64),
        DType::I32 => iota(call, |i| i as i32),
        DType::I64 => iota(call, |i| i as i64),
        other => bail!(Unsupported, "iota: the CPU has no kernel for {other}"),
    }
}

fn full<T: Pod + Send + Sync>(call: &mut Call<'_>) -> Result<()> {
    let value = fill_value::<T>(call.out.dtype(), call.attrs.float(AttrKey::Value, 0.0))?;
    let (pool, out) = call.pool_out::<T>()?;
    for_rows(pool, Share::ALL, out, 1, 1, |_, out| out.fill(value))
}

fn iota<T: Pod + Send>(call: &mut Call<'_>, value: impl Fn(usize) -> T + Sync) -> Result<()> {
    let axis = call.attrs.int(AttrKey::Axis, 0) as usize;
    let dims = call.out.desc.shape;
    let inner = dims.strides()[axis];
    let (pool, out) = call.pool_out::<T>()?;
    for_rows(pool, Share::ALL, out, inner, inner, |units, out| {
        for (u, out) in units.zip(out.chunks_exact_mut(inner)) {
            out.fill(value(u % dims.dim(axis)));
        }
    })
}
