//! The grammar, from loose to tight: `or`, `and`, `not`, comparisons (a chain `1 <= x[0] < 2` is their `and`), `+ -`,
//! `* /`, sign, call, slice. By recursive descent; what one text may cost is bounded by its length and depth.

use crate::fault::Fault;
use crate::tree::{Both, Compare, Map, Pair, Reduce};

/// Longest text.
pub const MOST_BYTES: usize = 4096;

/// Deepest tree, and most brackets inside each other.
pub const MOST_DEPTH: usize = 128;

/// A text that follows the grammar; what its names mean is not known yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    pub(crate) text: String,
    pub(crate) root: Syntax,
}

/// One form and the byte it begins at.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Syntax {
    pub(crate) at: usize,
    pub(crate) depth: usize,
    pub(crate) form: Form,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Form {
    Number(f64),
    Name(String),
    Slice(Box<Syntax>, Vec<Range>),
    Map(Map, Box<Syntax>),
    Reduce(Reduce, Box<Syntax>),
    /// `first` and `last`: index 0 or -1 of the first axis.
    End(i64, Box<Syntax>),
    Pair(Pair, Box<Syntax>, Box<Syntax>),
    Compare(Compare, Box<Syntax>, Box<Syntax>),
    Both(Both, Box<Syntax>, Box<Syntax>),
    Not(Box<Syntax>),
}

/// What stands between the commas of a slice, with its byte.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Range {
    pub(crate) at: usize,
    pub(crate) kind: RangeKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RangeKind {
    One(i64),
    From(Option<i64>, Option<i64>),
}

impl Expression {
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if text.len() > MOST_BYTES {
            let message = format!("{} bytes, want at most {MOST_BYTES}", text.len());
            return Err(Fault { column: 1, message });
        }
        let mut reader = Reader { text, at: 0, open: 0 };
        let root = reader.either()?;
        reader.space();
        if reader.at < text.len() {
            return Err(reader.unexpected("an operator or the end"));
        }
        Ok(Self { text: text.to_owned(), root })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn fault(&self, at: usize, message: impl Into<String>) -> Fault {
        Fault::new(&self.text, at, message)
    }
}

/// The functions of one argument.
enum Function {
    Map(Map),
    Reduce(Reduce),
    End(i64),
}

const FUNCTIONS: &[(&str, Function)] = &[
    ("abs", Function::Map(Map::Abs)),
    ("exp", Function::Map(Map::Exp)),
    ("log", Function::Map(Map::Log)),
    ("sqrt", Function::Map(Map::Sqrt)),
    ("square", Function::Map(Map::Square)),
    ("sum", Function::Reduce(Reduce::Sum)),
    ("mean", Function::Reduce(Reduce::Mean)),
    ("min", Function::Reduce(Reduce::Min)),
    ("max", Function::Reduce(Reduce::Max)),
    ("first", Function::End(0)),
    ("last", Function::End(-1)),
];

const COMPARISONS: &[(&str, Compare)] = &[
    ("<=", Compare::LessEq),
    (">=", Compare::GreaterEq),
    ("==", Compare::Equal),
    ("!=", Compare::Differs),
    ("<", Compare::Less),
    (">", Compare::Greater),
];

struct Reader<'t> {
    text: &'t str,
    at: usize,
    open: usize,
}

type Parsed = Result<Syntax, Fault>;

impl<'t> Reader<'t> {
    fn either(&mut self) -> Parsed {
        let mut left = self.all()?;
        while let Some(at) = self.word("or") {
            let right = self.all()?;
            left = self.two(at, left, right, |a, b| Form::Both(Both::Or, a, b))?;
        }
        Ok(left)
    }

    fn all(&mut self) -> Parsed {
        let mut left = self.negation()?;
        while let Some(at) = self.word("and") {
            let right = self.negation()?;
            left = self.two(at, left, right, |a, b| Form::Both(Both::And, a, b))?;
        }
        Ok(left)
    }

    fn negation(&mut self) -> Parsed {
        let Some(at) = self.word("not") else { return self.comparison() };
        self.deeper(at)?;
        let of = self.negation()?;
        self.open -= 1;
        self.one(at, of, Form::Not)
    }

    fn comparison(&mut self) -> Parsed {
        let mut left = self.sum()?;
        let mut chain: Option<Syntax> = None;
        while let Some((at, compare)) = self.compared()? {
            let right = self.sum()?;
            // a middle stands in two comparisons: without comparisons inside it that cannot double again and again
            self.want_number(&left)?;
            self.want_number(&right)?;
            let this = self.two(at, left, right.clone(), |a, b| Form::Compare(compare, a, b))?;
            chain = Some(match chain {
                None => this,
                Some(before) => self.two(at, before, this, |a, b| Form::Both(Both::And, a, b))?,
            });
            left = right;
        }
        Ok(chain.unwrap_or(left))
    }

