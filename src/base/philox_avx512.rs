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
    let splat = |x: u32| _mm512_set1_epi32(x as i32);
    let [c0, c1, c2, c3] = stream.counter(elem, block);
    let lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let (mut c0, mut c1) = (_mm512_add_epi32(splat(c0), lane), splat(c1));
    let (mut c2, mut c3) = (splat(c2), splat(c3));
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
