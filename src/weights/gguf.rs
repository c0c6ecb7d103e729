//! The GGUF format, versions 2 and 3: counts, metadata, a list of tensors, their data. As with safetensors opening reads
//! the header only, every number in it is checked before it is used, and the data must be covered: tensors stand in
//! order, each aligned, without overlap.
//!
//! Sizes are listed innermost first; we give them as everybody else does. Quantised blocks are widened when read.

use super::plain_file;
use super::safetensors::Entry;
use crate::base::Result;
use crate::mem::reserved;
use crate::{bail, fail};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Mutex;

pub const MAGIC: &[u8; 4] = b"GGUF";

/// Longest header we read, most tensors and entries of the metadata, longest name and kept text.
const MAX_HEADER: u64 = 100_000_000;
const MAX_ENTRIES: u64 = 1 << 20;
const MAX_METADATA: usize = 1 << 10;
const MAX_NAME: u64 = 4096;
const MAX_TEXT: u64 = 1 << 16;

/// Most sizes of a tensor, and arrays within arrays.
const MAX_DIMS: u32 = 8;
const MAX_DEPTH: u32 = 4;

/// Types: code, name, elements and bytes of a block. Those without a row in `narrow` or `DType` are listed, not read.
const TYPES: &[(u32, &str, u64, u64)] = &[
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (20, "IQ4_NL", 32, 18),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (30, "BF16", 1, 2),
];

