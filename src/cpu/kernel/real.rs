//! The two types arithmetic runs in, and the storage types that widen to them.
//!
//! `exp` in f64 is our own, here: mul, add and bit operations only, so that it vectorises and gives the same bits on
//! every machine, in every loop it is inlined into. In f32 it is the one of the pointwise programs.

use super::gemm::Micro;
use crate::cpu::pointwise::{self, math};
use crate::graph::Op;
use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// f32 or f64.
pub trait Real:
    sealed::Sealed
    + Storage
    + PartialOrd
    + Debug
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
{
    const ZERO: Self;
    const ONE: Self;
    const INFINITY: Self;
    const NEG_INFINITY: Self;

    fn of(x: f64) -> Self;
    fn wide(self) -> f64;
    /// `self * b + c`, rounded once.
    fn fma(self, b: Self, c: Self) -> Self;
    fn exp(self) -> Self;
    fn is_nan(self) -> bool;
    /// A unary op in place, to be inlined into vector code.
    fn activate(op: Op, row: &mut [Self]);
    /// The matrix micro-kernel of this machine.
    fn micro() -> Micro<Self>;
}

/// What may be stored and widened: the compute types, f16 and bf16.
pub trait Storage: bytemuck::Pod + Send + Sync {
    fn widen<R: Real>(self) -> R;
}

impl Storage for f32 {
    #[inline(always)]
    fn widen<R: Real>(self) -> R {
        R::of(f64::from(self))
    }
}

impl Storage for f64 {
    #[inline(always)]
    fn widen<R: Real>(self) -> R {
        R::of(self)
    }
}

impl Storage for half::f16 {
    #[inline(always)]
    fn widen<R: Real>(self) -> R {
        R::of(f64::from(self.to_f32()))
    }
}

impl Storage for half::bf16 {
    #[inline(always)]
    fn widen<R: Real>(self) -> R {
        // a bf16 is the upper half of an f32; NaN payloads need no quieting here
        R::of(f64::from(f32::from_bits(u32::from(self.to_bits()) << 16)))
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const INFINITY: Self = 1.0 / 0.0;
    const NEG_INFINITY: Self = -1.0 / 0.0;

    #[inline(always)]
    fn of(x: f64) -> Self {
        x as Self
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }

    #[inline(always)]
    fn exp(self) -> Self {
        math::exp(self)
    }

    #[inline(always)]
    fn is_nan(self) -> bool {
        Self::is_nan(self)
    }

    #[inline(always)]
    fn activate(op: Op, row: &mut [Self]) {
        pointwise::in_place(op, row);
    }

    fn micro() -> Micro<Self> {
        super::gemm::micro_f32()
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const INFINITY: Self = 1.0 / 0.0;
    const NEG_INFINITY: Self = -1.0 / 0.0;

    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }

    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }

    /// To 1 ulp or so, denormal results included.
    #[inline(always)]
    fn exp(self) -> Self {
        const MAGIC: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52
        // Taylor coefficients 1/13! .. 1/0!
        const C: [f64; 14] = {
            let mut c = [1.0; 14];
            let (mut i, mut factorial) = (1, 1.0);
            while i < 14 {
                factorial *= i as f64;
                c[13 - i] = 1.0 / factorial;
                i += 1;
            }
            c
        };
        let x = if self > 710.0 { 710.0 } else { self };
        let x = if x < -746.0 { -746.0 } else { x };
        let shifted = x * std::f64::consts::LOG2_E + MAGIC;
        let n = shifted - MAGIC;
        let r = x - n * 6.931_471_803_691_238e-1 - n * 1.908_214_929_270_587_7e-10;
        let mut p = C[0];
        for c in &C[1..] {
            p = p * r + c;
        }
        let k = (shifted.to_bits() as i64).wrapping_sub(MAGIC.to_bits() as i64);
        let half = k >> 1;
        let scale = |k: i64| Self::from_bits((k.wrapping_add(1023) as u64) << 52);
        p * scale(half) * scale(k.wrapping_sub(half))
    }

    #[inline(always)]
    fn is_nan(self) -> bool {
        Self::is_nan(self)
    }

    #[inline(always)]
    fn activate(op: Op, row: &mut [Self]) {
        pointwise::in_place(op, row);
    }

    fn micro() -> Micro<Self> {
        super::gemm::micro_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_and_right_at_the_ends() {
        let mut worst = (0.0f64, 0.0f64);
        for i in -198_000..=200_000 {
            let x = f64::from(i) * 1e-3 * 0.44;
            let want = f64::from(x as f32).exp();
            worst.0 = worst.0.max((f64::from(Real::exp(x as f32)) / want - 1.0).abs());
            let x = x * 8.0;
            worst.1 = worst.1.max((Real::exp(x) / x.exp() - 1.0).abs());
        }
        assert!(worst.0 < 2e-7 && worst.1 < 4e-16, "{worst:?}");
        for inf in [f64::INFINITY, 1e5] {
            assert_eq!(Real::exp(inf), f64::INFINITY);
            assert_eq!(Real::exp(inf as f32), f32::INFINITY);
            assert_eq!(Real::exp(-inf), 0.0);
            assert_eq!(Real::exp(-inf as f32), 0.0);
        }
        assert!(Real::exp(f64::NAN).is_nan() && Real::exp(f32::NAN).is_nan());
        assert_eq!(Real::exp(0f32), 1.0);
        assert_eq!(Real::exp(0f64), 1.0);
        assert!((f64::from(Real::exp(-100f32)) / (-100f64).exp() - 1.0).abs() < 0.02); // denormal
    }
}
