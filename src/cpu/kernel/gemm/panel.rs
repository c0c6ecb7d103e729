//! The operands of a product: a strided view, and what B must be able to do.

use crate::cpu::kernel::real::{Real, Storage};

/// A matrix that is not copied: element (i, j) at `i * rs + j * cs`.
#[derive(Debug, Clone, Copy)]
pub struct View<'a, T> {
    pub data: &'a [T],
    pub rs: usize,
    pub cs: usize,
}

impl<T: Copy> View<'_, T> {
    /// Whether rows x cols elements lie inside the data.
    pub fn covers(&self, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows - 1) * self.rs + (cols - 1) * self.cs < self.data.len()
    }

    #[inline(always)]
    pub fn at(&self, i: usize, j: usize) -> T {
        self.data[i * self.rs + j * self.cs]
    }
}

/// The right operand, k x n.
pub trait Panel<R: Real>: Sync {
    /// Writes rows `k0..k0 + kc` of columns `j0..j0 + width` to `dst`, `nr` elements per row, zeros behind `width`.
    fn pack(&self, k0: usize, kc: usize, j0: usize, width: usize, nr: usize, dst: &mut [R]);

    /// The whole matrix with contiguous rows, and the distance between them, when it can be read in place.
    fn rows(&self) -> Option<(&[R], usize)> {
        None
    }
}

impl<R: Real, T: Storage> Panel<R> for View<'_, T> {
    fn pack(&self, k0: usize, kc: usize, j0: usize, width: usize, nr: usize, dst: &mut [R]) {
        if self.cs == 1 {
            for (p, row) in dst.chunks_exact_mut(nr).take(kc).enumerate() {
                let from = (k0 + p) * self.rs + j0;
                for (d, s) in row.iter_mut().zip(&self.data[from..from + width]) {
                    *d = s.widen();
                }
                row[width..].fill(R::ZERO);
            }
            return;
        }
        // Columns are contiguous or nearly so: read short runs down each, so that the rows written stay in cache.
        const RUN: usize = 16;
        for p0 in (0..kc).step_by(RUN) {
            let run = RUN.min(kc - p0);
            let dst = &mut dst[p0 * nr..(p0 + run) * nr];
            for j in 0..width {
                let from = (k0 + p0) * self.rs + (j0 + j) * self.cs;
                let src = &self.data[from..];
                for p in 0..run {
                    dst[p * nr + j] = src[p * self.rs].widen();
                }
            }
            if width < nr {
                dst.chunks_exact_mut(nr).for_each(|row| row[width..].fill(R::ZERO));
            }
        }
    }

    fn rows(&self) -> Option<(&[R], usize)> {
        if self.cs != 1 {
            return None;
        }
        // f16 and bf16 differ in size from R; f32 read as f64 cannot pass the size test either
        if size_of::<T>() == size_of::<R>() {
            return bytemuck::try_cast_slice(self.data).ok().map(|d| (d, self.rs));
        }
        None
    }
}
