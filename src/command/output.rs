//! Samples to files: the extension says how. Every file is written beside its place and renamed into it.

use super::npy;
use diffx::base::Result;
use diffx::mem::Tensor;
use diffx::weights::{Out, atomic, convert, write};
use diffx::{bail, fail};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Ways to write samples, by extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Safetensors,
    Npy,
    Csv,
    Png,
}

impl Format {
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let ext = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        match ext.to_ascii_lowercase().as_str() {
            "safetensors" => Ok(Self::Safetensors),
            "npy" => Ok(Self::Npy),
            "csv" => Ok(Self::Csv),
            "png" => Ok(Self::Png),
            _ => bail!(
                Invalid,
                "{}: the name must end in .safetensors, .npy, .csv or .png",
                path.display()
            ),
        }
    }
}

/// Named results of a run; the first is the state's first component.
pub(crate) struct Results<'a> {
    pub(crate) tensors: &'a [(String, Arc<Tensor>)],
    /// Headings of the values of one sample, when they have names (dates).
    pub(crate) headings: &'a [String],
    /// Sample id of row 0.
    pub(crate) first_sample: u64,
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Results<'_> {
    fn first(&self) -> Result<&Tensor> {
        match self.tensors.first() {
            Some((_, tensor)) => Ok(tensor),
            None => bail!(Internal, "a run gave no results"),
        }
    }

    /// Everything but pictures.
    pub(crate) fn write(&self, path: &Path, format: Format) -> Result<()> {
        match format {
            Format::Safetensors => {
                let out: Vec<Out<'_>> = self
                    .tensors
                    .iter()
                    .map(|(name, t)| Out { name, desc: t.desc(), bytes: t.bytes() })
                    .collect();
                write(path, &self.metadata, &out)
            }
            Format::Npy => {
                let bytes = npy::encode(self.first()?)?;
                atomic::replace(path, |out| out.write_all(&bytes))
            }
            Format::Csv => self.write_csv(path),
            Format::Png => bail!(Unsupported, "{}: no picture of this state", path.display()),
        }
    }

    /// One row per sample, one column per value.
    fn write_csv(&self, path: &Path) -> Result<()> {
        let tensor = self.first()?;
        let values = numbers(tensor)?;
        let rows = tensor.dims().first().copied().unwrap_or(1);
        let width = values.len().checked_div(rows).unwrap_or(0);
        let name = self.tensors.first().map_or("x", |(n, _)| n.as_str());
        let mut text = String::from("sample");
        for i in 0..width {
            text.push(',');
            match self.headings.get(i) {
                Some(heading) if self.headings.len() == width => text.push_str(heading),
                _ => text.push_str(&format!("{name}{i}")),
            }
        }
        text.push('\n');
        for (i, row) in values.chunks_exact(width.max(1)).enumerate() {
            text.push_str(&(self.first_sample + i as u64).to_string());
            for v in row {
                // the shortest text that reads back as the same f32
                text.push(',');
                text.push_str(&(*v as f32).to_string());
            }
            text.push('\n');
        }
        atomic::replace(path, |out| out.write_all(text.as_bytes()))
    }
}

/// A tensor of floats or tokens as numbers.
pub(crate) fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    use diffx::base::DType;
    match tensor.desc().dtype {
        DType::I32 => Ok(tensor.elements::<i32>()?.iter().map(|v| f64::from(*v)).collect()),
        DType::Bool | DType::U8 => Ok(tensor.bytes().iter().map(|v| f64::from(*v)).collect()),
        DType::I64 => Err(fail!(Unsupported, "{} is not written as numbers", tensor.desc())),
        _ => convert::to_f64(tensor),
    }
}
