//! Dates as days since 1970, for labels and for the days after the last known one.

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A day of the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Date {
    pub(crate) year: i64,
    pub(crate) month: u32,
    pub(crate) day: u32,
}

impl Date {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        let date =
            Self { year: year.parse().ok()?, month: month.parse().ok()?, day: day.parse().ok()? };
        let valid = parts.next().is_none()
            && (0..=9999).contains(&date.year)
            && (1..=12).contains(&date.month)
            && (1..=31).contains(&date.day);
        valid.then_some(date)
    }

    /// Days since 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms").
    pub(crate) fn days(self) -> i64 {
        let y = self.year - i64::from(self.month <= 2);
        let era = y.div_euclid(400);
        let year_of_era = y.rem_euclid(400);
        let m = (i64::from(self.month) + 9) % 12;
        let day_of_year = (153 * m + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        era * 146_097 + day_of_era - 719_468
    }

    pub(crate) fn of_days(days: i64) -> Self {
        let z = days + 719_468;
        let (era, d) = (z.div_euclid(146_097), z.rem_euclid(146_097));
        let y = (d - d / 1460 + d / 36_524 - d / 146_096) / 365;
        let day_of_year = d - (365 * y + y / 4 - y / 100);
        let m = (5 * day_of_year + 2) / 153;
        let month = if m < 10 { m + 3 } else { m - 9 } as u32;
        let day = (day_of_year - (153 * m + 2) / 5 + 1) as u32;
        Self { year: y + era * 400 + i64::from(month <= 2), month, day }
    }

    /// The next day from Monday to Friday.
    pub(crate) fn next_weekday(self) -> Self {
        let mut days = self.days() + 1;
        while (days + 3).rem_euclid(7) >= 5 {
            days += 1; // 1970-01-01 was a Thursday: (days + 3) mod 7 is 0 on Mondays
        }
        Self::of_days(days)
    }

    pub(crate) fn iso(self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// `12 Mar`
    pub(crate) fn short(self) -> String {
        format!("{} {}", self.day, MONTHS[(self.month as usize - 1) % 12])
    }
}

/// The `n` weekdays after a date, as text; none when it is no date.
pub(crate) fn dates_after(last: &str, n: usize) -> Vec<String> {
    let Some(mut date) = Date::parse(last) else { return Vec::new() };
    (0..n)
        .map(|_| {
            date = date.next_weekday();
            date.iso()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_count_up_one_by_one() {
        assert_eq!(Date::parse("1970-01-01").unwrap().days(), 0);
        assert_eq!(Date::parse("2000-03-01").unwrap().days(), 11_017);
        let mut last = Date::of_days(-200_000);
        for d in -199_999..200_000 {
            let date = Date::of_days(d);
            assert_eq!(date.days(), d);
            assert!(date > last);
            last = date;
        }
    }

    #[test]
    fn weekdays_skip_weekends() {
        let friday = Date::parse("2026-07-24").unwrap();
        assert_eq!(friday.next_weekday().iso(), "2026-07-27");
        assert_eq!(friday.next_weekday().next_weekday().short(), "28 Jul");
        assert!(Date::parse("2026-13-01").is_none() && Date::parse("x").is_none());
    }
}
