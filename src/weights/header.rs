//! The JSON header of a safetensors file: parsed from bytes nobody vouches for, and checked before a single offset in
//! it is used. The data must be covered exactly: no tensor outside the file, no two overlapping, no gap.
//!
//! It is read straight into what we keep, with a limit on everything that repeats, so that no header takes much more
//! memory than its text.

use super::safetensors::Entry;
use crate::base::{Error, Result};
use crate::mem::reserved;
use crate::{bail, fail};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// Largest header we read, as in the reference implementation.
pub(super) const MAX_HEADER: u64 = 100_000_000;

/// Most tensors of a file.
pub(super) const MAX_ENTRIES: usize = 1 << 20;

/// Longest name of a tensor or of an entry of the metadata.
pub(super) const MAX_NAME: usize = 4096;

/// Most entries of the metadata, and the longest: that of a manifest with its history.
const MAX_METADATA: usize = 1 << 10;
const MAX_VALUE: usize = 16 << 20;

/// How an error begins that is one of the machine and none of the file.
const NO_ROOM: &str = "no memory for a text of a header";

/// Most dimensions of a tensor we list; the engine holds fewer.
const MAX_DIMS: usize = 32;

/// Element types the format knows, with their bits; those [`DType`] lacks can be listed but not read.
const KNOWN: &[(&str, u64)] = &[
    ("BOOL", 8),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E8M0", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("I16", 16),
    ("U16", 16),
    ("F16", 16),
    ("BF16", 16),
    ("I32", 32),
    ("U32", 32),
    ("F32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

pub(super) struct Header {
    pub metadata: BTreeMap<String, String>,
    /// In the order of their data.
    pub entries: Vec<Entry>,
}

/// `data_len` is the number of bytes behind the header.
pub(super) fn parse(text: &[u8], data_len: u64) -> Result<Header> {
    let Ok(text) = std::str::from_utf8(text) else {
        bail!(Format, "the header is not UTF-8");
    };
    // a text with escapes is put together in a list of the parser's own, which doubles and cannot be refused: whether
    // there is room for that, and for what is kept of it, is asked before
    let longest = longest_put_together(text);
    drop(reserved::<u8>(2 * longest + longest.min(MAX_VALUE), "the texts of a header")?);
    let mut reading = Reading::default();
    let mut json = serde_json::Deserializer::from_str(text);
    let read = json.deserialize_map(&mut reading).and_then(|()| json.end());
    let Reading { mut entries, metadata, fault } = reading;
    if let Err(e) = read {
        let other = || match e.to_string().starts_with(NO_ROOM) {
            true => fail!(NoMemory, "{e}"),
            false => fail!(Format, "the header is not the JSON of a safetensors file: {e}"),
        };
        return Err(fault.unwrap_or_else(other));
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
        bail!(Format, "the header names {} twice", pair[0].name);
    }
    entries.sort_unstable_by_key(|e| (e.begin, e.end));
    let mut at = 0;
    for e in &entries {
        if e.begin < at {
            bail!(
                Format,
                "tensor {} starts at byte {}, inside the one before it, which ends at {at}",
                e.name,
                e.begin
            );
        }
        if e.begin > at {
            bail!(Format, "bytes {at} to {} before tensor {} belong to no tensor", e.begin, e.name);
        }
        if e.end > data_len {
            bail!(
                Format,
                "tensor {} ends at byte {}, the file has {data_len} bytes of data",
                e.name,
                e.end
            );
        }
        at = e.end;
    }
    if at != data_len {
        bail!(Format, "the tensors cover {at} bytes, the file has {data_len} bytes of data");
    }
    Ok(Header { metadata: metadata.unwrap_or_default(), entries })
}

/// Most bytes of a text with escapes, once it is put together.
fn longest_put_together(json: &str) -> usize {
    let (mut longest, mut len, mut inside, mut escapes) = (0, 0, false, false);
    let mut bytes = json.bytes();
    while let Some(b) = bytes.next() {
        match (inside, b) {
            (false, b'"') => (inside, escapes, len) = (true, false, 0),
            (false, _) => {}
            (true, b'"') => inside = false,
            (true, b'\\') => {
                escapes = true; // what it stands for is no longer than what is left of it
                bytes.next();
                len += 1;
            }
            (true, _) => len += 1,
        }
        if escapes {
            longest = longest.max(len);
        }
    }
    longest
}

fn byte_count(dims: &[u64], bits: u64) -> Option<u64> {
    let total = dims.iter().try_fold(bits, |n, d| n.checked_mul(*d))?;
    (total % 8 == 0 && total / 8 <= isize::MAX as u64).then_some(total / 8)
}

/// The header while it is read. A fault of ours is kept whole beside the parser's own error, which ends the reading.
#[derive(Default)]
struct Reading {
    entries: Vec<Entry>,
    metadata: Option<BTreeMap<String, String>>,
    fault: Option<Error>,
}

fn stop<E: serde::de::Error>(place: &mut Option<Error>, fault: Error) -> E {
    *place = Some(fault);
    E::custom("stopped")
}

impl<'de> Visitor<'de> for &mut Reading {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Text { most: MAX_NAME })? {
            let fault = &mut self.fault;
            if name == "__metadata__" {
                if self.metadata.is_some() {
                    return Err(stop(fault, fail!(Format, "the header names {name} twice")));
                }
                self.metadata = Some(map.next_value_seed(Metadata { fault })?);
                continue;
            }
            if self.entries.len() >= MAX_ENTRIES {
                let most = fail!(Format, "the header names more than {MAX_ENTRIES} tensors");
                return Err(stop(fault, most));
            }
            if self.entries.try_reserve(1).is_err() {
                return Err(stop(fault, fail!(NoMemory, "no memory for a list of tensors")));
            }
            self.entries.push(map.next_value_seed(Tensor { name, fault })?);
        }
        Ok(())
    }
}

