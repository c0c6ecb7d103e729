//! The one door to matrix products: C = A B or C += A B, for matmul, convolution, its gradients and attention.
//!
//! Every element of C is one chain of fused multiply-adds in the order of k, in every micro-kernel and on every path.
//! So its bits depend on nothing else: not on the other rows, the blocking, the threads or the vector width.
//! A is read where it lies; B is packed into panels of the micro-kernel's width, which is also where 16-bit weights
//! widen and where convolution gathers its windows.

mod micro;
mod panel;

use super::real::Real;
use super::split::{Shared, part, task_count};
use crate::base::Result;
use crate::cpu::pool::Pool;
pub use micro::{Micro, micro_f32, micro_f64};
pub use panel::{Panel, View};
use std::ops::Range;

/// Rows of B packed at a time: a panel of A and one of B stay in the nearest caches.
const KC: usize = 512;
/// Columns of B packed at a time.
const NC: usize = 256;
/// Widest panel of any micro-kernel.
const MAX_NR: usize = 32;
/// Below this many rows of C a panel of B is used too seldom to be worth a copy, if it can be read in place.
const FEW_ROWS: usize = 24;

/// Called for each finished piece of a row of C: row, first column, elements.
pub type Finish<'a, R> = &'a (dyn Fn(usize, usize, &mut [R]) + Sync);

/// One product. Element (i, j) of C is at `i * ldc + j`.
pub struct Gemm<'a, R: Real> {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub a: View<'a, R>,
    pub b: &'a dyn Panel<R>,
    /// C += A B: the chain goes on from what C holds.
    pub accumulate: bool,
    pub finish: Option<Finish<'a, R>>,
}

/// How a product is cut into about `pieces` blocks of C: so many across, so many down.
pub fn cut(m: usize, n: usize, nr: usize, pieces: usize) -> (usize, usize) {
    // Columns first: then no panel of B is packed twice.
    let across = pieces.min((n / (2 * nr)).max(1));
    (across, (pieces / across).min(m).max(1))
}

/// Elements of scratch per task for products of up to these sizes.
pub fn scratch_elements(n: usize, k: usize) -> usize {
    n.min(NC).next_multiple_of(MAX_NR) * k.min(KC)
}

