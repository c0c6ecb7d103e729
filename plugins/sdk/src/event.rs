//! Events over decoded samples as nodes: the trees of `diffx-event` with a graph for their meaning. A row of the batch is
//! a sample; an array keeps its axes after the batch, a number is `[batch]` or a scalar.

use crate::abi;
use crate::builder::Builder;
use crate::error::{Error, Result};
use crate::node::Node;
use crate::op;
use diffx_event::{Both, Cut, Map, Meaning, Pair, Reduce, Resolved};

pub use diffx_event::{Compare, Condition, Expression, Fault, Part, Tree};

/// A text that names an event, read at `create` and resolved against the components of the pipeline while building.
#[derive(Debug, Clone, PartialEq)]
pub struct Event(Expression);

impl Event {
    /// Parses the value of the setting `key`.
    pub fn parse(key: &str, text: &str) -> Result<Self> {
        let parsed = Expression::parse(text);
        parsed.map(Self).map_err(|fault| Error::invalid(format!("{key}, {fault}")))
    }

    pub fn text(&self) -> &str {
        self.0.text()
    }

    /// The condition for the components of the pipeline; they must be continuous where it reads them.
    pub fn resolve(&self, b: Builder<'_>) -> Result<Condition> {
        match resolve(b, "event", &self.0)? {
            Resolved::Event(condition) => Ok(condition),
            Resolved::Value(_) => {
                Err(Error::invalid("event is a number, want a condition, as in max(x) >= 40"))
            }
        }
    }
}

/// A text that names a number of the decoded sample; an event counts 1 inside and 0 outside.
#[derive(Debug, Clone, PartialEq)]
pub struct Reward(Expression);

impl Reward {
    /// Parses the value of the setting `key`.
    pub fn parse(key: &str, text: &str) -> Result<Self> {
        let parsed = Expression::parse(text);
        parsed.map(Self).map_err(|fault| Error::invalid(format!("{key}, {fault}")))
    }