/// Bytes of a value of the metadata, by its code; 8 is a text, 9 an array.
const VALUES: &[(u32, u64)] =
    &[(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (6, 4), (7, 1), (10, 8), (11, 8), (12, 8)];
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// An open file, or bytes in the program.
#[derive(Debug)]
pub struct Gguf {
    label: String,
    source: Mutex<Bytes>,
    /// Where the data starts.
    base: u64,
    metadata: BTreeMap<String, String>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
enum Bytes {
    File(File),
    Static(Cursor<&'static [u8]>),
}

impl Gguf {
    pub fn open(path: &Path) -> Result<Self> {
        let label = path.display().to_string();
        let (file, len) = plain_file(path)?;
        Self::read(label, Bytes::File(file), len)
    }

    /// A file carried inside the program; `label` appears in errors.
    pub fn from_static(label: &str, bytes: &'static [u8]) -> Result<Self> {
        Self::read(label.to_owned(), Bytes::Static(Cursor::new(bytes)), bytes.len() as u64)
    }

    fn read(label: String, mut source: Bytes, len: u64) -> Result<Self> {
        let header = match &mut source {
            Bytes::File(file) => Header::read(BufReader::new(file), len),
            Bytes::Static(bytes) => Header::read(bytes, len),
        };
        let Header { base, metadata, entries } = header.map_err(|e| e.within(&label))?;
        Ok(Self { label, source: Mutex::new(source), base, metadata, entries })
    }

    pub fn label(&self) -> &str {
        &self.label
    }

    /// Entries of the metadata that are texts.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// In the order of their data.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of an entry of this file, from byte `at` of it on.
    pub(super) fn read_bytes(&self, entry: &Entry, at: u64, out: &mut [u8]) -> Result<()> {
        let room = (entry.end - entry.begin).checked_sub(at);
        if room.is_none_or(|room| out.len() as u64 > room) {
            bail!(Internal, "{}: {} bytes at {at} of {}", self.label, out.len(), entry.name);
        }
        let at = self.base + entry.begin + at;
        // a reader that panicked leaves at worst a wrong position, and we seek
        let mut source = self.source.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let read = match &mut *source {
            Bytes::File(f) => f.seek(SeekFrom::Start(at)).and_then(|_| f.read_exact(out)),
            Bytes::Static(b) => b.seek(SeekFrom::Start(at)).and_then(|_| b.read_exact(out)),
        };
        read.map_err(|e| fail!(Io, "{}: reading {} bytes at {at}: {e}", self.label, out.len()))
    }
}

struct Header {
    base: u64,
    metadata: BTreeMap<String, String>,
    entries: Vec<Entry>,
}

/// A header under way: what it has taken is counted.
struct Reading<R> {
    from: R,
    taken: u64,
    most: u64,
}

impl<R: Read> Reading<R> {
    fn exact(&mut self, out: &mut [u8]) -> Result<()> {
        self.taken = self.taken.saturating_add(out.len() as u64);
        if self.taken > self.most {
            bail!(Format, "the header does not end within {} bytes", self.most);
        }
        self.from.read_exact(out).map_err(|e| fail!(Io, "reading the header: {e}"))
    }

    fn u32(&mut self) -> Result<u32> {
        let mut b = [0; 4];
        self.exact(&mut b)?;
        Ok(u32::from_le_bytes(b))
    }

    fn u64(&mut self) -> Result<u64> {
        let mut b = [0; 8];
        self.exact(&mut b)?;
        Ok(u64::from_le_bytes(b))
    }

    fn text(&mut self, most: u64, what: &str) -> Result<String> {
        let n = self.u64()?;
        if n > most {
            bail!(Format, "{what} of {n} bytes, want at most {most}");
        }
        self.text_of(n, what)
    }

    /// A text, or none where it is too long to be kept.
    fn short_text(&mut self, what: &str) -> Result<Option<String>> {
        let n = self.u64()?;
        if n > MAX_TEXT {
            return self.skip(n).map(|()| None);
        }
        self.text_of(n, what).map(Some)
    }

    fn text_of(&mut self, n: u64, what: &str) -> Result<String> {
        let mut bytes = crate::mem::zeros(n as usize, what)?; // callers bound it
        self.exact(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| fail!(Format, "{what} is not UTF-8"))
    }

    fn skip(&mut self, mut n: u64) -> Result<()> {
        if n > self.most.saturating_sub(self.taken) {
            bail!(Format, "the header does not end within {} bytes", self.most);
        }
        let mut piece = [0; 256];
        while n > 0 {
            let now = n.min(piece.len() as u64);
            self.exact(&mut piece[..now as usize])?; // at most its length
            n -= now;
        }
        Ok(())
    }

    /// Passes a value of the metadata.
    fn pass(&mut self, code: u32, depth: u32) -> Result<()> {
        match code {
            TEXT => {
                let n = self.u64()?;
                self.skip(n)
            }
            ARRAY if depth < MAX_DEPTH => {
                let (of, n) = (self.u32()?, self.u64()?);
                if let Some((_, bytes)) = VALUES.iter().find(|v| v.0 == of) {
                    return self.skip(n.saturating_mul(*bytes));
                }
                // every text and array takes bytes: their number ends with the header
                (0..n).try_for_each(|_| self.pass(of, depth + 1))
            }
            ARRAY => bail!(Format, "arrays are nested more than {MAX_DEPTH} deep"),
            other => match VALUES.iter().find(|v| v.0 == other) {
                Some((_, bytes)) => self.skip(*bytes),
                None => bail!(Format, "a value of type {other}, which the format does not know"),
            },
        }
    }
}

impl Header {
    fn read(from: impl Read, len: u64) -> Result<Self> {
        let mut r = Reading { from, taken: 0, most: len.min(MAX_HEADER) };
        let mut magic = [0; 4];
        r.exact(&mut magic)?;
        if magic != *MAGIC {
            bail!(Format, "no GGUF file: it begins with {magic:?}");
        }
        let version = r.u32()?;
        if !(2..=3).contains(&version) {
            bail!(Version, "GGUF version {version}, want 2 or 3");
        }
        let (n_tensors, n_values) = (r.u64()?, r.u64()?);
        if n_tensors > MAX_ENTRIES || n_values > MAX_ENTRIES {
            bail!(Format, "{n_tensors} tensors and {n_values} values, want at most {MAX_ENTRIES}");
        }
        let mut metadata = BTreeMap::new();
        let mut alignment = 32;
        for _ in 0..n_values {
            let key = r.text(MAX_NAME, "a key of the metadata")?;
            let code = r.u32()?;
            if key == "general.alignment" {
                if code != 4 {
                    bail!(Format, "{key} is of type {code}, want 4 (u32)");
                }
                alignment = u64::from(r.u32()?);
            } else if code == TEXT && metadata.len() < MAX_METADATA {
                if let Some(value) = r.short_text(&key)? {
                    metadata.insert(key, value);
                }
            } else {
                r.pass(code, 0).map_err(|e| e.within(&key))?;
            }
        }
        if !alignment.is_power_of_two() || alignment > 1 << 20 {
            bail!(Format, "general.alignment is {alignment}, want a power of 2 up to 2^20");
        }
        let mut entries = Vec::new();
        for _ in 0..n_tensors {
            let entry = Self::entry(&mut r)?;
            if entry.begin % alignment != 0 {
                bail!(
                    Format,
                    "tensor {} starts at byte {}, off the alignment of {alignment}",
                    entry.name,
                    entry.begin
                );
            }
            if entries.try_reserve(1).is_err() {
                bail!(NoMemory, "no memory for a list of tensors");
            }
            entries.push(entry);
        }
        let base = r.taken.next_multiple_of(alignment);
        let data = len.saturating_sub(base);
        Self::check(&mut entries, data, alignment)?;
        Ok(Self { base, metadata, entries })
    }

    fn entry(r: &mut Reading<impl Read>) -> Result<Entry> {
        let name = r.text(MAX_NAME, "the name of a tensor")?;
        let rank = r.u32()?;
        if rank > MAX_DIMS {
            bail!(Format, "tensor {name}: {rank} sizes, want at most {MAX_DIMS}");
        }
        let mut dims = reserved(rank as usize, "sizes")?;
        for _ in 0..rank {
            let d = r.u64()?;
            dims.push(usize::try_from(d).map_err(|_| fail!(Format, "tensor {name}: size {d}"))?);
        }
        let code = r.u32()?;
        let Some((_, type_name, elements, bytes)) = TYPES.iter().find(|t| t.0 == code) else {
            bail!(Format, "tensor {name}: type {code}, which is not known");
        };
        let begin = r.u64()?;
        // rows are whole blocks
        let row = dims.first().copied().unwrap_or(1) as u64;
        let total = dims.iter().try_fold(1u64, |n, d| n.checked_mul(*d as u64));
        let size = total
            .filter(|_| row.is_multiple_of(*elements))
            .and_then(|n| (n / elements).checked_mul(*bytes));
        let end = size.filter(|n| *n <= isize::MAX as u64).and_then(|n| begin.checked_add(n));
        let Some(end) = end else {
            bail!(
                Format,
                "tensor {name}: {type_name}{dims:?} is no whole number of blocks of an address space"
            );
        };
        dims.reverse();
        Ok(Entry { name, type_name, dims, begin, end })
    }

    /// Names differ; tensors follow one another with no more between than alignment takes.
    fn check(entries: &mut [Entry], data: u64, alignment: u64) -> Result<()> {
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
            bail!(Format, "the header names {} twice", pair[0].name);
        }
        entries.sort_unstable_by_key(|e| (e.begin, e.end));
        let mut at = 0u64;
        for e in entries.iter() {
            if e.end > data {
                bail!(
                    Format,
                    "tensor {} ends at byte {}, the file has {data} bytes of data",
                    e.name,
                    e.end
                );
            }
            if e.begin < at {
                bail!(
                    Format,
                    "tensor {} starts at byte {}, inside the one before it, which ends at {at}",
                    e.name,
                    e.begin
                );
            }
            if e.begin - at >= alignment {
                bail!(
                    Format,
                    "bytes {at} to {} before tensor {} belong to no tensor",
                    e.begin,
                    e.name
                );
            }
            at = e.end;
        }
        if data - at >= alignment {
            bail!(Format, "the tensors cover {at} bytes, the file has {data} bytes of data");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::narrow::narrow;
    use super::*;

    fn text(t: &str) -> Vec<u8> {
        [&(t.len() as u64).to_le_bytes(), t.as_bytes()].concat()
    }

    /// One tensor `w` of 2 x 32 in Q8_0, behind an array of texts.
    fn file(version: u32, offset: u64, data: usize) -> Vec<u8> {
        let mut f = MAGIC.to_vec();
        f.extend(version.to_le_bytes());
        f.extend(1u64.to_le_bytes());
        f.extend(2u64.to_le_bytes());
        f.extend([text("general.name"), 8u32.to_le_bytes().to_vec(), text("tiny")].concat());
        f.extend([text("list"), 9u32.to_le_bytes().to_vec(), 8u32.to_le_bytes().to_vec()].concat());
        f.extend([2u64.to_le_bytes().to_vec(), text("a"), text("b")].concat());
        f.extend([text("w"), 2u32.to_le_bytes().to_vec()].concat());
        f.extend([32u64, 2].iter().flat_map(|d| d.to_le_bytes()));
        f.extend(8u32.to_le_bytes());
        f.extend(offset.to_le_bytes());
        f.resize(f.len().next_multiple_of(32) + data, 0);
        f
    }

    fn read(bytes: Vec<u8>) -> Result<Gguf> {
        Gguf::from_static("file", bytes.leak())
    }

    #[test]
    fn sizes_are_turned_and_texts_are_kept() {
        let g = read(file(3, 0, 68)).unwrap();
        assert_eq!(g.metadata()["general.name"], "tiny");
        let e = &g.entries()[0];
        assert_eq!(
            (e.name.as_str(), e.type_name, &e.dims[..], e.end),
            ("w", "Q8_0", &[2, 32][..], 68)
        );
        assert!(g.read_bytes(e, 60, &mut [0; 8]).is_ok());
        assert!(g.read_bytes(e, 61, &mut [0; 8]).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let whole = file(3, 0, 68);
        for n in 0..whole.len() {
            assert!(read(whole[..n].to_vec()).is_err(), "{n} bytes of it");
        }
        let message = |f: Vec<u8>| read(f).unwrap_err().message;
        assert!(message(file(9, 0, 68)).contains("GGUF version 9"));
        assert!(message(file(3, 7, 75)).contains("off the alignment"));
        assert!(message(file(3, 64, 132)).contains("belong to no tensor"));
        assert!(message(file(3, 0, 132)).contains("cover 68 bytes"));
    }

    #[test]
    fn types_agree_with_what_widens_them() {
        for (_, name, elements, bytes) in TYPES {
            if let Some(n) = narrow(name) {
                assert_eq!((n.elements as u64, n.bytes as u64), (*elements, *bytes), "{name}");
            }
        }
    }
}