impl<R: Real> Gemm<'_, R> {
    /// Computes on this thread.
    pub fn run(&self, c: &mut [R], ldc: usize, scratch: &mut [R]) {
        self.check(c.len(), ldc);
        // Safety: `check` proved that all of C is inside the slice, which we hold alone.
        unsafe { self.block(0..self.m, 0..self.n, c.as_mut_ptr(), ldc, scratch) };
    }

    /// Computes on the pool, which splits rows and columns of C only. `scratch` holds `scratch_elements` per thread.
    pub fn run_on(&self, pool: &Pool, c: &mut [R], ldc: usize, scratch: &mut [R]) -> Result<()> {
        let per_task = scratch_elements(self.n, self.k);
        let limit = pool.threads().min(scratch.len().checked_div(per_task).unwrap_or(1));
        let nr = R::micro().nr;
        let tasks = task_count(limit, self.m * self.n.div_ceil(nr), self.k * nr / 4);
        if tasks <= 1 {
            self.run(c, ldc, scratch);
            return Ok(());
        }
        self.check(c.len(), ldc);
        let cuts = cut(self.m, self.n, nr, tasks);
        let (c, scratch) = (Shared::new(c), Shared::new(scratch));
        pool.run(cuts.0 * cuts.1, &|i| {
            let (rows, cols) = self.piece(cuts, i);
            // Safety: task i alone takes the i-th part of the scratch.
            let scratch = unsafe { scratch.range(i * per_task..(i + 1) * per_task) };
            // Safety: `check` proved C in bounds; tasks have disjoint blocks of it.
            unsafe { self.block(rows, cols, c.as_mut_ptr(), ldc, scratch) };
        })
    }

    /// Computes block `i` of a [`cut`] on this thread.
    pub fn run_piece(
        &self,
        cuts: (usize, usize),
        i: usize,
        c: &mut [R],
        ldc: usize,
        scratch: &mut [R],
    ) {
        self.check(c.len(), ldc);
        let (rows, cols) = self.piece(cuts, i);
        // Safety: as in `run`.
        unsafe { self.block(rows, cols, c.as_mut_ptr(), ldc, scratch) };
    }

    fn piece(&self, (across, down): (usize, usize), i: usize) -> (Range<usize>, Range<usize>) {
        let nr = R::micro().nr;
        let panels = part(self.n.div_ceil(nr), across, i % across);
        (part(self.m, down, i / across), panels.start * nr..(panels.end * nr).min(self.n))
    }

    /// What the raw pointers below rely on. Shapes were checked when the graph was built: a failure is our bug.
    fn check(&self, c_len: usize, ldc: usize) {
        assert!(self.m == 0 || self.n == 0 || (self.m - 1) * ldc + self.n <= c_len);
        assert!(self.n <= ldc || self.m <= 1);
        assert!(self.a.covers(self.m, self.k));
        if let Some((rows, stride)) = self.b.rows() {
            assert!(View { data: rows, rs: stride, cs: 1 }.covers(self.k, self.n));
        }
    }

    /// # Safety
    /// The block must lie inside the memory of C and no other thread may touch it.
    unsafe fn block(
        &self,
        rows: Range<usize>,
        cols: Range<usize>,
        c: *mut R,
        ldc: usize,
        scratch: &mut [R],
    ) {
        let micro = R::micro();
        let nr = micro.nr;
        let in_place = self.b.rows().filter(|_| rows.len() <= FEW_ROWS || self.n * self.k <= 8192);
        for j0 in cols.clone().step_by(NC) {
            let nc = NC.min(cols.end - j0);
            // k = 0 still has to clear C and finish it
            for k0 in (0..self.k.max(1)).step_by(KC) {
                let kc = KC.min(self.k - k0);
                for j in (0..nc).step_by(nr) {
                    let width = nr.min(nc - j);
                    if in_place.is_none() || !micro.takes(width) {
                        let panel = &mut scratch[j * kc..(j + nr) * kc];
                        self.b.pack(k0, kc, j0 + j, width, nr, panel);
                    }
                }
                for i in rows.clone().step_by(micro.mr) {
                    let mr = micro.mr.min(rows.end - i);
                    for j in (0..nc).step_by(nr) {
                        let width = nr.min(nc - j);
                        let (b, ldb) = match in_place {
                            Some((b, ldb)) if micro.takes(width) => {
                                (b.as_ptr().wrapping_add(k0 * ldb + j0 + j), ldb)
                            }
                            _ => (scratch[j * kc..].as_ptr(), nr),
                        };
                        let tile = micro::Tile {
                            kc,
                            a: self.a.data.as_ptr().wrapping_add(i * self.a.rs + k0 * self.a.cs),
                            rs: self.a.rs,
                            cs: self.a.cs,
                            b,
                            ldb,
                            c: c.wrapping_add(i * ldc + j0 + j),
                            ldc,
                            add: self.accumulate || k0 > 0,
                        };
                        // Safety: A and B are covered by `check`, panels are nr wide, C by the caller's promise.
                        unsafe { micro.run(&tile, mr, width) };
                    }
                    if k0 + kc == self.k
                        && let Some(finish) = self.finish
                    {
                        for i in i..i + mr {
                            // Safety: this row piece is in our block of C.
                            let row = unsafe {
                                std::slice::from_raw_parts_mut(c.wrapping_add(i * ldc + j0), nc)
                            };
                            finish(i, j0, row);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kernel::real::Storage;

    fn values(n: usize, seed: u32) -> Vec<f32> {
        let mut s = seed;
        let mut next = || {
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (s >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    /// The definition: one chain per element, in the order of k.
    fn chain<R: Real>(m: usize, n: usize, k: usize, a: View<'_, R>, b: View<'_, R>) -> Vec<R> {
        let mut c = vec![R::ZERO; m * n];
        for i in 0..m {
            for j in 0..n {
                for p in 0..k {
                    c[i * n + j] = a.at(i, p).fma(b.at(p, j), c[i * n + j]);
                }
            }
        }
        c
    }

    fn same_bits_everywhere<R: Real>() {
        let pools = [Pool::new(1), Pool::new(2), Pool::new(3)];
        for &(n, k) in
            &[(1, 1), (5, 3), (32, 7), (33, 64), (100, 515), (300, 1100), (31, 0), (0, 4)]
        {
            for m in [0, 1, 2, 3, 8, 13, 50] {
                for trans in 0..4 {
                    let a: Vec<R> = values(m * k, 7).iter().map(|x| x.widen()).collect();
                    let b: Vec<R> = values(k * n, 9).iter().map(|x| x.widen()).collect();
                    let (ars, acs) = if trans & 1 == 0 { (k, 1) } else { (1, m) };
                    let (brs, bcs) = if trans & 2 == 0 { (n, 1) } else { (1, k) };
                    let a = View { data: &a, rs: ars, cs: acs };
                    let b = View { data: &b, rs: brs, cs: bcs };
                    let want = chain(m, n, k, a, b);
                    let g = Gemm { m, n, k, a, b: &b, accumulate: false, finish: None };
                    for pool in &pools {
                        let mut c = vec![R::ONE; m * n];
                        let mut scratch = vec![R::of(f64::NAN); 3 * scratch_elements(n, k)];
                        g.run_on(pool, &mut c, n, &mut scratch).unwrap();
                        assert!(c == want, "{m} {n} {k} trans {trans}");
                    }
                }
            }
        }
    }

    #[test]
    fn one_chain_per_element_on_every_path() {
        same_bits_everywhere::<f32>();
        same_bits_everywhere::<f64>();
    }

    #[test]
    fn a_row_does_not_see_the_others() {
        let (n, k) = (70, 600);
        let (a, b) = (values(300 * k, 1), values(k * n, 2));
        let product = |m: usize| {
            let a = View { data: &a[..m * k], rs: k, cs: 1 };
            let b = View { data: &b, rs: n, cs: 1 };
            let mut c = vec![0f32; m * n];
            let g = Gemm { m, n, k, a, b: &b, accumulate: false, finish: None };
            g.run_on(&Pool::new(2), &mut c, n, &mut vec![0.0; 2 * scratch_elements(n, k)]).unwrap();
            c
        };
        let all = product(300);
        for m in [1, 2, 3, 8] {
            assert!(product(m) == all[..m * n]);
        }
    }

    #[test]
    fn accumulating_continues_the_chain_and_finish_sees_each_element_once() {
        let (m, n, k) = (29, 290, 700);
        let (a, b) = (values(m * k, 3), values(k * n, 4));
        let mut whole = vec![0f32; m * n];
        let mut halves = vec![0f32; m * n];
        let mut scratch = vec![0f32; scratch_elements(n, k)];
        let add_one = |_: usize, _: usize, row: &mut [f32]| row.iter_mut().for_each(|x| *x += 1.0);
        let all = View { data: &b[..], rs: n, cs: 1 };
        let view = View { data: &a[..], rs: k, cs: 1 };
        Gemm { m, n, k, a: view, b: &all, accumulate: false, finish: Some(&add_one) }.run(
            &mut whole,
            n,
            &mut scratch,
        );
        for (from, to) in [(0, 300), (300, 700)] {
            let a = View { data: &a[from..], rs: k, cs: 1 };
            let b = View { data: &b[from * n..], rs: n, cs: 1 };
            let finish: Option<Finish<'_, f32>> = if to == k { Some(&add_one) } else { None };
            Gemm { m, n, k: to - from, a, b: &b, accumulate: from > 0, finish }.run(
                &mut halves,
                n,
                &mut scratch,
            );
        }
        assert!(whole == halves);
    }
}
