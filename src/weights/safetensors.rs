//! The safetensors format: 8 bytes of header length, a JSON header, the tensors one after another. Opening reads the
//! header only; each tensor is read when it is asked for, into memory of a budget. Numbers are little-endian, as on
//! every machine we build for.

use super::bind::{Found, Named, Wanted};
use super::{atomic, convert, header, plain_file};
use crate::base::{DType, Desc, Result, Shape};
use crate::mem::{Budget, Tensor, reserved, zeros};
use crate::{bail, fail};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub name: String,
    /// As the file spells it (`BF16`).
    pub type_name: &'static str,
    pub dims: Vec<usize>,
    /// Range of its bytes behind the header.
    pub begin: u64,
    pub end: u64,
}

impl Entry {
    /// None when the engine has no such element type or rank, which only matters once that tensor is asked for.
    pub fn desc(&self) -> Option<Desc> {
        let dtype = DType::from_safetensors(self.type_name)?;
        Shape::new(&self.dims).ok().map(|shape| Desc { dtype, shape })
    }
}

/// An open file, or bytes in the program.
#[derive(Debug)]
pub struct SafeTensors {
    label: String,
    source: Source,
    /// Where the data starts.
    base: u64,
    metadata: BTreeMap<String, String>,
    entries: Vec<Entry>,
    /// Places in `entries`, by name.
    index: Vec<u32>,
}

#[derive(Debug)]
enum Source {
    File(Mutex<File>),
    Bytes(&'static [u8]),
}

impl SafeTensors {
    pub fn open(path: &Path) -> Result<Self> {
        let label = path.display().to_string();
        let (file, len) = plain_file(path)?;
        Self::read(label, Source::File(Mutex::new(file)), len)
    }

    /// A file carried inside the program; `label` appears in errors.
    pub fn from_static(label: &str, bytes: &'static [u8]) -> Result<Self> {
        Self::read(label.to_owned(), Source::Bytes(bytes), bytes.len() as u64)
    }

    fn read(label: String, source: Source, len: u64) -> Result<Self> {
        match Self::read_header(&source, len) {
            Ok((base, header)) => {
                let header::Header { metadata, entries } = header;
                let mut index = reserved(entries.len(), "an index of tensors")?;
                index.extend(0..entries.len() as u32);
                let name = |i: u32| entries[i as usize].name.as_str(); // just counted
                index.sort_unstable_by(|a, b| name(*a).cmp(name(*b)));
                Ok(Self { label, source, base, metadata, entries, index })
            }
            Err(e) => Err(e.within(label)),
        }
    }

    fn read_header(source: &Source, len: u64) -> Result<(u64, header::Header)> {
        let mut word = [0; 8];
        if len < 8 {
            bail!(Format, "{len} bytes are too few for a safetensors file");
        }
        source.read_at(0, &mut word)?;
        let n = u64::from_le_bytes(word);
        if n > header::MAX_HEADER {
            bail!(
                Format,
                "the header claims {n} bytes, more than {} are refused",
                header::MAX_HEADER
            );
        }
        if n > len - 8 {
            bail!(Format, "the header claims {n} bytes, the file has {} after its length", len - 8);
        }
        let mut text = zeros(n as usize, "a header")?; // at most MAX_HEADER and inside the file
        source.read_at(8, &mut text)?;
        Ok((8 + n, header::parse(&text, len - 8 - n)?))
    }

    /// The path or name it was opened with.
    pub fn label(&self) -> &str {
        &self.label
    }

    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// In the order of their data.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.position(name).and_then(|i| self.entries.get(i as usize))
    }

    /// Place of a tensor in `entries`.
    pub(super) fn position(&self, name: &str) -> Option<u32> {
        let at = |i: &u32| self.entries.get(*i as usize).map(|e| e.name.as_str());
        let found = self.index.binary_search_by(|i| at(i).cmp(&Some(name)));
        found.ok().and_then(|k| self.index.get(k)).copied()
    }

    /// Reads a part of a tensor that must be `want`, from byte `at` of it on.
    pub fn read_part(&self, name: &str, want: Desc, at: usize, out: &mut [u8]) -> Result<()> {
        let label = &self.label;
        let Some(entry) = self.entry(name) else {
            bail!(NotFound, "{label}: no tensor named {name}");
        };
        if entry.desc() != Some(want) {
            let (kind, dims) = (entry.type_name, &entry.dims);
            bail!(Format, "{label}: {name} is {kind}{dims:?}, want {want}");
        }
        if at.checked_add(out.len()).is_none_or(|end| end > want.bytes()) {
            bail!(Internal, "{label}: {name} has {} bytes, asked for {at} on", want.bytes());
        }
        let at = self.base + entry.begin + at as u64;
        self.source.read_at(at, out).map_err(|e| e.within(label))
    }

    /// Reads a part of a tensor that [`super::bind::check`] found to fit, in the wanted type, from byte `at` of that on.
    pub fn read_as(&self, want: &Wanted, at: usize, out: &mut [u8]) -> Result<()> {
        let held = self.entry(&want.name).and_then(Entry::desc);
        let held =
            held.map_or(want.desc, |desc| Desc { dtype: desc.dtype, shape: want.desc.shape });
        let (from, to) = (held.dtype, want.desc.dtype);
        if from == to {
            return self.read_part(&want.name, held, at, out);
        }
        if !convert::converts(from, to) {
            bail!(Unsupported, "{}: {} is {from}, want {to}", self.label, want.name);
        }
        let mut piece = [0; 4096];
        for (k, part) in out.chunks_mut(512 * to.bytes()).enumerate() {
            let first = at / to.bytes() + k * 512;
            let piece = &mut piece[..part.len() / to.bytes() * from.bytes()];
            self.read_part(&want.name, held, first * from.bytes(), piece)?;
            convert::elements(piece, from, to, part);
        }
        Ok(())
    }

