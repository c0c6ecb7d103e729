//! Turns a matrix block by block: whole cache lines are read and whole cache lines written, whatever the distance
//! between rows (a power of two would else send every row to the same cache set).

/// Side of a block: elements of an f32 cache line.
const SIDE: usize = 16;

/// `dst[p * dst_stride + j] = f(src[j * src_stride + p])` for `j < lines`, `p < run`.
#[inline(always)]
pub(super) fn turn<T: Copy, U: Copy>(
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
