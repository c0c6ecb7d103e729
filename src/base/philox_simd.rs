//! Bulk noise, vectorised by the compiler: one body, built for AVX-512, for AVX2 with FMA and for any CPU.
//!
//! The bits are the same in all builds because every step is one IEEE operation (`special::float`, `special::wide`) and
//! no reduction exists; only the speed differs, above all because `mul_add` without FMA is a call.

use super::draw::Try;
use super::philox::{self, Stream};
#[cfg(target_arch = "x86_64")]
use super::philox_avx512;
use super::special::{float, wide};

/// Blocks worked on at once.
const LANES: usize = 16;

type Lanes<T> = [[T; LANES]; 4];

/// `out[i]` is the draw of element `first + i`.
pub(super) fn fill<T: Copy + Default, L: Law<T>>(stream: &Stream, first: u64, out: &mut [T]) {
    #[cfg(target_arch = "x86_64")]
    if has_avx512() {
        // Safety: the CPU has just been asked.
        return unsafe { fill_avx512::<T, L>(stream, first, out) };
    } else if has_fma() {
        // Safety: the CPU has just been asked.
        return unsafe { fill_fma::<T, L>(stream, first, out) };
    }
    fill_with::<T, L, Plain>(stream, first, out);
}

/// `out[i] = stream.gamma_f64(first + i, shapes[i])`, the same bits.
pub(super) fn fill_gamma(stream: &Stream, first: u64, shapes: &[f64], out: &mut [f64]) {
    #[cfg(target_arch = "x86_64")]
    if has_avx512() {
        // Safety: the CPU has just been asked.
        return unsafe { gamma_avx512(stream, first, shapes, out) };
    } else if has_fma() {
        // Safety: the CPU has just been asked.
        return unsafe { gamma_fma(stream, first, shapes, out) };
    }
    gamma_with::<Plain>(stream, first, shapes, out);
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && has_fma()
}

#[cfg(target_arch = "x86_64")]
fn has_fma() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Only to be called where the CPU has these features: elsewhere the first vector instruction is an illegal one.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
fn fill_avx512<T: Copy + Default, L: Law<T>>(stream: &Stream, first: u64, out: &mut [T]) {
    fill_with::<T, L, Avx512>(stream, first, out);
}

/// As [`fill_avx512`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn fill_fma<T: Copy + Default, L: Law<T>>(stream: &Stream, first: u64, out: &mut [T]) {
    fill_with::<T, L, Plain>(stream, first, out);
}

/// As [`fill_avx512`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
fn gamma_avx512(stream: &Stream, first: u64, shapes: &[f64], out: &mut [f64]) {
    gamma_with::<Avx512>(stream, first, shapes, out);
}

/// As [`fill_avx512`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn gamma_fma(stream: &Stream, first: u64, shapes: &[f64], out: &mut [f64]) {
    gamma_with::<Plain>(stream, first, shapes, out);
}

/// How words become values: one block, or [`LANES`] of them. A trait and not closures, because a closure is compiled
/// without the features of the function it stands in.
pub(super) trait Law<T> {
    fn one(w: [u32; 4]) -> [T; 4];
    fn many(w: &Lanes<u32>) -> Lanes<T>;
}

pub(super) struct Normal;
pub(super) struct Uniform;

impl Law<f32> for Normal {
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

impl Law<f64> for Normal {
    #[inline(always)]
    fn one(w: [u32; 4]) -> [f64; 4] {
        philox::normals_f64(w)
    }

    #[inline(always)]
    fn many(w: &Lanes<u32>) -> Lanes<f64> {
        let mut x = [[0f64; LANES]; 4];
        for pair in [0, 2] {
            let mut radius = [0f64; LANES];
            for l in 0..LANES {
                radius[l] = philox::radius_f64(w[pair][l]);
            }
            for l in 0..LANES {
                let (sin, cos) = wide::sincos_turn(w[pair + 1][l]);
                x[pair][l] = radius[l] * cos;
                x[pair + 1][l] = radius[l] * sin;
            }
        }
        x
    }
}

macro_rules! uniform {
    ($($T:ty: $unit:path;)*) => {
        $(impl Law<$T> for Uniform {
            #[inline(always)]
            fn one(w: [u32; 4]) -> [$T; 4] {
                w.map($unit)
            }

            #[inline(always)]
            fn many(w: &Lanes<u32>) -> Lanes<$T> {
                let mut x = [[0.0; LANES]; 4];
                for k in 0..4 {
                    for l in 0..LANES {
                        x[k][l] = $unit(w[k][l]);
                    }
                }
                x
            }
        })*
    };
}

uniform! {
    f32: philox::unit_f32;
    f64: philox::unit_f64;
}

/// Where the words of [`LANES`] blocks come from.
trait Words {
    /// Block 0 of the elements `elem..elem + LANES`, word by word.
    fn words(stream: &Stream, elem: u64) -> Lanes<u32>;
    /// Block `block` of these elements.
    fn words_at(stream: &Stream, elems: &[u64; LANES], block: u16) -> Lanes<u32>;
}

struct Plain;

impl Words for Plain {
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

