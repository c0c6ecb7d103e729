//! Windows of a series: the next `window` values as one example, the `history` values before them as its condition. A
//! split date keeps the future out of training.

use super::{Dataset, Series};
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::mem::{Budget, Tensor};
use std::sync::Arc;

/// Most bytes of windows that are cut at once.
const MAX_BYTES: u64 = 1 << 32;

/// Which side of the split date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Windows that end before it.
    Train,
    /// Windows that start at it or later; their history may lie before it.
    HeldOut,
}

/// The windows of one side of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    pub window: usize,
    pub history: usize,
    /// Position of the first value of each window.
    pub starts: Vec<usize>,
}

/// Windows at every `stride`-th position. `split` None puts everything into training.
pub fn windows(
    series: &Series,
    window: usize,
    history: usize,
    stride: usize,
    split: Option<&str>,
    side: Split,
) -> Result<Windows> {
    if window == 0 || stride == 0 {
        bail!(Invalid, "window {window} and stride {stride} must be at least 1");
    }
    let n = series.values.len();
    let boundary = split.map_or(n, |date| series.before(date));
    let (lo, hi) = match side {
        Split::Train => (history, boundary),
        Split::HeldOut => (boundary.max(history), n),
    };
    let fits = |s: &usize| s.checked_add(window).is_some_and(|end| end <= hi);
    let starts: Vec<usize> = (lo..hi).step_by(stride).take_while(fits).collect();
    if starts.is_empty() && side == Split::Train {
        bail!(
            Invalid,
            "{boundary} values of {} before the split hold no window of {history} + {window}",
            series.column
        );
    }
    Ok(Windows { window, history, starts })
}

impl Windows {
    /// x: [examples, window]; with a history one condition [examples, history, 1].
    pub fn dataset(&self, series: &Series, budget: &Arc<Budget>) -> Result<Dataset> {
        let n = self.starts.len();
        for width in [self.window, self.history] {
            // twice: the values are gathered here and then copied into the tensor
            let bytes = Desc::new(DType::F32, &[n, width])?.bytes() as u64;
            budget.check(bytes.saturating_mul(2), "cutting windows")?;
            if bytes > MAX_BYTES {
                bail!(
                    Unsupported,
                    "{n} windows of {width} values are {bytes} bytes, want at most {MAX_BYTES}: \
                     take a larger stride or a smaller window"
                );
            }
        }
        let mut x = Vec::with_capacity(n * self.window);
        let mut past = Vec::with_capacity(n * self.history);
        for &s in &self.starts {
            let slice = |lo: usize, hi: usize| series.values.get(lo..hi).unwrap_or_default();
            x.extend(slice(s, s + self.window).iter().map(|v| *v as f32));
            past.extend(slice(s - self.history, s).iter().map(|v| *v as f32));
        }
        let mut cond = Vec::new();
        if self.history > 0 {
            cond.push(Tensor::from_f32(&[n, self.history, 1], &past, budget)?);
        }
        Dataset::new(vec![Tensor::from_f32(&[n, self.window], &x, budget)?], cond)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stamp;
    use super::*;

    fn series() -> Series {
        let date = |d| Stamp::date(&format!("2020-01-{d:02}")).unwrap();
        let dates = (1..=20).map(date).collect();
        Series { column: "v".into(), dates, values: (1..=20).map(f64::from).collect(), skipped: 0 }
    }

    #[test]
    fn training_ends_before_the_split_and_held_out_starts_at_it() {
        let s = series();
        let train = windows(&s, 3, 4, 1, Some("2020-01-11"), Split::Train).unwrap();
        assert_eq!(train.starts, [4, 5, 6, 7]); // the last holds days 8, 9, 10
        let held = windows(&s, 3, 4, 2, Some("2020-01-11"), Split::HeldOut).unwrap();
        assert_eq!(held.starts, [10, 12, 14, 16]);
        let data = train.dataset(&s, &Budget::unlimited()).unwrap();
        assert_eq!(Dataset::row(&data.x[0], 3).unwrap(), [8.0, 9.0, 10.0]);
        assert_eq!(Dataset::row(&data.cond[0], 3).unwrap(), [4.0, 5.0, 6.0, 7.0]);
        assert_eq!(data.cond[0].dims(), [4, 4, 1]);
        assert!(Dataset::row(&data.x[0], 4).is_err());
    }

    #[test]
    fn too_little_data_says_so() {
        let e = windows(&series(), 8, 4, 1, Some("2020-01-06"), Split::Train).unwrap_err();
        assert!(
            e.message.contains("5 values of v before the split hold no window of 4 + 8"),
            "{e}"
        );
        assert!(windows(&series(), 8, 4, 1, None, Split::HeldOut).unwrap().starts.is_empty());
    }
}
