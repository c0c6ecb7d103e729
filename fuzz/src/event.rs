//! The language of events and rewards: parsed, resolved against two components, evaluated. Laws: a fault names a column
//! of the text; what holds has no margin below 0, and a margin above 0 holds; a second reading gives the same tree.

use super::memory::bounded;
use diffx_event::{Expression, MOST_BYTES, Part, Resolved};

pub const WORDS: &[&str] = &[
    "x", "y", "sum(", "mean(", "min(", "max(", "first(", "last(", "abs(", "log(", "exp(", "sqrt(",
    "square(", " and ", " or ", "not ", "<=", ">=", "==", "!=", "[-2:]", "[0, 1]", "[:, 2]",
    "1e-3", "((", "))",
];

/// Bytes per byte of the text: a name of one byte is a form, its tree and an array of six numbers.
const PER_BYTE: usize = 1024;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    bounded(PER_BYTE * data.len() + 8192, || {
        let column = |c: usize| assert!((1..=text.chars().count() + 1).contains(&c), "{c}");
        let parsed = match Expression::parse(text) {
            Ok(parsed) => parsed,
            Err(fault) => return column(fault.column),
        };
        assert!(text.len() <= MOST_BYTES);
        assert_eq!(parsed, Expression::parse(text).expect("it was read before"));
        let parts = [Part { name: "x", dims: &[5] }, Part { name: "y", dims: &[2, 3] }];
        let resolved = match parsed.resolve(&parts) {
            Ok(resolved) => resolved,
            Err(fault) => return column(fault.column),
        };
        let (x, y) = ([0.5, -1.0, 3.0, 0.0, 1e300], [1.0, 2.0, -0.0, f64::NAN, -1e300, 7.0]);
        for sample in [[&x[..], &y[..]], [&x[..], &[1.0; 6]], [&[-2.0; 5], &[]]] {
            let value = resolved.value(&sample);
            let Resolved::Event(condition) = &resolved else { continue };
            let (holds, margin) = (condition.holds(&sample), condition.distance(&sample));
            assert_eq!(f64::from(holds), value);
            assert!(!(holds && margin < 0.0 || !holds && margin > 0.0), "{holds}, {margin}");
        }
    });
}

pub fn seeds() -> Vec<Vec<u8>> {
    [
        "sum(x[-3:]) <= -3",
        "max(x) >= 40 and not (last(x) < 1 or y[0, 1] == 2)",
        "1 <= mean(abs(y)) < 2e1",
        "mean(x) - .5 * max(square(y[:, 2]), 3)",
        "not -x[0] != sqrt(exp(log(y[1][2])))",
        "min(x, 2) > 1",
        "(((x[1:4]))) - x[:3] + sum(y)",
    ]
    .iter()
    .map(|s| s.as_bytes().to_vec())
    .collect()
}
