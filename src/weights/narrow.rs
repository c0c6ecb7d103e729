//! Element types the engine has no arithmetic for, and what they read as: floats of 8 bits and blocks of quantised
//! numbers as f32, small integers as i32. One row per type; a block is `elements` numbers in `bytes` bytes.

use crate::base::DType;
use half::f16;

/// A stored type that is widened when it is read.
#[derive(Debug)]
pub(super) struct Narrow {
    pub(super) name: &'static str,
    pub(super) elements: usize,
    pub(super) bytes: usize,
    pub(super) reads_as: DType,
    /// One block into as many elements of `reads_as`, little-endian.
    pub(super) widen: fn(&[u8], &mut [u8]),
}

const F32: DType = DType::F32;
const I32: DType = DType::I32;

pub(super) const NARROW: &[Narrow] = &[
    Narrow { name: "F8_E4M3", elements: 1, bytes: 1, reads_as: F32, widen: e4m3 },
    Narrow { name: "F8_E5M2", elements: 1, bytes: 1, reads_as: F32, widen: e5m2 },
    Narrow { name: "I8", elements: 1, bytes: 1, reads_as: I32, widen: i8s },
    Narrow { name: "I16", elements: 1, bytes: 2, reads_as: I32, widen: i16s },
    Narrow { name: "U16", elements: 1, bytes: 2, reads_as: I32, widen: u16s },
    Narrow { name: "Q4_0", elements: 32, bytes: 18, reads_as: F32, widen: q4_0 },
    Narrow { name: "Q4_1", elements: 32, bytes: 20, reads_as: F32, widen: q4_1 },
    Narrow { name: "Q5_0", elements: 32, bytes: 22, reads_as: F32, widen: q5_0 },
    Narrow { name: "Q5_1", elements: 32, bytes: 24, reads_as: F32, widen: q5_1 },
    Narrow { name: "Q8_0", elements: 32, bytes: 34, reads_as: F32, widen: q8_0 },
];

pub(super) fn narrow(name: &str) -> Option<&'static Narrow> {
    NARROW.iter().find(|n| n.name == name)
}

fn put(out: &mut [u8], i: usize, value: f32) {
    if let Some(place) = out.get_mut(i * 4..i * 4 + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

fn byte(block: &[u8], i: usize) -> u8 {
    block.get(i).copied().unwrap_or(0)
}

fn half_at(block: &[u8], i: usize) -> f32 {
    f16::from_le_bytes([byte(block, i), byte(block, i + 1)]).to_f32()
}

/// Sign, 4 bits of exponent, 3 of mantissa; all ones is no number, there are no infinities.
fn e4m3(block: &[u8], out: &mut [u8]) {
    let b = byte(block, 0);
    let (exponent, mantissa) = (i32::from(b >> 3 & 15), f32::from(b & 7));
    let size = match (exponent, b & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2f32.powi(-9),
        _ => (8.0 + mantissa) * 2f32.powi(exponent - 10),
    };
    put(out, 0, if b & 0x80 == 0 { size } else { -size });
}

/// The upper half of an f16.
fn e5m2(block: &[u8], out: &mut [u8]) {
    put(out, 0, f16::from_le_bytes([0, byte(block, 0)]).to_f32());
}

fn whole(out: &mut [u8], value: i32) {
    if let Some(place) = out.get_mut(..4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

fn i8s(block: &[u8], out: &mut [u8]) {
    whole(out, i32::from(byte(block, 0) as i8));
}

fn i16s(block: &[u8], out: &mut [u8]) {
    whole(out, i32::from(i16::from_le_bytes([byte(block, 0), byte(block, 1)])));
}

fn u16s(block: &[u8], out: &mut [u8]) {
    whole(out, i32::from(u16::from_le_bytes([byte(block, 0), byte(block, 1)])));
}

/// Numbers of 4 bits, the lower halves of the bytes before the upper ones, as `f(i, number)`.
fn nibbles(block: &[u8], from: usize, mut f: impl FnMut(usize, u8)) {
    for j in 0..16 {
        let q = byte(block, from + j);
        f(j, q & 15);
        f(j + 16, q >> 4);
    }
}

/// Scale; numbers less 8.
fn q4_0(block: &[u8], out: &mut [u8]) {
    let d = half_at(block, 0);
    nibbles(block, 2, |i, q| put(out, i, (f32::from(q) - 8.0) * d));
}

/// Scale, least; numbers.
fn q4_1(block: &[u8], out: &mut [u8]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    nibbles(block, 4, |i, q| put(out, i, f32::from(q) * d + m));
}

/// The fifth bit of number `i`, from four bytes.
fn fifth(block: &[u8], from: usize, i: usize) -> u8 {
    (byte(block, from + i / 8) >> (i % 8) & 1) << 4
}

/// Scale, fifth bits; numbers less 16.
fn q5_0(block: &[u8], out: &mut [u8]) {
    let d = half_at(block, 0);
    nibbles(block, 6, |i, q| put(out, i, (f32::from(q | fifth(block, 2, i)) - 16.0) * d));
}

/// Scale, least, fifth bits; numbers.
fn q5_1(block: &[u8], out: &mut [u8]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    nibbles(block, 8, |i, q| put(out, i, f32::from(q | fifth(block, 4, i)) * d + m));
}

/// Scale; signed bytes.
fn q8_0(block: &[u8], out: &mut [u8]) {
    let d = half_at(block, 0);
    for i in 0..32 {
        put(out, i, f32::from(byte(block, 2 + i) as i8) * d);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, block: &[u8]) -> f32 {
        let n = narrow(name).unwrap();
        let mut out = vec![0; n.elements * n.reads_as.bytes()];
        (n.widen)(block, &mut out);
        f32::from_le_bytes(out[..4].try_into().unwrap())
    }

    #[test]
    fn floats_of_eight_bits_have_their_ends() {
        assert_eq!(one("F8_E4M3", &[0x7e]), 448.0);
        assert_eq!(one("F8_E4M3", &[0x01]), 2f32.powi(-9));
        assert_eq!(one("F8_E4M3", &[0xb8]), -1.0);
        assert!(one("F8_E4M3", &[0xff]).is_nan());
        assert_eq!(one("F8_E5M2", &[0x7b]), 57344.0);
        assert_eq!(one("F8_E5M2", &[0x7c]), f32::INFINITY);
        assert_eq!(one("F8_E5M2", &[0x01]), 2f32.powi(-16));
    }

    /// A scale of 1, and blocks whose first number is known by hand.
    #[test]
    fn blocks_read_as_their_formulas() {
        let d = 0x3c00u16.to_le_bytes(); // 1.0
        let block = |head: &[u8], first: u8, len: usize| {
            let mut b = head.to_vec();
            b.push(first);
            b.resize(len, 0);
            b
        };
        assert_eq!(one("Q4_0", &block(&d, 0x0f, 18)), 7.0);
        assert_eq!(one("Q4_1", &block(&[d, d].concat(), 0x0f, 20)), 16.0);
        assert_eq!(one("Q5_0", &block(&[d[0], d[1], 1, 0, 0, 0], 0x0f, 22)), 15.0);
        assert_eq!(one("Q5_1", &block(&[d[0], d[1], d[0], d[1], 1, 0, 0, 0], 0x0f, 24)), 32.0);
        assert_eq!(one("Q8_0", &block(&d, 0x80, 34)), -128.0);
    }
}
