//! Every built-in documents its settings, and the documentation is true: what the schema gives as a default or a
//! choice is taken, what lies outside its bounds is refused, and there is no key beside those it lists.

#[path = "support/model.rs"]
mod model;

use diffx::base::{Result, Status};
use diffx::engine::{Engine, Job, JobOptions, OpenModel, Options, Paths, Pipeline, Setting};
use diffx::mem::Tensor;
use diffx::sample::Scheme;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

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
                let Err(e) = create(&engine, kind, id, &json!({key: value})) else { continue };
                // a word may want another key with it, and says which
                let other =
                    properties.keys().find(|k| e.message.contains(&format!("{k} is missing")));
                let other = other.unwrap_or_else(|| panic!("{id}: {key} {value}: {e}"));
                let least = &properties[other]["minimum"];
                create(&engine, kind, id, &json!({key: value, other: least}))
                    .unwrap_or_else(|e| panic!("{id}: {key} {value}, {other} {least}: {e}"));
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

/// Four samples under this config.
fn sampled(model: &Arc<OpenModel>, config: &Value) -> Result<()> {
    let pipeline = Pipeline::new(model, &config.to_string())?;
    let options = JobOptions { n_samples: 4, ..JobOptions::default() };
    let job = Job::start(&pipeline, options)?;
    // an adaptive sampler of a hopeless tolerance goes on for long; a host stops it
    if !job.wait(Duration::from_secs(2)) {
        job.cancel();
        assert!(job.wait(Duration::from_secs(600)), "a job that does not stop");
    }
    job.result("x").map(drop)
}

fn simulated(engine: &Engine, process: &Setting, time: f64) -> Result<()> {
    let x0 = Tensor::from_f64(&[2], &[1.0, 2.0], engine.budget())?;
    let times = [time, 2.0 * time];
    let (x0, times) = (&x0, &times);
    let paths = Paths {
        process,
        x0,
        per_sample: false,
        times,
        keep: &[],
        scheme: Scheme::Exact,
        n_samples: 3,
        seed: 1,
        first_sample: 0,
    };
    engine.simulate(&paths).map(drop)
}

/// A setting at the end of what numbers can be is the user's, and so is the fault: never the plugin's or ours.
#[test]
fn extreme_settings_are_the_users_fault() {
    let engine = Engine::new(Options { no_threads: true, ..Options::default() }).unwrap();
    let mut faults = Vec::new();
    let mut judge = |what: String, out: Result<()>| {
        if let Err(e) = out
            && matches!(e.status, Status::Plugin | Status::Internal)
        {
            faults.push(format!("{what}: {e}"));
        }
    };
    let path = model::temporary("extreme.safetensors");
    let of_process = |process: &Setting| -> Result<Arc<OpenModel>> {
        let mut manifest = model::manifest(&[2], "ve");
        manifest.model = Setting::of("null");
        manifest.components[0].process = process.clone();
        model::save(&path, &manifest)?;
        OpenModel::open(&engine, path.to_str().unwrap(), "")
    };
    for text in engine.factories() {
        let f: Value = serde_json::from_str(&text).unwrap();
        let (kind, id) = (f["kind"].as_str().unwrap(), f["id"].as_str().unwrap());
        let mut settings = vec![Setting::of(id)];
        for (key, rules) in f["config_schema"]["properties"].as_object().unwrap() {
            if rules["type"] == "number" {
                for value in [1e300, 1e30, 1e-30, 1e-300, -1e300] {
                    let config = json!({ key: value });
                    let config = config.as_object().cloned().unwrap();
                    settings.push(Setting { id: id.to_owned(), config });
                }
            }
        }
        for setting in settings {
            let given = setting.to_value();
            if kind == "process" {
                for time in [1e-308, 1.0, 1e3, 8e307] {
                    judge(
                        format!("{given} simulated to {time}"),
                        simulated(&engine, &setting, time),
                    );
                }
                let Ok(model) = of_process(&setting) else { continue };
                judge(given.to_string(), sampled(&model, &json!({"steps": 3})));
                for (lo, hi) in [(1e-300, 1.0), (1e-30, 1e30), (1.0, 1e300)] {
                    for dtype in ["f32", "f64"] {
                        let config =
                            json!({"steps": 3, "sigma_min": lo, "sigma_max": hi, "dtype": dtype});
                        judge(format!("{given} under {config}"), sampled(&model, &config));
                    }
                }
            } else if ["sampler", "grid", "guidance"].contains(&kind) {
                let model = of_process(&Setting::of("ve")).unwrap();
                for (lo, hi) in [(0.1, 10.0), (1e-300, 1.0), (1e-30, 1e30), (1.0, 1e300)] {
                    for dtype in ["f32", "f64"] {
                        let config = json!({
                            kind: given, "steps": 3, "sigma_min": lo, "sigma_max": hi, "dtype": dtype
                        });
                        judge(config.to_string(), sampled(&model, &config));
                    }
                }
            }
        }
    }
    let _ = std::fs::remove_file(&path);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