    #[inline(always)]
    fn words_at(stream: &Stream, elems: &[u64; LANES], block: u16) -> Lanes<u32> {
        let mut w = [[0u32; LANES]; 4];
        for l in 0..LANES {
            let c = stream.block(elems[l], block);
            for k in 0..4 {
                w[k][l] = c[k];
            }
        }
        w
    }
}

/// Only to be used by the functions built for it.
#[cfg(target_arch = "x86_64")]
struct Avx512;

#[cfg(target_arch = "x86_64")]
impl Words for Avx512 {
    #[inline(always)]
    fn words(stream: &Stream, elem: u64) -> Lanes<u32> {
        if elem as u32 > u32::MAX - LANES as u32 {
            return Plain::words(stream, elem); // a carry into the next counter word
        }
        // Safety: the functions that use this type run only where the CPU has AVX-512.
        unsafe { philox_avx512::words(stream, elem, 0) }
    }

    #[inline(always)]
    fn words_at(stream: &Stream, elems: &[u64; LANES], block: u16) -> Lanes<u32> {
        // Safety: as above.
        unsafe { philox_avx512::words_at(stream, elems, block) }
    }
}

/// Single blocks up to the first whole one, then [`LANES`] blocks at a time, then the rest singly.
#[inline(always)]
fn fill_with<T: Copy + Default, L: Law<T>, W: Words>(stream: &Stream, first: u64, out: &mut [T]) {
    let head = out.len().min((first.wrapping_neg() % 4) as usize);
    let (start, body) = out.split_at_mut(head);
    philox::fill_blocks(stream, first, start, L::one);
    let mut e = first + head as u64;
    let mut chunks = body.chunks_exact_mut(4 * LANES);
    for chunk in &mut chunks {
        let x = L::many(&W::words(stream, e / 4));
        for (l, out) in chunk.chunks_exact_mut(4).enumerate() {
            for (k, out) in out.iter_mut().enumerate() {
                *out = x[k][l];
            }
        }
        e += 4 * LANES as u64;
    }
    philox::fill_blocks(stream, e, chunks.into_remainder(), L::one);
}

/// Gammas worked on at once: enough that those which need a second try fill a register.
const GAMMAS: usize = 256;

/// A stretch of gammas: the first try of all, the exact test of those the squeeze left in doubt (some 8 %), a second try
/// of those it rejected (some 3 %), [`LANES`] at a time; the few that remain start over singly.
#[inline(always)]
fn gamma_with<W: Words>(stream: &Stream, first: u64, shapes: &[f64], out: &mut [f64]) {
    let mut e = first;
    for (out, shapes) in out.chunks_mut(GAMMAS).zip(shapes.chunks(GAMMAS)) {
        let mut open = Open { at: [0; GAMMAS], n: 0 };
        let (mut x, mut v, mut word) = ([0.0; GAMMAS], [0.0; GAMMAS], [0u32; GAMMAS]);
        let whole = out.len() / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            let w = W::words(stream, e + at as u64);
            let (mut xs, mut vs, mut draws) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
            let (mut own, mut doubt) = ([0.0; LANES], [0u64; LANES]);
            own.copy_from_slice(&shapes[at..at + LANES]);
            for l in 0..LANES {
                let d = own[l] - 1.0 / 3.0;
                let t = Try::new(d, [w[0][l], w[1][l], w[2][l]]);
                (xs[l], vs[l], draws[l]) = (t.x, t.v, d * t.v);
                // a shape below 1, NaN or infinite goes its own way
                doubt[l] = u64::from(!(t.sure & plain(own[l])));
            }
            x[at..at + LANES].copy_from_slice(&xs);
            v[at..at + LANES].copy_from_slice(&vs);
            word[at..at + LANES].copy_from_slice(&w[2]);
            out[at..at + LANES].copy_from_slice(&draws);
            for (l, doubt) in doubt.into_iter().enumerate() {
                open.push(at + l, doubt != 0);
            }
        }
        let tested = std::mem::replace(&mut open.n, 0);
        for from in (0..tested).step_by(LANES) {
            let mut at = [0; LANES];
            let n = LANES.min(tested - from);
            at[..n].copy_from_slice(&open.at[from..from + n]);
            let (mut t, mut d, mut w) = ([[0.0; LANES]; 2], [0.0; LANES], [0; LANES]);
            for l in 0..LANES {
                (t[0][l], t[1][l], w[l]) = (x[at[l]], v[at[l]], word[at[l]]);
                d[l] = shapes[at[l]] - 1.0 / 3.0;
            }
            let mut holds = [0u64; LANES];
            for l in 0..LANES {
                let t = Try { x: t[0][l], v: t[1][l], sure: false };
                holds[l] = u64::from(t.accepted(d[l], w[l]));
            }
            for l in 0..n {
                open.push(at[l], !plain(shapes[at[l]]) || holds[l] == 0);
            }
        }
        let rejected = std::mem::replace(&mut open.n, 0);
        for from in (0..rejected).step_by(LANES) {
            let mut at = [0; LANES];
            let n = LANES.min(rejected - from);
            at[..n].copy_from_slice(&open.at[from..from + n]);
            let w = W::words_at(stream, &at.map(|at| e + at as u64), 1);
            let (mut g, mut holds, mut d) = ([0.0; LANES], [0u64; LANES], [0.0; LANES]);
            for l in 0..LANES {
                d[l] = shapes[at[l]] - 1.0 / 3.0;
            }
            for l in 0..LANES {
                let t = Try::new(d[l], [w[0][l], w[1][l], w[2][l]]);
                g[l] = d[l] * t.v;
                holds[l] = u64::from(t.sure | t.accepted(d[l], w[2][l]));
            }
            for l in 0..n {
                let shape = shapes[at[l]];
                out[at[l]] = match plain(shape) && holds[l] != 0 {
                    true => g[l],
                    false => stream.gamma_f64(e + at[l] as u64, shape).0,
                };
            }
        }
        for at in whole..out.len() {
            out[at] = stream.gamma_f64(e + at as u64, shapes[at]).0;
        }
        e += out.len() as u64;
    }
}

