//! Philox4x32-10 and the uniforms and normals made from it.
//!
//! Randomness is addressed, not consumed: a draw is a pure function of (seed, purpose, step, ordinal, element, block),
//! so a sample keeps its noise in any batch, on any thread and under any plan. The f32 values are the same bits on
//! every CPU and on CUDA, those in f64 on every CPU.

use super::philox_simd;
use super::special::{float, wide};

/// Elements are numbered below this: 24 bits of the second counter word belong to the element, 8 to the purpose.
pub const MAX_ELEM: u64 = 1 << 56;

pub(super) const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
pub(super) const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// The block cipher of Salmon et al. (2011), ten rounds, matching the Random123 known answers.
#[inline(always)]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let p0 = u64::from(MULTIPLIER[0]) * u64::from(c0);
        let p1 = u64::from(MULTIPLIER[1]) * u64::from(c2);
        (c0, c1, c2, c3) =
            ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
        k0 = k0.wrapping_add(WEYL[0]);
        k1 = k1.wrapping_add(WEYL[1]);
    }
    [c0, c1, c2, c3]
}

/// The address of one random node.
///
/// A normal or uniform element `e` takes lane `e % 4` of the block of element `e / 4`: a block yields four values, and
/// this way each is used while every element keeps an address of its own. Laws that reject (gamma, Poisson) own the
/// blocks 0, 1, 2, ... of element `e` itself. One node draws one law, so the two rules never meet at one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stream {
    pub seed: u64,
    pub purpose: u8,
    pub step: u32,
    /// Which random node of this purpose.
    pub ordinal: u16,
}

impl Stream {
    #[inline(always)]
    pub(super) fn key(&self) -> [u32; 2] {
        [self.seed as u32, (self.seed >> 32) as u32]
    }

    /// The counter of `block` of element `elem`, which must be below [`MAX_ELEM`].
    #[inline(always)]
    pub(super) fn counter(&self, elem: u64, block: u16) -> [u32; 4] {
        [
            elem as u32,
            (elem >> 32) as u32 & 0x00ff_ffff | u32::from(self.purpose) << 24,
            self.step,
            u32::from(self.ordinal) << 16 | u32::from(block),
        ]
    }

    /// The four words of `block` of element `elem`.
    #[inline(always)]
    pub fn block(&self, elem: u64, block: u16) -> [u32; 4] {
        philox4x32_10(self.counter(elem, block), self.key())
    }

    /// Standard normal in f32, at most 5.77 in size (23 bits of radius).
    pub fn normal_f32(&self, e: u64) -> f32 {
        lane(normals_f32(self.block(e / 4, 0)), e)
    }

    /// Standard normal in f64, at most 6.76 in size (32 bits of radius).
    pub fn normal_f64(&self, e: u64) -> f64 {
        lane(normals_f64(self.block(e / 4, 0)), e)
    }

    /// Uniform strictly inside (0, 1): both `ln(u)` and `ln(1 - u)` are finite. See `unit_f32`.
    pub fn uniform_f32(&self, e: u64) -> f32 {
        unit_f32(lane(self.block(e / 4, 0), e))
    }

    /// Uniform strictly inside (0, 1), a multiple of 2^-33.
    pub fn uniform_f64(&self, e: u64) -> f64 {
        unit_f64(lane(self.block(e / 4, 0), e))
    }

    /// `out[i] = normal_f32(first + i)`, the same bits.
    pub fn fill_normal_f32(&self, first: u64, out: &mut [f32]) {
        philox_simd::fill::<f32, philox_simd::Normal>(self, first, out);
    }

    /// `out[i] = uniform_f32(first + i)`, the same bits.
    pub fn fill_uniform_f32(&self, first: u64, out: &mut [f32]) {
        philox_simd::fill::<f32, philox_simd::Uniform>(self, first, out);
    }

    /// `out[i] = normal_f64(first + i)`, the same bits.
    pub fn fill_normal_f64(&self, first: u64, out: &mut [f64]) {
        philox_simd::fill::<f64, philox_simd::Normal>(self, first, out);
    }

