//! A plugin with its settings, as files, configs and the command write it: `"cir"`, `"cir:{\"kappa\":1.0}"` or
//! `{"id":"cir","config":{...}}`.

use super::strict::{Fields, MAX_CONFIG, json_up_to, kind};
use crate::bail;
use crate::base::Result;
use serde_json::{Map, Value, json};

/// Most settings in one list (guidances nest: each costs stack while a graph is built).
const MOST_LISTED: usize = 32;

/// Longest id, short or full.
const LONGEST_ID: usize = 256;

/// An id, short or full, and the config of the instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    pub id: String,
    pub config: Map<String, Value>,
}

impl Setting {
    /// An id with nothing set.
    pub fn of(id: &str) -> Self {
        Self { id: id.to_owned(), config: Map::new() }
    }

    /// `id` or `id:{json}`.
    pub fn parse(text: &str) -> Result<Self> {
        let (id, config) = match text.split_once(':') {
            Some((id, rest)) => (id, rest),
            None => (text, "{}"),
        };
        if id.is_empty() || id.len() > LONGEST_ID {
            let start: String = text.chars().take(64).collect();
            bail!(Format, "setting {start:?}: want ID or ID:{{JSON}}");
        }
        match json_up_to(MAX_CONFIG, &format!("setting {id}: its config"), config)? {
            Value::Object(config) => Ok(Self { id: id.to_owned(), config }),
            other => {
                bail!(Format, "setting {id}: its config is {}, want an object", kind(&other))
            }
        }
    }

    /// Any of the three spellings in one text, as hosts and command lines send it.
    pub fn from_text(what: &str, text: &str) -> Result<Self> {
        if !text.trim_start().starts_with('{') {
            return Self::parse(text).map_err(|e| e.within(what));
        }
        Self::from_value(what, json_up_to(MAX_CONFIG, what, text)?)
    }

    pub fn from_value(what: &str, value: Value) -> Result<Self> {
        match value {
            Value::String(text) => Self::parse(&text).map_err(|e| e.within(what)),
            Value::Object(map) => {
                let mut fields = Fields::new(what, Value::Object(map))?;
                let id = match fields.text("id")? {
                    Some(id) if id.len() > LONGEST_ID => {
                        bail!(Format, "{what}: an id of {} bytes, want {LONGEST_ID}", id.len())
                    }
                    Some(id) if !id.is_empty() => id,
                    _ => bail!(Format, "{what}: id is missing"),
                };
                let config = fields.object("config")?.unwrap_or_default();
                fields.done()?;
                Ok(Self { id, config })
            }
            other => bail!(Format, "{what}: is {}, want an id or an object", kind(&other)),
        }
    }

    /// One setting or a list of them.
    pub fn list(what: &str, value: Option<Value>) -> Result<Vec<Self>> {
        match value {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) if list.len() > MOST_LISTED => {
                bail!(
                    Invalid,
                    "{what}: a list of {} settings, want at most {MOST_LISTED}",
                    list.len()
                )
            }
            Some(Value::Array(list)) => {
                list.into_iter().map(|v| Self::from_value(what, v)).collect()
            }
            Some(one) => Ok(vec![Self::from_value(what, one)?]),
        }
    }

    /// The config as a JSON value.
    pub fn value(&self) -> Value {
        Value::Object(self.config.clone())
    }

    pub fn to_value(&self) -> Value {
        json!({ "id": self.id, "config": self.config })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_spellings_agree() {
        let object = json!({"id": "cir", "config": {"kappa": 1.0}});
        let a = Setting::parse("cir:{\"kappa\":1.0}").unwrap();
        let b = Setting::from_value("process", object.clone()).unwrap();
        assert_eq!(a, b);
        assert_eq!(a.to_value(), object);
        assert_eq!(Setting::parse("cir").unwrap(), Setting::of("cir"));
    }

    #[test]
    fn lists_have_an_end() {
        let list = |n| Setting::list("guidance", Some(json!(vec!["cfg"; n])));
        assert_eq!(list(MOST_LISTED).unwrap().len(), MOST_LISTED);
        let error = list(1800).unwrap_err();
        assert_eq!(error.message, "guidance: a list of 1800 settings, want at most 32");
    }

    #[test]
    fn texts_and_ids_have_an_end() {
        let id = "a".repeat(300);
        let error = Setting::from_value("grid", json!({ "id": id })).unwrap_err();
        assert_eq!(error.message, "grid: an id of 300 bytes, want 256");
        assert!(Setting::parse(&id).unwrap_err().message.len() < 120);
        let long = format!("cir:{{\"x\":[{}1]}}", "1,".repeat(MAX_CONFIG / 2));
        let error = Setting::parse(&long).unwrap_err();
        assert!(error.message.contains("want at most 1048576"), "{error}");
        let object = format!("{{\"id\":\"cir\",\"config\":{{{}}}}}", " ".repeat(MAX_CONFIG));
        assert!(Setting::from_text("process", &object).is_err());
    }

    #[test]
    fn what_is_no_setting_says_why() {
        for text in ["", ":{}", "cir:[1]", "cir:{"] {
            assert!(Setting::parse(text).is_err(), "{text}");
        }
        let odd = json!({"id": "cir", "cfg": {}});
        assert_eq!(
            Setting::from_value("process", odd).unwrap_err().message,
            "process: unknown key cfg"
        );
        assert!(Setting::from_value("process", json!(3)).is_err());
    }
}