    /// Reads one tensor.
    pub fn tensor(&self, name: &str, budget: &Arc<Budget>) -> Result<Tensor> {
        let label = &self.label;
        let Some(entry) = self.entry(name) else {
            bail!(NotFound, "{label}: no tensor named {name}");
        };
        let Some(desc) = entry.desc() else {
            bail!(
                Unsupported,
                "{label}: tensor {name} is {}{:?}, which the engine cannot hold",
                entry.type_name,
                entry.dims
            );
        };
        let mut out = Tensor::new(desc, budget).map_err(|e| e.within(format!("tensor {name}")))?;
        self.source
            .read_at(self.base + entry.begin, out.bytes_mut())
            .map_err(|e| e.within(label))?;
        Ok(out)
    }
}

impl SafeTensors {
    /// Bytes of an entry of this file, from byte `at` of it on.
    pub(super) fn read_bytes(&self, entry: &Entry, at: u64, out: &mut [u8]) -> Result<()> {
        let room = (entry.end - entry.begin).checked_sub(at);
        if room.is_none_or(|room| out.len() as u64 > room) {
            bail!(Internal, "{}: {} bytes at {at} of {}", self.label, out.len(), entry.name);
        }
        self.source.read_at(self.base + entry.begin + at, out).map_err(|e| e.within(&self.label))
    }
}

impl Named for SafeTensors {
    fn label(&self) -> &str {
        &self.label
    }

    fn found(&self, name: &str) -> Option<Found<'_>> {
        let e = self.entry(name)?;
        Some(Found { desc: e.desc(), type_name: e.type_name, dims: &e.dims })
    }

    fn tensor(&self, name: &str, budget: &Arc<Budget>) -> Result<Tensor> {
        Self::tensor(self, name, budget)
    }
}

impl Source {
    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<()> {
        match self {
            Self::File(file) => {
                // a reader that panicked leaves at worst a wrong position, and we seek
                let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                file.seek(SeekFrom::Start(at))
                    .and_then(|_| file.read_exact(out))
                    .map_err(|e| fail!(Io, "reading {} bytes at {at}: {e}", out.len()))
            }
            Self::Bytes(bytes) => {
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                match bytes.get(at..).and_then(|b| b.get(..out.len())) {
                    Some(from) => {
                        out.copy_from_slice(from);
                        Ok(())
                    }
                    None => bail!(Io, "reading {} bytes at {at}: the end was reached", out.len()),
                }
            }
        }
    }
}

/// Puts the bytes of a tensor, by its number, piece by piece.
pub type Pieces<'a> = dyn FnMut(usize, &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> + 'a;

/// A tensor to write.
#[derive(Debug, Clone, Copy)]
pub struct Out<'a> {
    pub name: &'a str,
    pub desc: Desc,
    pub bytes: &'a [u8],
}

/// Writes a file in one piece: either all of it is there afterwards, synced, or what was there before.
pub fn write(path: &Path, metadata: &BTreeMap<String, String>, tensors: &[Out<'_>]) -> Result<()> {
    let listed: Vec<(&str, Desc)> = tensors.iter().map(|t| (t.name, t.desc)).collect();
    write_pieces(path, metadata, &listed, &mut |i, put| {
        put(tensors.get(i).map_or(&[], |t| t.bytes))
    })
}

/// As [`write()`], for tensors that are not in one place: `bytes(i, put)` puts those of tensor `i`, in order.
pub fn write_pieces(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    tensors: &[(&str, Desc)],
    bytes: &mut Pieces<'_>,
) -> Result<()> {
    let label = path.display();
    // widest elements first, so that every tensor is aligned for its type
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(tensors[*i].1.dtype.bytes()), tensors[*i].0));
    let mut head = serde_json::Map::new();
    if !metadata.is_empty() {
        head.insert("__metadata__".into(), serde_json::json!(metadata));
    }
    let mut at = 0u64;
    for (name, desc) in order.iter().map(|i| tensors[*i]) {
        let end = at + desc.bytes() as u64;
        let row = serde_json::json!({
            "dtype": desc.dtype.safetensors_name(), "shape": desc.dims(), "data_offsets": [at, end],
        });
        if name == "__metadata__" || head.insert(name.to_owned(), row).is_some() {
            bail!(Invalid, "{label}: two tensors are named {name}");
        }
        at = end;
    }
    let mut text = serde_json::Value::Object(head).to_string();
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    if text.len() as u64 > header::MAX_HEADER {
        bail!(Invalid, "{label}: the header would take {} bytes, too many to be read", text.len());
    }
    let io = |e: std::io::Error| fail!(Io, "{e}");
    atomic::replace_with(path, |out| {
        out.write_all(&(text.len() as u64).to_le_bytes()).map_err(io)?;
        out.write_all(text.as_bytes()).map_err(io)?;
        for i in order {
            let (name, desc) = tensors[i];
            let mut written = 0;
            bytes(i, &mut |piece| {
                written += piece.len();
                out.write_all(piece).map_err(io)
            })?;
            if written != desc.bytes() {
                let want = desc.bytes();
                bail!(Invalid, "tensor {name} is {desc}, want {want} bytes, got {written}");
            }
        }
        Ok(())
    })
}
