//! Reading a configuration: every key is asked for by name with its default and range, and a key nobody asked for is
//! an error unless it starts with `x-`. A plugin's `create` is a list of such questions.

use crate::error::{Error, Result};
use crate::schema;
use core::ffi::CStr;
use core::fmt::Display;
use core::ops::{Bound, RangeBounds};
use serde_json::{Map, Value, json};

/// Numbers above 0.
pub const POSITIVE: (Bound<f64>, Bound<f64>) = (Bound::Excluded(0.0), Bound::Unbounded);
/// Any finite number.
pub const FINITE: (Bound<f64>, Bound<f64>) = (Bound::Unbounded, Bound::Unbounded);

/// A JSON object being read.
#[derive(Debug, Clone)]
pub struct Config {
    values: Map<String, Value>,
    /// Keys and the schema of each.
    asked: Vec<(&'static str, Value)>,
}

impl Config {
    pub fn parse(json: &str) -> Result<Self> {
        match serde_json::from_str(json) {
            Ok(Value::Object(values)) => Ok(Self { values, asked: Vec::new() }),
            Ok(other) => Err(Error::format(format!("config is {other}, want a JSON object"))),
            Err(e) => Err(Error::format(format!("config is not JSON: {e}"))),
        }
    }

    /// A finite number in `range`, or `default` where the key is absent or null.
    pub fn f64(
        &mut self,
        key: &'static str,
        default: f64,
        range: impl RangeBounds<f64>,
    ) -> Result<f64> {
        let value = self.number(key, range, Some(default.into()))?;
        Ok(value.unwrap_or(default))
    }

    pub fn opt_f64(
        &mut self,
        key: &'static str,
        range: impl RangeBounds<f64>,
    ) -> Result<Option<f64>> {
        self.number(key, range, None)
    }

    fn number(
        &mut self,
        key: &'static str,
        range: impl RangeBounds<f64>,
        default: Option<Value>,
    ) -> Result<Option<f64>> {
        let property = schema::property("number", rules(&range), default);
        let Some(value) = self.take(key, property) else { return Ok(None) };
        match value.as_f64() {
            Some(x) if x.is_finite() && range.contains(&x) => Ok(Some(x)),
            _ => Err(wrong(key, value, &format!("a number {}", describe(&range)))),
        }
    }

    /// A whole number in `range`.
    pub fn usize(
        &mut self,
        key: &'static str,
        default: usize,
        range: impl RangeBounds<usize>,
    ) -> Result<usize> {
        let value = self.whole(key, range, Some(default.into()))?;
        Ok(value.unwrap_or(default))
    }

    pub fn opt_usize(
        &mut self,
        key: &'static str,
        range: impl RangeBounds<usize>,
    ) -> Result<Option<usize>> {
        self.whole(key, range, None)
    }

    fn whole(
        &mut self,
        key: &'static str,
        range: impl RangeBounds<usize>,
        default: Option<Value>,
    ) -> Result<Option<usize>> {
        let property = schema::property("integer", rules(&range), default);
        let Some(value) = self.take(key, property) else { return Ok(None) };
        match value.as_u64().and_then(|x| usize::try_from(x).ok()) {
            Some(x) if range.contains(&x) => Ok(Some(x)),
            _ => Err(wrong(key, value, &format!("a whole number {}", describe(&range)))),
        }
    }

    pub fn bool(&mut self, key: &'static str, default: bool) -> Result<bool> {
        let property = schema::property("boolean", Map::new(), Some(default.into()));
        match self.take(key, property) {
            None => Ok(default),
            Some(Value::Bool(x)) => Ok(*x),
            Some(value) => Err(wrong(key, value, "true or false")),
        }
    }

    pub fn opt_str(&mut self, key: &'static str) -> Result<Option<String>> {
        match self.take(key, schema::property("string", Map::new(), None)) {
            None => Ok(None),
            Some(Value::String(x)) => Ok(Some(x.clone())),
            Some(value) => Err(wrong(key, value, "a string")),
        }
    }

    /// One of a set of words, paired with what they stand for; the first is the default.
    pub fn one_of<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Result<T> {
        let default = words.first().map(|w| w.0.into());
        let value = self.take(key, schema::property("string", among(words), default));
        let hit = match value {
            None => words.first(),
            Some(Value::String(x)) => words.iter().find(|w| w.0 == x),
            Some(_) => None,
        };
        match (hit, value) {
            (Some(word), _) => Ok(word.1),
            (None, Some(value)) => Err(wrong(key, value, &format!("one of {}", listed(words)))),
            (None, None) => Err(Error::invalid(format!("{key}: has no default"))),
        }
    }

    /// The same without a default.
    pub fn opt_one_of<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
    ) -> Result<Option<T>> {
        let Some(value) = self.take(key, schema::property("string", among(words), None)) else {
            return Ok(None);
        };
        let hit = value.as_str().and_then(|x| words.iter().find(|w| w.0 == x));
        match hit {
            Some(word) => Ok(Some(word.1)),
            None => Err(wrong(key, value, &format!("one of {}", listed(words)))),
        }
    }

