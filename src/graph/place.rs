//! Addresses for values that live for a while: largest first, each at the lowest gap that fits it best; where there are
//! very many, in the order of their steps instead, so that planning stays quick.

use crate::bail;
use crate::base::Result;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// Every address is a multiple of this, as the blocks of `mem` are.
pub const ALIGN: usize = 64;

/// A value that needs `bytes` from step `first` to step `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub bytes: usize,
    pub first: usize,
    pub last: usize,
}

/// Most spans that are placed with every span in view; more are placed in the order of their steps.
const MOST_IN_VIEW: usize = 1 << 12;

/// An offset for each span, and the bytes they need together. Spans alive at the same step never overlap.
pub fn place(spans: &[Span]) -> Result<(Vec<usize>, usize)> {
    let some: Vec<usize> = (0..spans.len()).filter(|i| spans[*i].bytes > 0).collect();
    let placed = match some.len() <= MOST_IN_VIEW {
        true => in_view(spans, some)?,
        false => in_order(spans, some)?,
    };
    Ok((placed.offsets, placed.total))
}

/// Where everything is, and how many spans and gaps were looked at to find it.
struct Placed {
    offsets: Vec<usize>,
    total: usize,
    #[cfg_attr(not(test), allow(dead_code))]
    looks: usize,
}

/// Largest first, each at the lowest gap that fits it best among all that live when it does. Packs tightest, in time
/// that grows with the square of the spans.
fn in_view(spans: &[Span], mut order: Vec<usize>) -> Result<Placed> {
    order.sort_by_key(|i| (Reverse(spans[*i].bytes), spans[*i].first, *i));
    let mut offsets = vec![0; spans.len()];
    let mut placed: Vec<(usize, usize, Span)> = Vec::with_capacity(order.len()); // by offset
    let (mut total, mut looks) = (0, 0);
    for i in order {
        let span = spans[i];
        let size = size(span)?;
        let (mut top, mut best) = (0, None);
        looks += placed.len();
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
        let end = end(offset, size)?;
        offsets[i] = offset;
        total = total.max(end);
        let at = placed.partition_point(|p| p.0 <= offset);
        placed.insert(at, (offset, end, span));
    }
    Ok(Placed { offsets, total, looks })
}

/// Step by step, as an allocator would: what has ended is free again, and each new span takes the tightest free range.
fn in_order(spans: &[Span], mut order: Vec<usize>) -> Result<Placed> {
    order.sort_by_key(|i| (spans[*i].first, Reverse(spans[*i].bytes), *i));
    let mut offsets = vec![0; spans.len()];
    let mut free = Free::default();
    let mut alive: BinaryHeap<Reverse<(usize, usize)>> = BinaryHeap::new(); // by the last step
    let mut looks = 0;
    for i in order {
        while let Some(Reverse((last, ended))) = alive.peek().copied() {
            if last >= spans[i].first {
                break;
            }
            alive.pop();
            looks += 1;
            free.give(offsets[ended], size(spans[ended])?);
        }
        looks += 1;
        offsets[i] = free.take(size(spans[i])?)?;
        alive.push(Reverse((spans[i].last, i)));
    }
    Ok(Placed { offsets, total: free.top, looks })
}

/// Free ranges below the top: by address, to join neighbours, and by size, to find the tightest.
#[derive(Default)]
struct Free {
    by_address: BTreeMap<usize, usize>,
    by_size: BTreeSet<(usize, usize)>,
    top: usize,
}

impl Free {
    fn take(&mut self, size: usize) -> Result<usize> {
        if let Some((length, at)) = self.by_size.range((size, 0)..).next().copied() {
            self.remove(at, length);
            if length > size {
                self.insert(at + size, length - size);
            }
            return Ok(at);
        }
        let last = self.by_address.last_key_value().map(|(at, length)| (*at, *length));
        let at = match last.filter(|(at, length)| at + length == self.top) {
            Some((at, length)) => {
                self.remove(at, length); // it grows
                at
            }
            None => self.top,
        };
        self.top = end(at, size)?;
        Ok(at)
    }

