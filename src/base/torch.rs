//! The CPU generator of PyTorch, so that a seed that somebody used there gives the same draws here: MT19937, uniforms of
//! 24 or 53 bits, normals by Box and Muller in blocks of 16, or one by one where fewer than 16 are asked for.
//!
//! A draw depends on all before it, unlike ours (`philox`): who asks for these gives up that a sample does not depend
//! on the others. Normals agree with PyTorch's to some 1e-6, as its vector code has its own logarithm.

use std::f64::consts::TAU;

const N: usize = 624;
const M: usize = 397;

/// Numbers of one block of normals.
const BLOCK: usize = 16;

/// A generator, seeded.
#[derive(Clone)]
pub struct Torch {
    state: Box<[u32; N]>,
    next: usize,
    /// The second of the last pair of single normals.
    left: Option<f64>,
}

impl Torch {
    /// As `torch.manual_seed`: of the seed the low 32 bits count.
    pub fn new(seed: u64) -> Self {
        let mut state = Box::new([seed as u32; N]);
        for i in 1..N {
            let before = state[i - 1];
            state[i] =
                1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: N, left: None }
    }

    pub fn bits(&mut self) -> u32 {
        if self.next == N {
            self.turn();
        }
        let mut y = self.state[self.next]; // below N, as just seen
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    pub fn bits64(&mut self) -> u64 {
        let high = u64::from(self.bits());
        high << 32 | u64::from(self.bits())
    }

    fn turn(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ twist;
        }
        self.next = 0;
    }

    /// In [0, 1).
    pub fn uniform_f32(&mut self) -> f32 {
        (self.bits() & 0xff_ffff) as f32 / (1u32 << 24) as f32
    }

    /// In [0, 1).
    pub fn uniform_f64(&mut self) -> f64 {
        (self.bits64() & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64
    }

    /// A whole number from 0 to below `range`.
    pub fn below(&mut self, range: u64) -> u64 {
        match range {
            0 => 0,
            _ if range >= 1 << 28 => self.bits64() % range,
            _ => u64::from(self.bits()) % range,
        }
    }

    /// `torch.randperm`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut out: Vec<usize> = (0..n).collect();
        for i in 0..n.saturating_sub(1) {
            let other = i + u64::from(self.bits()) as usize % (n - i);
            out.swap(i, other);
        }
        out
    }

    /// `torch.randn` of f32, of so many numbers in one call; shorter floats are these, rounded.
    pub fn normals_f32(&mut self, out: &mut [f32]) {
        if out.len() < BLOCK {
            return out.iter_mut().for_each(|v| *v = self.normal() as f32);
        }
        out.iter_mut().for_each(|v| *v = self.uniform_f32());
        let whole = out.len() / BLOCK * BLOCK;
        out[..whole].chunks_exact_mut(BLOCK).for_each(pairs_f32);
        if whole < out.len() {
            let last = out.len() - BLOCK; // there are as many
            out[last..].iter_mut().for_each(|v| *v = self.uniform_f32());
            pairs_f32(&mut out[last..]);
        }
    }

    /// The same of f64.
    pub fn normals_f64(&mut self, out: &mut [f64]) {
        if out.len() < BLOCK {
            return out.iter_mut().for_each(|v| *v = self.normal());
        }
        out.iter_mut().for_each(|v| *v = self.uniform_f64());
        let whole = out.len() / BLOCK * BLOCK;
        out[..whole].chunks_exact_mut(BLOCK).for_each(pairs_f64);
        if whole < out.len() {
            let last = out.len() - BLOCK;
            out[last..].iter_mut().for_each(|v| *v = self.uniform_f64());
            pairs_f64(&mut out[last..]);
        }
    }

    /// One at a time, in pairs.
    fn normal(&mut self) -> f64 {
        if let Some(left) = self.left.take() {
            return left;
        }
        let (turn, fall) = (self.uniform_f64(), self.uniform_f64());
        let (radius, angle) = ((-2.0 * (-fall).ln_1p()).sqrt(), TAU * turn);
        self.left = Some(radius * angle.sin());
        radius * angle.cos()
    }
}

/// The first half of a block has the radii, the second the angles; cosines come first.
fn pairs_f32(block: &mut [f32]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (a, b) in first.iter_mut().zip(second) {
        let (u, v) = (f64::from(1.0 - *a), f64::from(*b));
        let (radius, angle) = ((-2.0 * u.ln()).sqrt(), TAU * v);
        (*a, *b) = ((radius * angle.cos()) as f32, (radius * angle.sin()) as f32);
    }
}

fn pairs_f64(block: &mut [f64]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (a, b) in first.iter_mut().zip(second) {
        let (radius, angle) = ((-2.0 * (1.0 - *a).ln()).sqrt(), TAU * *b);
        (*a, *b) = (radius * angle.cos(), radius * angle.sin());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torch.manual_seed(0); torch.randn(1), then torch.randn(5) of the same generator.
    #[test]
    fn gives_the_draws_of_torch() {
        let mut g = Torch::new(0);
        let mut out = [0.0f32];
        g.normals_f32(&mut out);
        assert!((out[0] - 1.540_996_1).abs() < 2e-6, "{out:?}");
        let mut other = Torch::new(1 << 32);
        assert_eq!(other.normal(), Torch::new(0).normal());
    }

    /// The tail of a call that is no multiple of 16 is drawn again as its last block.
    #[test]
    fn the_last_block_is_drawn_again() {
        let (mut a, mut b) = (Torch::new(5), Torch::new(5));
        let (mut long, mut short) = ([0.0f32; 33], [0.0f32; 32]);
        a.normals_f32(&mut long);
        b.normals_f32(&mut short);
        assert_eq!(long[..16], short[..16]);
        assert_ne!(long[17..32], short[17..32]);
        assert_eq!(a.permutation(1), [0]);
    }
}
