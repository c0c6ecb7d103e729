//! A series from a CSV file: one column of numbers and the dates beside it. Strict: what cannot be a number or a date is
//! an error with its line, a value that is plainly missing is skipped and counted. Read line by line: memory is that of
//! the column kept and of one line, whatever else the file holds.

use super::date::Stamp;
use crate::base::Result;
use crate::weights::plain_file;
use crate::{bail, fail};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Largest file: ten million daily values with a few columns beside them.
const MAX_BYTES: u64 = 1 << 28;

/// Longest line.
const MAX_LINE: usize = 1 << 20;

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
    pub dates: Vec<Stamp>,
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
        Self::parse(BufReader::new(file.take(MAX_BYTES)), column).map_err(|e| e.within(label))
    }

    pub fn parse(text: impl BufRead, column: Option<&str>) -> Result<Self> {
        let mut lines = Lines { text, number: 0, line: Vec::new() };
        let Some((n, head)) = lines.next()? else {
            bail!(Format, "the file is empty, want a header line with the names of the columns");
        };
        let names = all_cells(n, head)?;
        let Some((n, line)) = lines.next()? else {
            bail!(Format, "the file has a header and no rows");
        };
        let first = all_cells(n, line)?;
        let mut reader = Column { names: &names, at: 0, date_at: None, cell: String::new() };
        reader.width(n, first.len())?;
        reader.date_at = first.iter().position(|cell| Stamp::date(cell).is_some());
        reader.at = choose(&names, &first, column, reader.date_at)?;
        let name = names.get(reader.at).cloned().unwrap_or_default();
        let mut out = Self { column: name, dates: Vec::new(), values: Vec::new(), skipped: 0 };
        reader.row(n, line, &mut out)?;
        while let Some((n, line)) = lines.next()? {
            reader.row(n, line, &mut out)?;
        }
        if out.values.is_empty() {
            bail!(Format, "column {} has no values", out.column);
        }
        Ok(out)
    }

    /// How many values come before `date`.
    pub fn before(&self, date: &str) -> usize {
        Stamp::date(date).map_or(0, |date| self.dates.partition_point(|d| *d < date))
    }
}

/// Lines that hold something, with their numbers.
struct Lines<R> {
    text: R,
    number: usize,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Result<Option<(usize, &str)>> {
        loop {
            self.line.clear();
            self.number += 1;
            let n = self.number;
            let mut part = (&mut self.text).take(MAX_LINE as u64 + 1);
            let read = part.read_until(b'\n', &mut self.line);
            if read.map_err(|e| fail!(Io, "line {n}: {e}"))? == 0 {
                return Ok(None);
            }
            if self.line.len() > MAX_LINE {
                bail!(Unsupported, "line {n}: is longer than {MAX_LINE} bytes");
            }
            if self.line.iter().any(|b| !b.is_ascii_whitespace()) {
                break;
            }
        }
        match std::str::from_utf8(&self.line) {
            Ok(line) if self.number == 1 => Ok(Some((1, line.trim_start_matches('\u{feff}')))),
            Ok(line) => Ok(Some((self.number, line))),
            Err(_) => bail!(Format, "line {}: not UTF-8 text", self.number),
        }
    }
}

/// What is kept of each row.
struct Column<'a> {
    names: &'a [String],
    at: usize,
    date_at: Option<usize>,
    /// The cell under way.
    cell: String,
}

