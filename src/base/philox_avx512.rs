//! The block cipher on sixteen counters at once with AVX-512: the compiler does not find this form of the 32 by 32 bit
//! products, which is twice as fast as the one it does find.

use super::philox::{MULTIPLIER, Stream, WEYL};
use core::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_mask_blend_epi32, _mm512_mul_epu32, _mm512_set1_epi32,
    _mm512_setr_epi32, _mm512_slli_epi64, _mm512_srli_epi64, _mm512_ternarylogic_epi32,
};

/// Block `block` of the elements `elem..elem + 16`, word by word. The low counter word must not wrap among them.
///
/// Only to be called where the CPU has AVX-512F.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn words(stream: &Stream, elem: u64, block: u16) -> [[u32; 16]; 4] {
    let [c0, c1, c2, c3] = stream.counter(elem, block).map(|c| splat(c));
    let lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    rounds(stream, [_mm512_add_epi32(c0, lane), c1, c2, c3])
}

/// Block `block` of any sixteen elements.
///
/// Only to be called where the CPU has AVX-512F.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn words_at(stream: &Stream, elems: &[u64; 16], block: u16) -> [[u32; 16]; 4] {
    let counters = elems.map(|e| stream.counter(e, block));
    // Safety: sixteen words, and any bits are words.
    let word = |k: usize| unsafe {
        core::mem::transmute::<[u32; 16], __m512i>(counters.map(|counter| counter[k]))
    };
    rounds(stream, [word(0), word(1), splat(counters[0][2]), splat(counters[0][3])])
}

#[target_feature(enable = "avx512f")]
#[inline]
fn splat(x: u32) -> __m512i {
    _mm512_set1_epi32(x as i32)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn rounds(stream: &Stream, [mut c0, mut c1, mut c2, mut c3]: [__m512i; 4]) -> [[u32; 16]; 4] {
    let (m0, m1) = (splat(MULTIPLIER[0]), splat(MULTIPLIER[1]));
    let [mut k0, mut k1] = stream.key();
    for _ in 0..10 {
        let (h0, l0) = product(c0, m0);
        let (h1, l1) = product(c2, m1);
        // 0x96: the exclusive or of all three
        c0 = _mm512_ternarylogic_epi32::<0x96>(h1, c1, splat(k0));
        c2 = _mm512_ternarylogic_epi32::<0x96>(h0, c3, splat(k1));
        (c1, c3) = (l1, l0);
        k0 = k0.wrapping_add(WEYL[0]);
        k1 = k1.wrapping_add(WEYL[1]);
    }
    // Safety: sixteen words each, and any bits are words.
    [c0, c1, c2, c3].map(|c| unsafe { core::mem::transmute::<__m512i, [u32; 16]>(c) })
}

/// High and low words of `x * m`.
#[target_feature(enable = "avx512f")]
#[inline]
fn product(x: __m512i, m: __m512i) -> (__m512i, __m512i) {
    let even = _mm512_mul_epu32(x, m);
    let odd = _mm512_mul_epu32(_mm512_srli_epi64::<32>(x), m);
    (
        _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64::<32>(even), odd),
        _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64::<32>(odd)),
    )
}
