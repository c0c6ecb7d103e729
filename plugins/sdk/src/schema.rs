//! The documentation of a configuration: [`schema!`](crate::schema) writes the JSON schema of a plugin's keys as a
//! constant, one line per key, and every `create` is held to it.
//!
//! A descriptor is constant data, so the text cannot be made when somebody asks. It cannot drift either: after `create`
//! the keys, types, defaults and ranges it asked for are compared with the text, and a difference is an error.

use crate::error::{Error, Result};
use core::ffi::CStr;
use serde_json::{Map, Value};

/// The JSON schema (draft 2020-12) of a configuration, for [`Factory::SCHEMA`](crate::Factory::SCHEMA). A row is a key,
/// its type, what it means, and whatever of `default`, `minimum`, `exclusiveMinimum`, `maximum`, `exclusiveMaximum`
/// and `enum` applies, as `create` asks for it:
///
/// ```
/// # use core::ffi::CStr;
/// const SCHEMA: Option<&CStr> = diffx_plugin::schema![
///     "rho": number "how levels crowd at the low end", default 7, minimum 1, maximum 100;
///     "variance": string "law of a step", default "small", enum ["small", "large"];
/// ];
/// # assert!(SCHEMA.unwrap().to_str().unwrap().contains(r#""default":7"#));
/// ```
///
/// Types: `number`, `integer`, `boolean`, `string`, `numbers`, `integers` and `strings` (lists; the range and the words
/// are those of an element), `sizes` (an object of whole numbers). A plugin without keys says `schema![]`.
#[macro_export]
macro_rules! schema {
    () => { $crate::schema!(@text "") };
    ($key:literal : $kind:ident $about:literal $(, $word:ident $value:expr)*
     $(; $keys:literal : $kinds:ident $abouts:literal $(, $words:ident $values:expr)*)* $(;)?) => {
        $crate::schema!(@text concat!(
            $crate::schema!(@row $kind $key $about $(, $word $value)*)
            $(, ",", $crate::schema!(@row $kinds $keys $abouts $(, $words $values)*))*
        ))
    };
    (@text $properties:expr) => {
        Some($crate::c_text(concat!(
            "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"type\":\"object\",\"properties\":{",
            $properties,
            "},\"patternProperties\":{\"^x-\":{}},\"additionalProperties\":false}\0"
        )))
    };
    (@row numbers $($rest:tt)*) => { $crate::schema!(@list "number" $($rest)*) };
    (@row integers $($rest:tt)*) => { $crate::schema!(@list "integer" $($rest)*) };
    (@row strings $($rest:tt)*) => { $crate::schema!(@list "string" $($rest)*) };
    (@row sizes $key:literal $about:literal $(, $word:ident $value:expr)*) => {
        concat!(
            "\"", $key, "\":{\"description\":\"", $about, "\",\"type\":\"object\",\"additionalProperties\":{",
            "\"type\":\"integer\"", $(",\"", stringify!($word), "\":", stringify!($value),)* "}}"
        )
    };
    (@row $kind:ident $key:literal $about:literal $(, $word:ident $value:expr)*) => {
        concat!(
            "\"", $key, "\":{\"description\":\"", $about, "\",\"type\":\"", stringify!($kind), "\"",
            $(",\"", stringify!($word), "\":", stringify!($value),)* "}"
        )
    };
    (@list $item:literal $key:literal $about:literal $(, $word:ident $value:expr)*) => {
        concat!(
            "\"", $key, "\":{\"description\":\"", $about, "\",\"type\":\"array\",\"items\":{\"type\":\"", $item, "\"",
            $(",\"", stringify!($word), "\":", stringify!($value),)* "}}"
        )
    };
}

/// A text that ends in its only NUL, as C wants it.
#[doc(hidden)]
pub const fn c_text(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("a schema holds no NUL but the last"), // while compiling
    }
}

