//! Logarithm and sine of the f32 noise, built from + * fma and nothing else.
//!
//! Every operation is one IEEE rounding, so all CPU types and the CUDA kernels give the same bits; libm promises no
//! such thing. The polynomials are the classic single-precision ones of Cephes. `mul_add` is one instruction only
//! where the caller was compiled with FMA (`philox_simd`); elsewhere it is a slow call with the same result.

/// Natural logarithm of a normal, finite, positive `u`; relative error below 8e-8 on (0, 1).
#[allow(clippy::excessive_precision)]
#[inline(always)]
pub fn ln(u: f32) -> f32 {
    let bits = u.to_bits();
    let exponent = (bits >> 23) as i32 - 126;
    // u = m 2^e with m in [1/2, 1), moved to [sqrt(1/2), sqrt(2)) so that x = m - 1 is small.
    let m = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    let low = m < std::f32::consts::FRAC_1_SQRT_2;
    let m = if low { m + m } else { m };
    let e = (if low { exponent - 1 } else { exponent }) as f32;
    let x = m - 1.0;
    let z = x * x;
    let mut y = LN[0];
    for &c in &LN[1..] {
        y = y.mul_add(x, c);
    }
    y = (y * x) * z;
    // ln 2 in two parts: the first is exact times any exponent.
    y = e.mul_add(-2.12194440e-4, y);
    y = z.mul_add(-0.5, y);
    e.mul_add(0.693359375, x + y)
}

#[allow(clippy::excessive_precision)] // the published digits, so that a reader can find them
const LN: [f32; 9] = [
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
];

/// Sine and cosine of the angle `turn / 2^32` of a full turn; absolute error below 1.7e-7. The quadrant is taken from
/// the integer, so no reduction error exists; the lowest 6 bits are dropped to keep the conversion exact.
#[allow(clippy::excessive_precision)] // as above
#[inline(always)]
pub fn sincos_turn(turn: u32) -> (f32, f32) {
    let quadrant = turn.wrapping_add(0x2000_0000) >> 30; // 0..=3, the nearest multiple of a quarter turn
    let rest = turn.wrapping_sub(quadrant << 30) as i32; // within an eighth of a turn
    let t = (rest >> 6) as f32 * 9.362675968e-8; // 2 pi / 2^26
    let z = t * t;
    let s = (-1.9515295891e-4f32).mul_add(z, 8.3321608736e-3).mul_add(z, -1.6666654611e-1);
    let sin = (s * z).mul_add(t, t);
    let c =
        2.443315711809948e-5f32.mul_add(z, -1.388731625493765e-3).mul_add(z, 4.166664568298827e-2);
    let cos = (c * z).mul_add(z, z.mul_add(-0.5, 1.0));
    let odd = quadrant & 1 == 1;
    let (a, b) = if odd { (cos, sin) } else { (sin, cos) };
    // Signs by bit, so that -0 comes out alike everywhere.
    let sin_sign = (quadrant & 2) << 30;
    let cos_sign = ((quadrant + 1) & 2) << 30;
    (f32::from_bits(a.to_bits() ^ sin_sign), f32::from_bits(b.to_bits() ^ cos_sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ln_is_good_to_8e_8_relative() {
        let mut worst = 0f64;
        // Every value the noise can ask for, thinned by a prime.
        for k in (0..1u32 << 23).step_by(37) {
            let u = (k as f32 + 0.5) * 2f32.powi(-23);
            let want = f64::from(u).ln();
            worst = worst.max(((f64::from(ln(u)) - want) / want).abs());
        }
        for k in 0..1000u32 {
            let u = ((1 << 23) as f32 - 0.5 - k as f32) * 2f32.powi(-23);
            let want = f64::from(u).ln();
            worst = worst.max(((f64::from(ln(u)) - want) / want).abs());
        }
        assert!(worst <= 8e-8, "{worst:e}");
    }

    #[test]
    fn sincos_is_good_to_1_7e_7_absolute() {
        let mut worst = 0f64;
        for k in 0..1u32 << 20 {
            let turn = k.wrapping_mul(4093).wrapping_add(k << 12);
            let angle = f64::from(turn) * 2f64.powi(-32) * std::f64::consts::TAU;
            let (s, c) = sincos_turn(turn);
            let e = (f64::from(s) - angle.sin()).abs().max((f64::from(c) - angle.cos()).abs());
            worst = worst.max(e);
        }
        assert!(worst <= 1.7e-7, "{worst:e}");
        assert_eq!(sincos_turn(0), (0.0, 1.0));
        assert_eq!(sincos_turn(1 << 30), (1.0, 0.0));
        assert_eq!(sincos_turn(1 << 31).1, -1.0);
        assert_eq!(sincos_turn(3 << 30).0, -1.0);
    }
}
