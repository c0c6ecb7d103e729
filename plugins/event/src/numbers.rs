//! The numbers of one sample as a meaning: what a host asks of a sample it has in hand.

use crate::meaning::Meaning;
use crate::tree::{Both, Compare, Condition, Cut, Map, Pair, Reduce, Resolved};

impl Condition {
    /// Whether a sample is in the event; `parts` are its components, row-major.
    pub fn holds(&self, parts: &[&[f64]]) -> bool {
        self.truth(&Numbers(parts))
    }

    /// The margin of a sample: above 0 inside, below 0 outside.
    pub fn distance(&self, parts: &[&[f64]]) -> f64 {
        one(&self.margin(&Numbers(parts)))
    }
}

impl Resolved {
    /// The number of a reward; of an event 1 inside and 0 outside.
    pub fn value(&self, parts: &[&[f64]]) -> f64 {
        match self {
            Self::Value(tree) => one(&tree.mean(&Numbers(parts))),
            Self::Event(c) => f64::from(c.holds(parts)),
        }
    }
}

fn one(v: &[f64]) -> f64 {
    v.first().copied().unwrap_or(f64::NAN)
}

/// Components missing or short give NaN, which no event holds for.
struct Numbers<'a>(&'a [&'a [f64]]);

impl Meaning for Numbers<'_> {
    type Value = Vec<f64>;
    type Truth = bool;

    fn number(&self, x: f64) -> Vec<f64> {
        vec![x]
    }

    fn part(&self, index: usize) -> Vec<f64> {
        let given = self.0.get(index).filter(|p| !p.is_empty());
        given.map_or_else(|| vec![f64::NAN], |p| p.to_vec())
    }

    fn cut(&self, of: Vec<f64>, cut: &Cut) -> Vec<f64> {
        let mut kept = vec![0usize]; // where each kept number stands, axis by axis
        for (axis, n) in cut.dims.iter().enumerate() {
            let rows = cut.from[axis]..cut.to[axis]; // of one length with dims
            kept = kept.iter().flat_map(|k| rows.clone().map(move |i| k * n + i)).collect();
        }
        kept.iter().map(|k| of.get(*k).copied().unwrap_or(f64::NAN)).collect()
    }

    fn map(&self, f: Map, of: Vec<f64>) -> Vec<f64> {
        let f = match f {
            Map::Negate => |x: f64| -x,
            Map::Abs => f64::abs,
            Map::Exp => f64::exp,
            Map::Log => f64::ln,
            Map::Sqrt => f64::sqrt,
            Map::Square => |x| x * x,
        };
        of.into_iter().map(f).collect()
    }

    fn reduce(&self, f: Reduce, of: Vec<f64>) -> Vec<f64> {
        let of = of.into_iter();
        let n = of.len() as f64;
        vec![match f {
            Reduce::Sum => of.sum(),
            Reduce::Mean => of.sum::<f64>() / n,
            Reduce::Min => of.reduce(smaller).unwrap_or(f64::NAN),
            Reduce::Max => of.reduce(larger).unwrap_or(f64::NAN),
        }]
    }

    fn pair(&self, f: Pair, a: Vec<f64>, b: Vec<f64>) -> Vec<f64> {
        let f = match f {
            Pair::Add => |a: f64, b: f64| a + b,
            Pair::Subtract => |a, b| a - b,
            Pair::Multiply => |a, b| a * b,
            Pair::Divide => |a, b| a / b,
            Pair::Min => smaller,
            Pair::Max => larger,
        };
        let at = |v: &[f64], i: usize| v.get(i).or(v.first().filter(|_| v.len() == 1)).copied();
        let n = a.len().max(b.len());
        let value = |i| at(&a, i).zip(at(&b, i)).map_or(f64::NAN, |(a, b)| f(a, b));
        (0..n).map(value).collect()
    }

    fn compare(&self, c: Compare, a: Vec<f64>, b: Vec<f64>) -> bool {
        let (a, b) = (one(&a), one(&b));
        match c {
            Compare::Less => a < b,
            Compare::LessEq => a <= b,
            Compare::Greater => a > b,
            Compare::GreaterEq => a >= b,
            Compare::Equal => a == b,
            Compare::Differs => a != b,
        }
    }

    fn both(&self, f: Both, a: bool, b: bool) -> bool {
        match f {
            Both::And => a && b,
            Both::Or => a || b,
        }
    }

    fn not(&self, of: bool) -> bool {
        !of
    }
}

/// NaN if either is, as in a graph.
fn smaller(a: f64, b: f64) -> f64 {
    if a.is_nan() || a < b { a } else { b }
}

fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}
