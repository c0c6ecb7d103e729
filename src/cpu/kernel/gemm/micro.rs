//! The innermost loops: a tile of C in registers, one chain of fused multiply-adds per element, in the order of k.
//!
//! Three widths of one loop. With AVX-512 a tile narrower than the widest is as cheap as its columns: masks keep loads and
//! stores inside, so that neither a copy of the tile nor a padded panel is needed. x86 without FMA falls back to the portable loop, where a fused multiply-add is a library
//! call: slow, but the same bits.

use crate::cpu::kernel::real::Real;

/// One call of a micro-kernel: C[mr, nr] (+)= A[mr, kc] B[kc, nr].
pub struct Tile<R> {
    pub kc: usize,
    pub a: *const R,
    /// Distance between rows of A, and between its columns.
    pub rs: usize,
    pub cs: usize,
    pub b: *const R,
    pub ldb: usize,
    pub c: *mut R,
    pub ldc: usize,
    /// Go on from what C holds instead of from 0.
    pub add: bool,
}

/// The micro-kernels of one machine for one type: entry `r` computes `r + 1` rows.
#[derive(Clone, Copy)]
pub struct Micro<R: 'static> {
    pub mr: usize,
    pub nr: usize,
    rows: &'static [unsafe fn(&Tile<R>)],
    narrow: Option<Narrow<R>>,
}

/// Micro-kernels of 1 to `nr` columns: of at most half of them, and of more.
#[derive(Clone, Copy)]
struct Narrow<R: 'static> {
    half: &'static [unsafe fn(&Tile<R>, usize)],
    more: &'static [unsafe fn(&Tile<R>, usize)],
}

/// Rows x columns of the largest tile.
const MAX_TILE: usize = 12 * super::MAX_NR;

impl<R: Real> Micro<R> {
    /// Whether B may lie where it is, with nothing behind column `width` of it.
    pub fn takes(&self, width: usize) -> bool {
        width == self.nr || self.narrow.is_some()
    }

    /// # Safety
    /// A must be readable for mr x kc, B for kc x width if `takes(width)`, else for kc x nr with zeros behind `width`; C
    /// writable for mr x width.
    #[inline]
    pub unsafe fn run(&self, tile: &Tile<R>, mr: usize, width: usize) {
        if width == self.nr {
            // Safety: the caller's promise, and the table was chosen for this machine.
            return unsafe { self.rows[mr - 1](tile) };
        }
        if let Some(narrow) = self.narrow {
            let rows = if 2 * width <= self.nr { narrow.half } else { narrow.more };
            // Safety: as above.
            return unsafe { rows[mr - 1](tile, width) };
        }
        let mut full = [R::ZERO; MAX_TILE];
        for i in 0..if tile.add { mr } else { 0 } {
            for j in 0..width {
                // Safety: inside mr x width of C.
                full[i * self.nr + j] = unsafe { *tile.c.add(i * tile.ldc + j) };
            }
        }
        let inner = Tile { c: full.as_mut_ptr(), ldc: self.nr, ..*tile };
        // Safety: as above, with C replaced by a full tile of our own.
        unsafe { self.rows[mr - 1](&inner) };
        for i in 0..mr {
            for j in 0..width {
                // Safety: inside mr x width of C.
                unsafe { *tile.c.add(i * tile.ldc + j) = full[i * self.nr + j] };
            }
        }
    }
}

/// The loop without intrinsics, `MR` rows by 8 columns.
unsafe fn portable<R: Real, const MR: usize>(t: &Tile<R>) {
    const NR: usize = 8;
    let mut acc = [[R::ZERO; NR]; MR];
    // Safety: all accesses are inside what the caller of `Micro::run` promised.
    unsafe {
        for i in 0..if t.add { MR } else { 0 } {
            acc[i] = *t.c.add(i * t.ldc).cast();
        }
        for p in 0..t.kc {
            let b: [R; NR] = *t.b.add(p * t.ldb).cast();
            for i in 0..MR {
                let a = *t.a.add(i * t.rs + p * t.cs);
                for j in 0..NR {
                    acc[i][j] = a.fma(b[j], acc[i][j]);
                }
            }
        }
        for i in 0..MR {
            *t.c.add(i * t.ldc).cast() = acc[i];
        }
    }
}

macro_rules! table {
    ($kernel:ident<$t:ty>: $($mr:literal)*) => {
        &[$($kernel::<$mr> as unsafe fn(&Tile<$t>)),*]
    };
    ($kernel:ident, $t:ty, [$($mr:literal)*]) => {
        const { &[$($kernel::<$t, $mr> as unsafe fn(&Tile<$t>)),*] as &[unsafe fn(&Tile<$t>)] }
    };
}

