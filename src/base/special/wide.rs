//! Logarithm and sine of the f64 noise: as `float`, from operations that round once, so that every machine gives the
//! same bits and the compiler can take several at a time. The polynomials are those of fdlibm (Sun Microsystems).

const MAGIC: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52: a small integer added to it stands in its low bits

/// Natural logarithm of a normal, finite, positive `u`, to 1 ulp.
#[inline(always)]
pub fn ln(u: f64) -> f64 {
    const ROOT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    // u = (1 + f) 2^k with 1 + f in [sqrt(1/2), sqrt(2))
    let bits = u.to_bits().wrapping_sub(ROOT_HALF);
    let f = f64::from_bits((bits & 0x000f_ffff_ffff_ffff).wrapping_add(ROOT_HALF)) - 1.0;
    let k = (bits >> 52).wrapping_add(1 << 11) & 0xfff; // with 2^11 added, for it may be negative
    let k = f64::from_bits(MAGIC.to_bits() | k) - (MAGIC + 2048.0);
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let odd = w * (LN[1] + w * (LN[3] + w * LN[5]));
    let even = z * (LN[0] + w * (LN[2] + w * (LN[4] + w * LN[6])));
    let half = 0.5 * f * f;
    // ln 2 in two parts: the first is exact times any exponent
    let low = s * (half + (odd + even)) + k * 1.908_214_929_270_587_7e-10;
    k * 6.931_471_803_691_238e-1 - ((half - low) - f)
}

/// Sine and cosine of the angle `(turn + 1/2) / 2^32` of a full turn, to 1 ulp. The quadrant is taken from the integer.
#[inline(always)]
pub fn sincos_turn(turn: u32) -> (f64, f64) {
    let quadrant = turn.wrapping_add(0x2000_0000) >> 30;
    let rest = turn.wrapping_sub(quadrant << 30) as i32;
    let t = (f64::from(rest) + 0.5) * 1.462_918_079_267_159_6e-9; // 2 pi / 2^32
    let z = t * t;
    let s = SIN[1] + z * (SIN[2] + z * (SIN[3] + z * (SIN[4] + z * SIN[5])));
    let sin = t + z * t * (SIN[0] + z * s);
    let c = COS[0] + z * (COS[1] + z * (COS[2] + z * (COS[3] + z * (COS[4] + z * COS[5]))));
    let half = 0.5 * z;
    let top = 1.0 - half;
    let cos = top + ((1.0 - top - half) + z * z * c);
    let (a, b) = if quadrant & 1 == 1 { (cos, sin) } else { (sin, cos) };
    let sin_sign = u64::from(quadrant & 2) << 62;
    let cos_sign = u64::from((quadrant + 1) & 2) << 62;
    (f64::from_bits(a.to_bits() ^ sin_sign), f64::from_bits(b.to_bits() ^ cos_sign))
}

const LN: [f64; 7] = [
    6.666_666_666_666_735e-1,
    3.999_999_999_940_942e-1,
    2.857_142_874_366_239e-1,
    2.222_219_843_214_978_4e-1,
    1.818_357_216_161_805e-1,
    1.531_383_769_920_937_3e-1,
    1.479_819_860_511_658_6e-1,
];
const SIN: [f64; 6] = [
    -1.666_666_666_666_663_2e-1,
    8.333_333_333_322_49e-3,
    -1.984_126_982_985_795e-4,
    2.755_731_370_707_006_8e-6,
    -2.505_076_025_340_686_3e-8,
    1.589_690_995_211_55e-10,
];
const COS: [f64; 6] = [
    4.166_666_666_666_66e-2,
    -1.388_888_888_887_411e-3,
    2.480_158_728_947_673e-5,
    -2.755_731_435_139_066_3e-7,
    2.087_572_321_298_175e-9,
    -1.135_964_755_778_819_5e-11,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ln_is_good_to_an_ulp() {
        let mut worst = 0f64;
        for k in 0..2_000_000u32 {
            let u = (f64::from(k.wrapping_mul(2_654_435_761)) + 0.5) * 2f64.powi(-32);
            worst = worst.max((ln(u) / u.ln() - 1.0).abs());
        }
        let root = std::f64::consts::FRAC_1_SQRT_2;
        let (below, above) = (root - 1e-9, root + 1e-9);
        for u in [f64::MIN_POSITIVE, 1e-300, 0.5, below, root, above, 1.5, 2.0, 1e300] {
            worst = worst.max((ln(u) / u.ln() - 1.0).abs());
        }
        assert!(worst < 2.3e-16, "{worst:e}");
        assert_eq!((ln(1.0), ln(1.0 - f64::EPSILON)), (0.0, (1.0 - f64::EPSILON).ln()));
    }

    #[test]
    fn sincos_is_good_to_an_ulp() {
        let mut worst = 0f64;
        for k in 0..2_000_000u32 {
            let turn = k.wrapping_mul(2_654_435_761);
            // within an eighth of a turn: further on the rounding of the angle itself shows
            let turn = turn >> 3;
            let (s1, c1) = sincos_turn(turn);
            let angle = std::f64::consts::TAU * ((f64::from(turn) + 0.5) / 2f64.powi(32));
            worst = worst.max((s1 - angle.sin()).abs()).max((c1 - angle.cos()).abs());
        }
        assert!(worst < 2.3e-16, "{worst:e}");
        // each quadrant is the first one, turned
        for turn in [0u32, 1, 12_345, 0x1fff_ffff, 0x3fff_ffff] {
            let (s, c) = sincos_turn(turn);
            assert_eq!(sincos_turn(turn + (1 << 30)), (c, -s));
            assert_eq!(sincos_turn(turn + (2 << 30)), (-s, -c));
            assert_eq!(sincos_turn(turn + (3 << 30)), (-c, s));
        }
    }
}
