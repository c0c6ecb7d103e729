//! Shards: the index that says which of several files a tensor is in (`model.safetensors.index.json`). The files lie
//! beside the index; a name that would lead elsewhere is refused. Read from bytes nobody vouches for, with a limit on
//! everything that repeats.

use super::header::{MAX_ENTRIES, MAX_HEADER, MAX_NAME, Text};
use crate::base::{Error, Result};
use crate::{bail, fail};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::HashMap;
use std::fmt;

/// Longest index we read.
pub const MAX_INDEX: u64 = MAX_HEADER;

/// Most shards of an index.
const MAX_SHARDS: usize = 4096;

/// Which file each tensor is in.
#[derive(Debug, Default, PartialEq)]
pub struct Index {
    /// File names, in the order they are met.
    pub files: Vec<String>,
    /// Name of a tensor and place of its file, by name.
    pub tensors: Vec<(String, u32)>,
}

impl Index {
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() as u64 > MAX_INDEX {
            bail!(Format, "{} bytes of JSON, want at most {MAX_INDEX}", text.len());
        }
        let mut fault = None;
        let mut json = serde_json::Deserializer::from_str(text);
        let read = json.deserialize_map(Whole { fault: &mut fault });
        let read = read.and_then(|index| json.end().map(|()| index));
        let mut index = match (read, fault) {
            (Ok(index), _) => index,
            (Err(_), Some(fault)) => return Err(fault),
            (Err(e), None) => bail!(Format, "not the JSON of an index of shards: {e}"),
        };
        index.tensors.sort_unstable();
        match index.tensors.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => bail!(Format, "weight_map names {} twice", pair[0].0),
            None => Ok(index),
        }
    }
}

/// That a name is of a file in the folder itself.
pub fn check_plain(name: &str) -> Result<()> {
    let plain = !name.is_empty()
        && !name.contains(['/', '\\', '\0', ':'])
        && name != "."
        && !name.contains("..");
    if !plain {
        let start: String = name.chars().take(64).collect();
        bail!(Denied, "{start:?} is no name of a file in this folder");
    }
    Ok(())
}

struct Whole<'a> {
    fault: &'a mut Option<Error>,
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = Index;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Index, A::Error> {
        let mut index = None;
        while let Some(key) = map.next_key_seed(Text { most: MAX_NAME })? {
            if key != "weight_map" {
                map.next_value::<IgnoredAny>()?; // metadata: sizes that the files say themselves
                continue;
            }
            if index.is_some() {
                return Err(stop(self.fault, fail!(Format, "weight_map is given twice")));
            }
            index = Some(map.next_value_seed(Places { fault: &mut *self.fault })?);
        }
        match index {
            Some(index) => Ok(index),
            None => Err(stop(self.fault, fail!(Format, "there is no weight_map"))),
        }
    }
}

struct Places<'a> {
    fault: &'a mut Option<Error>,
}

impl<'de> serde::de::DeserializeSeed<'de> for Places<'_> {
    type Value = Index;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<Index, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Places<'_> {
    type Value = Index;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("weight_map: an object of file names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Index, A::Error> {
        let mut out = Index::default();
        let mut places: HashMap<String, u32> = HashMap::new();
        while let Some(name) = map.next_key_seed(Text { most: MAX_NAME })? {
            let file = map.next_value_seed(Text { most: MAX_NAME })?;
            let known = places.get(&file).copied();
            let at = known.unwrap_or(out.files.len() as u32); // at most MAX_SHARDS
            if known.is_none() {
                if let Err(e) = check_plain(&file) {
                    return Err(stop(self.fault, e.within(format!("weight_map: {name}"))));
                }
                if at as usize >= MAX_SHARDS {
                    let most = fail!(Format, "weight_map names more than {MAX_SHARDS} files");
                    return Err(stop(self.fault, most));
                }
                places.insert(file.clone(), at);
                out.files.push(file);
            }
            if out.tensors.len() >= MAX_ENTRIES {
                let most = fail!(Format, "weight_map names more than {MAX_ENTRIES} tensors");
                return Err(stop(self.fault, most));
            }
            if out.tensors.try_reserve(1).is_err() {
                return Err(stop(self.fault, fail!(NoMemory, "no memory for a list of tensors")));
            }
            out.tensors.push((name, at));
        }
        Ok(out)
    }
}

fn stop<E: serde::de::Error>(place: &mut Option<Error>, fault: Error) -> E {
    *place = Some(fault);
    E::custom("stopped")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_others_are_not() {
        let text = r#"{"metadata":{"total_size":8,"x":[1,{}]},
            "weight_map":{"b":"m-2.safetensors","a":"m-1.safetensors","c":"m-2.safetensors"}}"#;
        let index = Index::parse(text).unwrap();
        assert_eq!(index.files, ["m-2.safetensors", "m-1.safetensors"]);
        let named: Vec<_> = index.tensors.iter().map(|(n, f)| (n.as_str(), *f)).collect();
        assert_eq!(named, [("a", 1), ("b", 0), ("c", 0)]);
    }

    #[test]
    fn every_tensor_keeps_its_file_among_as_many_as_there_may_be() {
        let text = |files: usize| {
            let place = |k: usize| format!("\"{k:05}\":\"m-{}\"", k % files);
            let places: Vec<String> = (0..3 * files).map(place).collect();
            format!("{{\"weight_map\":{{{}}}}}", places.join(","))
        };
        let index = Index::parse(&text(MAX_SHARDS)).unwrap();
        assert_eq!(index.files.len(), MAX_SHARDS);
        for (name, at) in &index.tensors {
            let file = format!("m-{}", name.parse::<usize>().unwrap() % MAX_SHARDS);
            assert_eq!(index.files[*at as usize], file, "{name}");
        }
        let message = Index::parse(&text(MAX_SHARDS + 1)).unwrap_err().message;
        assert_eq!(message, "weight_map names more than 4096 files");
    }

    #[test]
    fn what_leads_out_of_the_folder_is_refused() {
        for file in ["../x", "/etc/passwd", "a/b", "a\\b", "..", ".", "", "C:x"] {
            let text = serde_json::json!({"weight_map": {"w": file}}).to_string();
            let message = Index::parse(&text).unwrap_err().message;
            assert!(message.starts_with("weight_map: w: "), "{file}: {message}");
        }
        for text in ["", "[]", "{}", r#"{"weight_map":[]}"#, r#"{"weight_map":{"a":1}}"#] {
            assert!(Index::parse(text).is_err(), "{text}");
        }
        let twice = r#"{"weight_map":{"a":"x","a":"y"}}"#;
        assert_eq!(Index::parse(twice).unwrap_err().message, "weight_map names a twice");
    }
}