    /// A list of words of a set, as what they stand for.
    pub fn words<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
    ) -> Result<Option<Vec<T>>> {
        let Some(value) = self.take(key, schema::property("strings", among(words), None)) else {
            return Ok(None);
        };
        let meant = |x: &Value| {
            let hit = x.as_str().and_then(|x| words.iter().find(|w| w.0 == x));
            hit.map(|w| w.1)
        };
        let list: Option<Vec<T>> = value.as_array().and_then(|a| a.iter().map(meant).collect());
        match list {
            Some(list) => Ok(Some(list)),
            None => Err(wrong(key, value, &format!("a list of {}", listed(words)))),
        }
    }

    /// A list of finite numbers in `range`.
    pub fn f64s(
        &mut self,
        key: &'static str,
        range: impl RangeBounds<f64>,
    ) -> Result<Option<Vec<f64>>> {
        let property = schema::property("numbers", rules(&range), None);
        let Some(value) = self.take(key, property) else { return Ok(None) };
        let fits = |x: &f64| x.is_finite() && range.contains(x);
        let list: Option<Vec<f64>> =
            value.as_array().and_then(|a| a.iter().map(|x| x.as_f64().filter(fits)).collect());
        match list {
            Some(list) => Ok(Some(list)),
            None => Err(wrong(key, value, &format!("a list of numbers {}", describe(&range)))),
        }
    }

    /// A list of whole numbers in `range`.
    pub fn usizes(
        &mut self,
        key: &'static str,
        range: impl RangeBounds<usize>,
    ) -> Result<Option<Vec<usize>>> {
        let property = schema::property("integers", rules(&range), None);
        let Some(value) = self.take(key, property) else { return Ok(None) };
        let whole = |x: &Value| {
            x.as_u64().and_then(|x| usize::try_from(x).ok()).filter(|x| range.contains(x))
        };
        let list: Option<Vec<usize>> = value.as_array().and_then(|a| a.iter().map(whole).collect());
        match list {
            Some(list) => Ok(Some(list)),
            None => {
                Err(wrong(key, value, &format!("a list of whole numbers {}", describe(&range))))
            }
        }
    }

    /// An object of names and whole numbers in `range`, by name.
    pub fn sizes(
        &mut self,
        key: &'static str,
        range: impl RangeBounds<usize>,
    ) -> Result<Vec<(String, usize)>> {
        let property = schema::property("sizes", rules(&range), None);
        let Some(value) = self.take(key, property) else { return Ok(Vec::new()) };
        let whole = |(name, x): (&String, &Value)| {
            let x = x.as_u64().and_then(|x| usize::try_from(x).ok());
            x.filter(|x| range.contains(x)).map(|x| (name.clone(), x))
        };
        let list: Option<Vec<_>> = value.as_object().and_then(|o| o.iter().map(whole).collect());
        match list {
            Some(list) => Ok(list),
            None => {
                let want = format!("an object of whole numbers {}", describe(&range));
                Err(wrong(key, value, &want))
            }
        }
    }

    /// Whether the key is given and not null; does not count as asking for it.
    pub fn has(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|v| !v.is_null())
    }

    /// Whether the key is given as null, where that means something else than its absence; does not count as asking.
    pub fn is_null(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(Value::is_null)
    }

    /// An error naming the first key that nobody asked for, or where a schema says other than what was asked.
    pub fn finish(&self, schema: Option<&CStr>) -> Result<()> {
        let asked: Vec<&str> = self.asked.iter().map(|a| a.0).collect();
        let unknown =
            self.values.keys().find(|k| !k.starts_with("x-") && !asked.contains(&k.as_str()));
        let Some(key) = unknown else {
            return schema.map_or(Ok(()), |text| schema::compare(text, &self.asked));
        };
        let known = match asked.is_empty() {
            true => "there are none".to_owned(),
            false => format!("want one of {}", asked.join(", ")),
        };
        Err(Error::format(format!("config has no key {key}: {known}")))
    }

    fn take(&mut self, key: &'static str, property: Value) -> Option<&Value> {
        if !self.asked.iter().any(|a| a.0 == key) {
            self.asked.push((key, property));
        }
        self.values.get(key).filter(|v| !v.is_null())
    }
}

fn wrong(key: &str, value: &Value, want: &str) -> Error {
    let mut shown = value.to_string();
    if shown.chars().count() > 60 {
        shown = shown.chars().take(60).chain("...".chars()).collect();
    }
    Error::invalid(format!("{key} is {shown}, want {}", want.trim_end()))
}

/// A set of words in a schema's words, and in a sentence.
fn among<T>(words: &[(&str, T)]) -> Map<String, Value> {
    let names: Vec<&str> = words.iter().map(|w| w.0).collect();
    Map::from_iter([("enum".to_owned(), json!(names))])
}

fn listed<T>(words: &[(&str, T)]) -> String {
    words.iter().map(|w| w.0).collect::<Vec<_>>().join(", ")
}

