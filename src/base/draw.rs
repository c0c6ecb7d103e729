//! Gamma, Poisson and categorical draws of one addressed element.
//!
//! A rejection loop takes the blocks 0, 1, 2, ... of its own element, so its result depends on no other element and on
//! no thread order. Every loop is bounded: each try succeeds with a probability above 0.7, so `TRIES` failures in a
//! row do not happen (below 1e-130), but a bound is what makes that a fact about time.

use super::philox::{Stream, radius_f64, unit_f64, unit_wide};
use super::philox_simd;
use super::special::gamma::log_poisson;
use super::special::wide;

/// What [`Stream::categorical`] returns when no category has a weight. Not an index: callers write a value of their
/// own choice (a mask token, 0) and report it.
pub const NO_CATEGORY: usize = usize::MAX;

const TRIES: u16 = 256;

impl Stream {
    /// Gamma(shape, scale 1) by Marsaglia and Tsang, and the blocks it used. Shape 0 gives 0, infinity gives infinity,
    /// a negative or NaN shape gives NaN. Below shape 1 the draw is `Γ(shape + 1) u^(1/shape)`, taken through the
    /// exponential; for tiny shapes it underflows to 0, as almost all of the law does.
    pub fn gamma_f64(&self, e: u64, shape: f64) -> (f64, u16) {
        if shape.is_nan() || shape <= 0.0 || shape == f64::INFINITY {
            return (if shape < 0.0 { f64::NAN } else { shape.abs() }, 0);
        }
        let boost = shape < 1.0;
        let d = if boost { shape + 1.0 } else { shape } - 1.0 / 3.0;
        for block in 0..TRIES {
            let w = self.block(e, block);
            let first = Try::new(d, [w[0], w[1], w[2]]);
            if first.sure || first.accepted(d, w[2]) {
                let g = d * first.v;
                let log = || wide::ln(unit_f64(w[3]));
                return (if boost { g * (log() / shape).exp() } else { g }, block + 1);
            }
        }
        (d, TRIES)
    }

    /// `out[i] = gamma_f64(first + i, shapes[i])`, the same bits; the two are equally long.
    pub fn fill_gamma_f64(&self, first: u64, shapes: &[f64], out: &mut [f64]) {
        philox_simd::fill_gamma(self, first, shapes, out);
    }

    /// `out[i] = gamma_f32(first + i, shapes[i])`, the same bits.
    pub fn fill_gamma_f32(&self, first: u64, shapes: &[f32], out: &mut [f32]) {
        const CHUNK: usize = 256;
        let (mut a, mut g) = ([0.0; CHUNK], [0.0; CHUNK]);
        let mut e = first;
        for (out, shapes) in out.chunks_mut(CHUNK).zip(shapes.chunks(CHUNK)) {
            let n = out.len();
            for (a, shape) in a.iter_mut().zip(shapes) {
                *a = f64::from(*shape);
            }
            self.fill_gamma_f64(e, &a[..n], &mut g[..n]);
            for (out, g) in out.iter_mut().zip(&g) {
                *out = *g as f32;
            }
            e += n as u64;
        }
    }

    /// [`Self::gamma_f64`] rounded once: f32 has neither the range for `u^(1/shape)` nor the digits for the test.
    pub fn gamma_f32(&self, e: u64, shape: f32) -> f32 {
        self.gamma_f64(e, f64::from(shape)).0 as f32
    }