    fn compared(&mut self) -> Result<Option<(usize, Compare)>, Fault> {
        self.space();
        let at = self.at;
        for (sign, compare) in COMPARISONS {
            if self.rest().starts_with(sign) {
                self.at += sign.len();
                return Ok(Some((at, *compare)));
            }
        }
        match self.rest().starts_with('=') {
            true => Err(self.unexpected("== to compare")),
            false => Ok(None),
        }
    }

    fn sum(&mut self) -> Parsed {
        let mut left = self.product()?;
        while let Some((at, sign)) = self.sign(&['+', '-']) {
            let right = self.product()?;
            let pair = if sign == '+' { Pair::Add } else { Pair::Subtract };
            left = self.two(at, left, right, |a, b| Form::Pair(pair, a, b))?;
        }
        Ok(left)
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.signed()?;
        while let Some((at, sign)) = self.sign(&['*', '/']) {
            let right = self.signed()?;
            let pair = if sign == '*' { Pair::Multiply } else { Pair::Divide };
            left = self.two(at, left, right, |a, b| Form::Pair(pair, a, b))?;
        }
        Ok(left)
    }

    fn signed(&mut self) -> Parsed {
        let Some((at, _)) = self.sign(&['-']) else { return self.sliced() };
        self.deeper(at)?;
        let of = self.signed()?;
        self.open -= 1;
        // a number is a constant with its sign
        if let Form::Number(x) = of.form {
            return Ok(Syntax { at, depth: 1, form: Form::Number(-x) });
        }
        self.one(at, of, |of| Form::Map(Map::Negate, of))
    }

    fn sliced(&mut self) -> Parsed {
        let mut of = self.primary()?;
        loop {
            self.space();
            let at = self.at;
            if !self.take('[') {
                return Ok(of);
            }
            let mut ranges = Vec::new();
            loop {
                ranges.push(self.range()?);
                self.space();
                if self.take(']') {
                    break;
                }
                if !self.take(',') {
                    return Err(self.unexpected(", or ]"));
                }
            }
            of = self.one(at, of, |of| Form::Slice(of, ranges))?;
        }
    }

    fn range(&mut self) -> Result<Range, Fault> {
        self.space();
        let at = self.at;
        let from = self.whole()?;
        self.space();
        if self.take(':') {
            let to = self.whole()?;
            return Ok(Range { at, kind: RangeKind::From(from, to) });
        }
        match from {
            Some(i) => Ok(Range { at, kind: RangeKind::One(i) }),
            None => Err(self.unexpected("an index or a range, as in x[-10:]")),
        }
    }

