//! The parameters of a network under training and their first values. A first value depends on the seed, the weight's
//! name and the element alone: adding a layer leaves the others as they were.

use crate::base::philox::Stream;
use crate::base::{DType, Desc, Result};
use crate::graph::{Weight, WeightInit};
use crate::{bail, fail};

/// Purpose of the draws of initial weights (`DFX_PURPOSE_INIT`).
const INIT: u8 = 5;

/// One trained tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Name in files: that of the network for slot `base`, `slot/name` for the others.
    pub name: String,
    pub desc: Desc,
    pub init: WeightInit,
    /// Half of a low-rank adapter.
    pub adapter: bool,
    /// Of an adapter: the weight it belongs to is used transposed.
    pub transposed: bool,
}

impl Parameter {
    pub fn of(weight: &Weight) -> Result<Self> {
        let name = file_name(&weight.slot, &weight.name);
        if !weight.desc.dtype.is_compute_float() {
            bail!(
                Unsupported,
                "weight {name} is {}; training wants f32 or f64 masters",
                weight.desc
            );
        }
        Ok(Self {
            name,
            desc: weight.desc,
            init: weight.init,
            adapter: weight.adapter,
            transposed: false,
        })
    }

    /// First values as bytes of the parameter's type, from byte `at` on.
    pub fn initial(&self, seed: u64, at: usize, out: &mut [u8]) -> Result<()> {
        const DRAWS: usize = 1024;
        let size = self.desc.dtype.bytes();
        let hash = name_hash(&self.name);
        let stream =
            Stream { seed, purpose: INIT, step: hash as u32, ordinal: (hash >> 32) as u16 };
        let mut draws = [0f32; DRAWS]; // f32 draws in both types: the same start whatever the precision
        for (k, part) in out.chunks_mut(DRAWS * size).enumerate() {
            let first = (at / size + k * DRAWS) as u64;
            let draws = &mut draws[..part.len() / size];
            match self.init {
                WeightInit::Normal(_) => stream.fill_normal_f32(first, draws),
                WeightInit::Uniform(_) => stream.fill_uniform_f32(first, draws),
                _ => {}
            }
            for (element, draw) in part.chunks_exact_mut(size).zip(draws) {
                let value = match self.init {
                    WeightInit::Zeros => 0.0,
                    WeightInit::Ones => 1.0,
                    WeightInit::Constant(c) => c,
                    WeightInit::Normal(std) => std * f64::from(*draw),
                    WeightInit::Uniform(bound) => bound * (2.0 * f64::from(*draw) - 1.0),
                };
                if !value.is_finite() {
                    let name = &self.name;
                    return Err(fail!(Plugin, "weight {name}: first value {value} is not finite"));
                }
                match self.desc.dtype {
                    DType::F64 => element.copy_from_slice(&value.to_le_bytes()),
                    _ => element.copy_from_slice(&(value as f32).to_le_bytes()),
                }
            }
        }
        Ok(())
    }
}

/// The name of a weight of a network slot in a file.
pub fn file_name(slot: &str, name: &str) -> String {
    if slot == "base" { name.to_owned() } else { format!("{slot}/{name}") }
}

/// f32 or f64 bytes of values.
pub(super) fn to_bytes(values: &[f64], dtype: DType) -> Vec<u8> {
    match dtype {
        DType::F64 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect(),
    }
}

/// f32 or f64 values of bytes.
pub(super) fn from_bytes(bytes: &[u8], dtype: DType) -> Vec<f64> {
    match dtype {
        DType::F64 => bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        _ => bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
    }
}

/// FNV-1a: stable for ever, as the addresses of initial weights must be.
fn name_hash(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(name: &str, dtype: DType, init: WeightInit) -> Parameter {
        Parameter {
            name: name.into(),
            desc: Desc::new(dtype, &[1000]).unwrap(),
            init,
            adapter: false,
            transposed: false,
        }
    }

    /// All first values, taken in unequal parts.
    fn initial(p: &Parameter, seed: u64) -> Result<Vec<u8>> {
        let mut out = vec![0; p.desc.bytes()];
        let cut = out.len() / 3 / 8 * 8;
        let (a, b) = out.split_at_mut(cut);
        p.initial(seed, 0, a)?;
        p.initial(seed, cut, b)?;
        let mut whole = vec![0; p.desc.bytes()];
        p.initial(seed, 0, &mut whole)?;
        assert_eq!(out, whole);
        Ok(out)
    }

    #[test]
    fn first_values_depend_on_seed_and_name_only() {
        let init = WeightInit::Normal(0.5);
        let a = initial(&parameter("a.weight", DType::F32, init), 1).unwrap();
        assert_eq!(a, initial(&parameter("a.weight", DType::F32, init), 1).unwrap());
        assert_ne!(a, initial(&parameter("b.weight", DType::F32, init), 1).unwrap());
        assert_ne!(a, initial(&parameter("a.weight", DType::F32, init), 2).unwrap());
        let wide = initial(&parameter("a.weight", DType::F64, init), 1).unwrap();
        let (narrow, wide) = (from_bytes(&a, DType::F32), from_bytes(&wide, DType::F64));
        assert!(narrow.iter().zip(&wide).all(|(n, w)| *n == f64::from(*w as f32)));
        let var = narrow.iter().map(|v| v * v).sum::<f64>() / 1000.0;
        assert!((var / 0.25 - 1.0).abs() < 0.2, "{var}");
    }

    #[test]
    fn uniform_stays_inside_and_constants_are_constant() {
        let u = initial(&parameter("w", DType::F32, WeightInit::Uniform(0.1)), 3).unwrap();
        let u = from_bytes(&u, DType::F32);
        assert!(u.iter().all(|v| v.abs() <= 0.1) && u.iter().any(|v| *v < -0.08));
        let c = initial(&parameter("w", DType::F64, WeightInit::Constant(-2.0)), 3).unwrap();
        assert!(from_bytes(&c, DType::F64).iter().all(|v| *v == -2.0));
        assert!(initial(&parameter("w", DType::F32, WeightInit::Constant(f64::NAN)), 3).is_err());
    }
}
