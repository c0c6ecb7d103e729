//! JSON objects read strictly: every key is taken by somebody, is `x-...`, or is an error that names it.

use crate::base::Result;
use crate::{bail, fail};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// Longest config of a host. Parsed JSON takes up to thirty times its text, and a file says how much there is.
pub const MAX_CONFIG: usize = 1 << 20;

/// Longest manifest of a model: a history to show and hold out may be in it.
pub const MAX_MANIFEST: usize = 16 << 20;

/// An object being taken apart. `what` names it in errors.
#[derive(Debug)]
pub struct Fields {
    what: String,
    map: Map<String, Value>,
}

/// Parses a config that must hold one JSON object; an empty text is `{}`.
pub fn parse(what: &str, text: &str) -> Result<Fields> {
    parse_up_to(MAX_CONFIG, what, text)
}

/// As [`parse`], for a text of at most `most` bytes.
pub fn parse_up_to(most: usize, what: &str, text: &str) -> Result<Fields> {
    if text.trim().is_empty() {
        return Ok(Fields { what: what.to_owned(), map: Map::new() });
    }
    let Ours(value) = json_up_to(most, what, text)?;
    Fields::new(what, value)
}

/// One JSON value of a text of at most `most` bytes.
pub fn json_up_to<'a, T: Deserialize<'a>>(most: usize, what: &str, text: &'a str) -> Result<T> {
    if text.len() > most {
        bail!(Format, "{what}: {} bytes of JSON, want at most {most}", text.len());
    }
    serde_json::from_str(text).map_err(|e| fail!(Format, "{what}: no JSON: {e}"))
}

/// A value, without the members `x-...` of an object: they are for others, and may be anything.
struct Ours(Value);

impl<'de> Deserialize<'de> for Ours {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Ours;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut members: A,
            ) -> std::result::Result<Ours, A::Error> {
                let mut map = Map::new();
                while let Some(key) = members.next_key::<String>()? {
                    if key.starts_with("x-") {
                        members.next_value::<IgnoredAny>()?;
                    } else {
                        map.insert(key, members.next_value()?);
                    }
                }
                Ok(Ours(Value::Object(map)))
            }
        }
        from.deserialize_map(Object)
    }
}

impl Fields {
    pub fn new(what: &str, value: Value) -> Result<Self> {
        match value {
            Value::Object(map) => Ok(Self { what: what.to_owned(), map }),
            other => bail!(Format, "{what}: is {}, want an object", kind(&other)),
        }
    }

    /// Takes a value out; null counts as absent.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key).filter(|v| !v.is_null())
    }

    pub fn need(&mut self, key: &str) -> Result<Value> {
        match self.take(key) {
            Some(v) => Ok(v),
            None => bail!(Format, "{}: {key} is missing", self.what),
        }
    }

    pub fn text(&mut self, key: &str) -> Result<Option<String>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(s)) => Ok(Some(s)),
            Some(other) => {
                bail!(Format, "{}: {key} is {}, want a text", self.what, kind(&other))
            }
        }
    }

    pub fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(b)),
            Some(v) => bail!(Format, "{}: {key} is {v}, want true or false", self.what),
        }
    }

    /// A finite number.
    pub fn number(&mut self, key: &str) -> Result<Option<f64>> {
        match self.take(key) {
            None => Ok(None),
            Some(v) => match v.as_f64().filter(|v| v.is_finite()) {
                Some(n) => Ok(Some(n)),
                None => bail!(Format, "{}: {key} is {v}, want a finite number", self.what),
            },
        }
    }

    /// A finite number, or a list of them.
    pub fn numbers(&mut self, key: &str) -> Result<Vec<f64>> {
        let list = match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(list)) => list,
            Some(one) => vec![one],
        };
        let number = |v: Value| match v.as_f64().filter(|n| n.is_finite()) {
            Some(n) => Ok(n),
            None => bail!(Format, "{}: {key} has {v}, want finite numbers", self.what),
        };
        list.into_iter().map(number).collect()
    }

    /// A whole number from `lo` to `hi`.
    pub fn whole(&mut self, key: &str, lo: u64, hi: u64) -> Result<Option<u64>> {
        match self.take(key) {
            None => Ok(None),
            Some(v) => match v.as_u64().filter(|n| (lo..=hi).contains(n)) {
                Some(n) => Ok(Some(n)),
                None => {
                    bail!(
                        Format,
                        "{}: {key} is {v}, want a whole number from {lo} to {hi}",
                        self.what
                    )
                }
            },
        }
    }

    pub fn list(&mut self, key: &str) -> Result<Option<Vec<Value>>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => {
                bail!(Format, "{}: {key} is {}, want a list", self.what, kind(&other))
            }
        }
    }

    pub fn object(&mut self, key: &str) -> Result<Option<Map<String, Value>>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => {
                bail!(Format, "{}: {key} is {}, want an object", self.what, kind(&other))
            }
        }
    }

    /// The end: whatever nobody took is an error.
    pub fn done(self) -> Result<()> {
        match self.map.iter().find(|(k, v)| !k.starts_with("x-") && !v.is_null()) {
            Some((key, _)) => bail!(Format, "{}: unknown key {key}", self.what),
            None => Ok(()),
        }
    }
}

/// The kind of a value, for people.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
