//! Where the weights of a model are: one file or several, each tensor under the name its network knows it by. Nothing is
//! copied for a name: an entry says which tensor of which file it is, and that is read, and widened where the engine has
//! no such type, when it is asked for.

use super::bind::{Found, Named};
use super::folder;
use super::gguf::{self, Gguf};
use super::index::{Index, MAX_INDEX};
use super::narrow::{Narrow, narrow};
use super::plain_file;
use super::safetensors::{Entry, SafeTensors};
use crate::base::{DType, Desc, Result, Shape};
use crate::mem::{Budget, Tensor, reserved};
use crate::{bail, fail};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Bytes read at a time where they are widened on the way; every kind of block is shorter.
const PIECE: usize = 4096;

/// One tensor, by the name a network knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    pub name: String,
    /// As the file spells it (`BF16`).
    pub type_name: &'static str,
    pub dims: Vec<usize>,
    /// In the file.
    pub bytes: u64,
    file: u32,
    /// Of the entries of that file.
    entry: u32,
}

impl Held {
    /// What it reads as; none where the engine has no such type or rank.
    pub fn desc(&self) -> Option<Desc> {
        let dtype = match narrow(self.type_name) {
            Some(n) => n.reads_as,
            None => DType::from_safetensors(self.type_name)?,
        };
        Shape::new(&self.dims).ok().map(|shape| Desc { dtype, shape })
    }
}

/// How a name changes: the new one, none where no network wants the tensor, and its sizes where they change too (as many
/// elements in the same order).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Renamed {
    pub name: Option<String>,
    pub dims: Option<Vec<usize>>,
}

/// Weights of a model.
#[derive(Debug)]
pub struct Source {
    label: String,
    metadata: BTreeMap<String, String>,
    files: Vec<AnyFile>,
    entries: Vec<Held>,
    /// Places in `entries`, by name.
    index: Vec<u32>,
}

#[derive(Debug)]
enum AnyFile {
    Safe(SafeTensors),
    Gguf(Gguf),
}

impl Source {
    /// A file of any format we read, told by its first bytes.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, len) = plain_file(path)?;
        let mut head = Vec::new();
        let read = file.take(16).read_to_end(&mut head);
        read.map_err(|e| fail!(Io, "{}: {e}", path.display()))?;
        if head.starts_with(gguf::MAGIC) {
            return Self::from_gguf(Gguf::open(path)?);
        }
        refuse_pickle(path, &head, len)?;
        Self::of(SafeTensors::open(path)?)
    }

    /// The weights in a folder, of a variant (`fp16`) where one is named.
    pub fn folder(path: &Path, variant: Option<&str>) -> Result<Self> {
        folder::open(path, variant)
    }

    pub fn of(file: SafeTensors) -> Result<Self> {
        let (label, metadata) = (file.label().to_owned(), file.metadata().clone());
        Self::from_files(label, metadata, vec![AnyFile::Safe(file)])
    }

    pub fn from_gguf(file: Gguf) -> Result<Self> {
        let (label, metadata) = (file.label().to_owned(), file.metadata().clone());
        Self::from_files(label, metadata, vec![AnyFile::Gguf(file)])
    }

    /// The files that an index beside them names.
    pub fn sharded(path: &Path) -> Result<Self> {
        let label = path.display().to_string();
        let (file, len) = plain_file(path)?;
        if len > MAX_INDEX {
            bail!(Format, "{label}: an index of {len} bytes, want at most {MAX_INDEX}");
        }
        let mut text = String::new();
        let read = file.take(MAX_INDEX).read_to_string(&mut text);
        read.map_err(|e| fail!(Io, "{label}: {e}"))?;
        let index = Index::parse(&text).map_err(|e| e.within(&label))?;
        drop(text);
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut files = reserved(index.files.len(), "a list of shards")?;
        for name in &index.files {
            let shard = folder.join(name);
            if !shard.exists() {
                bail!(NotFound, "{label}: shard {name} is missing in this folder");
            }
            files.push(AnyFile::Safe(SafeTensors::open(&shard)?));
        }
        let mut entries = reserved(index.tensors.len(), "a list of tensors")?;
        for (name, at) in index.tensors {
            let Some(AnyFile::Safe(file)) = files.get(at as usize) else {
                bail!(Internal, "{label}: {name} is in file {at}");
            };
            let Some(k) = file.position(&name) else {
                bail!(
                    Format,
                    "{label}: {name} should be in {}, which has no such tensor",
                    file.label()
                );
            };
            let Some(e) = file.entries().get(k as usize) else { continue };
            entries.push(held(name, e, at, k));
        }
        Self::new(label, BTreeMap::new(), files, entries)
    }

    fn from_files(
        label: String,
        metadata: BTreeMap<String, String>,
        files: Vec<AnyFile>,
    ) -> Result<Self> {
        let count = files.iter().map(|f| f.entries().len()).sum();
        let mut entries = reserved(count, "a list of tensors")?;
        for (at, file) in files.iter().enumerate() {
            for (k, e) in file.entries().iter().enumerate() {
                entries.push(held(e.name.clone(), e, at as u32, k as u32)); // both below 2^20
            }
        }
        Self::new(label, metadata, files, entries)
    }

    fn new(
        label: String,
        metadata: BTreeMap<String, String>,
        files: Vec<AnyFile>,
        entries: Vec<Held>,
    ) -> Result<Self> {
        let mut index = reserved(entries.len(), "an index of tensors")?;
        index.extend(0..entries.len() as u32);
        let name = |i: u32| entries[i as usize].name.as_str(); // just counted
        index.sort_unstable_by(|a, b| name(*a).cmp(name(*b)));
        if let Some(pair) = index.windows(2).find(|pair| name(pair[0]) == name(pair[1])) {
            let name = name(pair[0]);
            bail!(Format, "{label}: two tensors of it stand for {name}");
        }
        Ok(Self { label, metadata, files, entries, index })
    }

    /// The same under other names; two tensors that come to one name are an error.
    pub fn renamed(self, rule: &dyn Fn(&Held) -> Renamed) -> Result<Self> {
        let Self { label, metadata, files, mut entries, .. } = self;
        let mut fault = None;
        entries.retain_mut(|e| {
            let Renamed { name, dims } = rule(e);
            let Some(name) = name else { return false };
            if let Some(dims) = dims {
                if count(&dims) != count(&e.dims) && fault.is_none() {
                    fault =
                        Some(fail!(Format, "{label}: {} is {:?}, want {dims:?}", e.name, e.dims));
                }
                e.dims = dims;
            }
            e.name = name;
            true
        });
        match fault {
            Some(fault) => Err(fault),
            None => Self::new(label, metadata, files, entries),
        }
    }

    /// Two models in one: the tensors of the other stand under `slot/name`.
    pub fn with(self, slot: &str, other: Self) -> Result<Self> {
        let Self { label, metadata, mut files, mut entries, .. } = self;
        let base = files.len() as u32;
        entries.extend(other.entries.into_iter().map(|mut e| {
            e.name = format!("{slot}/{}", e.name);
            e.file += base;
            e
        }));
        files.extend(other.files);
        Self::new(label, metadata, files, entries)
    }

    /// The same with another name for errors.
    pub fn labelled(mut self, label: &str) -> Self {
        label.clone_into(&mut self.label);
        self
    }

    /// The path or name it was opened with.
    pub fn label(&self) -> &str {
        &self.label
    }

    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// In the order of their data.
    pub fn entries(&self) -> &[Held] {
        &self.entries
    }

    pub fn entry(&self, name: &str) -> Option<&Held> {
        let at = |i: &u32| self.entries.get(*i as usize);
        let found =
            self.index.binary_search_by(|i| at(i).map(|e| e.name.as_str()).cmp(&Some(name)));
        found.ok().and_then(|k| self.index.get(k)).and_then(at)
    }

    /// Reads one tensor.
    pub fn tensor(&self, name: &str, budget: &Arc<Budget>) -> Result<Tensor> {
        let label = &self.label;
        let Some(e) = self.entry(name) else {
            bail!(NotFound, "{label}: no tensor named {name}");
        };
        let Some(desc) = e.desc() else {
            bail!(
                Unsupported,
                "{label}: tensor {name} is {}{:?}, which the engine cannot hold",
                e.type_name,
                e.dims
            );
        };
        let mut out = Tensor::new(desc, budget).map_err(|e| e.within(format!("tensor {name}")))?;
        self.read(e, out.bytes_mut()).map_err(|e| e.within(format!("tensor {name}")))?;
        Ok(out)
    }

    fn read(&self, held: &Held, out: &mut [u8]) -> Result<()> {
        let file = self.files.get(held.file as usize);
        let Some((file, entry)) =
            file.and_then(|f| f.entries().get(held.entry as usize).map(|e| (f, e)))
        else {
            bail!(Internal, "entry {} of file {}", held.entry, held.file);
        };
        match narrow(entry.type_name) {
            None => file.read_bytes(entry, 0, out),
            Some(kind) => widened(file, entry, kind, out),
        }
    }
}

