//! A series from a CSV file: one column of numbers and the dates beside it. Strict: what cannot be a number or a date is
//! an error with its line, a value that is plainly missing is skipped and counted.

use crate::base::Result;
use crate::weights::plain_file;
use crate::{bail, fail};
use std::io::Read;
use std::path::Path;

/// Largest file: a hundred million daily values.
const MAX_BYTES: u64 = 1 << 28;

/// Most cells, each of which is held as text while the columns are told apart.
const MAX_CELLS: usize = 1 << 24;

const MAX_COLUMNS: usize = 4096;

/// What a cell without a value is written as.
const MISSING: &[&str] = &["", ".", "-", "na", "n/a", "nan", "null", "none", "#n/a"];

/// Columns taken when none is named and there is a choice.
const USUAL: &[&str] = &["close", "adj close", "price", "value"];

/// Values in the order of the file, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name of the column.
    pub column: String,
    /// One per value; the row number when the file has no dates.
    pub dates: Vec<String>,
    pub values: Vec<f64>,
    /// Rows left out because their value was missing.
    pub skipped: usize,
}

impl Series {
    /// Reads `column`, or the only, or the usual one when none is named.
    pub fn read(path: &Path, column: Option<&str>) -> Result<Self> {
        let label = path.display();
        let (file, len) = plain_file(path)?;
        if len > MAX_BYTES {
            bail!(Unsupported, "{label}: has {len} bytes, a CSV may have at most {MAX_BYTES}");
        }
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidData => fail!(Format, "{label}: not UTF-8 text"),
            _ => fail!(Io, "{label}: {e}"),
        })?;
        Self::parse(&text, column).map_err(|e| e.within(label))
    }

    pub fn parse(text: &str, column: Option<&str>) -> Result<Self> {
        let mut lines = text
            .trim_start_matches('\u{feff}')
            .lines()
            .enumerate()
            .map(|(i, line)| (i + 1, line))
            .filter(|(_, line)| !line.trim().is_empty());
        let Some((_, head)) = lines.next() else {
            bail!(Format, "the file is empty, want a header line with the names of the columns");
        };
        let names = cells(head).map_err(|e| e.within("line 1"))?;
        let mut read = names.len();
        let rows = lines
            .map(|(n, line)| {
                read += names.len();
                if read > MAX_CELLS {
                    bail!(Unsupported, "line {n}: more than {MAX_CELLS} cells so far");
                }
                let row = cells(line).map_err(|e| e.within(format!("line {n}")))?;
                if row.len() != names.len() {
                    bail!(
                        Format,
                        "line {n}: {} cells, the header names {} columns",
                        row.len(),
                        names.len()
                    );
                }
                Ok((n, row))
            })
            .collect::<Result<Vec<_>>>()?;
        let Some((_, first)) = rows.first() else {
            bail!(Format, "the file has a header and no rows");
        };
        let date_column = first.iter().position(|cell| is_date(cell));
        let at = choose(&names, first, column, date_column)?;
        let mut out = Self {
            column: names.get(at).cloned().unwrap_or_default(),
            dates: Vec::new(),
            values: Vec::new(),
            skipped: 0,
        };
        for (n, row) in &rows {
            let cell = row.get(at).map_or("", |c| c.trim());
            if MISSING.contains(&cell.to_lowercase().as_str()) {
                out.skipped += 1;
                continue;
            }
            let value = match cell.parse::<f64>() {
                Ok(v) if v.is_finite() => v,
                _ => bail!(Format, "line {n}: {} is {cell:?}, want a number", out.column),
            };
            let date = match date_column {
                None => (n - 1).to_string(),
                Some(d) => {
                    let date = row.get(d).map_or("", |c| c.trim());
                    if !is_date(date) {
                        bail!(Format, "line {n}: the date is {date:?}, want year-month-day");
                    }
                    if let Some(before) = out.dates.last().filter(|b| b.as_str() >= date) {
                        bail!(
                            Format,
                            "line {n}: {date} follows {before}; want dates that ascend, one row each"
                        );
                    }
                    date.to_owned()
                }
            };
            out.values.push(value);
            out.dates.push(date);
        }
        if out.values.is_empty() {
            bail!(Format, "column {} has no values", out.column);
        }
        Ok(out)
    }

    /// How many values come before `date`.
    pub fn before(&self, date: &str) -> usize {
        self.dates.partition_point(|d| d.as_str() < date)
    }
}

