//! The reader of series: columns of CSV files, as they are or as log returns, cut into windows at a split date. The
//! model file carries one window to show and the past that leads to it.

use super::reader::{Read, Reader, Source};
use super::{Panel, Split, windows};
use crate::bail;
use crate::base::Result;
use crate::mem::Budget;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::sync::Arc;

/// CSV files.
#[derive(Debug)]
pub struct Csv;

impl Reader for Csv {
    fn kind(&self) -> &'static str {
        "csv"
    }

    fn keys(&self) -> &'static [&'static str] {
        &["column", "window", "history", "stride", "split", "show", "values"]
    }

    fn takes(&self, _: &Path) -> bool {
        true
    }

    fn read(&self, source: &Source, budget: &Arc<Budget>) -> Result<Read> {
        let mut panel = Panel::read(&source.paths, &source.columns)?;
        if source.returns {
            panel = panel.log_returns()?;
        }
        let split = source.split.as_deref();
        let cut =
            |side, stride| windows(&panel, source.window, source.history, stride, split, side);
        let (train, held) = (cut(Split::Train, source.stride)?, cut(Split::HeldOut, 1)?);
        let known = split.map_or(panel.len(), |date| panel.before(date));
        Ok(Read {
            what: format!("{} windows of {}", train.starts.len(), panel.name()),
            train: train.tables(&panel, budget)?,
            held_out: match held.starts.is_empty() {
                true => None,
                false => Some(held.tables(&panel, budget)?),
            },
            series: panel.by_column(known)?,
            skipped: panel.skipped,
            about: about(source, &panel, &held.starts)?,
        })
    }
}

fn about(source: &Source, panel: &Panel, held: &[usize]) -> Result<Map<String, Value>> {
    // the window to show: the first held-out one from the wished date on, or the future of the series
    let from = source.show.as_deref().map_or(0, |date| panel.before(date));
    let start = held.iter().copied().find(|s| *s >= from);
    if let (Some(show), None) = (&source.show, start) {
        bail!(Invalid, "no held-out window starts at {show} or later");
    }
    let end = panel.len();
    let start = start.unwrap_or(end);
    let past = start.saturating_sub(source.history)..start;
    let future = start..(start + source.window).min(end);
    let names = |p: &Path| p.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let files: Vec<String> = source.paths.iter().map(|p| names(p)).collect();
    let mut data = Map::new();
    let mut put = |key: &str, value: Value| data.insert(key.to_owned(), value);
    put("kind", json!("csv"));
    put("file", json!(files.join(", ")));
    put("name", json!(source.name));
    put("column", json!(panel.name()));
    put("window", json!(source.window));
    put("history", json!(source.history));
    if source.returns {
        put("values", json!("log_return"));
    }
    put("first_date", json!(panel.dates.first()));
    put("last_date", json!(panel.dates.last()));
    put("split", json!(source.split));
    put("history_values", json!(panel.rows(past.start, past.end)));
    put("history_dates", json!(panel.dates.get(past)));
    put("held_out", json!(panel.rows(future.start, future.end)));
    put("held_out_dates", json!(panel.dates.get(future)));
    Ok(data)
}
