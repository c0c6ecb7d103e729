//! Names, slices and shapes: from what a text says to what it means for given components.

use crate::fault::Fault;
use crate::parse::{Expression, Form, Range, RangeKind, Syntax};
use crate::tree::{Condition, Cut, Reduce, Resolved, Tree};

/// A component: its name and the shape of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    pub name: &'a str,
    pub dims: &'a [usize],
}

/// What a form turned out to be.
enum Found {
    Numbers(Tree, Vec<usize>),
    Condition(Condition),
}

struct Scope<'e> {
    expression: &'e Expression,
    parts: &'e [Part<'e>],
}

impl Expression {
    /// What the text means for these components.
    pub fn resolve(&self, parts: &[Part<'_>]) -> Result<Resolved, Fault> {
        let scope = Scope { expression: self, parts };
        match scope.find(&self.root)? {
            Found::Condition(c) => Ok(Resolved::Event(c)),
            Found::Numbers(tree, dims) => {
                Ok(Resolved::Value(scope.single(self.root.at, tree, &dims)?))
            }
        }
    }

    /// The event it is; a fault where it is a number.
    pub fn event(&self, parts: &[Part<'_>]) -> Result<Condition, Fault> {
        match self.resolve(parts)? {
            Resolved::Event(c) => Ok(c),
            Resolved::Value(_) => {
                Err(self.fault(0, "is a number, want an event, as in max(x) >= 40"))
            }
        }
    }
}

impl Scope<'_> {
    fn find(&self, s: &Syntax) -> Result<Found, Fault> {
        let numbers = |tree, dims| Ok(Found::Numbers(tree, dims));
        match &s.form {
            Form::Number(x) => numbers(Tree::Number(*x), vec![]),
            Form::Name(name) => {
                let at = self.parts.iter().position(|p| p.name == name);
                match at {
                    Some(i) => numbers(Tree::Part(i), self.parts[i].dims.to_vec()),
                    None => {
                        let known: Vec<&str> = self.parts.iter().map(|p| p.name).collect();
                        let names = known.join(", ");
                        self.refuse(s.at, format!("no component {name}, there are: {names}"))
                    }
                }
            }
            Form::Slice(of, ranges) => {
                let (tree, dims) = self.numbers(of)?;
                let cut = self.cut(s.at, &dims, ranges)?;
                let left = cut.left();
                numbers(Tree::Cut(Box::new(tree), cut), left)
            }
            Form::End(index, of) => {
                let (tree, dims) = self.numbers(of)?;
                if dims.is_empty() {
                    return numbers(tree, dims); // a number is its own first and last
                }
                let ranges = [Range { at: s.at, kind: RangeKind::One(*index) }];
                let cut = self.cut(s.at, &dims, &ranges)?;
                let left = cut.left();
                numbers(Tree::Cut(Box::new(tree), cut), left)
            }
            Form::Map(f, of) => {
                let (tree, dims) = self.numbers(of)?;
                numbers(Tree::Map(*f, Box::new(tree)), dims)
            }
            Form::Reduce(f, of) => {
                let (tree, _) = self.numbers(of)?;
                numbers(Tree::Reduce(*f, Box::new(tree)), vec![])
            }
            Form::Pair(f, a, b) => {
                let ((a, left), (b, right)) = (self.numbers(a)?, self.numbers(b)?);
                let dims = match (left.is_empty(), right.is_empty()) {
                    (true, _) => right,
                    (_, true) => left,
                    _ if left == right => left,
                    _ => {
                        let why = format!("shapes {left:?} and {right:?}, want the same");
                        return self.refuse(s.at, why);
                    }
                };
                numbers(Tree::Pair(*f, Box::new(a), Box::new(b)), dims)
            }
            Form::Compare(c, a, b) => {
                let (left, dims) = self.numbers(a)?;
                let left = self.single(a.at, left, &dims)?;
                let (right, dims) = self.numbers(b)?;
                let right = self.single(b.at, right, &dims)?;
                Ok(Found::Condition(Condition::Compare(*c, left, right)))
            }
            Form::Both(f, a, b) => {
                let (a, b) = (self.condition(a)?, self.condition(b)?);
                Ok(Found::Condition(Condition::Both(*f, Box::new(a), Box::new(b))))
            }
            Form::Not(of) => Ok(Found::Condition(Condition::Not(Box::new(self.condition(of)?)))),
        }
    }

    fn numbers(&self, s: &Syntax) -> Result<(Tree, Vec<usize>), Fault> {
        match self.find(s)? {
            Found::Numbers(tree, dims) => Ok((tree, dims)),
            Found::Condition(_) => self.refuse(s.at, "a condition stands where a number is wanted"),
        }
    }

    fn condition(&self, s: &Syntax) -> Result<Condition, Fault> {
        match self.find(s)? {
            Found::Condition(c) => Ok(c),
            Found::Numbers(..) => self.refuse(s.at, "a number stands where a condition is wanted"),
        }
    }

    /// One number; an array of one is taken for it.
    fn single(&self, at: usize, tree: Tree, dims: &[usize]) -> Result<Tree, Fault> {
        match dims.iter().product::<usize>() {
            1 if dims.is_empty() => Ok(tree),
            1 => Ok(match tree.picks() {
                Some(_) => Tree::Reduce(Reduce::Max, Box::new(tree)), // stays a choice
                None => Tree::Reduce(Reduce::Sum, Box::new(tree)),
            }),
            n => {
                self.refuse(at, format!("{n} numbers where one is wanted: say which, as in max(x)"))
            }
        }
    }

    fn cut(&self, at: usize, dims: &[usize], ranges: &[Range]) -> Result<Cut, Fault> {
        if ranges.len() > dims.len() {
            let why = format!("{} indices into an array of {} axes", ranges.len(), dims.len());
            return self.refuse(at, why);
        }
        let mut cut = Cut {
            dims: dims.to_vec(),
            from: vec![0; dims.len()],
            to: dims.to_vec(),
            drop: vec![false; dims.len()],
        };
        for (axis, range) in ranges.iter().enumerate() {
            let n = dims[axis];
            // a bound from the end counts from the length
            let place = |i: i64| match i < 0 {
                true => n as i64 + i,
                false => i,
            };
            let (from, to) = match range.kind {
                RangeKind::One(i) => (place(i), place(i).saturating_add(1)),
                RangeKind::From(a, b) => (a.map_or(0, place), b.map_or(n as i64, place)),
            };
            let inside = 0 <= from && from < to && to <= n as i64;
            if !inside {
                let why = match range.kind {
                    RangeKind::One(i) => format!("index {i} of an axis of {n}"),
                    RangeKind::From(a, b) => {
                        let text = |i: Option<i64>| i.map_or_else(String::new, |i| i.to_string());
                        format!(
                            "range {}:{} of an axis of {n} is empty or outside",
                            text(a),
                            text(b)
                        )
                    }
                };
                return self.refuse(range.at, why);
            }
            (cut.from[axis], cut.to[axis]) = (from as usize, to as usize);
            cut.drop[axis] = matches!(range.kind, RangeKind::One(_));
        }
        Ok(cut)
    }

    fn refuse<T>(&self, at: usize, message: impl Into<String>) -> Result<T, Fault> {
        Err(self.expression.fault(at, message))
    }
}
