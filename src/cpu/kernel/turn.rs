//! Turns a matrix block by block: whole cache lines are read and whole cache lines written, whatever the distance
//! between rows (a power of two would else send every row to the same cache set).

use super::wide::wide;
use bytemuck::Pod;

/// Side of a block: elements of an f32 cache line.
const SIDE: usize = 16;

/// `dst[p * dst_stride + j] = src[j * src_stride + p]` for `j < lines`, `p < run`: elements of four bytes go through
/// vector registers where there are any.
pub(super) fn turn<T: Pod>(
    src: &[T],
    src_stride: usize,
    lines: usize,
    run: usize,
    dst: &mut [T],
    dst_stride: usize,
) {
    let (mut lines_done, mut run_done) = (0, 0);
    #[cfg(target_arch = "x86_64")]
    if size_of::<T>() == 4 && is_x86_feature_detected!("avx2") {
        let words = (bytemuck::try_cast_slice(src), bytemuck::try_cast_slice_mut(dst));
        if let (Ok(src), Ok(dst)) = words {
            (lines_done, run_done) = (lines / 8 * 8, run / 8 * 8);
            // Safety: AVX2 was just detected.
            unsafe { words_avx2(src, src_stride, lines_done, run_done, dst, dst_stride) };
        }
    }
    // what is left: columns behind the whole blocks, then lines behind them
    let mut rest = |j0: usize, lines: usize, p0: usize, run: usize| {
        if lines > 0 && run > 0 {
            let (src, dst) = (&src[j0 * src_stride + p0..], &mut dst[p0 * dst_stride + j0..]);
            wide(
                #[inline(always)]
                || turn_by(src, src_stride, lines, run, dst, dst_stride, T::zeroed(), |v| v),
            );
        }
    };
    rest(0, lines_done, run_done, run - run_done);
    rest(lines_done, lines - lines_done, 0, run);
}

/// Blocks of 8 x 8, all inside: `lines` and `run` are multiples of 8.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn words_avx2(
    src: &[f32],
    src_stride: usize,
    lines: usize,
    run: usize,
    dst: &mut [f32],
    dst_stride: usize,
) {
    use std::arch::x86_64::*;
    if lines == 0 || run == 0 {
        return;
    }
    assert!((lines - 1) * src_stride + run <= src.len());
    assert!((run - 1) * dst_stride + lines <= dst.len());
    for p0 in (0..run).step_by(8) {
        for j0 in (0..lines).step_by(8) {
            let from = src[j0 * src_stride + p0..].as_ptr();
            let to = dst[p0 * dst_stride + j0..].as_mut_ptr();
            // Safety: the asserts put all 8 rows of 8 elements inside, on either side. Only moves: any bits pass.
            unsafe {
                let mut r = [_mm256_setzero_ps(); 8];
                for (j, r) in r.iter_mut().enumerate() {
                    *r = _mm256_loadu_ps(from.wrapping_add(j * src_stride));
                }
                let mut t = [_mm256_setzero_ps(); 8];
                for j in 0..4 {
                    t[2 * j] = _mm256_unpacklo_ps(r[2 * j], r[2 * j + 1]);
                    t[2 * j + 1] = _mm256_unpackhi_ps(r[2 * j], r[2 * j + 1]);
                }
                for j in [0, 4] {
                    r[j] = _mm256_shuffle_ps::<0x44>(t[j], t[j + 2]);
                    r[j + 1] = _mm256_shuffle_ps::<0xEE>(t[j], t[j + 2]);
                    r[j + 2] = _mm256_shuffle_ps::<0x44>(t[j + 1], t[j + 3]);
                    r[j + 3] = _mm256_shuffle_ps::<0xEE>(t[j + 1], t[j + 3]);
                }
                for p in 0..4 {
                    let low = _mm256_permute2f128_ps::<0x20>(r[p], r[p + 4]);
                    let high = _mm256_permute2f128_ps::<0x31>(r[p], r[p + 4]);
                    _mm256_storeu_ps(to.wrapping_add(p * dst_stride), low);
                    _mm256_storeu_ps(to.wrapping_add((p + 4) * dst_stride), high);
                }
            }
        }
    }
}

/// [`turn`] with a conversion: `dst[p * dst_stride + j] = f(src[j * src_stride + p])`.
#[inline(always)]
pub(super) fn turn_by<T: Copy, U: Copy>(
    src: &[T],
    src_stride: usize,
    lines: usize,
    run: usize,
    dst: &mut [U],
    dst_stride: usize,
    zero: U,
    f: impl Fn(T) -> U,
) {
    for p0 in (0..run).step_by(SIDE) {
        let deep = SIDE.min(run - p0);
        for j0 in (0..lines).step_by(SIDE) {
            let wide = SIDE.min(lines - j0);
            let mut tile = [[zero; SIDE]; SIDE];
            for j in 0..wide {
                let line = &src[(j0 + j) * src_stride + p0..][..deep];
                if let Some(line) = line.first_chunk::<SIDE>() {
                    for p in 0..SIDE {
                        tile[p][j] = f(line[p]);
                    }
                } else {
                    line.iter().enumerate().for_each(|(p, v)| tile[p][j] = f(*v));
                }
            }
            for (p, row) in tile.iter().enumerate().take(deep) {
                let to = &mut dst[(p0 + p) * dst_stride + j0..][..wide];
                if let Some(to) = to.first_chunk_mut::<SIDE>() {
                    *to = *row;
                } else {
                    to.copy_from_slice(&row[..wide]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Pod + PartialEq>(of: impl Fn(usize) -> T) {
        for lines in [1, 7, 8, 9, 16, 31, 40] {
            for run in [1, 5, 8, 12, 16, 33] {
                let (from, to) = (run + 3, lines + 1);
                let src: Vec<T> = (0..lines * from).map(&of).collect();
                let mut dst = vec![of(12_345); run * to];
                turn(&src, from, lines, run, &mut dst, to);
                for p in 0..run {
                    assert!((0..lines).all(|j| dst[p * to + j] == src[j * from + p]));
                    assert!(dst[p * to + lines] == of(12_345), "past the end of a row");
                }
            }
        }
    }

    #[test]
    fn every_size_is_turned_and_nothing_else_touched() {
        check(|i| i as u32);
        check(|i| i as u64);
        check(|i| i as f32);
        check(|i| i as u8);
    }
}