    /// `out[i] = uniform_f64(first + i)`, the same bits.
    pub fn fill_uniform_f64(&self, first: u64, out: &mut [f64]) {
        philox_simd::fill::<f64, philox_simd::Uniform>(self, first, out);
    }
}

/// Fills block by block, starting and ending inside a block where the range does.
#[inline(always)]
pub(super) fn fill_blocks<T: Copy>(
    stream: &Stream,
    first: u64,
    out: &mut [T],
    law: impl Fn([u32; 4]) -> [T; 4],
) {
    let mut e = first;
    let mut rest = out;
    while !rest.is_empty() {
        let skip = (e % 4) as usize;
        let n = rest.len().min(4 - skip);
        let (head, tail) = rest.split_at_mut(n);
        head.copy_from_slice(&law(stream.block(e / 4, 0))[skip..skip + n]);
        e += n as u64;
        rest = tail;
    }
}

#[inline(always)]
fn lane<T: Copy>(values: [T; 4], e: u64) -> T {
    values[(e % 4) as usize]
}

/// `(w + 1/2) 2^-32`: never 0 and never 1.
#[inline(always)]
pub(super) fn unit_f64(word: u32) -> f64 {
    (f64::from(word) + 0.5) / (1u64 << 32) as f64
}

/// `(w0, w1)` as one uniform of 53 bits inside (0, 1), for laws whose tail must reach below 2^-33.
#[inline(always)]
pub(super) fn unit_wide(high: u32, low: u32) -> f64 {
    let bits = (u64::from(high) << 32 | u64::from(low)) >> 12; // 52 bits: the half below stays exact
    (bits as f64 + 0.5) / (1u64 << 52) as f64
}

/// `(w + 1/2) 2^-32` in f32 arithmetic: as fine as f32 allows near 0. The topmost 2^-25 of the words would round to 1
/// and is held at 1 - 2^-24 instead.
#[inline(always)]
pub(super) fn unit_f32(word: u32) -> f32 {
    ((word as f32 + 0.5) / (1u64 << 32) as f32).min(1.0 - f32::EPSILON / 2.0)
}

/// The Box-Muller radius of a word.
#[inline(always)]
pub(super) fn radius_f32(word: u32) -> f32 {
    let u = ((word >> 9) as f32 + 0.5) / (1u32 << 23) as f32;
    (-2.0 * float::ln(u)).sqrt()
}

/// Two normals of words (0, 1), two of words (2, 3), by Box-Muller: cosine first.
#[inline(always)]
pub(super) fn normals_f32(w: [u32; 4]) -> [f32; 4] {
    let pair = |radius, angle| {
        let r = radius_f32(radius);
        let (sin, cos) = float::sincos_turn(angle);
        [r * cos, r * sin]
    };
    let ([a, b], [c, d]) = (pair(w[0], w[1]), pair(w[2], w[3]));
    [a, b, c, d]
}

/// The Box-Muller radius of a word in f64.
#[inline(always)]
pub(super) fn radius_f64(word: u32) -> f64 {
    (-2.0 * wide::ln(unit_f64(word))).sqrt()
}

