//! When a value was: a date, or the number of its row where a file has no dates. Four bytes, for there is one per value.

use serde::{Serialize, Serializer};
use std::fmt;

/// A date or a row number. Dates sort by time, rows by number, rows before dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u32);

/// Set in a date, whose other bits are year * 10000 + month * 100 + day.
const DATE: u32 = 1 << 31;

impl Stamp {
    /// `1999-12-31`, and nothing else: the one form that sorts as text.
    pub fn date(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut next = |digits: usize, lo: u32, hi: u32| {
            let part = parts.next().filter(|p| p.len() == digits)?;
            let part = part.bytes().all(|b| b.is_ascii_digit()).then_some(part)?;
            part.parse::<u32>().ok().filter(|v| (lo..=hi).contains(v))
        };
        let (year, month, day) = (next(4, 0, 9999)?, next(2, 1, 12)?, next(2, 1, 31)?);
        let date = DATE | (year * 10_000 + month * 100 + day);
        parts.next().is_none().then_some(Self(date))
    }

    /// Rows past 2^31 are one.
    pub fn row(n: usize) -> Self {
        Self((n as u64).min(u64::from(DATE) - 1) as u32)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0 & !DATE;
        if self.0 & DATE == 0 {
            return write!(f, "{n}");
        }
        write!(f, "{:04}-{:02}-{:02}", n / 10_000, n / 100 % 100, n % 100)
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_they_were_read() {
        for text in ["1999-12-31", "0000-01-01", "9999-12-31"] {
            assert_eq!(Stamp::date(text).unwrap().to_string(), text);
            assert_eq!(serde_json::json!(Stamp::date(text)), text);
        }
        assert_eq!(Stamp::row(17).to_string(), "17");
        assert!(Stamp::date("2000-01-31") < Stamp::date("2000-02-01"));
        for text in ["", "2000-13-01", "2000-1-01", "2000-01-01-", "2000-01-0x", "+200-01-01"] {
            assert_eq!(Stamp::date(text), None, "{text}");
        }
    }
}
