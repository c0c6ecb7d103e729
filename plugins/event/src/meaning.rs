//! What a tree computes, whatever it computes with: numbers of one sample, or nodes of a graph for a whole batch.

use crate::tree::{Both, Compare, Condition, Cut, Map, Pair, Reduce, Tree};

/// The operations of a tree. An array is one value; an array and a number may stand beside each other in `pair`.
pub trait Meaning {
    type Value: Clone;
    type Truth: Clone;

    fn number(&self, x: f64) -> Self::Value;
    fn part(&self, index: usize) -> Self::Value;
    fn cut(&self, of: Self::Value, cut: &Cut) -> Self::Value;
    fn map(&self, f: Map, of: Self::Value) -> Self::Value;
    fn reduce(&self, f: Reduce, of: Self::Value) -> Self::Value;
    fn pair(&self, f: Pair, a: Self::Value, b: Self::Value) -> Self::Value;
    fn compare(&self, c: Compare, a: Self::Value, b: Self::Value) -> Self::Truth;
    fn both(&self, f: Both, a: Self::Truth, b: Self::Truth) -> Self::Truth;
    fn not(&self, of: Self::Truth) -> Self::Truth;

    /// The two sides of a comparison as a margin compares them. A meaning may give both under one increasing function.
    fn sides(&self, a: &Tree, b: &Tree) -> (Self::Value, Self::Value)
    where
        Self: Sized,
    {
        (a.mean(self), b.mean(self))
    }
}

impl Tree {
    pub fn mean<M: Meaning>(&self, m: &M) -> M::Value {
        match self {
            Self::Number(x) => m.number(*x),
            Self::Part(i) => m.part(*i),
            Self::Cut(of, cut) => m.cut(of.mean(m), cut),
            Self::Map(f, of) => m.map(*f, of.mean(m)),
            Self::Reduce(f, of) => m.reduce(*f, of.mean(m)),
            Self::Pair(f, a, b) => m.pair(*f, a.mean(m), b.mean(m)),
        }
    }
}

impl Condition {
    /// Whether it is true. A comparison with NaN makes all of it false: `not (x[0] < 1)` does not accept NaN.
    pub fn truth<M: Meaning>(&self, m: &M) -> M::Truth {
        let (says, sound) = self.verdict(m);
        m.both(Both::And, says, sound)
    }

    /// What it says, and whether all it compares are numbers.
    fn verdict<M: Meaning>(&self, m: &M) -> (M::Truth, M::Truth) {
        match self {
            Self::Compare(c, a, b) => {
                let (a, b) = (a.mean(m), b.mean(m));
                let is_number = |v: &M::Value| m.compare(Compare::Equal, v.clone(), v.clone());
                let sound = m.both(Both::And, is_number(&a), is_number(&b));
                (m.compare(*c, a, b), sound)
            }
            Self::Both(f, a, b) => {
                let ((a, sound), (b, also)) = (a.verdict(m), b.verdict(m));
                (m.both(*f, a, b), m.both(Both::And, sound, also))
            }
            Self::Not(of) => {
                let (says, sound) = of.verdict(m);
                (m.not(says), sound)
            }
        }
    }

    /// Above 0 inside the event, below 0 outside, and differentiable where its parts are: of `a >= b` it is `a - b`, of
    /// `and` the smaller, of `or` the larger margin.
    pub fn margin<M: Meaning>(&self, m: &M) -> M::Value {
        match self {
            Self::Compare(c, a, b) => {
                let (a, b) = m.sides(a, b);
                let gap = |a, b| m.pair(Pair::Subtract, a, b);
                match c {
                    Compare::Greater | Compare::GreaterEq => gap(a, b),
                    Compare::Less | Compare::LessEq => gap(b, a),
                    Compare::Differs => m.map(Map::Abs, gap(a, b)),
                    Compare::Equal => m.map(Map::Negate, m.map(Map::Abs, gap(a, b))),
                }
            }
            Self::Both(f, a, b) => {
                let f = match f {
                    Both::And => Pair::Min,
                    Both::Or => Pair::Max,
                };
                m.pair(f, a.margin(m), b.margin(m))
            }
            Self::Not(of) => m.map(Map::Negate, of.margin(m)),
        }
    }
}
