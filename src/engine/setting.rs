//! A plugin with its settings, as files, configs and the command write it: `"cir"`, `"cir:{\"kappa\":1.0}"` or
//! `{"id":"cir","config":{...}}`.

use super::strict::{Fields, kind};
use crate::bail;
use crate::base::Result;
use serde_json::{Map, Value, json};

/// Most settings in one list (guidances nest: each costs stack while a graph is built).
const MOST_LISTED: usize = 32;

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
        if id.is_empty() || id.len() > 256 {
            bail!(Format, "setting {text:?}: want ID or ID:{{JSON}}");
        }
        match serde_json::from_str(config) {
            Ok(Value::Object(config)) => Ok(Self { id: id.to_owned(), config }),
            Ok(other) => {
                bail!(Format, "setting {id}: its config is {}, want an object", kind(&other))
            }
            Err(e) => bail!(Format, "setting {id}: its config is no JSON: {e}"),
        }
    }

    /// Any of the three spellings in one text, as hosts and command lines send it.
    pub fn from_text(what: &str, text: &str) -> Result<Self> {
        if !text.trim_start().starts_with('{') {
            return Self::parse(text).map_err(|e| e.within(what));
        }
        match serde_json::from_str(text) {
            Ok(value) => Self::from_value(what, value),
            Err(e) => bail!(Format, "{what}: no JSON: {e}"),
        }
    }

    pub fn from_value(what: &str, value: Value) -> Result<Self> {
        match value {
            Value::String(text) => Self::parse(&text).map_err(|e| e.within(what)),
            Value::Object(map) => {
                let mut fields = Fields::new(what, Value::Object(map))?;
                let id = match fields.text("id")? {
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