/// A range in a schema's words.
fn rules<T: Copy + Into<Value>>(range: &impl RangeBounds<T>) -> Map<String, Value> {
    let low = match range.start_bound() {
        Bound::Included(x) => Some(("minimum", *x)),
        Bound::Excluded(x) => Some(("exclusiveMinimum", *x)),
        Bound::Unbounded => None,
    };
    let high = match range.end_bound() {
        Bound::Included(x) => Some(("maximum", *x)),
        Bound::Excluded(x) => Some(("exclusiveMaximum", *x)),
        Bound::Unbounded => None,
    };
    low.into_iter().chain(high).map(|(word, x)| (word.to_owned(), x.into())).collect()
}

/// A range in words: `above 0`, `from 1 to 8`.
fn describe<T: Display>(range: &impl RangeBounds<T>) -> String {
    let low = match range.start_bound() {
        Bound::Included(x) => format!("from {x}"),
        Bound::Excluded(x) => format!("above {x}"),
        Bound::Unbounded => String::new(),
    };
    let high = match range.end_bound() {
        Bound::Included(x) if low.starts_with("from") => format!(" to {x}"),
        Bound::Included(x) if low.is_empty() => format!("up to {x}"),
        Bound::Included(x) => format!(" and up to {x}"),
        Bound::Excluded(x) if low.is_empty() => format!("below {x}"),
        Bound::Excluded(x) => format!(" and below {x}"),
        Bound::Unbounded if low.starts_with("from") => " up".to_owned(),
        Bound::Unbounded => String::new(),
    };
    low + &high
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: core::fmt::Debug>(r: Result<T>) -> String {
        r.unwrap_err().message
    }

    #[test]
    fn absent_and_null_give_the_default() {
        let mut c = Config::parse(r#"{"rho":null}"#).unwrap();
        assert_eq!(c.f64("rho", 7.0, POSITIVE).unwrap(), 7.0);
        assert_eq!(c.usize("width", 64, 1..=8).unwrap(), 64);
        assert!(c.finish(None).is_ok());
    }

    #[test]
    fn errors_name_key_value_and_range() {
        let mut c = Config::parse(
            r#"{"a":-1,"b":1.5,"c":"x","d":9,"e":[1,"q"],"f":{"long":"0123456789012345678901234567890123456789012345678901234567890"}}"#,
        )
        .unwrap();
        assert_eq!(message(c.f64("a", 1.0, POSITIVE)), "a is -1, want a number above 0");
        assert_eq!(message(c.usize("b", 1, 1..)), "b is 1.5, want a whole number from 1 up");
        assert_eq!(message(c.bool("c", true)), "c is \"x\", want true or false");
        assert_eq!(message(c.one_of("c", &[("u", 0), ("v", 1)])), "c is \"x\", want one of u, v");
        assert_eq!(message(c.usize("d", 1, 1..=8)), "d is 9, want a whole number from 1 to 8");
        assert_eq!(message(c.f64("d", 1.0, ..=8.0)), "d is 9, want a number up to 8");
        assert_eq!(message(c.f64("d", 1.0, 0.0..1.0)), "d is 9, want a number from 0 and below 1");
        assert_eq!(message(c.f64s("e", FINITE)), "e is [1,\"q\"], want a list of numbers");
        assert!(message(c.opt_str("f")).len() < 120);
        let mut c = Config::parse(r#"{"conds":{"a":2,"b":1},"bad":{"a":0}}"#).unwrap();
        assert_eq!(c.sizes("conds", 1..).unwrap(), [("a".into(), 2), ("b".into(), 1)]);
        let want = "bad is {\"a\":0}, want an object of whole numbers from 1 up";
        assert_eq!(message(c.sizes("bad", 1..)), want);
        let mut c = Config::parse(r#"{"a":["u","v","u"],"b":["w"],"c":"v","d":null}"#).unwrap();
        let words = &[("u", 0), ("v", 1)];
        assert_eq!(c.words("a", words).unwrap(), Some(vec![0, 1, 0]));
        assert_eq!(message(c.words("b", words)), "b is [\"w\"], want a list of u, v");
        assert_eq!(c.opt_one_of("c", words).unwrap(), Some(1));
        assert_eq!(message(c.opt_one_of("a", words)), "a is [\"u\",\"v\",\"u\"], want one of u, v");
        assert_eq!(
            (c.opt_one_of("d", words).unwrap(), c.is_null("d"), c.is_null("e")),
            (None, true, false)
        );
    }

    #[test]
    fn unknown_keys_are_errors_unless_marked() {
        let mut c = Config::parse(r#"{"x-note":1,"sgima":2}"#).unwrap();
        assert_eq!(message(c.finish(None)), "config has no key sgima: there are none");
        c.f64("sigma", 1.0, POSITIVE).unwrap();
        assert_eq!(message(c.finish(None)), "config has no key sgima: want one of sigma");
        c.f64("sgima", 1.0, POSITIVE).unwrap();
        assert!(c.finish(None).is_ok());
    }

    #[test]
    fn not_an_object() {
        assert_eq!(message(Config::parse("[1]")), "config is [1], want a JSON object");
        assert!(message(Config::parse("{")).starts_with("config is not JSON"));
    }
}
