//! What the data says about settings the user left open: those of a process by a fit, those of a model by names that
//! models have for sizes and scales of data.

use super::Engine;
use super::moments::Moments;
use super::setting::Setting;
use crate::bail;
use crate::base::{DType, Result};
use crate::mem::reserved;
use crate::sample::Fitted;
use crate::train::data::Tables;
use serde_json::{Map, Value, json};

/// Sets what the process makes of the data where the user left it open. Parameters of a law belong together: a user who
/// sets one has the plugin's defaults for the others.
pub(super) fn process(
    engine: &Engine,
    process: &mut Setting,
    values: &[f64],
    ordered: bool,
) -> Result<()> {
    let fitted = engine.process(process)?.fit(values, ordered)?;
    let given = |f: &Fitted| process.config.contains_key(&f.key);
    let closed = |f: &Fitted| {
        f.group != 0 && fitted.iter().any(|other| other.group == f.group && given(other))
    };
    let open = fitted.iter().filter(|f| !given(f) && !closed(f));
    let open: Vec<(String, Value)> =
        open.map(|f| (f.key.clone(), json!(rounded(f.value)))).collect();
    process.config.extend(open);
    // a plugin that refuses what it fitted says so itself
    engine.process(process).map(drop).map_err(|e| e.within("fitted to the data"))
}

/// Six digits are more than a fit knows, and read better in the file.
fn rounded(v: f64) -> f64 {
    format!("{v:.5e}").parse().unwrap_or(v)
}

/// Sizes of the data for the settings a model has and the user left open. A plugin refuses keys it does not know (a rule
/// of the ABI), so a key that is refused is one it does not have.
///
/// | key | value |
/// |---|---|
/// | dims | sizes of one example of `x` |
/// | window, channels | rows, and series side by side, of an `x` of at most two axes |
/// | history | rows of the table `history` |
/// | conds | name and number of features of every other table: a label has as many as there are labels |
pub(super) fn sizes(engine: &Engine, model: &mut Setting, tables: &Tables) -> Result<()> {
    let row = |name: &str| tables.get(name).map(|t| t.dims().get(1..).unwrap_or_default().to_vec());
    let x = row("x").unwrap_or_default();
    let past = row("history");
    let mut offer = offering(engine, model);
    if let [window, rest @ ..] = &x[..] {
        if rest.len() < 2 {
            offer("window", json!(window));
        }
        if let [channels] = rest {
            offer("channels", json!(channels));
        }
        offer("dims", json!(x));
    }
    drop(offer);
    let conds = features(model, tables, past.is_some())?;
    if !conds.is_empty() {
        offering(engine, model)("conds", Value::Object(conds));
    }
    // a fault of the user's own settings would make every offer fail: the model's message, not ours
    engine.model(model)?;
    if let Some(past) = past {
        let mut offer = offering(engine, model);
        let known = offer("history", json!(past.first())).is_some();
        drop(offer);
        if !known {
            let id = &model.id;
            bail!(Invalid, "model {id} takes no history; leave it out or name another model");
        }
    }
    Ok(())
}

/// Tables that are no component, with their number of features.
fn features(model: &Setting, tables: &Tables, history: bool) -> Result<Map<String, Value>> {
    let mut out = Map::new();
    for (name, table) in tables.iter() {
        if name == "x" || (history && name == "history") {
            continue;
        }
        let size: usize = table.dims().iter().skip(1).product();
        let features = match table.desc().dtype {
            DType::I32 if size == 1 => {
                let most = table.elements::<i32>()?.iter().copied().max().unwrap_or(0);
                most.max(0) as usize + 1
            }
            _ => size,
        };
        if features == 0 {
            bail!(Invalid, "table {name} of model {} has no features", model.id);
        }
        out.insert(name.to_owned(), json!(features));
    }
    Ok(out)
}

/// Scales of the past, where the model takes it so: `history_log`, `history_mean`, `history_std`.
pub(super) fn scales(
    engine: &Engine,
    model: &mut Setting,
    known: &[f64],
    positive: bool,
) -> Result<()> {
    let mut offer = offering(engine, model);
    // positive data spread by factors, not by amounts
    let log = offer("history_log", json!(positive)) == Some(json!(true));
    let mut scale = reserved(known.len(), "the past of a series")?;
    scale.extend(known.iter().map(|v| if log { v.ln() } else { *v }));
    let moments = Moments::of(&scale)?;
    offer("history_mean", json!(moments.mean));
    offer("history_std", json!(moments.variance.sqrt()));
    Ok(())
}

/// Sets a key the user left open, where the model has it; gives its value, if it has one then.
fn offering<'a>(
    engine: &'a Engine,
    model: &'a mut Setting,
) -> impl FnMut(&str, Value) -> Option<Value> + 'a {
    |key, value| {
        if !model.config.contains_key(key) {
            let mut with = model.clone();
            with.config.insert(key.to_owned(), value);
            if engine.model(&with).is_ok() {
                *model = with;
            }
        }
        model.config.get(key).cloned()
    }
}
