//! The options of `diffx train` laid over its config file.

use super::args::Train;
use super::{Failure, usage};
use diffx::base::Result;
use diffx::engine::Setting;
use diffx::engine::recipe::Recipe;
use diffx::fail;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The config file with the options over it.
pub(super) fn recipe(args: &Train) -> std::result::Result<Recipe, Failure> {
    let mut config = match &args.config {
        None => Map::new(),
        Some(path) => {
            let label = path.display();
            let text = std::fs::read_to_string(path).map_err(|e| fail!(Io, "{label}: {e}"))?;
            match serde_json::from_str(&text) {
                Ok(Value::Object(map)) => map,
                Ok(_) => return Err(fail!(Format, "{label}: want an object").into()),
                Err(e) => return Err(fail!(Format, "{label}: {e}").into()),
            }
        }
    };
    let mut data = match config.remove("data") {
        None => Map::new(),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(fail!(Format, "the config's data is no object").into()),
    };
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            data.insert(key.to_owned(), value);
        }
    };
    put("path", list(&args.data));
    put("column", list(&args.column));
    put("name", args.name.as_ref().map(|v| json!(v)));
    put("window", args.window.map(|v| json!(v)));
    put("stride", args.stride.map(|v| json!(v)));
    put("history", args.history.map(|v| json!(v)));
    put("values", args.values.as_ref().map(|v| json!(v)));
    put("split", args.split.as_ref().map(|v| json!(v)));
    put("show", args.show.as_ref().map(|v| json!(v)));
    put("channels", args.channels.as_ref().map(|v| json!(v)));
    put("labels", args.labels.as_ref().map(|v| json!(v)));
    put("held_out", args.held_out.map(|v| json!(v)));
    config.insert("data".into(), Value::Object(data));
    let settings = [
        ("model", &args.model),
        ("process", &args.process),
        ("objective", &args.objective),
        ("sampler", &args.sampler),
        ("grid", &args.grid),
    ];
    for (key, text) in settings {
        if let Some(text) = text {
            let setting = Setting::parse(text).map_err(usage)?;
            config.insert(key.into(), setting.to_value());
        }
    }
    if !args.guidance.is_empty() {
        let list = args.guidance.iter().map(|t| Ok(Setting::parse(t)?.to_value()));
        let list = list.collect::<Result<Vec<_>>>().map_err(usage)?;
        config.insert("guidance".into(), Value::Array(list));
    }
    for (key, value) in [
        ("steps", args.steps.map(u64::from)),
        ("batch", args.batch.map(|b| b as u64)),
        ("seed", args.seed),
    ] {
        if let Some(value) = value {
            config.insert(key.into(), json!(value));
        }
    }
    if let Some(rate) = args.rate {
        config.insert("rate".into(), json!(rate));
    }
    if let Some(dtype) = &args.dtype {
        config.insert("dtype".into(), json!(dtype));
    }
    if let Some(path) = &args.metrics {
        let mut metrics = Map::from_iter([("path".to_owned(), json!(path))]);
        metrics.extend(args.metrics_every.map(|n| ("every".to_owned(), json!(n))));
        config.insert("metrics".into(), Value::Object(metrics));
    }
    Ok(Recipe::parse(&Value::Object(config).to_string())?)
}

/// One value as itself, several as a list, none as nothing.
fn list<T: Serialize>(values: &[T]) -> Option<Value> {
    match values {
        [] => None,
        [one] => Some(json!(one)),
        all => Some(json!(all)),
    }
}
