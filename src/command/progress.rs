//! How long work shows itself: a bar on a terminal, JSON lines with `--json`, nothing into a pipe.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use std::io::IsTerminal;

pub(crate) enum Progress {
    Bar(ProgressBar),
    Lines,
    Quiet,
}

impl Progress {
    pub(crate) fn new(total: u64, as_json: bool) -> Self {
        if as_json {
            return Self::Lines;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Quiet;
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:32} {pos}/{len}  {msg}  {eta}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("\u{2588}\u{258c} "));
        }
        Self::Bar(bar)
    }

    /// `line` is written with `--json` only, and only when there is something to say.
    pub(crate) fn at(&self, position: u64, message: &str, line: Option<Value>) {
        match (self, line) {
            (Self::Bar(bar), _) => {
                bar.set_position(position);
                if !message.is_empty() {
                    bar.set_message(message.to_owned());
                }
            }
            (Self::Lines, Some(line)) => println!("{line}"),
            _ => {}
        }
    }

    /// A line that stays.
    pub(crate) fn say(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.println(text),
            Self::Quiet => println!("{text}"),
            Self::Lines => {}
        }
    }

    pub(crate) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
