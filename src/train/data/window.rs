//! Windows of series: the next `window` rows as one example, the `history` rows before them as its condition. A split
//! date keeps the future out of training.

use super::{Dataset, Panel, Tables};
use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::mem::{Budget, Tensor, reserved};
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

/// The windows of one side of a panel.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    pub window: usize,
    pub history: usize,
    /// Row of the first value of each window.
    pub starts: Vec<usize>,
}

/// Windows at every `stride`-th row. `split` None puts everything into training.
pub fn windows(
    panel: &Panel,
    window: usize,
    history: usize,
    stride: usize,
    split: Option<&str>,
    side: Split,
) -> Result<Windows> {
    if window == 0 || stride == 0 {
        bail!(Invalid, "window {window} and stride {stride} must be at least 1");
    }
    let n = panel.len();
    let boundary = split.map_or(n, |date| panel.before(date));
    let (lo, hi) = match side {
        Split::Train => (history, boundary),
        Split::HeldOut => (boundary.max(history), n),
    };
    let fits = |s: &usize| s.checked_add(window).is_some_and(|end| end <= hi);
    let all = (lo..hi).step_by(stride).take_while(fits);
    let mut starts = reserved(all.clone().count(), "the starts of windows")?;
    starts.extend(all);
    if starts.is_empty() && side == Split::Train {
        bail!(
            Invalid,
            "{boundary} values of {} before the split hold no window of {history} + {window}",
            panel.name()
        );
    }
    Ok(Windows { window, history, starts })
}

impl Windows {
    /// `x` [examples, window], or [examples, window, channels] with more than one column; with a history `history`
    /// [examples, history, channels].
    pub fn tables(&self, panel: &Panel, budget: &Arc<Budget>) -> Result<Tables> {
        let mut out = Tables::default();
        let (n, channels) = (self.starts.len(), panel.channels());
        let mut x = vec![n, self.window];
        x.extend((channels > 1).then_some(channels));
        out.add("x", self.cut(panel, &x, 0, self.window, budget)?, budget)?;
        if self.history > 0 {
            let dims = [n, self.history, channels];
            let past = self.cut(panel, &dims, self.history, self.history, budget)?;
            out.add("history", past, budget)?;
        }
        Ok(out)
    }

    /// The tables as a model of series takes them.
    pub fn dataset(&self, panel: &Panel, budget: &Arc<Budget>) -> Result<Dataset> {
        let mut tables = self.tables(panel, budget)?;
        let column = |t: Arc<Tensor>| {
            let row = Desc::new(DType::F32, t.dims().get(1..).unwrap_or_default())?;
            super::Column::fit("", &t, row)
        };
        let x = tables.take("x").into_iter().map(column).collect::<Result<_>>()?;
        Dataset::of(x, tables.take("history").into_iter().map(column).collect::<Result<_>>()?)
    }

    /// `rows` rows from `before` rows ahead of each start, straight into a tensor.
    fn cut(
        &self,
        panel: &Panel,
        dims: &[usize],
        before: usize,
        rows: usize,
        budget: &Arc<Budget>,
    ) -> Result<Arc<Tensor>> {
        let desc = Desc::new(DType::F32, dims)?;
        let bytes = desc.bytes() as u64;
        if bytes > MAX_BYTES {
            bail!(
                Unsupported,
                "{} windows of {rows} values are {bytes} bytes, want at most {MAX_BYTES}: \
                 take a larger stride or a smaller window",
                self.starts.len()
            );
        }
        budget.check(bytes, "cutting windows")?;
        let mut out = Tensor::new(desc, budget)?;
        let values = self.starts.iter().flat_map(|s| {
            let lo = s.saturating_sub(before);
            panel.rows(lo, lo + rows)
        });
        for (cell, v) in out.bytes_mut().chunks_exact_mut(4).zip(values) {
            cell.copy_from_slice(&(*v as f32).to_ne_bytes());
        }
        Ok(Arc::new(out))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stamp;
    use super::*;

    fn panel() -> Panel {
        let date = |d| Stamp::date(&format!("2020-01-{d:02}")).unwrap();
        let dates = (1..=20).map(date).collect();
        let values = (1..=20).map(f64::from).collect();
        Panel { columns: vec!["v".into()], dates, values, skipped: 0 }
    }

    #[test]
    fn training_ends_before_the_split_and_held_out_starts_at_it() {
        let s = panel();
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
    fn channels_stand_last() {
        let two = Panel {
            columns: vec!["a".into(), "b".into()],
            dates: panel().dates[..4].to_vec(),
            values: vec![1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 4.0, 40.0],
            skipped: 0,
        };
        let cut = windows(&two, 2, 1, 1, None, Split::Train).unwrap();
        let tables = cut.tables(&two, &Budget::unlimited()).unwrap();
        let (x, past) = (tables.get("x").unwrap(), tables.get("history").unwrap());
        assert_eq!((x.dims(), past.dims()), (&[2, 2, 2][..], &[2, 1, 2][..]));
        let want = [2.0, 20.0, 3.0, 30.0, 3.0, 30.0, 4.0, 40.0];
        assert_eq!(x.elements::<f32>().unwrap(), want);
        assert_eq!(past.elements::<f32>().unwrap(), [1.0, 10.0, 2.0, 20.0]);
    }

    #[test]
    fn too_little_data_says_so() {
        let e = windows(&panel(), 8, 4, 1, Some("2020-01-06"), Split::Train).unwrap_err();
        assert!(
            e.message.contains("5 values of v before the split hold no window of 4 + 8"),
            "{e}"
        );
        assert!(windows(&panel(), 8, 4, 1, None, Split::HeldOut).unwrap().starts.is_empty());
    }
}
