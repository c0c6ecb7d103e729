//! The operands of a product: a strided view, and what B must be able to do.

use crate::cpu::kernel::real::{Real, Storage};
use crate::cpu::kernel::turn::{turn, turn_by};
use crate::cpu::kernel::wide::wide;

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
        if self.rs == 1 {
            let src = &self.data[k0 + j0 * self.cs..];
            let same = size_of::<T>() == size_of::<R>(); // see `rows`
            match bytemuck::try_cast_slice::<T, R>(src) {
                Ok(src) if same => turn(src, self.cs, width, kc, dst, nr),
                _ => wide(
                    #[inline(always)]
                    || turn_by(src, self.cs, width, kc, dst, nr, R::ZERO, |v| v.widen()),
                ),
            }
        } else {
            for (p, row) in dst.chunks_exact_mut(nr).take(kc).enumerate() {
                for (j, v) in row.iter_mut().enumerate().take(width) {
                    *v = self.at(k0 + p, j0 + j).widen();
                }
            }
        }
        if width < nr {
            dst.chunks_exact_mut(nr).take(kc).for_each(|row| row[width..].fill(R::ZERO));
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
