//! The CSV reader and the windows cut from what it read. The first byte says whether a column is named and how windows
//! are cut. Law: what is accepted has as many dates as values, all finite, dates ascending.

use super::memory::bounded;
use diffx::mem::Budget;
use diffx::train::data::{Panel, Series, Split, windows};

pub const WORDS: &[&str] = &[
    "Date",
    "Close",
    "2020-01-02",
    "2020-12-31",
    "NA",
    "1e308",
    "-1.5",
    "inf",
    "\r\n",
    "\"",
    "\"\"",
    ",",
    "0001-01-01",
    "\u{feff}",
];

/// Bytes per byte of the file: a row of two bytes becomes a number, a text and their places in growing lists; a cell
/// of one byte a text while the columns are told apart.
const PER_BYTE: usize = 128;

pub fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let budget = Budget::new(1 << 16, None);
    bounded(PER_BYTE * data.len() + (1 << 16) + 8192, || {
        let column = (first & 1 != 0).then_some("Close");
        let Ok(series) = Series::parse(rest, column) else { return };
        assert_eq!(series.values.len(), series.dates.len());
        assert!(!series.values.is_empty() && series.values.iter().all(|v| v.is_finite()));
        assert!(series.dates.is_sorted_by(|a, b| a < b));
        let panel = Panel::from(series);
        let (window, history) = (1 + usize::from(first >> 1 & 3), usize::from(first >> 3 & 3));
        let stride = 1 + usize::from(first >> 5 & 1);
        let split = (first >> 6 & 1 != 0).then_some("2020-01-04");
        for side in [Split::Train, Split::HeldOut] {
            let Ok(cut) = windows(&panel, window, history, stride, split, side) else { continue };
            if let Ok(set) = cut.tables(&panel, &budget) {
                assert_eq!(set.len(), cut.starts.len());
            }
        }
        assert!(budget.peak() <= budget.cap());
    });
    assert_eq!(budget.used(), 0);
}

pub fn seeds() -> Vec<Vec<u8>> {
    [
        "\x01Date,Open,Close\n2020-01-02,1,2.5\n2020-01-03,1,3\n2020-01-06,2,NA\n2020-01-07,2,4\n",
        "\x00v\n1\n2\n3\n4\n",
        "\x4e\u{feff}name,v\n\"a, \"\"b\"\"\",1\n\n x ,NA\ny,\nz,4\n",
        "\x00d,\"Close\"\r\n1999-12-31,1e-3\r\n2000-01-01,-2E5\r\n",
    ]
    .iter()
    .map(|s| s.as_bytes().to_vec())
    .collect()
}
