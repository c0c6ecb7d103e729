//! The one order in which rows are summed, multiplied, compared: 16 lanes by index, a fixed tree over the lanes, and
//! pairs over chunks of 512. Lanes go by index and never by address, so the bits are those of the definition on any
//! machine; a run down a column takes the same order as a run along a row.
//!
//! f32 is summed in f64.

use super::real::Real;

/// Elements per chunk, a multiple of [`LANES`].
pub(super) const CHUNK: usize = 512;
const LANES: usize = 16;

/// An associative operation with its neutral element.
pub(super) trait Fold {
    type T: Copy;
    const NEUTRAL: Self::T;
    fn join(a: Self::T, b: Self::T) -> Self::T;
}

/// Addition in f64.
pub(super) struct Sum;
/// Multiplication in f64.
pub(super) struct Prod;
/// Largest of `T`, NaN if there is one.
pub(super) struct Max<T>(T);
/// Smallest of `T`, NaN if there is one.
pub(super) struct Min<T>(T);
/// Addition of integers, which wraps.
pub(super) struct WrappingSum<T>(T);

macro_rules! fold {
    ($fold:ty, $t:ty, $neutral:expr, |$a:ident, $b:ident| $join:expr) => {
        impl Fold for $fold {
            type T = $t;
            const NEUTRAL: $t = $neutral;
            #[inline(always)]
            fn join($a: $t, $b: $t) -> $t {
                $join
            }
        }
    };
}

fold! { Sum, f64, 0.0, |a, b| a + b }
fold! { Prod, f64, 1.0, |a, b| a * b }
fold! { WrappingSum<i32>, i32, 0, |a, b| a.wrapping_add(b) }
fold! { WrappingSum<i64>, i64, 0, |a, b| a.wrapping_add(b) }
fold! { Max<i32>, i32, i32::MIN, |a, b| a.max(b) }
fold! { Max<i64>, i64, i64::MIN, |a, b| a.max(b) }
fold! { Min<i32>, i32, i32::MAX, |a, b| a.min(b) }
fold! { Min<i64>, i64, i64::MAX, |a, b| a.min(b) }

impl<R: Real> Fold for Max<R> {
    type T = R;
    const NEUTRAL: R = R::NEG_INFINITY;
    #[inline(always)]
    fn join(a: R, b: R) -> R {
        if b > a || b.is_nan() { b } else { a }
    }
}

impl<R: Real> Fold for Min<R> {
    type T = R;
    const NEUTRAL: R = R::INFINITY;
    #[inline(always)]
    fn join(a: R, b: R) -> R {
        if b < a || b.is_nan() { b } else { a }
    }
}

/// Joins chunk results like a binary counter: neighbours first, whatever their number.
struct Pairs<T: Copy, const W: usize> {
    levels: [[T; W]; 48],
    count: u64,
}

impl<T: Copy, const W: usize> Pairs<T, W> {
    #[inline(always)]
    fn new(neutral: T) -> Self {
        Self { levels: [[neutral; W]; 48], count: 0 }
    }

    #[inline(always)]
    fn push<F: Fold<T = T>>(&mut self, mut v: [T; W]) {
        let full = self.count.trailing_ones() as usize;
        for level in &self.levels[..full] {
            for j in 0..W {
                v[j] = F::join(level[j], v[j]);
            }
        }
        self.levels[full] = v;
        self.count += 1;
    }

    #[inline(always)]
    fn finish<F: Fold<T = T>>(self) -> [T; W] {
        let mut out = [F::NEUTRAL; W];
        let mut first = true;
        for (i, level) in
            self.levels.iter().enumerate().take(64 - self.count.leading_zeros() as usize)
        {
            if self.count >> i & 1 == 1 {
                for j in 0..W {
                    out[j] = if first { level[j] } else { F::join(level[j], out[j]) };
                }
                first = false;
            }
        }
        out
    }
}

/// `$lanes[0]` = the tree over 16 lanes: `l` with `l + 8`, then `+ 4`, `+ 2`, `+ 1`. The steps are written out so that
/// the lanes stay in registers.
macro_rules! halve {
    ($lanes:ident, |$a:ident, $b:ident| $join:expr) => {
        halve!(@ $lanes, $a, $b, $join, 8);
        halve!(@ $lanes, $a, $b, $join, 4);
        halve!(@ $lanes, $a, $b, $join, 2);
        halve!(@ $lanes, $a, $b, $join, 1);
    };
    (@ $lanes:ident, $a:ident, $b:ident, $join:expr, $half:literal) => {
        for l in 0..$half {
            let ($a, $b) = ($lanes[l], $lanes[l + $half]);
            $lanes[l] = $join;
        }
    };
}
pub(super) use halve;

#[inline(always)]
fn tree<F: Fold, const W: usize>(mut lanes: [[F::T; W]; LANES]) -> [F::T; W] {
    halve!(lanes, |a, b| {
        let mut joined = a;
        for j in 0..W {
            joined[j] = F::join(a[j], b[j]);
        }
        joined
    });
    lanes[0]
}