/// [`normals_f32`] in f64.
#[inline(always)]
pub(super) fn normals_f64(w: [u32; 4]) -> [f64; 4] {
    let pair = |radius, angle| {
        let r = radius_f64(radius);
        let (sin, cos) = wide::sincos_turn(angle);
        [r * cos, r * sin]
    };
    let ([a, b], [c, d]) = (pair(w[0], w[1]), pair(w[2], w[3]));
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: Stream = Stream { seed: 0x0123_4567_89AB_CDEF, purpose: 1, step: 42, ordinal: 0 };

    #[test]
    fn philox_gives_the_known_answers() {
        let rows: [([u32; 4], [u32; 2], [u32; 4]); 3] = [
            ([0; 4], [0; 2], [1713891541, 3781805453, 3159862348, 2600524760]),
            ([u32::MAX; 4], [u32::MAX; 2], [1083123565, 1103641358, 2718681030, 1834242557]),
            (
                [608135816, 2242054355, 320440878, 57701188],
                [2752067618, 698298832],
                [3513581065, 2499661035, 1342301216, 605187745],
            ),
        ];
        for (counter, key, want) in rows {
            assert_eq!(philox4x32_10(counter, key), want);
        }
    }

    #[test]
    fn normals_match_the_golden_block() {
        let want =
            [0.5965150225797855, 1.5711274914373519, -0.8988567963202819, -1.1190901741482702];
        for (i, want) in want.into_iter().enumerate() {
            let e = 7 * 4 + i as u64;
            let got = GOLDEN.normal_f64(e);
            assert!((got / want - 1.0f64).abs() < 1e-13, "{got} {want}");
            assert!((f64::from(GOLDEN.normal_f32(e)) - want).abs() < 2e-6);
        }
    }

    #[test]
    fn address_fields_do_not_overlap() {
        let s = Stream { seed: 1, purpose: 0xAB, step: 0x1234_5678, ordinal: 0xCDEF };
        assert_eq!(
            s.counter(MAX_ELEM - 1, 0x4321),
            [0xFFFF_FFFF, 0xABFF_FFFF, 0x1234_5678, 0xCDEF_4321]
        );
    }

    #[test]
    fn uniforms_stay_inside_the_unit_interval() {
        for w in [0, 1, 2, u32::MAX - 255, u32::MAX - 128, u32::MAX - 1, u32::MAX] {
            let (a, b, c) = (unit_f32(w), unit_f64(w), unit_wide(w, w));
            assert!(a > 0.0 && a < 1.0 && b > 0.0 && b < 1.0 && c > 0.0 && c < 1.0, "{w}");
            assert!((f64::from(a) / b - 1.0).abs() < 2e-7, "{w}");
        }
        assert!(a_mean(|e| GOLDEN.uniform_f64(e)) < 4.0 / (12.0f64 * 1e5).sqrt());
        fn a_mean(f: impl Fn(u64) -> f64) -> f64 {
            ((0..100_000).map(f).sum::<f64>() / 1e5 - 0.5).abs()
        }
    }

    #[test]
    fn fills_equal_single_draws_at_any_start_and_length() {
        let first = (1u64 << 34) - 70; // the low counter word wraps inside the range
        for start in (0..9).map(|k| first + k) {
            for len in [0usize, 1, 2, 3, 4, 5, 63, 64, 65, 131, 200] {
                let mut a = vec![0f32; len];
                let mut b = vec![0f64; len];
                GOLDEN.fill_normal_f32(start, &mut a);
                GOLDEN.fill_normal_f64(start, &mut b);
                for i in 0..len {
                    let e = start + i as u64;
                    assert_eq!(a[i].to_bits(), GOLDEN.normal_f32(e).to_bits());
                    assert_eq!(b[i].to_bits(), GOLDEN.normal_f64(e).to_bits());
                }
                GOLDEN.fill_uniform_f32(start, &mut a);
                GOLDEN.fill_uniform_f64(start, &mut b);
                for i in 0..len {
                    let e = start + i as u64;
                    assert_eq!(a[i].to_bits(), GOLDEN.uniform_f32(e).to_bits());
                    assert_eq!(b[i].to_bits(), GOLDEN.uniform_f64(e).to_bits());
                }
            }
        }
    }

    #[test]
    fn normal_moments() {
        let mut x = vec![0f32; 1 << 20];
        GOLDEN.fill_normal_f32(0, &mut x);
        let n = x.len() as f64;
        let m = |k| x.iter().map(|&v| f64::from(v).powi(k)).sum::<f64>() / n;
        assert!(m(1).abs() < 4.0 / n.sqrt(), "{}", m(1));
        assert!((m(2) - 1.0).abs() < 4.0 * (2.0 / n).sqrt(), "{}", m(2));
        assert!((m(4) - 3.0).abs() < 4.0 * (96.0 / n).sqrt(), "{}", m(4));
    }
}
