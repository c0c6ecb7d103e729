//! Bulk f32 noise, vectorised by the compiler: one body, built once for AVX2 with FMA and once for any CPU.
//!
//! The bits are the same in both builds because every step is one IEEE operation (`special::float`) and no reduction
//! exists; only the speed differs, above all because `mul_add` without FMA is a call.

use super::philox::{self, Stream};
use super::special::float;

/// Blocks worked on at once: two 256-bit registers per counter word.
const LANES: usize = 16;

pub(super) fn fill_normal(stream: &Stream, first: u64, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if has_fma() {
        // Safety: `has_fma` has just seen both features on this CPU.
        return unsafe { normal_fma(stream, first, out) };
    }
    normal(stream, first, out);
}

pub(super) fn fill_uniform(stream: &Stream, first: u64, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if has_fma() {
        // Safety: `has_fma` has just seen both features on this CPU.
        return unsafe { uniform_fma(stream, first, out) };
    }
    uniform(stream, first, out);
}

#[cfg(target_arch = "x86_64")]
fn has_fma() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Only to be called where the CPU has AVX2 and FMA: elsewhere the first vector instruction is an illegal one.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn normal_fma(stream: &Stream, first: u64, out: &mut [f32]) {
    normal(stream, first, out);
}

/// As [`normal_fma`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn uniform_fma(stream: &Stream, first: u64, out: &mut [f32]) {
    uniform(stream, first, out);
}

#[inline(always)]
fn normal(stream: &Stream, first: u64, out: &mut [f32]) {
    fill::<Normal>(stream, first, out);
}

#[inline(always)]
fn uniform(stream: &Stream, first: u64, out: &mut [f32]) {
    fill::<Uniform>(stream, first, out);
}

type Lanes<T> = [[T; LANES]; 4];

/// How words become values: one block, or [`LANES`] of them. A trait and not closures, because a closure is compiled
/// without the features of the function it stands in.
trait Law {
    fn one(w: [u32; 4]) -> [f32; 4];
    fn many(w: &Lanes<u32>) -> Lanes<f32>;
}

struct Normal;
struct Uniform;

impl Law for Normal {
    #[inline(always)]
    fn one(w: [u32; 4]) -> [f32; 4] {
        philox::normals_f32(w)
    }

    #[inline(always)]
    fn many(w: &Lanes<u32>) -> Lanes<f32> {
        let mut x = [[0f32; LANES]; 4];
        // One short loop per stage: the vectoriser takes each, but not all of them in one.
        for pair in [0, 2] {
            let mut radius = [0f32; LANES];
            for l in 0..LANES {
                radius[l] = philox::radius_f32(w[pair][l]);
            }
            for l in 0..LANES {
                let (sin, cos) = float::sincos_turn(w[pair + 1][l]);
                x[pair][l] = radius[l] * cos;
                x[pair + 1][l] = radius[l] * sin;
            }
        }
        x
    }
}

impl Law for Uniform {
    #[inline(always)]
    fn one(w: [u32; 4]) -> [f32; 4] {
        w.map(philox::unit_f32)
    }

    #[inline(always)]
    fn many(w: &Lanes<u32>) -> Lanes<f32> {
        let mut x = [[0f32; LANES]; 4];
        for k in 0..4 {
            for l in 0..LANES {
                x[k][l] = philox::unit_f32(w[k][l]);
            }
        }
        x
    }
}

/// Single blocks up to the first whole one, then [`LANES`] blocks at a time, then the rest singly.
#[inline(always)]
fn fill<L: Law>(stream: &Stream, first: u64, out: &mut [f32]) {
    let head = out.len().min((first.wrapping_neg() % 4) as usize);
    let (start, body) = out.split_at_mut(head);
    philox::fill_blocks(stream, first, start, L::one);
    let mut e = first + head as u64;
    let mut chunks = body.chunks_exact_mut(4 * LANES);
    for chunk in &mut chunks {
        let x = L::many(&words(stream, e / 4));
        for (l, out) in chunk.chunks_exact_mut(4).enumerate() {
            for (k, out) in out.iter_mut().enumerate() {
                *out = x[k][l];
            }
        }
        e += 4 * LANES as u64;
    }
    philox::fill_blocks(stream, e, chunks.into_remainder(), L::one);
}

/// Block 0 of the elements `elem..elem + LANES`, word by word.
#[inline(always)]
fn words(stream: &Stream, elem: u64) -> Lanes<u32> {
    let mut w = [[0u32; LANES]; 4];
    for l in 0..LANES {
        let c = stream.block(elem + l as u64, 0);
        for k in 0..4 {
            w[k][l] = c[k];
        }
    }
    w
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(x: impl Iterator<Item = f32>) -> u64 {
        x.fold(1_469_598_103_934_665_603, |h, v| {
            (h ^ u64::from(v.to_bits())).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    /// The hash is that of an independent C program (g++ and clang, with and without FMA).
    #[test]
    fn hash_of_four_million_normals() {
        const WANT: u64 = 0xcf9c_8726_97eb_834b;
        let stream = Stream { seed: 42, purpose: 0, step: 7, ordinal: 0 };
        let mut x = vec![0f32; 4_000_000];
        fill_normal(&stream, 0, &mut x);
        assert_eq!(hash(x.iter().copied()), WANT, "vector build");
        x.fill(0.0);
        normal(&stream, 0, &mut x);
        assert_eq!(hash(x.iter().copied()), WANT, "portable build");
        let single = (0..4_000_000).map(|e| stream.normal_f32(e));
        assert_eq!(hash(single), WANT, "single draws");
    }

    #[test]
    #[ignore = "a measurement"]
    fn speed() {
        let stream = Stream { seed: 42, purpose: 0, step: 7, ordinal: 0 };
        let mut x = vec![0f32; 1 << 16];
        for (name, f) in [
            ("dispatched normal", fill_normal as fn(&Stream, u64, &mut [f32])),
            ("portable normal", normal),
            ("dispatched uniform", fill_uniform),
        ] {
            let start = std::time::Instant::now();
            for k in 0..50 {
                f(&stream, k << 16, std::hint::black_box(&mut x));
            }
            println!("{name}: {:.0} M/s", 50.0 * 65.536e-3 / start.elapsed().as_secs_f64());
        }
    }
}
