//! Conversion between float types, rounding to nearest even. Integers are never converted: an index that became a
//! float would be a different thing.

use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::mem::{Budget, Tensor};
use half::{bf16, f16};
use std::sync::Arc;

/// Whether [`convert`] can go from one type to the other.
pub fn converts(from: DType, to: DType) -> bool {
    from == to || (from.is_float() && to.is_float())
}

/// The tensor in another float type; itself when the type is the same.
pub fn convert(tensor: Tensor, to: DType, budget: &Arc<Budget>) -> Result<Tensor> {
    if tensor.desc().dtype == to { Ok(tensor) } else { converted(&tensor, to, budget) }
}

/// A copy in a float type.
pub fn converted(tensor: &Tensor, to: DType, budget: &Arc<Budget>) -> Result<Tensor> {
    let from = tensor.desc();
    if !converts(from.dtype, to) {
        bail!(Unsupported, "{from} cannot become {to}");
    }
    let mut out = Tensor::new(Desc { dtype: to, shape: from.shape }, budget)?;
    elements(tensor.bytes(), from.dtype, to, out.bytes_mut());
    Ok(out)
}

/// Elements of one type in the bytes of another, between types that convert.
pub fn elements(from: &[u8], type_from: DType, to: DType, out: &mut [u8]) {
    if type_from == to && from.len() == out.len() {
        return out.copy_from_slice(from);
    }
    match (type_from, to) {
        (DType::BF16, DType::F32) => return halves(from, out, bf16_to_f32),
        (DType::F16, DType::F32) => return halves(from, out, f16_to_f32),
        _ => {}
    }
    let sources = from.chunks_exact(type_from.bytes());
    for (source, target) in sources.zip(out.chunks_exact_mut(to.bytes())) {
        store(load(source, type_from), to, target);
    }
}

/// The direct way to f32, of the types that large models are stored in.
fn halves(from: &[u8], out: &mut [u8], widen: impl Fn([u8; 2]) -> f32) {
    let sources = from.as_chunks::<2>().0.iter();
    for (source, target) in sources.zip(out.as_chunks_mut::<4>().0) {
        *target = widen(*source).to_le_bytes();
    }
}

fn bf16_to_f32(b: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)
}

fn f16_to_f32(b: [u8; 2]) -> f32 {
    f16::from_le_bytes(b).to_f32()
}

/// All elements as f64; none for a type that is not a float.
pub fn to_f64(tensor: &Tensor) -> Result<Vec<f64>> {
    let dtype = tensor.desc().dtype;
    if !dtype.is_float() {
        bail!(Unsupported, "{} is not of floats", tensor.desc());
    }
    Ok(tensor.bytes().chunks_exact(dtype.bytes()).map(|b| load(b, dtype)).collect())
}

/// f64 holds every value of the narrower types, so going through it rounds once.
fn load(b: &[u8], dtype: DType) -> f64 {
    match (dtype, b) {
        (DType::F32, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
        (DType::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f64(),
        (DType::BF16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f64(),
        (DType::F64, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => f64::NAN, // callers pass floats in chunks of their size
    }
}

fn store(value: f64, dtype: DType, out: &mut [u8]) {
    match dtype {
        DType::F32 => out.copy_from_slice(&(value as f32).to_le_bytes()),
        DType::F16 => out.copy_from_slice(&f16::from_f64(value).to_le_bytes()),
        DType::BF16 => out.copy_from_slice(&bf16::from_f64(value).to_le_bytes()),
        DType::F64 => out.copy_from_slice(&value.to_le_bytes()),
        _ => {} // `converts` let only floats through
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The direct way gives what the way through f64 gives, for every number of 16 bits.
    #[test]
    fn both_ways_to_f32_agree() {
        let ways: [(DType, fn([u8; 2]) -> f32); 2] =
            [(DType::F16, f16_to_f32), (DType::BF16, bf16_to_f32)];
        for (dtype, widen) in ways {
            for bits in 0..=u16::MAX {
                let b = bits.to_le_bytes();
                let (direct, through) = (widen(b), load(&b, dtype) as f32);
                let same = direct.to_bits() == through.to_bits();
                assert!(same || (direct.is_nan() && through.is_nan()), "{dtype} {bits:#x}");
            }
        }
    }
}
