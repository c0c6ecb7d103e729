//! Every built-in documents its settings, and the documentation is true: what the schema gives as a default or a
//! choice is taken, what lies outside its bounds is refused, and there is no key beside those it lists.

use diffx::base::{Result, Status};
use diffx::engine::{Engine, Options, Setting};
use serde_json::{Map, Value, json};

fn create(engine: &Engine, kind: &str, id: &str, config: &Value) -> Result<()> {
    let setting = Setting { id: id.to_owned(), config: config.as_object().cloned().unwrap() };
    match kind {
        "model" => engine.model(&setting).map(drop),
        "process" => engine.process(&setting).map(drop),
        "guidance" => engine.guidance(&setting).map(drop),
        "sampler" => engine.sampler(&setting).map(drop),
        "grid" => engine.grid(&setting).map(drop),
        "objective" => engine.objective(&setting).map(drop),
        other => panic!("{id} is a {other}"),
    }
}

/// Values just outside what `rules` allow, and of a wrong type.
fn wrong(rules: &Map<String, Value>) -> Vec<Value> {
    let mut out = Vec::new();
    for (rule, step) in
        [("minimum", -1.0), ("exclusiveMinimum", 0.0), ("maximum", 1.0), ("exclusiveMaximum", 0.0)]
    {
        if let Some(bound) = rules.get(rule) {
            let value = bound.as_f64().unwrap() + step;
            out.push(if bound.is_f64() { json!(value) } else { json!(value as i64) });
        }
    }
    if rules.contains_key("enum") {
        out.push(json!("none of them"));
    }
    out.push(match rules.get("type").and_then(Value::as_str).unwrap() {
        "string" => json!(1),
        "number" | "integer" | "boolean" | "array" | "object" => json!("a word"),
        other => panic!("type {other}"),
    });
    out
}

#[test]
fn every_built_in_says_what_it_takes() {
    let engine = Engine::new(Options::default()).unwrap();
    let factories = engine.factories();
    assert!(factories.len() > 15);
    let mut keys = 0;
    for text in factories {
        let f: Value = serde_json::from_str(&text).unwrap();
        let (kind, id) = (f["kind"].as_str().unwrap(), f["id"].as_str().unwrap());
        let schema = &f["config_schema"];
        let Some(properties) = schema["properties"].as_object() else {
            panic!("{id}: no schema; give its Factory a SCHEMA made by diffx_plugin::schema!");
        };
        create(&engine, kind, id, &json!({})).unwrap_or_else(|e| panic!("{id}: {e}"));
        create(&engine, kind, id, &json!({"x-note": 1})).unwrap();
        let e = create(&engine, kind, id, &json!({"no_such_key": 1})).unwrap_err();
        assert_eq!(e.status, Status::Format, "{id}: {e}");
        for (key, property) in properties {
            keys += 1;
            let rules = property.as_object().unwrap();
            assert!(property["description"].as_str().is_some_and(|d| !d.is_empty()), "{id} {key}");
            let good =
                property["enum"].as_array().into_iter().flatten().chain(rules.get("default"));
            for value in good {
                create(&engine, kind, id, &json!({key: value}))
                    .unwrap_or_else(|e| panic!("{id}: {key} {value}: {e}"));
            }
            let inner = if let Some(items) = property["items"].as_object() { items } else { rules };
            for value in wrong(inner) {
                let value = if property["type"] == "array" { json!([value]) } else { value };
                let e = create(&engine, kind, id, &json!({key: value}));
                let e = e.expect_err(&format!("{id} took {key}: {value}"));
                assert!(e.message.contains(key.as_str()), "{id}: {key} {value}: {e}");
            }
        }
    }
    assert!(keys > 30, "{keys} keys in all");
}