/// What `create` asked for, as the property a schema must have for it.
pub(crate) fn property(kind: &str, rules: Map<String, Value>, default: Option<Value>) -> Value {
    let with = |kind: &str, mut rules: Map<String, Value>| {
        rules.insert("type".into(), kind.into());
        rules
    };
    let mut out = match kind {
        "numbers" | "integers" | "strings" => {
            let items = with(kind.trim_end_matches('s'), rules);
            with("array", Map::from_iter([("items".into(), items.into())]))
        }
        "sizes" => {
            let each = with("integer", rules);
            with("object", Map::from_iter([("additionalProperties".into(), each.into())]))
        }
        _ => with(kind, rules),
    };
    out.extend(default.map(|d| ("default".to_owned(), d)));
    out.into()
}

/// Compares a schema with the properties that were asked for.
pub(crate) fn compare(schema: &CStr, asked: &[(&'static str, Value)]) -> Result<()> {
    let schema: Option<Value> = serde_json::from_slice(schema.to_bytes()).ok();
    let said = schema.as_ref().and_then(|s| s.get("properties")).and_then(Value::as_object);
    let Some(said) = said else {
        return Err(Error::plugin("the schema is no JSON object with properties"));
    };
    for (key, want) in asked {
        let mut have = said.get(*key).cloned().unwrap_or(Value::Null);
        if let Some(have) = have.as_object_mut() {
            have.remove("description");
        }
        if !same(&have, want) {
            return Err(Error::plugin(format!(
                "the schema of {key} is {have}, create asks for {want}"
            )));
        }
    }
    match said.keys().find(|k| !asked.iter().any(|(key, _)| key == k)) {
        Some(key) => {
            Err(Error::plugin(format!("the schema has {key}, create does not ask for it")))
        }
        None => Ok(()),
    }
}

/// Equality that takes 7 and 7.0 for one number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, FINITE, POSITIVE};

    const SCHEMA: Option<&CStr> = schema![
        "rho": number "a number", default 7, minimum 1, exclusiveMaximum 1e2;
        "mean": number "another", default -0.5;
        "theta": number "none by default", exclusiveMinimum 0;
        "width": integer "a size", default 8, minimum 1, maximum 64;
        "log": boolean "a switch", default false;
        "law": string "a word", default "a", enum ["a", "b"];
        "range": numbers "two numbers", exclusiveMinimum 0;
        "dims": integers "sizes", minimum 1;
        "conds": sizes "named sizes", minimum 1, maximum 9;
        "kind": string "a word, none by default", enum ["u"];
        "blocks": strings "words", enum ["u", "v"];
    ];

    fn ask(config: &mut Config, rho: f64) {
        config.f64("rho", rho, 1.0..100.0).unwrap();
        config.f64("mean", -0.5, FINITE).unwrap();
        config.opt_f64("theta", POSITIVE).unwrap();
        config.usize("width", 8, 1..=64).unwrap();
        config.bool("log", false).unwrap();
        config.one_of("law", &[("a", 1), ("b", 2)]).unwrap();
        config.f64s("range", POSITIVE).unwrap();
        config.usizes("dims", 1..).unwrap();
        config.sizes("conds", 1..=9).unwrap();
        config.opt_one_of("kind", &[("u", 0)]).unwrap();
        config.words("blocks", &[("u", 0), ("v", 1)]).unwrap();
    }

    fn message(config: &Config) -> String {
        config.finish(SCHEMA).unwrap_err().message
    }

    #[test]
    fn create_is_held_to_it() {
        let mut config = Config::parse("{}").unwrap();
        ask(&mut config, 7.0);
        config.finish(SCHEMA).unwrap();
        config.bool("more", true).unwrap();
        assert!(message(&config).starts_with("the schema of more is null, create asks for {"));

        let mut config = Config::parse("{}").unwrap();
        ask(&mut config, 8.0);
        assert!(message(&config).contains("\"default\":8.0"), "{}", message(&config));

        let config = Config::parse("{}").unwrap();
        assert_eq!(message(&config), "the schema has blocks, create does not ask for it");
        assert!(config.finish(schema![]).is_ok() && config.finish(None).is_ok());
    }
}