/// A tensor of that name.
struct Tensor<'a> {
    name: String,
    fault: &'a mut Option<Error>,
}

impl<'de> Visitor<'de> for Tensor<'_> {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the fields of tensor {}", self.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Entry, A::Error> {
        let Self { name, fault } = self;
        let (mut dtype, mut dims, mut range) = (None, None, None);
        while let Some(key) = map.next_key_seed(Text { most: MAX_NAME })? {
            let again = match key.as_str() {
                "dtype" => dtype.replace(map.next_value_seed(Text { most: 64 })?).is_some(),
                "shape" => dims.replace(map.next_value_seed(Numbers)?).is_some(),
                "data_offsets" => range.replace(map.next_value_seed(Numbers)?).is_some(),
                _ => {
                    let want = "want dtype, shape and data_offsets";
                    let unknown = fail!(Format, "tensor {name}: unknown field {key}, {want}");
                    return Err(stop(fault, unknown));
                }
            };
            if again {
                let twice = fail!(Format, "tensor {name}: field {key} is given twice");
                return Err(stop(fault, twice));
            }
        }
        let (Some(dtype), Some(dims), Some(range)) = (dtype, dims, range) else {
            let want = "want the fields dtype, shape and data_offsets";
            return Err(stop(fault, fail!(Format, "tensor {name}: {want}")));
        };
        let label = format!("tensor {name}");
        entry(name, &dtype, dims.get(), range.get()).map_err(|e| stop(fault, e.within(label)))
    }
}

fn entry(name: String, dtype: &str, dims: &[u64], range: &[u64]) -> Result<Entry> {
    let Some((type_name, bits)) = KNOWN.iter().find(|(known, _)| *known == dtype).copied() else {
        bail!(Format, "dtype is {dtype:?}, which the format does not know");
    };
    let &[begin, end] = range else {
        bail!(Format, "data_offsets has {} numbers, want 2", range.len());
    };
    let Some(want) = byte_count(dims, bits) else {
        bail!(
            Format,
            "shape {dims:?} of {type_name} is no whole number of bytes of an address space"
        );
    };
    if end < begin || end - begin != want {
        bail!(Format, "data_offsets are [{begin}, {end}], {type_name}{dims:?} takes {want} bytes");
    }
    let dims: Vec<usize> = dims
        .iter()
        .map(|d| usize::try_from(*d).map_err(|_| fail!(Format, "dimension {d} is too large")))
        .collect::<Result<_>>()?;
    Ok(Entry { name, type_name, dims, begin, end })
}

/// The metadata: texts by name.
struct Metadata<'a> {
    fault: &'a mut Option<Error>,
}

impl<'de> Visitor<'de> for Metadata<'_> {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(
        self,
        mut map: A,
    ) -> std::result::Result<Self::Value, A::Error> {
        let mut out = BTreeMap::new();
        while let Some(key) = map.next_key_seed(Text { most: MAX_NAME })? {
            let value = map.next_value_seed(Text { most: MAX_VALUE });
            let value = value.map_err(|e| {
                let fault = match e.to_string().starts_with(NO_ROOM) {
                    true => fail!(NoMemory, "metadata {key}: {e}"),
                    false => fail!(Format, "metadata {key}: {e}"),
                };
                stop::<A::Error>(self.fault, fault)
            })?;
            if out.contains_key(&key) {
                let twice = fail!(Format, "the metadata name {key} twice");
                return Err(stop(self.fault, twice));
            }
            out.insert(key, value);
            if out.len() > MAX_METADATA {
                let most = fail!(Format, "the metadata has more than {MAX_METADATA} entries");
                return Err(stop(self.fault, most));
            }
        }
        Ok(out)
    }
}

/// A text of at most so many bytes.
pub(super) struct Text {
    pub(super) most: usize,
}

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a text of at most {} bytes", self.most)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<String, E> {
        if text.len() > self.most {
            return Err(E::invalid_length(text.len(), &self));
        }
        let mut out = String::new();
        if out.try_reserve_exact(text.len()).is_err() {
            return Err(E::custom(NO_ROOM));
        }
        out.push_str(text);
        Ok(out)
    }
}

/// A short list of whole numbers.
struct Numbers;

struct List {
    values: [u64; MAX_DIMS],
    len: usize,
}

impl List {
    fn get(&self) -> &[u64] {
        self.values.get(..self.len).unwrap_or_default()
    }
}

impl<'de> Visitor<'de> for Numbers {
    type Value = List;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX_DIMS} whole numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<List, A::Error> {
        let mut out = List { values: [0; MAX_DIMS], len: 0 };
        while let Some(n) = seq.next_element::<u64>()? {
            match out.values.get_mut(out.len) {
                Some(place) => *place = n,
                None => return Err(A::Error::invalid_length(out.len + 1, &self)),
            }
            out.len += 1;
        }
        Ok(out)
    }
}

/// Each of them is asked for by what it reads.
macro_rules! seeds {
    ($($name:ty, $value:ty, $ask:ident;)*) => {$(
        impl<'de> DeserializeSeed<'de> for $name {
            type Value = $value;

            fn deserialize<D: Deserializer<'de>>(
                self,
                from: D,
            ) -> std::result::Result<Self::Value, D::Error> {
                from.$ask(self)
            }
        }
    )*};
}

seeds! {
    Tensor<'_>, Entry, deserialize_map;
    Metadata<'_>, BTreeMap<String, String>, deserialize_map;
    Text, String, deserialize_str;
    Numbers, List, deserialize_seq;
}