impl Column<'_> {
    fn width(&self, n: usize, cells: usize) -> Result<()> {
        if cells != self.names.len() {
            let columns = self.names.len();
            bail!(Format, "line {n}: {cells} cells, the header names {columns} columns");
        }
        Ok(())
    }

    fn row(&mut self, n: usize, line: &str, out: &mut Series) -> Result<()> {
        let name = &out.column;
        let (mut value, mut date) = (Ok(None), Ok(Stamp::row(n - 1)));
        let count = each_cell(line, &mut self.cell, &mut |i, cell| {
            if i == self.at && !MISSING.contains(&cell.to_lowercase().as_str()) {
                value = match cell.parse::<f64>() {
                    Ok(v) if v.is_finite() => Ok(Some(v)),
                    _ => Err(fail!(Format, "line {n}: {name} is {cell:?}, want a number")),
                };
            }
            if Some(i) == self.date_at {
                let wrong = || fail!(Format, "line {n}: the date is {cell:?}, want year-month-day");
                date = Stamp::date(cell).ok_or_else(wrong);
            }
        });
        self.width(n, count.map_err(|e| e.within(format!("line {n}")))?)?;
        let Some(value) = value? else {
            out.skipped += 1;
            return Ok(());
        };
        let date = date?;
        if let Some(before) = out.dates.last().filter(|b| **b >= date) {
            bail!(
                Format,
                "line {n}: {date} follows {before}; want dates that ascend, one row each"
            );
        }
        if out.values.try_reserve(1).and_then(|()| out.dates.try_reserve(1)).is_err() {
            bail!(NoMemory, "line {n}: no memory for more than {} values", out.values.len());
        }
        out.values.push(value);
        out.dates.push(date);
        Ok(())
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

/// The cells of a line that are all wanted: the header, and the first row to tell the columns by.
fn all_cells(n: usize, line: &str) -> Result<Vec<String>> {
    let mut out = Vec::new();
    each_cell(line, &mut String::new(), &mut |_, cell| out.push(cell.to_owned()))
        .map_err(|e| e.within(format!("line {n}")))?;
    Ok(out)
}

/// Shows the cells of one line and counts them; quotes may hold commas, and a doubled quote is a quote.
fn each_cell(line: &str, cell: &mut String, see: &mut dyn FnMut(usize, &str)) -> Result<usize> {
    cell.clear();
    let mut chars = line.trim_end_matches(['\n', '\r']).chars().peekable();
    let (mut quoted, mut count) = (false, 0);
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' if quoted || cell.trim().is_empty() => quoted = !quoted,
            ',' if !quoted => {
                see(count, cell.trim());
                cell.clear();
                count += 1;
                if count >= MAX_COLUMNS {
                    bail!(Unsupported, "more than {MAX_COLUMNS} columns");
                }
            }
            c => cell.push(c),
        }
    }
    if quoted {
        bail!(Format, "a quote is not closed");
    }
    see(count, cell.trim());
    Ok(count + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dates(s: &Series) -> Vec<String> {
        s.dates.iter().map(Stamp::to_string).collect()
    }

    #[test]
    fn dates_and_the_usual_column_are_found() {
        let text = "Date,Open,\"Close\"\n2020-01-02,1,2.5\n2020-01-03,1,3\r\n";
        let s = Series::parse(text.as_bytes(), None).unwrap();
        assert_eq!((s.column.as_str(), s.values.as_slice()), ("Close", &[2.5, 3.0][..]));
        assert_eq!(dates(&s), ["2020-01-02", "2020-01-03"]);
        assert_eq!(
            [s.before("2020-01-03"), s.before("1999-01-01"), s.before("2021-01-01")],
            [1, 0, 2]
        );
    }

    #[test]
    fn quotes_may_hold_commas_and_missing_values_are_counted() {
        let text = "\u{feff}name,v\n\"a, \"\"b\"\"\",1\n\n x ,NA\ny,\nz,4\n";
        let s = Series::parse(text.as_bytes(), Some("V")).unwrap();
        assert_eq!((s.values.as_slice(), s.skipped), (&[1.0, 4.0][..], 2));
        assert_eq!(dates(&s), ["1", "5"]);
    }

    #[test]
    fn a_line_of_commas_is_refused() {
        let text = format!("a,b\n{}\n", ",".repeat(MAX_COLUMNS + 1));
        let error = Series::parse(text.as_bytes(), None).unwrap_err();
        assert_eq!(error.message, "line 2: more than 4096 columns");
    }

    #[test]
    fn what_is_not_the_column_is_not_kept() {
        // 2^21 rows of 16 cells: more cells than would be held as text, and 3 MB of lines before the last
        let rows = 1 << 21;
        let mut row = "7".to_owned() + &",".repeat(15) + "\n";
        let head: Vec<String> = (0..16).map(|i| format!("c{i}")).collect();
        let mut text = head.join(",") + "\n";
        text.reserve(rows * row.len());
        (0..rows).for_each(|_| text.push_str(&row));
        let s = Series::parse(text.as_bytes(), Some("c0")).unwrap();
        assert_eq!((s.values.len(), s.dates.len()), (rows, rows));
        assert_eq!(s.values[rows - 1], 7.0);
        row.insert_str(0, &" ".repeat(MAX_LINE));
        let error = Series::parse(("a\n".to_owned() + &row).as_bytes(), None).unwrap_err();
        assert_eq!(error.message, "line 2: is longer than 1048576 bytes");
        let error = Series::parse(&b"a\n1\n\xff\n"[..], None).unwrap_err();
        assert_eq!(error.message, "line 3: not UTF-8 text");
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
            let e = Series::parse(text.as_bytes(), column).unwrap_err();
            assert!(e.message.contains(want), "{text:?}: {e}");
        }
    }
}
