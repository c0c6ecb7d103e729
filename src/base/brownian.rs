//! A Brownian path that can be asked for any value in any order: midpoint bridges on a dyadic tree.
//!
//! `W(lo) = 0`; the root draws `W(hi)`, and every tree node draws the midpoint of its interval given its ends. A value
//! depends on the nodes above it only, so an adaptive solver may bisect, go back and ask again and meets one path.
//! Normals are the f32 ones (same bits on every device), sums are f64.

use super::philox::Stream;

/// Deepest tree: node numbers are 32 bits.
pub const MAX_DEPTH: u32 = 31;
/// 2^-24 of the interval: finer than an f32 time.
pub const DEFAULT_DEPTH: u32 = 24;

impl Stream {
    /// `W(s)` for a path on `[lo, hi]`, `s` clamped into it; linear between the points of level `depth`.
    /// A NaN place or an interval that is not finite gives NaN, an empty interval 0.
    ///
    /// The step of the stream is not part of the address, since a path outlives the step that looks at it; its counter
    /// word holds the number of the tree node instead: 0 for the end point, `2^level + index` for a midpoint. Distinct
    /// nodes, elements and random nodes therefore never share a block.
    pub fn brownian(&self, e: u64, s: f64, lo: f64, hi: f64, depth: u32) -> f64 {
        let mut out = [0.0];
        self.fill_brownian(e, s, lo, hi, depth, &mut out);
        out[0]
    }

    /// `out[i] = brownian(first + i, s, lo, hi, depth)`, the same bits.
    pub fn fill_brownian(&self, first: u64, s: f64, lo: f64, hi: f64, depth: u32, out: &mut [f64]) {
        let length = hi - lo;
        if s.is_nan() || !length.is_finite() {
            return out.fill(f64::NAN);
        }
        if length <= 0.0 || s <= lo {
            return out.fill(0.0);
        }
        let mut e = first;
        for out in out.chunks_mut(CHUNK) {
            self.descend(e, (s - lo) / length, length, depth.min(MAX_DEPTH), out);
            e += out.len() as u64;
        }
    }

    /// Walks from the root to the place `t` of the unit interval, for up to [`CHUNK`] elements at once.
    fn descend(&self, first: u64, t: f64, length: f64, depth: u32, out: &mut [f64]) {
        let n = out.len();
        let (mut left, mut right, mut normal) = ([0f64; CHUNK], [0f64; CHUNK], [0f32; CHUNK]);
        let scale = length.sqrt();
        self.at_node(0).fill_normal_f32(first, &mut normal[..n]);
        for i in 0..n {
            right[i] = scale * f64::from(normal[i]);
        }
        if t >= 1.0 {
            return out.copy_from_slice(&right[..n]);
        }
        let mut t = t;
        let mut node = 1u32;
        // The bridge over an interval of length h has variance h/4 in the middle.
        let mut sd = 0.5 * scale;
        for _ in 0..depth {
            if t == 0.0 {
                break; // on the left end exactly
            }
            self.at_node(node).fill_normal_f32(first, &mut normal[..n]);
            t *= 2.0;
            let go_right = t >= 1.0;
            for i in 0..n {
                let middle = 0.5 * (left[i] + right[i]) + sd * f64::from(normal[i]);
                if go_right {
                    left[i] = middle;
                } else {
                    right[i] = middle;
                }
            }
            if go_right {
                t -= 1.0;
            }
            node = node << 1 | u32::from(go_right);
            sd *= std::f64::consts::FRAC_1_SQRT_2;
        }
        for i in 0..n {
            out[i] = left[i] + t * (right[i] - left[i]);
        }
    }

    fn at_node(&self, node: u32) -> Self {
        Self { step: node, ..*self }
    }
}

const CHUNK: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::special::normal::ndtr;
    use crate::base::special::tests::{kolmogorov, kolmogorov_limit};

    const PATH: Stream = Stream { seed: 5, purpose: 4, step: 0, ordinal: 2 };
    const N: u64 = 20_000;

    fn w(e: u64, s: f64) -> f64 {
        PATH.brownian(e, s, 1.0, 5.0, DEFAULT_DEPTH)
    }

    #[test]
    fn increments_have_the_law_and_are_independent() {
        for (a, b) in [(1.0, 5.0), (1.0, 2.0), (1.3, 1.37), (2.9, 4.123), (3.0, 3.0 + 1e-4)] {
            let mut x: Vec<f64> = (0..N).map(|e| (w(e, b) - w(e, a)) / f64::sqrt(b - a)).collect();
            let d = kolmogorov(&mut x, ndtr);
            assert!(d < kolmogorov_limit(x.len(), 1e-4), "[{a}, {b}]: distance {d}");
        }
        for (a, b, c) in [(1.0, 3.0, 5.0), (1.2, 1.9, 4.1), (2.5, 2.6, 2.7)] {
            let covariance =
                (0..N).map(|e| (w(e, b) - w(e, a)) * (w(e, c) - w(e, b))).sum::<f64>() / N as f64;
            let error = ((b - a) * (c - b) / N as f64).sqrt();
            assert!(covariance.abs() < 3.9 * error, "[{a}, {b}, {c}]: {covariance}");
        }
    }

    #[test]
    fn one_path_whatever_is_asked_and_in_which_step() {
        let later = Stream { step: 77, ..PATH };
        for e in [0, 1, 5, 1 << 40] {
            assert_eq!(w(e, 1.0), 0.0);
            assert_eq!(w(e, 0.0), 0.0);
            assert_eq!(w(e, 9.0), w(e, 5.0));
            let mut sum = 0.0;
            for k in 0..64 {
                let (a, b) = (1.0 + 4.0 * f64::from(k) / 64.0, 1.0 + 4.0 * f64::from(k + 1) / 64.0);
                // Dyadic places are tree nodes: deeper trees do not move them.
                assert_eq!(w(e, b), PATH.brownian(e, b, 1.0, 5.0, 6));
                assert_eq!(w(e, b), later.brownian(e, b, 1.0, 5.0, MAX_DEPTH));
                sum += w(e, b) - w(e, a);
            }
            assert!((sum - w(e, 5.0)).abs() < 1e-13);
        }
        let mut bulk = [0.0; 600];
        PATH.fill_brownian(3, 2.7, 1.0, 5.0, DEFAULT_DEPTH, &mut bulk);
        for (i, &value) in bulk.iter().enumerate() {
            assert_eq!(value, w(3 + i as u64, 2.7));
        }
    }

    #[test]
    fn linear_below_the_depth() {
        let at = |s| PATH.brownian(0, s, 0.0, 1.0, 3);
        let (a, b) = (at(0.25), at(0.375));
        assert!((at(0.28125) - (0.75 * a + 0.25 * b)).abs() < 1e-15);
        assert_ne!(at(0.28125), PATH.brownian(0, 0.28125, 0.0, 1.0, 5));
    }

    #[test]
    fn odd_arguments() {
        assert_eq!(PATH.brownian(0, 0.5, 1.0, 1.0, 24), 0.0);
        assert!(PATH.brownian(0, f64::NAN, 0.0, 1.0, 24).is_nan());
        assert!(PATH.brownian(0, 0.5, 0.0, f64::INFINITY, 24).is_nan());
        assert!(PATH.brownian(0, 1.0 / 3.0, 0.0, 1.0, u32::MAX).is_finite());
    }
}