    fn give(&mut self, mut at: usize, mut size: usize) {
        let before = self.by_address.range(..at).next_back().map(|(a, l)| (*a, *l));
        if let Some((a, length)) = before.filter(|(a, length)| a + length == at) {
            self.remove(a, length);
            (at, size) = (a, size + length);
        }
        if let Some(length) = self.by_address.get(&(at + size)).copied() {
            self.remove(at + size, length);
            size += length;
        }
        self.insert(at, size);
    }

    fn insert(&mut self, at: usize, length: usize) {
        self.by_address.insert(at, length);
        self.by_size.insert((length, at));
    }

    fn remove(&mut self, at: usize, length: usize) {
        self.by_address.remove(&at);
        self.by_size.remove(&(length, at));
    }
}

fn size(span: Span) -> Result<usize> {
    match aligned(span.bytes) {
        Some(size) => Ok(size),
        None => {
            bail!(NoMemory, "a value of {} bytes is more than an address space holds", span.bytes)
        }
    }
}

fn end(offset: usize, size: usize) -> Result<usize> {
    match offset.checked_add(size) {
        Some(end) if end <= isize::MAX as usize => Ok(end),
        _ => bail!(NoMemory, "the work memory is more than an address space holds"),
    }
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

    fn all(spans: &[Span]) -> Vec<usize> {
        (0..spans.len()).filter(|i| spans[*i].bytes > 0).collect()
    }

    fn numbers() -> impl FnMut(u64) -> u64 {
        let mut x = 7u64;
        move |n| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (x >> 33) % n
        }
    }

    #[test]
    fn spans_alive_together_do_not_overlap() {
        let mut next = numbers();
        for round in 0..100 {
            let spans: Vec<Span> = (0..80)
                .map(|_| {
                    let first = next(40) as usize;
                    span(next(500) as usize, first, first + next(6) as usize)
                })
                .collect();
            let placed = match round % 2 {
                0 => in_view(&spans, all(&spans)).unwrap(),
                _ => in_order(&spans, all(&spans)).unwrap(),
            };
            let at = placed.offsets;
            for (i, a) in spans.iter().enumerate() {
                assert!(at[i] % ALIGN == 0 && at[i] + a.bytes <= placed.total || a.bytes == 0);
                for (j, b) in spans.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last;
                    let apart = at[i] + a.bytes <= at[j] || at[j] + b.bytes <= at[i];
                    assert!(!together || apart || a.bytes == 0 || b.bytes == 0);
                }
            }
        }
    }

    /// What training does: per layer something large is kept for the way back, and something lives from step to step.
    fn there_and_back(layers: usize) -> Vec<Span> {
        let mut next = numbers();
        let mut spans = Vec::new();
        for l in 0..layers {
            let wide = 4096 * (1 + next(4) as usize);
            spans.push(span(wide, l, 2 * layers - l)); // kept
            spans.push(span(wide / 2, l, l + 1)); // passed on
            spans.push(span(64 * (1 + next(32) as usize), l, l)); // scratch
            spans.push(span(wide, 2 * layers - l, 2 * layers - l + 1)); // its gradient
        }
        spans
    }

    #[test]
    fn many_spans_are_placed_in_time_that_grows_with_their_number() {
        for layers in [5_000, 20_000] {
            let spans = there_and_back(layers);
            let placed = in_order(&spans, all(&spans)).unwrap();
            assert!(placed.looks <= 2 * spans.len(), "{} looks", placed.looks);
            // no placing can do with less than what lives at once, at the turn
            let need: usize = spans
                .iter()
                .filter(|s| s.first <= layers && s.last >= layers)
                .map(|s| s.bytes)
                .sum();
            assert!(placed.total as f64 <= 1.05 * need as f64, "{} of {need}", placed.total);
        }
        let few = there_and_back(1000);
        let (view, order) = (in_view(&few, all(&few)).unwrap(), in_order(&few, all(&few)).unwrap());
        assert!(view.total <= order.total && view.looks > 100 * order.looks);
        assert_eq!(
            place(&few).unwrap().1,
            view.total,
            "what is not many is placed as tight as ever"
        );
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