    /// Poisson(lambda): inversion below 10, Hörmann's transformed rejection (PTRS) above. 0 gives 0, infinity gives
    /// infinity, a negative or NaN rate gives NaN. Above 2^53 the result is a whole number only as f64 has them.
    pub fn poisson(&self, e: u64, lambda: f64) -> f64 {
        if lambda.is_nan() || lambda <= 0.0 || lambda == f64::INFINITY {
            return if lambda < 0.0 { f64::NAN } else { lambda.abs() };
        }
        if lambda < 10.0 {
            let [w0, w1, ..] = self.block(e, 0);
            let u = unit_wide(w0, w1);
            let (mut k, mut p) = (0.0, (-lambda).exp());
            let mut cdf = p;
            while u > cdf && k < 200.0 {
                k += 1.0;
                p *= lambda / k;
                cdf += p;
            }
            return k;
        }
        let b = 0.931 + 2.53 * lambda.sqrt();
        let a = -0.059 + 0.02483 * b;
        let inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
        for block in 0..TRIES {
            let [w0, w1, w2, w3] = self.block(e, block);
            let (u, v) = (unit_wide(w0, w1) - 0.5, unit_wide(w2, w3));
            let us = 0.5 - u.abs();
            let k = ((2.0 * a / us + b) * u + lambda + 0.43).floor();
            if us >= 0.07 && v <= 0.9277 - 3.6224 / (b - 2.0) {
                return k;
            }
            if k < 0.0 || (us < 0.013 && v > us) {
                continue;
            }
            if (v * inverse_alpha / (a / (us * us) + b)).ln() <= log_poisson(k, lambda) {
                return k;
            }
        }
        lambda.floor()
    }

    /// An index with probability softmax(logits), by the inverse distribution function summed in f64 in index order;
    /// a race of f32 Gumbels would starve rare categories. Minus infinity is a weight of 0; plus infinity outweighs
    /// everything finite. No weight at all (an empty row, all minus infinity) or any NaN gives [`NO_CATEGORY`].
    pub fn categorical<T: Copy + Into<f64>>(&self, e: u64, logits: &[T]) -> usize {
        let mut max = f64::NEG_INFINITY;
        for &x in logits {
            let x: f64 = x.into();
            if x.is_nan() {
                return NO_CATEGORY;
            }
            max = max.max(x);
        }
        if max == f64::NEG_INFINITY {
            return NO_CATEGORY;
        }
        let weight = |x: T| {
            let x: f64 = x.into();
            if x == max { 1.0 } else { (x - max).exp() } // inf - inf is not 0
        };
        // Sums per stretch first, so that the second look takes one stretch of a vocabulary and not all of it.
        let stretch = logits.len().div_ceil(STRETCHES);
        let mut sums = [0.0; STRETCHES];
        for (sum, part) in sums.iter_mut().zip(logits.chunks(stretch)) {
            *sum = part.iter().map(|&x| weight(x)).sum();
        }
        let total: f64 = sums.iter().sum();
        let [w0, w1, ..] = self.block(e, 0);
        let mut left = unit_wide(w0, w1) * total;
        let mut found = NO_CATEGORY;
        for (s, part) in logits.chunks(stretch).enumerate() {
            if sums[s] == 0.0 {
                continue;
            }
            // Rounding may leave a crumb past the end of a stretch or of the row: the last weight seen takes it.
            let within = left < sums[s];
            if within || sums[s + 1..].iter().all(|&later| later == 0.0) {
                for (i, &x) in part.iter().enumerate() {
                    let w = weight(x);
                    if w > 0.0 {
                        found = s * stretch + i;
                        if left < w {
                            break;
                        }
                        left -= w;
                    }
                }
                return found;
            }
            left -= sums[s];
        }
        found
    }
}

const STRETCHES: usize = 64;

/// One try of Marsaglia and Tsang for a shape of at least 1: `d v` is the draw if accepted.
#[derive(Clone, Copy)]
pub(super) struct Try {
    pub(super) x: f64,
    pub(super) v: f64,
    /// Accepted whatever the exact test says: u < 1 - 0.0331 x⁴ implies it.
    pub(super) sure: bool,
}

impl Try {
    /// d = shape - 1/3. Without a branch, for vectors.
    #[inline(always)]
    pub(super) fn new(d: f64, w: [u32; 3]) -> Self {
        let c = 1.0 / (9.0 * d).sqrt();
        let x = radius_f64(w[0]) * wide::sincos_turn(w[1]).1;
        let v = 1.0 + c * x;
        let square = x * x;
        let sure = (v > 0.0) & (unit_f64(w[2]) < 1.0 - 0.0331 * square * square);
        Self { x, v: v * v * v, sure }
    }