impl Named for Source {
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

fn widened(file: &AnyFile, e: &Entry, kind: &Narrow, out: &mut [u8]) -> Result<()> {
    let wide = kind.elements * kind.reads_as.bytes();
    let blocks = PIECE / kind.bytes; // at a time
    let mut piece = [0; PIECE];
    for (k, part) in out.chunks_mut(blocks * wide).enumerate() {
        let n = part.len().div_ceil(wide) * kind.bytes;
        let Some(piece) = piece.get_mut(..n) else { continue };
        let at = (k * blocks) as u64 * kind.bytes as u64;
        file.read_bytes(e, at, piece)?;
        for (from, to) in piece.chunks_exact(kind.bytes).zip(part.chunks_mut(wide)) {
            (kind.widen)(from, to);
        }
    }
    Ok(())
}

impl AnyFile {
    fn entries(&self) -> &[Entry] {
        match self {
            Self::Safe(file) => file.entries(),
            Self::Gguf(file) => file.entries(),
        }
    }

    fn read_bytes(&self, entry: &Entry, at: u64, out: &mut [u8]) -> Result<()> {
        match self {
            Self::Safe(file) => file.read_bytes(entry, at, out),
            Self::Gguf(file) => file.read_bytes(entry, at, out),
        }
    }
}

fn held(name: String, e: &Entry, file: u32, entry: u32) -> Held {
    Held { name, type_name: e.type_name, dims: e.dims.clone(), bytes: e.end - e.begin, file, entry }
}

fn count(dims: &[usize]) -> u64 {
    dims.iter().fold(1, |n, d| n.saturating_mul(*d as u64))
}

/// A pickle may run anything when it is read; whoever has one converts it where that is safe.
fn refuse_pickle(path: &Path, head: &[u8], len: u64) -> Result<()> {
    let zip = head.starts_with(b"PK\x03\x04");
    let word = head.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
    // the protocol's mark could also begin the length of a header: not of one that fits
    let bare = matches!(head, [0x80, 2..=5, ..]) && word > len.saturating_sub(8);
    if zip || bare {
        bail!(
            Unsupported,
            "{0}: a pickle, which is not read because it could run any program; convert it: \
             python scripts/convert-pickle.py {0} OUT.safetensors",
            path.display()
        );
    }
    Ok(())
}