/// The column to read.
fn choose(
    names: &[String],
    first: &[String],
    wanted: Option<&str>,
    dates: Option<usize>,
) -> Result<usize> {
    if let Some(wanted) = wanted {
        return names
            .iter()
            .position(|n| n == wanted)
            .or_else(|| names.iter().position(|n| n.eq_ignore_ascii_case(wanted)))
            .ok_or_else(|| fail!(NotFound, "no column {wanted}; there are {}", names.join(", ")));
    }
    let is_number = |i: usize| first.get(i).is_some_and(|c| c.trim().parse::<f64>().is_ok());
    let numeric: Vec<usize> =
        (0..names.len()).filter(|&i| Some(i) != dates && is_number(i)).collect();
    if let [only] = numeric[..] {
        return Ok(only);
    }
    let usual = USUAL.iter().find_map(|u| {
        numeric.iter().copied().find(|&i| names.get(i).is_some_and(|n| n.eq_ignore_ascii_case(u)))
    });
    usual.ok_or_else(|| {
        fail!(
            Invalid,
            "{} columns hold numbers, name one of {} with --column",
            numeric.len(),
            names.join(", ")
        )
    })
}

/// The cells of one line; quotes may hold commas, and a doubled quote is a quote.
fn cells(line: &str) -> Result<Vec<String>> {
    let mut out = Vec::new();
    let mut cell = String::new();
    let mut chars = line.trim_end_matches('\r').chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        if out.len() >= MAX_COLUMNS {
            bail!(Unsupported, "more than {MAX_COLUMNS} columns");
        }
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' if quoted || cell.trim().is_empty() => quoted = !quoted,
            ',' if !quoted => out.push(std::mem::take(&mut cell).trim().to_owned()),
            c => cell.push(c),
        }
    }
    if quoted {
        bail!(Format, "a quote is not closed");
    }
    out.push(cell.trim().to_owned());
    Ok(out)
}

/// `1999-12-31`: the one form that sorts as text.
pub fn is_date(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut next = |digits: usize, lo: u32, hi: u32| {
        parts.next().is_some_and(|p| {
            p.len() == digits
                && p.bytes().all(|b| b.is_ascii_digit())
                && p.parse::<u32>().is_ok_and(|v| v >= lo && v <= hi)
        })
    };
    next(4, 0, 9999) && next(2, 1, 12) && next(2, 1, 31) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_the_usual_column_are_found() {
        let text = "Date,Open,\"Close\"\n2020-01-02,1,2.5\n2020-01-03,1,3\r\n";
        let s = Series::parse(text, None).unwrap();
        assert_eq!((s.column.as_str(), s.values.as_slice()), ("Close", &[2.5, 3.0][..]));
        assert_eq!(s.dates, ["2020-01-02", "2020-01-03"]);
        assert_eq!(
            [s.before("2020-01-03"), s.before("1999-01-01"), s.before("2021-01-01")],
            [1, 0, 2]
        );
    }

    #[test]
    fn quotes_may_hold_commas_and_missing_values_are_counted() {
        let text = "\u{feff}name,v\n\"a, \"\"b\"\"\",1\n\n x ,NA\ny,\nz,4\n";
        let s = Series::parse(text, Some("V")).unwrap();
        assert_eq!((s.values.as_slice(), s.skipped), (&[1.0, 4.0][..], 2));
        assert_eq!(s.dates, ["1", "5"]);
    }

    #[test]
    fn a_line_of_commas_is_refused() {
        let text = format!("a,b\n{}\n", ",".repeat(MAX_COLUMNS + 1));
        let error = Series::parse(&text, None).unwrap_err();
        assert_eq!(error.message, "line 2: more than 4096 columns");
    }

    #[test]
    fn faults_name_their_line() {
        for (text, column, want) in [
            ("", None, "the file is empty"),
            ("a,b\n", None, "no rows"),
            ("d,a,b\n2020-01-02,1,2\n", None, "2 columns hold numbers"),
            ("d,a\n2020-01-02,1\n", Some("c"), "no column c; there are d, a"),
            ("d,a\n2020-01-02,1\n2020-01-03,x1\n", None, "line 3: a is \"x1\""),
            ("d,a\n2020-01-02,1\n2020-01-03,inf\n", None, "line 3: a is \"inf\""),
            ("d,a\n2020-01-02,1\n2020-01-03,1,2\n", None, "line 3: 3 cells, the header names 2"),
            ("d,a\n2020-01-02,1\n2020-01-02,1\n", None, "line 3: 2020-01-02 follows 2020-01-02"),
            ("d,a\n2020-01-02,1\n2020-13-02,1\n", None, "line 3: the date is \"2020-13-02\""),
            ("d,a\n2020-01-02,\"1\n", None, "line 2: a quote is not closed"),
            ("d,a\n2020-01-02,NA\n", Some("a"), "column a has no values"),
        ] {
            let e = Series::parse(text, column).unwrap_err();
            assert!(e.message.contains(want), "{text:?}: {e}");
        }
    }
}