/// Two vectors wide, `MR` rows high, by intrinsics: autovectorisation of a register tile is a matter of luck.
#[cfg(target_arch = "x86_64")]
macro_rules! micro_kernel {
    ($name:ident, $feature:literal, $t:ty, $v:ty, $lanes:literal,
     $zero:ident, $load:ident, $store:ident, $splat:ident, $fma:ident) => {
        #[target_feature(enable = $feature)]
        unsafe fn $name<const MR: usize>(t: &Tile<$t>) {
            use std::arch::x86_64::*;
            // Safety: all accesses are inside what the caller of `Micro::run` promised.
            unsafe {
                let mut acc = [[$zero(); 2]; MR];
                for i in 0..if t.add { MR } else { 0 } {
                    let c = t.c.add(i * t.ldc);
                    acc[i] = [$load(c), $load(c.add($lanes))];
                }
                let (mut a, mut b) = (t.a, t.b);
                for _ in 0..t.kc {
                    let (b0, b1): ($v, $v) = ($load(b), $load(b.add($lanes)));
                    for i in 0..MR {
                        let x = $splat(*a.add(i * t.rs));
                        acc[i] = [$fma(x, b0, acc[i][0]), $fma(x, b1, acc[i][1])];
                    }
                    // past the end after the last turn, where it is not read
                    (a, b) = (a.wrapping_add(t.cs), b.wrapping_add(t.ldb));
                }
                for i in 0..MR {
                    let c = t.c.add(i * t.ldc);
                    $store(c, acc[i][0]);
                    $store(c.add($lanes), acc[i][1]);
                }
            }
        }
    };
}