    /// A whole number with its sign, if there is one.
    fn whole(&mut self) -> Result<Option<i64>, Fault> {
        self.space();
        let rest = self.rest();
        let sign = usize::from(rest.starts_with('-'));
        let digits = rest[sign..].bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return match sign {
                0 => Ok(None),
                _ => Err(self.unexpected("a whole number")),
            };
        }
        let Ok(i) = rest[..sign + digits].parse() else {
            return Err(self.unexpected("an index below 2^63"));
        };
        self.at += sign + digits;
        Ok(Some(i))
    }

    fn primary(&mut self) -> Parsed {
        self.space();
        let at = self.at;
        let Some(c) = self.rest().chars().next() else {
            return Err(self.unexpected("a number, a name or ("));
        };
        if self.take('(') {
            self.deeper(at)?;
            let inner = self.either()?;
            self.close(at)?;
            return Ok(inner);
        }
        if c.is_ascii_digit() || c == '.' {
            return self.number();
        }
        let name = self.name();
        if name.is_empty() || ["and", "or", "not"].contains(&name) {
            return Err(self.unexpected("a number, a name or ("));
        }
        self.at += name.len();
        self.space();
        let open = self.at;
        if !self.take('(') {
            return Ok(Syntax { at, depth: 1, form: Form::Name(name.to_owned()) });
        }
        let Some((_, function)) = FUNCTIONS.iter().find(|(n, _)| *n == name) else {
            let known: Vec<&str> = FUNCTIONS.iter().map(|(n, _)| *n).collect();
            let message = format!("no function {name}, want one of {}", known.join(", "));
            return Err(Fault::new(self.text, at, message));
        };
        self.deeper(open)?;
        let of = self.either()?;
        self.space();
        if self.take(',') {
            let pair = match name {
                "min" => Pair::Min,
                "max" => Pair::Max,
                _ => return Err(Fault::new(self.text, at, format!("{name} takes one argument"))),
            };
            let right = self.either()?;
            self.close(open)?;
            return self.two(at, of, right, |a, b| Form::Pair(pair, a, b));
        }
        self.close(open)?;
        self.one(at, of, |of| match function {
            Function::Map(f) => Form::Map(*f, of),
            Function::Reduce(f) => Form::Reduce(*f, of),
            Function::End(i) => Form::End(*i, of),
        })
    }

    fn number(&mut self) -> Parsed {
        let (at, bytes) = (self.at, self.rest().as_bytes());
        let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut n = digits(0);
        if bytes.get(n) == Some(&b'.') {
            n += 1 + digits(n + 1);
        }
        if matches!(bytes.get(n), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(n + 1), Some(b'+' | b'-')));
            let power = digits(n + 1 + sign);
            if power > 0 {
                n += 1 + sign + power;
            }
        }
        match self.rest()[..n].parse::<f64>() {
            Ok(x) if x.is_finite() => {
                self.at += n;
                Ok(Syntax { at, depth: 1, form: Form::Number(x) })
            }
            _ => Err(self.unexpected("a finite number")),
        }
    }

    // ---- inside

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn take(&mut self, c: char) -> bool {
        let hit = self.rest().starts_with(c);
        self.at += if hit { c.len_utf8() } else { 0 };
        hit
    }

    /// One of these signs, and where it stands.
    fn sign(&mut self, signs: &[char]) -> Option<(usize, char)> {
        self.space();
        let (at, c) = (self.at, self.rest().chars().next()?);
        (signs.contains(&c) && self.take(c)).then_some((at, c))
    }

    /// The name that begins here.
    fn name(&self) -> &'t str {
        let rest = self.rest();
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return "";
        }
        &rest[..rest.find(|c| !inside(c)).unwrap_or(rest.len())]
    }

    /// A word that stands alone, and where.
    fn word(&mut self, word: &str) -> Option<usize> {
        self.space();
        let at = self.at;
        (self.name() == word).then(|| {
            self.at += word.len();
            at
        })
    }

    fn deeper(&mut self, at: usize) -> Result<(), Fault> {
        self.open += 1;
        match self.open > MOST_DEPTH {
            true => Err(Fault::new(self.text, at, format!("more than {MOST_DEPTH} levels deep"))),
            false => Ok(()),
        }
    }

    /// The bracket that belongs to the one at `open`.
    fn close(&mut self, open: usize) -> Result<(), Fault> {
        self.space();
        if !self.take(')') {
            let column = Fault::new(self.text, open, "").column;
            return Err(self.unexpected(&format!(") for the ( of column {column}")));
        }
        self.open -= 1;
        Ok(())
    }

    fn one(&self, at: usize, of: Syntax, form: impl FnOnce(Box<Syntax>) -> Form) -> Parsed {
        let depth = self.depth(at, of.depth)?;
        let out = Syntax { at, depth, form: form(Box::new(of)) };
        match &out.form {
            Form::Slice(of, _) | Form::Map(_, of) | Form::Reduce(_, of) | Form::End(_, of) => {
                self.want_number(of)?;
            }
            _ => {}
        }
        Ok(out)
    }

    fn two(
        &self,
        at: usize,
        a: Syntax,
        b: Syntax,
        form: impl FnOnce(Box<Syntax>, Box<Syntax>) -> Form,
    ) -> Parsed {
        let depth = self.depth(at, a.depth.max(b.depth))?;
        let out = Syntax { at, depth, form: form(Box::new(a), Box::new(b)) };
        if let Form::Pair(_, a, b) = &out.form {
            self.want_number(a)?;
            self.want_number(b)?;
        }
        Ok(out)
    }

    fn depth(&self, at: usize, below: usize) -> Result<usize, Fault> {
        match below < MOST_DEPTH {
            true => Ok(below + 1),
            false => Err(Fault::new(self.text, at, format!("more than {MOST_DEPTH} levels deep"))),
        }
    }

    fn want_number(&self, s: &Syntax) -> Result<(), Fault> {
        match s.form {
            Form::Compare(..) | Form::Both(..) | Form::Not(..) => {
                let message = "a condition stands where a number is wanted";
                Err(Fault::new(self.text, s.at, message))
            }
            _ => Ok(()),
        }
    }

    fn unexpected(&self, want: &str) -> Fault {
        let found = match self.rest().chars().next() {
            None => "the end".to_owned(),
            Some(c) => format!("{c:?}"),
        };
        Fault::new(self.text, self.at, format!("found {found}, want {want}"))
    }
}
