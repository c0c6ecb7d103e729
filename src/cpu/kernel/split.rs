//! Parallel work over disjoint parts of one output: the only place where the kernels hand a slice to several threads.
//!
//! Work is cut into ranges of units (rows, heads, blocks); a unit's result never depends on where the cuts fall.

use crate::base::Result;
use crate::cpu::pool::Pool;
use std::marker::PhantomData;
use std::ops::Range;

/// Least work per task, in multiply-adds or the like: some ten microseconds, above what waking a thread costs.
pub const GRAIN: usize = 1 << 17;

/// A mutable slice whose disjoint ranges may be written by several tasks.
pub struct Shared<'a, T> {
    ptr: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// Safety: it only hands out ranges, through an unsafe call whose caller promises that they do not overlap.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { ptr: slice.as_mut_ptr(), len: slice.len(), owner: PhantomData }
    }

    /// # Safety
    /// No other live slice of this value may overlap `range`: two tasks writing one element is a data race.
    #[allow(clippy::mut_from_ref)] // that is the point; see Safety
    pub unsafe fn range(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // Safety: in bounds by the line above, not aliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(range.start), range.len()) }
    }

    /// The first element, for kernels that write blocks of a matrix; the same promise holds for what they write.
    pub fn as_mut_ptr(&self) -> *mut T {
        self.ptr
    }
}

/// Work of one share, in the units of [`GRAIN`]: some 160 microseconds, so that a run pauses well within a frame.
pub const SHARE: usize = 16 * GRAIN;

/// Which share of a call is done. The shares of one call come in their order and write every element of its result once;
/// each finds the scratch as the one before left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub index: usize,
    pub of: usize,
}

impl Share {
    pub const ALL: Self = Self { index: 0, of: 1 };

    /// The units of this share.
    pub fn range(self, units: usize) -> Range<usize> {
        part(units, self.of, self.index)
    }
}

/// How many shares `units` of `work` each are cut into, at least 1.
pub fn share_count(units: usize, work: usize) -> usize {
    units.saturating_mul(work).div_ceil(SHARE).min(units).max(1)
}

/// How `products` equal products of `m` rows and `n` columns are cut into shares of `work` for all: so many products
/// each, or each product into a cut of `gemm::cut` and that many shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Products {
    /// Shares of whole products.
    Whole(usize),
    /// Pieces across and down of each.
    Cut(usize, usize),
}

impl Products {
    pub fn of(products: usize, m: usize, n: usize, nr: usize, work: usize) -> Self {
        let shares = products.saturating_mul(work).div_ceil(SHARE).max(1);
        if shares <= products.max(1) {
            return Self::Whole(shares);
        }
        let each = shares.div_ceil(products);
        let (across, _) = super::gemm::cut(m, n, nr, each);
        Self::Cut(across, each.div_ceil(across).clamp(1, m.max(1)))
    }

    pub fn shares(self, products: usize) -> usize {
        match self {
            Self::Whole(shares) => shares,
            Self::Cut(across, down) => products * across * down,
        }
    }
}

/// How many tasks `units` of `work` each are worth, at most `limit`.
pub fn task_count(limit: usize, units: usize, work: usize) -> usize {
    let worth = units.saturating_mul(work.max(1)) / GRAIN;
    limit.min(units).min(worth.max(1)).max(1)
}

/// The `i`-th of `tasks` nearly equal ranges of `0..units`.
pub fn part(units: usize, tasks: usize, i: usize) -> Range<usize> {
    let cut = |i: usize| (units as u128 * i as u128 / tasks.max(1) as u128) as usize;
    cut(i)..cut(i + 1)
}

/// Runs `f(units, part of out, scratch of the task)` over contiguous ranges of `0..units`. Unit `u` owns
/// `out[start(u)..start(u + 1)]`; `start` must not decrease. Of a share, its units on this thread. `scratch` is cut into equal parts of `per_task` elements
/// and bounds the number of tasks when `per_task` is not 0.
pub fn for_units<T: Send, S: Send>(
    pool: &Pool,
    share: Share,
    out: &mut [T],
    scratch: &mut [S],
    per_task: usize,
    units: usize,
    work: usize,
    start: impl Fn(usize) -> usize + Sync,
    f: impl Fn(Range<usize>, &mut [T], &mut [S]) + Sync,
) -> Result<()> {
    let limit = pool.threads().min(scratch.len().checked_div(per_task).unwrap_or(usize::MAX));
    let tasks = task_count(limit, units, work);
    if tasks <= 1 || share.of > 1 {
        let range = share.range(units);
        let (from, to) = (start(range.start), start(range.end));
        f(range, &mut out[from..to], &mut scratch[..per_task]);
        return Ok(());
    }
    let (out, scratch) = (Shared::new(out), Shared::new(scratch));
    pool.run(tasks, &|i| {
        let range = part(units, tasks, i);
        // Safety: `part` cuts 0..units into disjoint ranges, and `start` is monotone, so outputs are disjoint too.
        let out = unsafe { out.range(start(range.start)..start(range.end)) };
        // Safety: task i alone takes the i-th part of the scratch.
        let scratch = unsafe { scratch.range(i * per_task..(i + 1) * per_task) };
        f(range, out, scratch);
    })
}

/// [`for_units`] over rows of `row` elements without scratch.
pub fn for_rows<T: Send>(
    pool: &Pool,
    share: Share,
    out: &mut [T],
    row: usize,
    work: usize,
    f: impl Fn(Range<usize>, &mut [T]) + Sync,
) -> Result<()> {
    if row == 0 {
        return Ok(());
    }
    let units = out.len() / row;
    for_units(pool, share, out, &mut [0u8; 0], 0, units, work, |u| u * row, |r, out, _| f(r, out))
}
