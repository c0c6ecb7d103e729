//! Series side by side: columns of one CSV file or of several, joined by their dates.

use super::{Series, Stamp};
use crate::bail;
use crate::base::Result;
use crate::mem::reserved;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Most series side by side.
const MOST: usize = 256;

/// Values at the dates that every column has, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    pub columns: Vec<String>,
    /// One per row; the row number when the file has no dates.
    pub dates: Vec<Stamp>,
    /// Row by row, one value per column.
    pub values: Vec<f64>,
    /// Rows left out because a value was missing.
    pub skipped: usize,
}

impl From<Series> for Panel {
    fn from(s: Series) -> Self {
        Self { columns: vec![s.column], dates: s.dates, values: s.values, skipped: s.skipped }
    }
}

impl Panel {
    /// One file and its columns, or several files with the column they share, or one column each.
    pub fn read(paths: &[PathBuf], columns: &[String]) -> Result<Self> {
        let n = paths.len().max(columns.len());
        if n > MOST {
            bail!(Unsupported, "data: {n} series, want at most {MOST}");
        }
        let fits = |len: usize| len <= 1 || len == n;
        if paths.is_empty() || !fits(paths.len()) || !fits(columns.len()) {
            bail!(
                Invalid,
                "data: {} paths and {} columns: want one of either, or as many",
                paths.len(),
                columns.len()
            );
        }
        let mut all = Vec::new();
        for i in 0..n {
            let path = &paths[if paths.len() == 1 { 0 } else { i }]; // one, or n of them
            let column = columns.get(if columns.len() == 1 { 0 } else { i });
            all.push(Series::read(path, column.map(String::as_str))?);
        }
        Self::join(all)
    }

    /// The dates that all have.
    pub fn join(all: Vec<Series>) -> Result<Self> {
        let mut all = all.into_iter();
        let Some(first) = all.next() else {
            bail!(Invalid, "a panel of no series");
        };
        let rest: Vec<Series> = all.collect();
        if rest.is_empty() {
            return Ok(first.into());
        }
        let places: Vec<BTreeMap<Stamp, usize>> = rest
            .iter()
            .map(|s| s.dates.iter().enumerate().map(|(i, d)| (*d, i)).collect())
            .collect();
        let columns = std::iter::once(&first).chain(&rest).map(|s| s.column.clone()).collect();
        let mut out =
            Self { columns, dates: Vec::new(), values: Vec::new(), skipped: first.skipped };
        let mut row = Vec::new();
        for (date, value) in first.dates.iter().zip(&first.values) {
            row.clear();
            row.push(*value);
            let found = places.iter().zip(&rest).map(|(at, s)| s.values.get(*at.get(date)?));
            row.extend(found.map_while(|v| v.copied()));
            if row.len() == out.columns.len() {
                out.dates.push(*date);
                out.values.extend_from_slice(&row);
            } else {
                out.skipped += 1;
            }
        }
        if out.dates.is_empty() {
            bail!(Invalid, "{} have no date in common", out.columns.join(", "));
        }
        Ok(out)
    }

    pub fn channels(&self) -> usize {
        self.columns.len()
    }

    pub fn len(&self) -> usize {
        self.dates.len()
    }

    pub fn is_empty(&self) -> bool {
        self.dates.is_empty()
    }

    /// What it is called: its columns.
    pub fn name(&self) -> String {
        self.columns.join(", ")
    }

    /// How many rows come before `date`.
    pub fn before(&self, date: &str) -> usize {
        match Stamp::date(date) {
            Some(date) => self.dates.partition_point(|d| *d < date),
            None => 0,
        }
    }

    /// Values of rows `lo..hi`, all columns; what is outside is left out.
    pub fn rows(&self, lo: usize, hi: usize) -> &[f64] {
        let c = self.channels();
        self.values.get(lo * c..(hi.min(self.len())) * c).unwrap_or_default()
    }

    /// The first `n` rows column by column: each in the order of time.
    pub fn by_column(&self, n: usize) -> Result<Vec<f64>> {
        let c = self.channels();
        let rows = self.rows(0, n);
        let mut out = reserved(rows.len(), "a series")?;
        (0..c).for_each(|k| out.extend(rows.iter().skip(k).step_by(c)));
        Ok(out)
    }

    /// ln(value / the one before), at the later date.
    pub fn log_returns(mut self) -> Result<Self> {
        let c = self.channels();
        if let Some(i) = self.values.iter().position(|v| *v <= 0.0) {
            let (column, date) = (self.columns.get(i % c), self.dates.get(i / c));
            bail!(
                Invalid,
                "log returns want positive values, {} is {} at {}",
                column.map_or("", String::as_str),
                self.values[i],
                date.map_or(String::new(), Stamp::to_string)
            );
        }
        let n = self.values.len().saturating_sub(c);
        for i in 0..n {
            self.values[i] = (self.values[i + c] / self.values[i]).ln(); // i + c is below the length
        }
        self.values.truncate(n);
        self.dates.drain(..self.dates.len().min(1));
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(column: &str, text: &str) -> Series {
        let head = format!("date,{column}\n");
        Series::parse((head + text).as_bytes(), None).unwrap()
    }

    #[test]
    fn columns_meet_at_their_dates() {
        let a = series("a", "2020-01-01,1\n2020-01-02,2\n2020-01-03,4\n");
        let b = series("b", "2020-01-01,10\n2020-01-03,30\n2020-01-04,40\n");
        let p = Panel::join(vec![a.clone(), b]).unwrap();
        assert_eq!((p.columns.join(""), p.skipped), ("ab".into(), 1));
        let dates: Vec<String> = p.dates.iter().map(Stamp::to_string).collect();
        assert_eq!(dates, ["2020-01-01", "2020-01-03"]);
        assert_eq!(p.values, [1.0, 10.0, 4.0, 30.0]);
        assert_eq!(p.by_column(2).unwrap(), [1.0, 4.0, 10.0, 30.0]);
        let r = p.log_returns().unwrap();
        assert_eq!(r.dates, [Stamp::date("2020-01-03").unwrap()]);
        assert_eq!(r.values, [4f64.ln(), 3f64.ln()]);
        let apart = series("c", "2021-01-01,1\n");
        let e = Panel::join(vec![a, apart]).unwrap_err();
        assert_eq!(e.message, "a, c have no date in common");
        let e = Panel::from(series("d", "2020-01-01,1\n2020-01-02,-2\n")).log_returns();
        let want = "log returns want positive values, d is -2 at 2020-01-02";
        assert_eq!(e.unwrap_err().message, want);
    }
}