/// Whether a shape is neither below 1, where a draw has one factor more, nor a special case.
#[inline(always)]
fn plain(shape: f64) -> bool {
    (shape >= 1.0) & shape.is_finite()
}

/// Places of a stretch whose draw is not settled.
struct Open {
    at: [usize; GAMMAS],
    n: usize,
}

impl Open {
    /// Without a branch: whether a draw is settled is what a processor cannot foresee. A list is refilled from its own
    /// beginning, which never overtakes the reading.
    #[inline(always)]
    fn push(&mut self, at: usize, really: bool) {
        self.at[self.n & (GAMMAS - 1)] = at;
        self.n += usize::from(really);
    }
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
        fill::<f32, Normal>(&stream, 0, &mut x);
        assert_eq!(hash(x.iter().copied()), WANT, "vector build");
        x.fill(0.0);
        fill_with::<f32, Normal, Plain>(&stream, 0, &mut x);
        assert_eq!(hash(x.iter().copied()), WANT, "portable build");
        let single = (0..4_000_000).map(|e| stream.normal_f32(e));
        assert_eq!(hash(single), WANT, "single draws");
    }

    /// Every build this machine can run, across the place where the low counter word wraps.
    #[test]
    fn builds_agree_in_f64_and_on_gammas() {
        let stream = Stream { seed: 42, purpose: 3, step: 7, ordinal: 1 };
        for first in [0, 5, (1 << 32) - 40, (1 << 34) - 90] {
            let (mut a, mut b) = (vec![0f64; 777], vec![0f64; 777]);
            fill::<f64, Normal>(&stream, first, &mut a);
            fill_with::<f64, Normal, Plain>(&stream, first, &mut b);
            assert_eq!(a, b);
            assert!((0..777).all(|i| a[i] == stream.normal_f64(first + i as u64)));
            let shape = |i: usize| [0.3, 1.0, 1.28, 64.0, 1e11, 0.0, f64::INFINITY, 2.5][i % 8];
            let shapes: Vec<f64> = (0..777).map(shape).collect();
            fill_gamma(&stream, first, &shapes, &mut a);
            gamma_with::<Plain>(&stream, first, &shapes, &mut b);
            assert_eq!(a, b);
            assert!((0..777).all(|i| a[i] == stream.gamma_f64(first + i as u64, shapes[i]).0));
        }
        let mut nan = [0.0; 16];
        fill_gamma(&stream, 0, &[f64::NAN; 16], &mut nan);
        assert!(nan.iter().all(|x| x.is_nan()));
    }

    #[test]
    #[ignore = "a measurement"]
    fn speed() {
        let stream = Stream { seed: 42, purpose: 0, step: 7, ordinal: 0 };
        let (mut x, mut y) = (vec![0f32; 1 << 12], vec![0f64; 1 << 12]);
        let shapes = vec![1.28; 1 << 12];
        let time = |name: &str, f: &mut dyn FnMut(u64)| {
            let start = std::time::Instant::now();
            (0..500).for_each(|k| f(k << 12));
            println!("{name}: {:.2} ns", start.elapsed().as_secs_f64() * 1e9 / (500.0 * 4096.0));
        };
        time("normal f32", &mut |e| fill::<f32, Normal>(&stream, e, std::hint::black_box(&mut x)));
        time("uniform f32", &mut |e| {
            fill::<f32, Uniform>(&stream, e, std::hint::black_box(&mut x))
        });
        time("portable normal f32", &mut |e| {
            fill_with::<f32, Normal, Plain>(&stream, e, std::hint::black_box(&mut x))
        });
        time("normal f64", &mut |e| fill::<f64, Normal>(&stream, e, std::hint::black_box(&mut y)));
        time("portable normal f64", &mut |e| {
            fill_with::<f64, Normal, Plain>(&stream, e, std::hint::black_box(&mut y))
        });
        time("gamma 1.28", &mut |e| fill_gamma(&stream, e, &shapes, std::hint::black_box(&mut y)));
    }
}
