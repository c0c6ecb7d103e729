//! An expression whose names, slices and shapes are known: what it computes ([`Tree`]) and what it says ([`Condition`]).

/// A function of each number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Map {
    Negate,
    Abs,
    Exp,
    Log,
    Sqrt,
    Square,
}

/// From the numbers of an array to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduce {
    Sum,
    Mean,
    Min,
    Max,
}

/// Of two arrays of one shape, or an array and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pair {
    Add,
    Subtract,
    Multiply,
    Divide,
    Min,
    Max,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    Less,
    LessEq,
    Greater,
    GreaterEq,
    Equal,
    Differs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Both {
    And,
    Or,
}

/// A block of an array: `from[i] .. to[i]` of each axis; an axis of `drop` has length 1 and goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The shape it is cut from.
    pub dims: Vec<usize>,
    pub from: Vec<usize>,
    pub to: Vec<usize>,
    pub drop: Vec<bool>,
}

impl Cut {
    /// The shape it leaves.
    pub fn left(&self) -> Vec<usize> {
        let lengths = self.from.iter().zip(&self.to).map(|(a, b)| b - a);
        lengths.zip(&self.drop).filter(|(_, drop)| !**drop).map(|(n, _)| n).collect()
    }
}

/// A number or an array of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    Number(f64),
    /// A component, by its place.
    Part(usize),
    Cut(Box<Self>, Cut),
    Map(Map, Box<Self>),
    Reduce(Reduce, Box<Self>),
    Pair(Pair, Box<Self>, Box<Self>),
}

impl Tree {
    /// The component it picks numbers of without changing any: by slices, `min`, `max`, `first`, `last`. Such a tree
    /// commutes with every increasing function of the component.
    pub fn picks(&self) -> Option<usize> {
        match self {
            Self::Part(i) => Some(*i),
            Self::Cut(of, _) | Self::Reduce(Reduce::Min | Reduce::Max, of) => of.picks(),
            Self::Pair(Pair::Min | Pair::Max, a, b) => a.picks().filter(|i| b.picks() == Some(*i)),
            _ => None,
        }
    }

    /// The components it reads.
    pub fn reads(&self, parts: &mut Vec<usize>) {
        match self {
            Self::Number(_) => {}
            Self::Part(i) if parts.contains(i) => {}
            Self::Part(i) => parts.push(*i),
            Self::Cut(of, _) | Self::Map(_, of) | Self::Reduce(_, of) => of.reads(parts),
            Self::Pair(_, a, b) => {
                a.reads(parts);
                b.reads(parts);
            }
        }
    }
}

/// Something that is true of a sample or not; the trees compared are single numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    Compare(Compare, Tree, Tree),
    Both(Both, Box<Self>, Box<Self>),
    Not(Box<Self>),
}

impl Condition {
    /// The components it reads.
    pub fn reads(&self, parts: &mut Vec<usize>) {
        match self {
            Self::Compare(_, a, b) => {
                a.reads(parts);
                b.reads(parts);
            }
            Self::Both(_, a, b) => {
                a.reads(parts);
                b.reads(parts);
            }
            Self::Not(of) => of.reads(parts),
        }
    }
}

/// A text and the components it is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolved {
    /// One number: a reward.
    Value(Tree),
    /// An event.
    Event(Condition),
}

impl Resolved {
    /// The components it reads.
    pub fn reads(&self, parts: &mut Vec<usize>) {
        match self {
            Self::Value(tree) => tree.reads(parts),
            Self::Event(condition) => condition.reads(parts),
        }
    }
}
