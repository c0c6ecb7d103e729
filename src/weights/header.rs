//! The JSON header of a safetensors file: parsed from bytes nobody vouches for, and checked before a single offset in
//! it is used. The data must be covered exactly: no tensor outside the file, no two overlapping, no gap.

use super::safetensors::Entry;
use crate::base::{DType, Desc, Result, Shape};
use crate::{bail, fail};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::marker::PhantomData;

/// Largest header we read, as in the reference implementation.
pub(super) const MAX_HEADER: u64 = 100_000_000;

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
    let Pairs(items): Pairs<Pairs<Value>> = serde_json::from_str(text)
        .map_err(|e| fail!(Format, "the header is not the JSON of a safetensors file: {e}"))?;
    let mut seen = HashSet::new();
    let mut metadata = BTreeMap::new();
    let mut entries = Vec::new();
    for (name, fields) in items {
        if !seen.insert(name.clone()) {
            bail!(Format, "the header names {name} twice");
        }
        if name == "__metadata__" {
            for (key, value) in fields.0 {
                let Value::String(value) = value else {
                    bail!(Format, "metadata {key} is {value}, want a string");
                };
                if metadata.insert(key.clone(), value).is_some() {
                    bail!(Format, "the metadata name {key} twice");
                }
            }
        } else {
            let entry = entry(&name, fields.0).map_err(|e| e.within(format!("tensor {name}")))?;
            entries.push(entry);
        }
    }
    entries.sort_by_key(|e| (e.begin, e.end));
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
    Ok(Header { metadata, entries })
}

fn entry(name: &str, fields: Vec<(String, Value)>) -> Result<Entry> {
    let (mut dtype, mut dims, mut range) = (None, None, None);
    for (key, value) in fields {
        let again = match key.as_str() {
            "dtype" => dtype.replace(dtype_of(&value)?).is_some(),
            "shape" => dims.replace(numbers(&value, "shape")?).is_some(),
            "data_offsets" => range.replace(numbers(&value, "data_offsets")?).is_some(),
            _ => bail!(Format, "unknown field {key}, want dtype, shape and data_offsets"),
        };
        if again {
            bail!(Format, "field {key} is given twice");
        }
    }
    let (Some((type_name, bits)), Some(dims), Some(range)) = (dtype, dims, range) else {
        bail!(Format, "want the fields dtype, shape and data_offsets");
    };
    let [begin, end] = range[..] else {
        bail!(Format, "data_offsets has {} numbers, want 2", range.len());
    };
    let Some(want) = byte_count(&dims, bits) else {
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
    // a shape or type the engine cannot hold only matters once that tensor is asked for
    let desc = DType::from_safetensors(type_name)
        .and_then(|dtype| Shape::new(&dims).ok().map(|shape| Desc { dtype, shape }));
    Ok(Entry { name: name.to_owned(), type_name, dims, desc, begin, end })
}

fn dtype_of(value: &Value) -> Result<(&'static str, u64)> {
    match value.as_str().and_then(|s| KNOWN.iter().find(|(name, _)| *name == s)) {
        Some(known) => Ok(*known),
        None => bail!(Format, "dtype is {value}, which the format does not know"),
    }
}

fn numbers(value: &Value, what: &str) -> Result<Vec<u64>> {
    let list = value.as_array().map(|a| a.iter().map(Value::as_u64).collect::<Option<Vec<_>>>());
    match list {
        Some(Some(list)) => Ok(list),
        _ => bail!(Format, "{what} is {value}, want a list of whole numbers"),
    }
}

fn byte_count(dims: &[u64], bits: u64) -> Option<u64> {
    let total = dims.iter().try_fold(bits, |n, d| n.checked_mul(*d))?;
    (total % 8 == 0 && total / 8 <= isize::MAX as u64).then_some(total / 8)
}

/// A JSON object as a list, so that a name given twice is seen and not silently replaced.
struct Pairs<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Object<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Object<V> {
            type Value = Pairs<V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Self::Value, A::Error> {
                let mut out = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    out.push(pair);
                }
                Ok(Pairs(out))
            }
        }
        deserializer.deserialize_map(Object(PhantomData))
    }
}