/// One chunk of a row.
#[inline(always)]
fn chunk<F: Fold, E: Copy>(x: &[E], map: impl Fn(E) -> F::T) -> F::T {
    let mut lanes = [[F::NEUTRAL; 1]; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for l in 0..LANES {
            lanes[l][0] = F::join(lanes[l][0], map(block[l]));
        }
    }
    for (lane, v) in lanes.iter_mut().zip(rest) {
        lane[0] = F::join(lane[0], map(*v));
    }
    tree::<F, 1>(lanes)[0]
}

/// Folds a row that lies in one piece.
#[inline(always)]
pub(super) fn row<F: Fold, E: Copy>(x: &[E], map: impl Fn(E) -> F::T) -> F::T {
    if x.len() <= CHUNK {
        return chunk::<F, E>(x, map);
    }
    let mut pairs = Pairs::<F::T, 1>::new(F::NEUTRAL);
    for part in x.chunks(CHUNK) {
        pairs.push::<F>([chunk::<F, E>(part, &map)]);
    }
    pairs.finish::<F>()[0]
}

/// Folds a row of `n` that `fetch(start, buffer)` brings piece by piece.
#[inline(always)]
pub(super) fn fetched<F: Fold, E: Copy + Default>(
    n: usize,
    fetch: impl Fn(usize, &mut [E]),
    map: impl Fn(E) -> F::T,
) -> F::T {
    let mut buffer = [E::default(); CHUNK];
    let mut pairs = Pairs::<F::T, 1>::new(F::NEUTRAL);
    for start in (0..n).step_by(CHUNK) {
        let part = &mut buffer[..CHUNK.min(n - start)];
        fetch(start, part);
        pairs.push::<F>([chunk::<F, E>(part, &map)]);
    }
    pairs.finish::<F>()[0]
}

/// Folds `W` neighbouring columns of `n` elements, `stride` apart; `map` is told the column.
#[inline(always)]
pub(super) fn columns<F: Fold, E: Copy, const W: usize>(
    x: &[E],
    n: usize,
    stride: usize,
    map: impl Fn(E, usize) -> F::T,
) -> [F::T; W] {
    if n <= CHUNK {
        // the levels of the pairs cost more than that
        return chunk_of_columns::<F, E, W>(x, n, stride, &map);
    }
    let mut pairs = Pairs::<F::T, W>::new(F::NEUTRAL);
    for start in (0..n).step_by(CHUNK) {
        let (x, n) = (&x[start * stride..], CHUNK.min(n - start));
        pairs.push::<F>(chunk_of_columns::<F, E, W>(x, n, stride, &map));
    }
    pairs.finish::<F>()
}

#[inline(always)]
fn chunk_of_columns<F: Fold, E: Copy, const W: usize>(
    x: &[E],
    n: usize,
    stride: usize,
    map: &impl Fn(E, usize) -> F::T,
) -> [F::T; W] {
    let mut lanes = [[F::NEUTRAL; W]; LANES];
    for r in 0..n {
        let line = &x[r * stride..][..W];
        let lane = &mut lanes[r % LANES];
        for j in 0..W {
            lane[j] = F::join(lane[j], map(line[j], j));
        }
    }
    tree::<F, W>(lanes)
}

/// Calls `$f::<W>(first column)` for tiles of 16, 4 and 1 columns that cover `$range`.
macro_rules! for_column_tiles {
    ($range:expr, |$first:ident, $width:ident| $body:expr) => {{
        let range: std::ops::Range<usize> = $range;
        let mut $first = range.start;
        while $first < range.end {
            let left = range.end - $first;
            if left >= 16 {
                const $width: usize = 16;
                $body;
                $first += 16;
            } else if left >= 4 {
                const $width: usize = 4;
                $body;
                $first += 4;
            } else {
                const $width: usize = 1;
                $body;
                $first += 1;
            }
        }
    }};
}
pub(super) use for_column_tiles;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_columns_and_pieces_have_the_same_bits() {
        for n in [0usize, 1, 15, 16, 17, 511, 512, 513, 1024, 5000] {
            let x: Vec<f64> = (0..n * 4).map(|i| (i as f64 * 0.71).sin() * 1e3).collect();
            let cols = columns::<Sum, f64, 4>(&x, n, 4, |v, _| v);
            for j in 0..4 {
                let own: Vec<f64> = (0..n).map(|i| x[i * 4 + j]).collect();
                let a = row::<Sum, f64>(&own, |v| v);
                let fetch = |at: usize, b: &mut [f64]| b.copy_from_slice(&own[at..at + b.len()]);
                let b = fetched::<Sum, f64>(n, fetch, |v| v);
                assert_eq!(a.to_bits(), cols[j].to_bits(), "{n}");
                assert_eq!(a.to_bits(), b.to_bits(), "{n}");
                assert!((a - own.iter().sum::<f64>()).abs() < 1e-7);
            }
        }
    }
}
