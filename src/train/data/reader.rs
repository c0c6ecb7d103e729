//! Where training data comes from: the settings of a source, and the table of readers behind one trait. A reader is
//! chosen by name or by what stands at the path; a setting that it does not know is an error, not ignored.

use super::{Tables, png, stored, windowed};
use crate::bail;
use crate::base::Result;
use crate::mem::{Budget, Tensor};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to read and how to cut it; every reader uses its part.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Empty: the tables come from the host.
    pub paths: Vec<PathBuf>,
    /// Name of the reader, or by what stands at the first path.
    pub kind: Option<String>,
    /// What the data is called in pictures.
    pub name: Option<String>,
    /// Columns of CSV files, or tensors of a safetensors file; empty = the usual one, or all.
    pub columns: Vec<String>,
    pub window: usize,
    pub history: usize,
    pub stride: usize,
    /// Nothing from this date on is trained on.
    pub split: Option<String>,
    /// The window whose past and outcome the file carries starts at this date, or at the split.
    pub show: Option<String>,
    /// Differences of logarithms instead of the values themselves.
    pub returns: bool,
    pub channels: Channels,
    pub layout: Layout,
    /// How the paths of pictures begin that are examples a second time, left and right exchanged.
    pub mirror: Vec<String>,
    pub labels: Labels,
    /// Share of the examples that is set aside, where the source does not say which.
    pub held_out: f64,
    /// Which settings were given.
    pub given: Vec<String>,
}

/// What a picture has at every place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    Grey,
    Rgb,
    Rgba,
    /// RGBA with colours multiplied by alpha: what is clear has one colour, not whichever the file hides there.
    Premultiplied,
}

impl Channels {
    pub fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
            Self::Rgba | Self::Premultiplied => 4,
        }
    }

    /// As configs say it.
    pub const NAMES: &[(&str, Self)] = &[
        ("rgb", Self::Rgb),
        ("rgba", Self::Rgba),
        ("premultiplied", Self::Premultiplied),
        ("grey", Self::Grey),
    ];

    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, c)| *c == self).map_or("", |(name, _)| name)
    }
}

/// The order of a picture's axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Height, width, channels.
    Hwc,
    /// Channels, height, width, as convolutions take them.
    Chw,
}

impl Layout {
    /// As configs say it.
    pub const NAMES: &[(&str, Self)] = &[("hwc", Self::Hwc), ("chw", Self::Chw)];

    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, l)| *l == self).map_or("", |(name, _)| name)
    }

    /// Sizes of a picture of so many rows, columns and channels.
    pub fn dims(self, [height, width, channels]: [usize; 3]) -> [usize; 3] {
        match self {
            Self::Hwc => [height, width, channels],
            Self::Chw => [channels, height, width],
        }
    }

    /// Where a value stands in a picture of such sizes.
    pub fn at(self, size: [usize; 3], y: usize, x: usize, c: usize) -> usize {
        let [height, width, channels] = size;
        match self {
            Self::Hwc => (y * width + x) * channels + c,
            Self::Chw => (c * height + y) * width + x,
        }
    }
}

/// Where the label of a picture comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    None,
    /// The first folder below the root, in the order of their names.
    Folders,
    /// A CSV file: path of the picture below the root, label.
    Csv(PathBuf),
}

impl Default for Source {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            kind: None,
            name: None,
            columns: Vec::new(),
            window: 32,
            history: 0,
            stride: 1,
            split: None,
            show: None,
            returns: false,
            channels: Channels::Rgb,
            layout: Layout::Hwc,
            mirror: Vec::new(),
            labels: Labels::None,
            held_out: 0.0,
            given: Vec::new(),
        }
    }
}

/// What a reader gives.
#[derive(Debug, Default)]
pub struct Read {
    pub train: Tables,
    /// Where the source itself sets examples aside.
    pub held_out: Option<Tables>,
    /// The values trained on in the order of time, one unit apart: what a process is fitted to. Empty where the data
    /// has no such order.
    pub series: Vec<f64>,
    /// Rows of the source that had no value.
    pub skipped: usize,
    /// What the examples are, for a sentence: `7241 windows of CLOSE`.
    pub what: String,
    /// What the model file says about its data.
    pub about: Map<String, Value>,
}

/// A way to get tables.
pub trait Reader: Sync {
    fn kind(&self) -> &'static str;
    /// Settings it uses besides `path`, `kind` and `name`.
    fn keys(&self) -> &'static [&'static str];
    /// Whether it reads what stands at `path` when no reader is named.
    fn takes(&self, path: &Path) -> bool;
    fn read(&self, source: &Source, budget: &Arc<Budget>) -> Result<Read>;
}

/// Every reader; the last takes whatever the others leave.
pub const READERS: &[&dyn Reader] = &[&png::Pictures, &stored::Stored, &windowed::Csv];

impl Source {
    pub fn read(&self, budget: &Arc<Budget>) -> Result<Read> {
        self.reader()?.read(self, budget)
    }

    /// Tables that the host hands in.
    pub fn given_tables(
        &self,
        tables: Vec<(String, Arc<Tensor>)>,
        budget: &Arc<Budget>,
    ) -> Result<Read> {
        if let Some(odd) = self.given.iter().find(|key| *key != "held_out") {
            bail!(Invalid, "data: {odd} is not for tables from memory, which take held_out");
        }
        stored::sorted(tables, budget)
    }

    fn reader(&self) -> Result<&'static dyn Reader> {
        let Some(path) = self.paths.first() else {
            bail!(Invalid, "data: path is missing, and no tables are given");
        };
        let found = READERS.iter().copied().find(|r| match &self.kind {
            Some(kind) => r.kind() == kind,
            None => r.takes(path),
        });
        let Some(reader) = found else {
            let kinds: Vec<&str> = READERS.iter().map(|r| r.kind()).collect();
            let kind = self.kind.as_deref().unwrap_or_default();
            bail!(Invalid, "data: kind is {kind}, want one of {}", kinds.join(", "));
        };
        let known = |key: &String| reader.keys().contains(&key.as_str());
        if let Some(odd) = self.given.iter().find(|key| !known(key)) {
            bail!(Invalid, "data: {odd} is not for {}, which takes {}", reader.kind(), {
                reader.keys().join(", ")
            });
        }
        Ok(reader)
    }

    /// The only path, for readers of one place.
    pub(super) fn only_path(&self) -> Result<&Path> {
        match &self.paths[..] {
            [path] => Ok(path),
            more => bail!(Invalid, "data: {} paths, this kind reads one", more.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_of_another_kind_is_refused() {
        let mut source = Source {
            paths: vec!["a.safetensors".into()],
            given: vec!["window".into()],
            ..Source::default()
        };
        let e = source.reader().err().unwrap();
        assert!(e.message.starts_with("data: window is not for safetensors"), "{e}");
        source.kind = Some("csv".into());
        assert_eq!(source.reader().unwrap().kind(), "csv");
        source.kind = Some("xml".into());
        let e = source.reader().err().unwrap();
        assert_eq!(e.message, "data: kind is xml, want one of png, safetensors, csv");
    }
}
