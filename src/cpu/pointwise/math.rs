//! Elementary functions of f32 that a compiler can vectorise: no branches, no tables, no library calls.
//!
//! Fused multiply-adds are written out, so the same bits come out of AVX-512, AVX2 and plain code. Errors are a few
//! units in the last place (checked in the tests below); polynomials are those of Cephes (S. Moshier), `erf` is the
//! two-piece form of N. Juffa.

use std::f32::consts::LOG2_E;

/// Adding and subtracting it rounds to an integer, which then stands in the low bits of the sum.
const ROUND: f32 = 12_582_912.0;

/// 2^n for n in -126..=127.
#[inline(always)]
fn power(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

/// The pair n, r with x = n ln 2 + r and |r| <= ln 2 / 2.
#[inline(always)]
fn split(x: f32) -> (i32, f32) {
    let shifted = x.mul_add(LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    ((shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32), r)
}

/// e^r - 1 for the remainder of `split`.
#[inline(always)]
fn tail(r: f32) -> f32 {
    let p = 1.987_569_1e-4f32;
    let p = p.mul_add(r, 1.398_2e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    (p * r).mul_add(r, r)
}

#[inline(always)]
fn clamp(x: f32, lo: f32, hi: f32) -> f32 {
    let x = if x > hi { hi } else { x };
    if x < lo { lo } else { x }
}

#[inline(always)]
pub(in crate::cpu) fn exp(x: f32) -> f32 {
    let (n, r) = split(clamp(x, -104.0, 89.0));
    let half = n >> 1; // in two steps: 2^128 and 2^-150 have no f32
    (1.0 + tail(r)) * power(half) * power(n - half)
}

#[inline(always)]
pub(super) fn expm1(x: f32) -> f32 {
    let (n, r) = split(clamp(x, -17.5, 89.0));
    let half = power(n - 1);
    let y = 2.0 * half.mul_add(tail(r), half - 0.5);
    if x == 0.0 { x } else { y }
}

#[inline(always)]
pub(super) fn log(x: f32) -> f32 {
    let small = x < f32::MIN_POSITIVE;
    let scaled = if small { x * 8_388_608.0 } else { x };
    const ROOT_HALF: i32 = 0x3f35_04f3;
    let bits = (scaled.to_bits() as i32).wrapping_sub(ROOT_HALF);
    let e = (bits >> 23) as f32 - if small { 23.0 } else { 0.0 };
    let f = f32::from_bits(((bits & 0x007f_ffff) + ROOT_HALF) as u32) - 1.0;
    let z = f * f;
    let p = 7.037_683_6e-2f32;
    let p = p.mul_add(f, -1.151_461e-1);
    let p = p.mul_add(f, 1.167_699_9e-1);
    let p = p.mul_add(f, -1.242_014_1e-1);
    let p = p.mul_add(f, 1.424_932_3e-1);
    let p = p.mul_add(f, -1.666_805_8e-1);
    let p = p.mul_add(f, 2.000_071_5e-1);
    let p = p.mul_add(f, -2.499_999_4e-1);
    let p = p.mul_add(f, 3.333_333e-1);
    let y = p * f * z;
    let y = e.mul_add(-2.121_944_4e-4, y);
    let y = z.mul_add(-0.5, y);
    let y = e.mul_add(0.693_359_4, f + y);
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    if x >= 0.0 { y } else { f32::NAN }
}

#[inline(always)]
pub(super) fn log1p(x: f32) -> f32 {
    let u = 1.0 + x;
    let y = log(u);
    let lost = (x - (u - 1.0)) / u; // what the sum rounded away, to first order
    if u > 0.0 && u < f32::INFINITY { y + lost } else { y }
}

#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let z = x * x;
    let p = -5.704_988_7e-3f32;
    let p = p.mul_add(z, 2.063_909e-2);
    let p = p.mul_add(z, -5.373_971_6e-2);
    let p = p.mul_add(z, 1.333_144_2e-1);
    let p = p.mul_add(z, -3.333_328e-1);
    let near = (p * z).mul_add(x, x);
    let far = (1.0 - 2.0 / (exp(2.0 * a) + 1.0)).copysign(x);
    if a < 0.625 { near } else { far }
}

#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
pub(super) fn softplus(x: f32) -> f32 {
    let top = if x > 0.0 { x } else { 0.0 };
    top + log1p(exp(-x.abs()))
}

#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let t = x.abs();
    let s = x * x;
    let r = t.mul_add(-1.728_534_7e-5, 3.831_972e-4);
    let u = t.mul_add(-3.883_964_4e-3, 2.425_462_2e-2);
    let r = r.mul_add(s, u);
    let r = r.mul_add(t, -1.067_778_8e-1);
    let r = r.mul_add(t, -6.348_467e-1);
    let r = r.mul_add(t, -1.287_175_1e-1);
    let r = r.mul_add(t, -t);
    let far = (1.0 - exp(r)).copysign(x);
    let p = -5.967_617e-4f32;
    let p = p.mul_add(s, 4.991_194e-3);
    let p = p.mul_add(s, -2.676_813_5e-2);
    let p = p.mul_add(s, 1.128_199_25e-1);
    let p = p.mul_add(s, -3.761_253_4e-1);
    let p = p.mul_add(s, 1.283_791_7e-1);
    let near = p.mul_add(x, x);
    // beyond 4 the result is 1 and the polynomial means nothing
    let far = if t > 4.0 { 1.0f32.copysign(x) } else { far };
    if t <= 0.927_734_4 { near } else { far }
}

#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
pub(super) fn gelu_tanh(x: f32) -> f32 {
    let inner = 0.797_884_6 * (0.044_715 * x * x).mul_add(x, x);
    0.5 * x * (1.0 + tanh(inner))
}

/// Beyond this the reduction of `quarter` is no longer exact; the caller takes the library's function there.
pub(super) const TURN_LIMIT: f32 = 1e15;

/// The quarter turn x falls in, and the angle left, reduced in f64.
#[inline(always)]
fn quarter(x: f32) -> (i64, f32) {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let x = f64::from(x);
    let shifted = x.mul_add(std::f64::consts::FRAC_2_PI, ROUND);
    let k = shifted - ROUND;
    let r = k.mul_add(-std::f64::consts::FRAC_PI_2, x);
    let r = k.mul_add(-6.123_233_995_736_766e-17, r);
    (shifted.to_bits() as i64, r as f32)
}

#[inline(always)]
fn turned(q: i64, r: f32) -> f32 {
    let z = r * r;
    let s = (-1.951_529_6e-4f32).mul_add(z, 8.332_161e-3);
    let s = s.mul_add(z, -1.666_665_5e-1);
    let s = (s * z).mul_add(r, r);
    let c = 2.443_315_7e-5f32.mul_add(z, -1.388_731_6e-3);
    let c = c.mul_add(z, 4.166_664_6e-2);
    let c = (c * z).mul_add(z, z.mul_add(-0.5, 1.0));
    let y = if q & 1 == 0 { s } else { c };
    if q & 2 == 0 { y } else { -y }
}

#[inline(always)]
pub(super) fn sin(x: f32) -> f32 {
    let (q, r) = quarter(x);
    turned(q, r)
}

#[inline(always)]
pub(super) fn cos(x: f32) -> f32 {
    let (q, r) = quarter(x);
    turned(q.wrapping_add(1), r)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::special::normal;

    /// Largest |got - want| / max(floor, |want|) over a sweep of `lo..hi`.
    fn worst(lo: f64, hi: f64, floor: f64, got: fn(f32) -> f32, want: fn(f64) -> f64) -> f64 {
        (0..200_000).fold(0.0, |w, i| {
            let x = (lo + (hi - lo) * f64::from(i) / 2e5) as f32;
            let want = want(f64::from(x));
            w.max((f64::from(got(x)) - want).abs() / want.abs().max(floor))
        })
    }

    #[test]
    fn accuracy() {
        let table: &[(&str, f64, f64, f64, fn(f32) -> f32, fn(f64) -> f64, f64)] = &[
            ("exp", -87.0, 88.7, 1e-38, exp, f64::exp, 2e-7),
            ("expm1", -20.0, 88.7, 1e-30, expm1, f64::exp_m1, 3e-7),
            ("log", 1e-30, 1e30, 1e-3, log, f64::ln, 2e-7),
            ("log", 0.1, 3.0, 1e-3, log, f64::ln, 2e-7),
            ("log1p", -0.999, 5.0, 1e-30, log1p, f64::ln_1p, 4e-7),
            ("tanh", -12.0, 12.0, 1e-30, tanh, f64::tanh, 3e-7),
            ("erf", -6.0, 6.0, 1e-30, erf, normal::erf, 3e-7),
            ("sin", -1e4, 1e4, 1.0, sin, f64::sin, 2e-7),
            ("cos", -1e4, 1e4, 1.0, cos, f64::cos, 2e-7),
            ("sin", -1e14, 1e14, 1.0, sin, f64::sin, 2e-7),
            ("cos", -1e14, 1e14, 1.0, cos, f64::cos, 2e-7),
            ("sigmoid", -80.0, 80.0, 1e-30, sigmoid, |x| 1.0 / (1.0 + (-x).exp()), 4e-7),
            (
                "softplus",
                -20.0,
                50.0,
                1e-3,
                softplus,
                |x| x.max(0.0) + (-x.abs()).exp().ln_1p(),
                4e-7,
            ),
        ];
        for (name, lo, hi, floor, got, want, limit) in table {
            let w = worst(*lo, *hi, *floor, *got, *want);
            assert!(w < *limit, "{name} on [{lo}, {hi}]: {w:e}");
        }
    }

    #[test]
    fn edges() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        assert_eq!((exp(inf), exp(-inf), exp(0.0)), (inf, 0.0, 1.0));
        assert_eq!((expm1(inf), expm1(-inf), expm1(1e-20)), (inf, -1.0, 1e-20));
        assert_eq!((log(inf), log(0.0), log(-0.0), log(1.0)), (inf, -inf, -inf, 0.0));
        assert_eq!((log1p(inf), log1p(-1.0), log1p(1e-20)), (inf, -inf, 1e-20));
        assert_eq!((tanh(inf), tanh(-inf), erf(inf), erf(-inf)), (1.0, -1.0, 1.0, -1.0));
        assert!((log(1e-40) - -92.103_41).abs() < 1e-4);
        assert!(log(-1.0).is_nan() && log1p(-2.0).is_nan() && sin(inf).is_nan());
        for f in [exp, expm1, log, log1p, tanh, erf, sin, cos, sigmoid, softplus, gelu] {
            assert!(f(nan).is_nan());
        }
    }
}