    /// `float[batch]` of decoded samples.
    pub fn value<'b>(&self, b: Builder<'b>, x: &[Node<'b>]) -> Result<Node<'b>> {
        Ok(match resolve(b, "reward", &self.0)? {
            Resolved::Event(condition) => holds(b, &condition, x).cast(0),
            Resolved::Value(tree) => rows(b, tree.mean(&Nodes { b, x, coordinate: None })),
        })
    }
}

fn resolve(b: Builder<'_>, what: &str, text: &Expression) -> Result<Resolved> {
    let views: Vec<_> = (0..b.components()).filter_map(|c| b.component(c)).collect();
    let size = |d: &i64| usize::try_from(*d).unwrap_or(0);
    let dims: Vec<Vec<usize>> = views.iter().map(|v| v.shape.iter().map(size).collect()).collect();
    let parts: Vec<Part<'_>> =
        views.iter().zip(&dims).map(|(v, dims)| Part { name: v.name, dims }).collect();
    let wrong = |fault: Fault| Error::invalid(format!("{what}, {fault}"));
    let resolved = text.resolve(&parts).map_err(wrong)?;
    let mut reads = Vec::new();
    resolved.reads(&mut reads);
    match reads.iter().filter_map(|c| views.get(*c)).find(|v| v.discrete) {
        Some(v) => Err(Error::unsupported(format!("{what}: component {} is discrete", v.name))),
        None => Ok(resolved),
    }
}

/// `bool[batch]`: whether each decoded sample is in the event. In f64 whatever the graph's type, as a host checks it.
pub fn holds<'b>(b: Builder<'b>, event: &Condition, x: &[Node<'b>]) -> Node<'b> {
    let x: Vec<Node<'b>> = x.iter().map(|x| x.cast(abi::F64)).collect();
    let truth = event.truth(&Nodes { b, x: &x, coordinate: None });
    rows(b, truth)
}

/// `float[batch]`: above 0 inside the event, below 0 outside, differentiable by the decoded sample.
pub fn margin<'b>(b: Builder<'b>, event: &Condition, x: &[Node<'b>]) -> Node<'b> {
    let value = event.margin(&Nodes { b, x, coordinate: None });
    rows(b, value)
}

/// The same from the coordinates `w` of clean samples. Where a comparison only picks numbers (`max(x) >= 40`) its
/// margin is taken in w, where noise is simplest: both sides under the increasing function that takes x to w.
pub fn margin_in_w<'b>(
    b: Builder<'b>,
    event: &Condition,
    w: &[Node<'b>],
    clean: &[Node<'b>],
) -> Node<'b> {
    let decode = |(c, w): (usize, &Node<'b>)| b.process(c).decode(*w, clean[c]);
    let x: Vec<Node<'b>> = w.iter().enumerate().map(decode).collect();
    let value = event.margin(&Nodes { b, x: &x, coordinate: Some(w) });
    rows(b, value)
}

/// A number of each row.
fn rows<'b>(b: Builder<'b>, value: Node<'b>) -> Node<'b> {
    match value.shape().len() {
        0 => value.broadcast_to(&[b.batch()]), // an event that reads no component
        _ => value,
    }
}

struct Nodes<'n, 'b> {
    b: Builder<'b>,
    /// Decoded components.
    x: &'n [Node<'b>],
    /// The same in their coordinates.
    coordinate: Option<&'n [Node<'b>]>,
}

impl<'b> Nodes<'_, 'b> {
    /// What a tree that picks numbers of component `c` picks of their distances to a constant above 0, in the coordinate.
    /// Every number of a sample has the constant in its own coordinate: a process may take them apart by their place.
    fn over(&self, tree: &Tree, c: usize, constant: f64, w: &[Node<'b>]) -> Option<Node<'b>> {
        let mut one = self.x.get(c)?.shape().to_vec();
        *one.first_mut()? = 1;
        let at = self.b.process(c).encode(self.b.full(constant, &one));
        let gap = |(i, w): (usize, &Node<'b>)| if i == c { *w - at } else { *w };
        let gaps: Vec<Node<'b>> = w.iter().enumerate().map(gap).collect();
        Some(tree.mean(&Nodes { b: self.b, x: &gaps, coordinate: None }))
    }
}

impl<'b> Meaning for Nodes<'_, 'b> {
    type Value = Node<'b>;
    type Truth = Node<'b>;

    fn number(&self, x: f64) -> Node<'b> {
        self.b.scalar(x)
    }

    fn part(&self, index: usize) -> Node<'b> {
        self.x.get(index).copied().unwrap_or_else(|| self.b.error_node())
    }

    fn cut(&self, of: Node<'b>, cut: &Cut) -> Node<'b> {
        let batch = of.shape().first().copied().unwrap_or(0);
        let with_batch = |first: i64, rest: &[usize]| -> Vec<i64> {
            std::iter::once(first).chain(rest.iter().map(|n| *n as i64)).collect()
        };
        let (from, to) = (with_batch(0, &cut.from), with_batch(batch, &cut.to));
        of.slice(&from, &to).reshape(&with_batch(batch, &cut.left()))
    }

    fn map(&self, f: Map, of: Node<'b>) -> Node<'b> {
        match f {
            Map::Negate => -of,
            Map::Abs => of.abs(),
            Map::Exp => of.exp(),
            Map::Log => of.log(),
            Map::Sqrt => of.sqrt(),
            Map::Square => of.square(),
        }
    }

    fn reduce(&self, f: Reduce, of: Node<'b>) -> Node<'b> {
        let axes: Vec<i64> = (1..of.shape().len() as i64).collect();
        if axes.is_empty() {
            return of; // of one number
        }
        let code = match f {
            Reduce::Sum => op::SUM,
            Reduce::Mean => op::MEAN,
            Reduce::Min => op::REDUCE_MIN,
            Reduce::Max => op::REDUCE_MAX,
        };
        of.reduce(code, &axes, false)
    }

    fn pair(&self, f: Pair, a: Node<'b>, b: Node<'b>) -> Node<'b> {
        let (a, b) = beside(a, b);
        match f {
            Pair::Add => a + b,
            Pair::Subtract => a - b,
            Pair::Multiply => a * b,
            Pair::Divide => a / b,
            Pair::Min => a.min(b),
            Pair::Max => a.max(b),
        }
    }

    fn compare(&self, c: Compare, a: Node<'b>, b: Node<'b>) -> Node<'b> {
        match c {
            Compare::Less => a.less(b),
            Compare::LessEq => a.less_eq(b),
            Compare::Greater => a.greater(b),
            Compare::GreaterEq => a.greater_eq(b),
            Compare::Equal => a.equals(b),
            Compare::Differs => a.differs(b),
        }
    }

    fn both(&self, f: Both, a: Node<'b>, b: Node<'b>) -> Node<'b> {
        match f {
            Both::And => a & b,
            Both::Or => a | b,
        }
    }

    fn not(&self, of: Node<'b>) -> Node<'b> {
        !of
    }

    fn sides(&self, a: &Tree, b: &Tree) -> (Node<'b>, Node<'b>) {
        let plain = || (a.mean(self), b.mean(self));
        let Some(w) = self.coordinate else { return plain() };
        let zero = || self.b.scalar(0.0);
        match (a, b, a.picks(), b.picks()) {
            (_, Tree::Number(x), Some(c), _) if *x > 0.0 => {
                self.over(a, c, *x, w).map_or_else(plain, |gap| (gap, zero()))
            }
            (Tree::Number(x), _, _, Some(c)) if *x > 0.0 => {
                self.over(b, c, *x, w).map_or_else(plain, |gap| (zero(), gap))
            }
            _ => plain(),
        }
    }
}

/// A number of each row stands beside arrays as `[batch, 1, ..]`.
fn beside<'b>(a: Node<'b>, b: Node<'b>) -> (Node<'b>, Node<'b>) {
    let column = |x: Node<'b>, like: Node<'b>| {
        let (shape, rank) = (x.shape(), like.shape().len());
        if shape.len() != 1 || rank <= 1 {
            return x;
        }
        let mut dims = vec![1; rank];
        dims[0] = shape[0];
        x.reshape(&dims)
    };
    (column(a, b), column(b, a))
}

/// Gradients of a number of each row by nodes of the same rows: `[batch, ..]` each.
pub fn slope<'b>(b: Builder<'b>, value: Node<'b>, by: &[Node<'b>]) -> Vec<Node<'b>> {
    let ones = b.full(1.0, &value.shape());
    b.grad(value, ones, by)
}