/// The same for `width` columns of one or two vectors, the last of which is masked.
#[cfg(target_arch = "x86_64")]
macro_rules! narrow_kernel {
    ($name:ident, $vectors:literal, $t:ty, $v:ty, $mask:ty, $lanes:literal,
     $zero:ident, $load:ident, $store:ident, $splat:ident, $fma:ident) => {
        #[target_feature(enable = "avx512f")]
        unsafe fn $name<const MR: usize>(t: &Tile<$t>, width: usize) {
            use std::arch::x86_64::*;
            const LAST: usize = $vectors - 1;
            let inside: $mask = <$mask>::MAX >> ($vectors * $lanes - width);
            let mask = |v: usize| if v == LAST { inside } else { <$mask>::MAX };
            // Safety: all accesses are inside what the caller of `Micro::run` promised; masked lanes are not accessed.
            unsafe {
                let mut acc = [[$zero(); $vectors]; MR];
                for i in 0..if t.add { MR } else { 0 } {
                    for v in 0..$vectors {
                        acc[i][v] = $load(mask(v), t.c.wrapping_add(i * t.ldc + v * $lanes));
                    }
                }
                let (mut a, mut b) = (t.a, t.b);
                for _ in 0..t.kc {
                    let mut row: [$v; $vectors] = [$zero(); $vectors];
                    for v in 0..$vectors {
                        row[v] = $load(mask(v), b.wrapping_add(v * $lanes));
                    }
                    for i in 0..MR {
                        let x = $splat(*a.add(i * t.rs));
                        for v in 0..$vectors {
                            acc[i][v] = $fma(x, row[v], acc[i][v]);
                        }
                    }
                    // past the end after the last turn, where it is not read
                    (a, b) = (a.wrapping_add(t.cs), b.wrapping_add(t.ldb));
                }
                for i in 0..MR {
                    for v in 0..$vectors {
                        $store(t.c.wrapping_add(i * t.ldc + v * $lanes), mask(v), acc[i][v]);
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Narrow, Tile};
    micro_kernel! { f32_avx512, "avx512f", f32, __m512, 16,
    _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps }
    micro_kernel! { f64_avx512, "avx512f", f64, __m512d, 8,
    _mm512_setzero_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_set1_pd, _mm512_fmadd_pd }
    micro_kernel! { f32_avx2, "avx2,fma", f32, __m256, 8,
    _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps }
    micro_kernel! { f64_avx2, "avx2,fma", f64, __m256d, 4,
    _mm256_setzero_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_set1_pd, _mm256_fmadd_pd }

    narrow_kernel! { f32_half, 1, f32, __m512, __mmask16, 16,
    _mm512_setzero_ps, _mm512_maskz_loadu_ps, _mm512_mask_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps }
    narrow_kernel! { f32_more, 2, f32, __m512, __mmask16, 16,
    _mm512_setzero_ps, _mm512_maskz_loadu_ps, _mm512_mask_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps }
    narrow_kernel! { f64_half, 1, f64, __m512d, __mmask8, 8,
    _mm512_setzero_pd, _mm512_maskz_loadu_pd, _mm512_mask_storeu_pd, _mm512_set1_pd, _mm512_fmadd_pd }
    narrow_kernel! { f64_more, 2, f64, __m512d, __mmask8, 8,
    _mm512_setzero_pd, _mm512_maskz_loadu_pd, _mm512_mask_storeu_pd, _mm512_set1_pd, _mm512_fmadd_pd }

    macro_rules! narrow {
        ($t:ty, $half:ident, $more:ident) => {
            Some(Narrow {
                half: narrow!($half<$t>: 1 2 3 4 5 6 7 8 9 10 11 12),
                more: narrow!($more<$t>: 1 2 3 4 5 6 7 8 9 10 11 12),
            })
        };
        ($kernel:ident<$t:ty>: $($mr:literal)*) => {
            &[$($kernel::<$mr> as unsafe fn(&Tile<$t>, usize)),*]
        };
    }

    pub(super) const F32_NARROW: Option<Narrow<f32>> = narrow!(f32, f32_half, f32_more);
    pub(super) const F64_NARROW: Option<Narrow<f64>> = narrow!(f64, f64_half, f64_more);
    pub(super) const F32_AVX512: &[unsafe fn(&Tile<f32>)] =
        table!(f32_avx512<f32>: 1 2 3 4 5 6 7 8 9 10 11 12);
    pub(super) const F64_AVX512: &[unsafe fn(&Tile<f64>)] =
        table!(f64_avx512<f64>: 1 2 3 4 5 6 7 8 9 10 11 12);
    pub(super) const F32_AVX2: &[unsafe fn(&Tile<f32>)] = table!(f32_avx2<f32>: 1 2 3 4 5 6);
    pub(super) const F64_AVX2: &[unsafe fn(&Tile<f64>)] = table!(f64_avx2<f64>: 1 2 3 4 5 6);
}

macro_rules! choose {
    ($name:ident, $t:ty, $avx512:ident, $narrow:ident, $avx2:ident, $lanes:literal) => {
        /// The widest micro-kernel this machine has.
        pub fn $name() -> Micro<$t> {
            #[cfg(target_arch = "x86_64")]
            {
                if is_x86_feature_detected!("avx512f") {
                    return Micro {
                        mr: 12,
                        nr: 4 * $lanes,
                        rows: x86::$avx512,
                        narrow: x86::$narrow,
                    };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    return Micro { mr: 6, nr: 2 * $lanes, rows: x86::$avx2, narrow: None };
                }
            }
            Micro { mr: 6, nr: 8, rows: table!(portable, $t, [1 2 3 4 5 6]), narrow: None }
        }
    };
}

choose!(micro_f32, f32, F32_AVX512, F32_NARROW, F32_AVX2, 8);
choose!(micro_f64, f64, F64_AVX512, F64_NARROW, F64_AVX2, 4);

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kernel this machine can run, on every row count, against the portable one.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn all_widths_give_the_same_bits() {
        let mut kernels: Vec<Micro<f32>> = Vec::new();
        if is_x86_feature_detected!("avx512f") {
            for narrow in [None, x86::F32_NARROW] {
                kernels.push(Micro { mr: 12, nr: 32, rows: x86::F32_AVX512, narrow });
            }
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            kernels.push(Micro { mr: 6, nr: 16, rows: x86::F32_AVX2, narrow: None });
        }
        let rows = table!(portable, f32, [1 2 3 4 5 6]);
        kernels.push(Micro { mr: 6, nr: 8, rows, narrow: None });
        let kc = 37;
        let widths = |nr: usize| {
            [
                (nr, false),
                (nr, true),
                (3, false),
                (5, true),
                (nr / 2, true),
                (nr - 7, false),
                (nr - 1, true),
            ]
        };
        let wave = |n: usize| (0..n).map(|i| ((i * i) as f32 * 0.37).sin()).collect::<Vec<_>>();
        let (a, b) = (wave(12 * kc), wave(kc * 32));
        for m in &kernels {
            for rows in 1..=m.mr {
                for (width, add) in widths(m.nr) {
                    let mut c = wave(rows * m.nr);
                    let mut want = c.clone();
                    for i in 0..rows {
                        for j in 0..width {
                            let mut x = if add { want[i * m.nr + j] } else { 0.0 };
                            for p in 0..kc {
                                x = a[i * kc + p].mul_add(b[p * 32 + j], x);
                            }
                            want[i * m.nr + j] = x;
                        }
                    }
                    let (a, b, c_ptr) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
                    let t = Tile { kc, a, rs: kc, cs: 1, b, ldb: 32, c: c_ptr, ldc: m.nr, add };
                    // Safety: the vectors above are as large as the tile says.
                    unsafe { m.run(&t, rows, width) };
                    assert!(c == want, "{} rows of {}, width {width}", rows, m.nr);
                }
            }
        }
    }
}