    /// The exact test. Far out it rejects one draw in 1e12 and rounding would decide it. Without a branch, as `new`.
    #[inline(always)]
    pub(super) fn accepted(self, d: f64, word: u32) -> bool {
        let Self { x, v, .. } = self;
        let below = wide::ln(unit_f64(word)) < 0.5 * x * x + d - d * v + d * wide::ln(v);
        (v > 0.0) & ((d > 1e10) | below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::special::law::gamma_p;
    use crate::base::special::tests::{kolmogorov, kolmogorov_limit};

    const N: usize = 100_000;
    /// Two-sided 1e-4 of a normal: what a mean may stray from its value, in standard errors.
    const SIGMAS: f64 = 3.9;

    fn stream(ordinal: u16) -> Stream {
        Stream { seed: 99, purpose: 2, step: 0, ordinal }
    }

    #[test]
    fn gamma_golden_rows() {
        let s = Stream { seed: 0x0123_4567_89AB_CDEF, purpose: 2, step: 42, ordinal: 0 };
        for (shape, want) in
            [(0.25, 0.0021288190730776734), (1.5, 0.4019239966441087), (3.5, 1.7366124184839145)]
        {
            let (got, blocks) = s.gamma_f64(7, shape);
            assert!((got / want - 1.0).abs() < 1e-13 && blocks == 1, "{shape}: {got} in {blocks}");
        }
    }

    #[test]
    fn gamma_law() {
        for shape in [0.25, 1.5, 64.0] {
            let mut x: Vec<f64> = (0..N as u64).map(|e| stream(0).gamma_f64(e, shape).0).collect();
            let mean = x.iter().sum::<f64>() / N as f64;
            let variance = x.iter().map(|v| (v - shape) * (v - shape)).sum::<f64>() / N as f64;
            let n = N as f64;
            assert!((mean - shape).abs() < SIGMAS * (shape / n).sqrt(), "{shape}: mean {mean}");
            // Fourth central moment 3a² + 6a.
            let error = ((2.0 * shape * shape + 6.0 * shape) / n).sqrt();
            assert!((variance - shape).abs() < SIGMAS * error, "{shape}: variance {variance}");
            let d = kolmogorov(&mut x, |v| gamma_p(shape, v));
            assert!(d < kolmogorov_limit(N, 1e-4), "{shape}: distance {d}");
        }
    }

    /// Below shape 0.01 most draws underflow in f32, but `shape ln x` has the law of `ln u` up to O(shape).
    #[test]
    fn gamma_of_tiny_and_huge_shapes() {
        let mut y: Vec<f64> =
            (0..N as u64).map(|e| stream(1).gamma_f64(e, 0.01).0.powf(0.01)).collect();
        let d = kolmogorov(&mut y, |v| gamma_p(0.01, v.powf(100.0)));
        assert!(d < kolmogorov_limit(N, 1e-4), "distance {d}");
        assert!((0..1000).all(|e| {
            let x = stream(2).gamma_f32(e, 1e-3);
            x >= 0.0 && x.is_finite()
        }));
        for shape in [1e8, 1e12] {
            let z: f64 = (0..10_000)
                .map(|e| (stream(3).gamma_f64(e, shape).0 - shape) / shape.sqrt())
                .map(|z| z * z)
                .sum::<f64>()
                / 1e4;
            assert!((z - 1.0).abs() < SIGMAS * (2.0f64 / 1e4).sqrt(), "{shape}: {z}");
        }
    }

    #[test]
    fn odd_parameters() {
        let s = stream(0);
        assert_eq!((s.gamma_f64(0, 0.0), s.poisson(0, 0.0)), ((0.0, 0), 0.0));
        assert_eq!(s.gamma_f64(0, f64::INFINITY).0, f64::INFINITY);
        assert_eq!(s.poisson(0, f64::INFINITY), f64::INFINITY);
        for bad in [-1.0, f64::NAN, f64::NEG_INFINITY] {
            assert!(s.gamma_f64(0, bad).0.is_nan() && s.poisson(0, bad).is_nan());
            assert!(s.gamma_f32(0, bad as f32).is_nan());
        }
    }

    #[test]
    fn poisson_law() {
        for (i, lambda) in [0.3, 3.0, 9.9, 10.1, 400.0].into_iter().enumerate() {
            let x: Vec<f64> = (0..N as u64).map(|e| stream(i as u16).poisson(e, lambda)).collect();
            let n = N as f64;
            let mean = x.iter().sum::<f64>() / n;
            let variance = x.iter().map(|v| (v - lambda) * (v - lambda)).sum::<f64>() / n;
            assert!((mean - lambda).abs() < SIGMAS * (lambda / n).sqrt(), "{lambda}: {mean}");
            let error = ((2.0 * lambda * lambda + lambda) / n).sqrt();
            assert!((variance - lambda).abs() < SIGMAS * error, "{lambda}: {variance}");
            // Chi-square over the values with at least 10 expected, the rest in one cell.
            let mut counts = vec![0f64; 1000];
            for &v in &x {
                counts[v as usize] += 1.0;
            }
            let (mut chi2, mut cells) = (0.0, 0.0);
            let (mut other, mut other_expected) = (n, n);
            for (k, &count) in counts.iter().enumerate() {
                let expected = n * log_poisson(k as f64, lambda).exp();
                if expected >= 10.0 {
                    chi2 += (count - expected) * (count - expected) / expected;
                    cells += 1.0;
                    other -= count;
                    other_expected -= expected;
                }
            }
            if other_expected > 1.0 {
                chi2 += (other - other_expected) * (other - other_expected) / other_expected;
                cells += 1.0;
            }
            let p = 1.0 - gamma_p(0.5 * (cells - 1.0), 0.5 * chi2);
            assert!(p > 1e-4, "{lambda}: chi-square {chi2} over {cells} cells, p {p:e}");
        }
    }

    #[test]
    fn poisson_of_a_billion() {
        for lambda in [1e9, 1e15] {
            let mut z: Vec<f64> = (0..20_000)
                .map(|e| (stream(9).poisson(e, lambda) + 0.5 - lambda) / lambda.sqrt())
                .collect();
            let d = kolmogorov(&mut z, crate::base::special::normal::ndtr);
            assert!(d < kolmogorov_limit(z.len(), 1e-4), "{lambda}: {d}");
        }
    }

    #[test]
    fn categorical_frequencies() {
        let weights = [0.5f64, 0.0, 0.25, 1e-3, 0.249];
        let logits = weights.map(|w| w.ln() + 700.0);
        let mut counts = [0f64; 5];
        for e in 0..N as u64 {
            counts[stream(0).categorical(e, &logits)] += 1.0;
        }
        for (count, w) in counts.into_iter().zip(weights) {
            let error = SIGMAS * (w * (1.0 - w) * N as f64).sqrt();
            assert!((count - w * N as f64).abs() <= error, "{counts:?}");
        }
        // A long row of f32 logits: the stretches and the row agree on the law.
        let row: Vec<f32> =
            (0..1000).map(|i| if i % 3 == 0 { f32::NEG_INFINITY } else { 0.0 }).collect();
        let mut x: Vec<f64> = (0..N as u64)
            .map(|e| stream(1).categorical(e, &row))
            .inspect(|i| assert_ne!(i % 3, 0))
            .map(|i| (i as f64 + stream(2).uniform_f64(i as u64)) / 1000.0)
            .collect();
        let d = kolmogorov(&mut x, |v| v);
        assert!(d < kolmogorov_limit(N, 1e-4) + 2e-3, "{d}");
    }

    #[test]
    fn categorical_borders() {
        let s = stream(0);
        let low = f64::NEG_INFINITY;
        assert_eq!(s.categorical::<f64>(0, &[]), NO_CATEGORY);
        assert_eq!(s.categorical(0, &[low, low]), NO_CATEGORY);
        assert_eq!(s.categorical(0, &[0.0, f64::NAN]), NO_CATEGORY);
        for e in 0..1000 {
            assert_eq!(s.categorical(e, &[low, -3e4, low]), 1);
            assert_eq!(s.categorical(e, &[0.0, f64::INFINITY, 1e300]), 1);
            assert_eq!(s.categorical(e, &[-800.0f32, 0.0]), 1);
        }
    }
}
