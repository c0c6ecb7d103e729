//! Addresses for values that live for a while: greedy, largest first, each at the lowest gap that fits it best.

use crate::bail;
use crate::base::Result;

/// Every address is a multiple of this, as the blocks of `mem` are.
pub const ALIGN: usize = 64;

/// A value that needs `bytes` from step `first` to step `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub bytes: usize,
    pub first: usize,
    pub last: usize,
}

/// An offset for each span, and the bytes they need together. Spans alive at the same step never overlap.
pub fn place(spans: &[Span]) -> Result<(Vec<usize>, usize)> {
    let mut order: Vec<usize> = (0..spans.len()).filter(|i| spans[*i].bytes > 0).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(spans[*i].bytes), spans[*i].first, *i));
    let mut offsets = vec![0; spans.len()];
    let mut placed: Vec<(usize, usize, Span)> = Vec::with_capacity(order.len()); // by offset
    let mut total = 0;
    for i in order {
        let span = spans[i];
        let Some(size) = aligned(span.bytes) else {
            bail!(NoMemory, "a value of {} bytes is more than an address space holds", span.bytes);
        };
        let (mut top, mut best) = (0, None);
        for (offset, end, other) in &placed {
            if other.first > span.last || span.first > other.last {
                continue;
            }
            let gap = offset.saturating_sub(top);
            if gap >= size && best.is_none_or(|(_, g)| gap < g) {
                best = Some((top, gap));
            }
            top = top.max(*end);
        }
        let offset = best.map_or(top, |(at, _)| at);
        let end = match offset.checked_add(size) {
            Some(end) if end <= isize::MAX as usize => end,
            _ => bail!(NoMemory, "the work memory is more than an address space holds"),
        };
        offsets[i] = offset;
        total = total.max(end);
        let at = placed.partition_point(|p| p.0 <= offset);
        placed.insert(at, (offset, end, span));
    }
    Ok((offsets, total))
}

/// `bytes` rounded up to the alignment, unless that overflows an address.
pub fn aligned(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(ALIGN).filter(|b| *b <= isize::MAX as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(bytes: usize, first: usize, last: usize) -> Span {
        Span { bytes, first, last }
    }

    #[test]
    fn spans_alive_together_do_not_overlap() {
        let mut x = 7u64;
        let mut next = |n: u64| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (x >> 33) % n
        };
        for _ in 0..50 {
            let spans: Vec<Span> = (0..80)
                .map(|_| {
                    let first = next(40) as usize;
                    span(next(500) as usize, first, first + next(6) as usize)
                })
                .collect();
            let (at, total) = place(&spans).unwrap();
            for (i, a) in spans.iter().enumerate() {
                assert!(at[i] % ALIGN == 0 && at[i] + a.bytes <= total);
                for (j, b) in spans.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last;
                    let apart = at[i] + a.bytes <= at[j] || at[j] + b.bytes <= at[i];
                    assert!(!together || apart || a.bytes == 0 || b.bytes == 0);
                }
            }
        }
    }

    #[test]
    fn memory_is_used_again() {
        let chain: Vec<Span> = (0..10).map(|i| span(1000, i, i + 1)).collect();
        assert_eq!(place(&chain).unwrap().1, 2048);
    }

    #[test]
    fn overflow_is_refused() {
        assert!(place(&[span(usize::MAX, 0, 0)]).is_err());
        assert!(place(&[span(isize::MAX as usize - 63, 0, 1), span(64, 0, 1)]).is_err());
    }
}
