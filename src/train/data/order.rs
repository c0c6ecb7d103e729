//! The order of examples, addressed like every other draw: position i of epoch e of a seed is a pure function, so a
//! resumed run goes on with the same examples and two machines can share an epoch without talking.

use crate::base::philox::philox4x32_10;

/// A random permutation of `0..len` that is never stored: a Feistel network on the next even number of bits, walked
/// until it lands inside.
#[derive(Debug, Clone, Copy)]
pub struct Permutation {
    len: u64,
    half: u32,
    seed: u64,
    epoch: u32,
}

/// Keeps these words apart from those of the draws with the same seed.
const DOMAIN: u32 = 0x4f52_4445; // "ORDE"

impl Permutation {
    pub fn new(len: u64, seed: u64, epoch: u32) -> Self {
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        Self { len, half: bits.div_ceil(2).max(1), seed, epoch }
    }

    /// The example at position `i`, which must be below the length.
    pub fn at(&self, i: u64) -> u64 {
        if self.len < 2 {
            return 0;
        }
        let mut x = i;
        // a permutation of a larger set, walked along its cycle, comes back inside because `i` is inside
        loop {
            x = self.feistel(x);
            if x < self.len {
                return x;
            }
        }
    }

    fn feistel(&self, x: u64) -> u64 {
        let mask = (1u64 << self.half) - 1;
        let (mut left, mut right) = (x >> self.half & mask, x & mask);
        for round in 0..6u32 {
            let counter = [right as u32, (right >> 32) as u32, self.epoch, DOMAIN ^ round];
            let key = [self.seed as u32, (self.seed >> 32) as u32];
            let word = u64::from(philox4x32_10(counter, key)[0]);
            (left, right) = (right, (left ^ word) & mask);
        }
        left << self.half | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_visits_every_example_once_in_its_own_order() {
        for len in [1u64, 2, 3, 5, 64, 65, 1000, 8191] {
            let mut orders = Vec::new();
            for epoch in 0..3 {
                let p = Permutation::new(len, 11, epoch);
                let order: Vec<u64> = (0..len).map(|i| p.at(i)).collect();
                let mut sorted = order.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..len).collect::<Vec<_>>());
                orders.push(order);
            }
            assert!(len < 64 || orders[0] != orders[1] && orders[1] != orders[2]);
        }
    }

    #[test]
    fn positions_are_spread_evenly() {
        // over many epochs each example is first equally often: chi-square with 9 degrees, 99.9 % point 27.9
        let mut counts = [0f64; 10];
        for epoch in 0..5000 {
            counts[Permutation::new(10, 3, epoch).at(0) as usize] += 1.0;
        }
        let chi: f64 = counts.iter().map(|c| (c - 500.0).powi(2) / 500.0).sum();
        assert!(chi < 27.9, "{chi} {counts:?}");
    }
}
