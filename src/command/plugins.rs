//! `diffx plugins` and `diffx plugin check`: what is there, and whether a file is fit to be loaded. A check runs in a
//! process of its own, since nothing can keep a bad library from taking its process down.

use super::args::Host;
use super::engine;
use diffx::base::{Result, Status};
use diffx::engine::{Engine, Setting};
use diffx::{bail, fail};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

pub(super) fn list(host: &Host) -> Result<()> {
    let engine = engine(host)?;
    let plugins = engine.plugins_json();
    if host.json {
        println!("{plugins}");
        return Ok(());
    }
    let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let mut rows = Vec::new();
    for plugin in plugins.as_array().into_iter().flatten() {
        for f in plugin.get("factories").and_then(Value::as_array).into_iter().flatten() {
            rows.push((text(f, "kind"), text(f, "id"), text(f, "summary")));
        }
    }
    rows.sort();
    let width = rows.iter().map(|r| r.1.len()).max().unwrap_or(0);
    for (kind, id, summary) in rows {
        println!("{kind:<10} {id:<width$}  {summary}");
    }
    Ok(())
}

/// What a plugin takes, from its schema: one key per line.
pub(super) fn settings(host: &Host, id: &str) -> Result<()> {
    let engine = engine(host)?;
    let (full, tail) = (format!("org.diffx.{id}"), format!(".{id}"));
    let mut found = Vec::new();
    for text in engine.factories() {
        let Ok(f) = serde_json::from_str::<Value>(&text) else { continue };
        let own = f.get("id").and_then(Value::as_str).unwrap_or("").to_owned();
        // as settings are looked up: the id itself, diffx's own, then whose id ends so
        let rank = [own == id, own == full, own.ends_with(&tail)].iter().position(|hit| *hit);
        found.extend(rank.map(|rank| (rank, f)));
    }
    let best = found.iter().map(|f| f.0).min();
    found.retain(|f| Some(f.0) == best);
    if found.is_empty() {
        bail!(NotFound, "no plugin is called {id}; `diffx plugins` lists them");
    }
    for (_, f) in found {
        if host.json {
            println!("{f}");
            continue;
        }
        let text = |v: &Value, key: &str| v.get(key).map_or(String::new(), plain);
        println!("{} {}  {}", text(&f, "kind"), text(&f, "id"), text(&f, "summary"));
        match f.pointer("/config_schema/properties").and_then(Value::as_object) {
            None => println!("  does not say what it takes"),
            Some(keys) if keys.is_empty() => println!("  takes no settings"),
            Some(keys) => {
                for (key, property) in keys {
                    println!(
                        "  {key:<14} {}  ({})",
                        text(property, "description"),
                        rules(property)
                    );
                }
            }
        }
    }
    Ok(())
}

/// Type, range and default of a key in words.
fn rules(property: &Value) -> String {
    let kind = property.get("type").map_or(String::new(), plain);
    // the range of a list is that of its elements
    let inner = [property.get("items"), property.get("additionalProperties")];
    let of = inner.into_iter().flatten().find(|v| v.is_object());
    let mut out = match of.and_then(|v| v.get("type")) {
        Some(each) => format!("{kind} of {}", plain(each)),
        None => kind,
    };
    for (key, words) in [
        ("minimum", "from"),
        ("exclusiveMinimum", "above"),
        ("maximum", "up to"),
        ("exclusiveMaximum", "below"),
        ("enum", "one of"),
        ("default", "default"),
    ] {
        if let Some(value) = of.unwrap_or(property).get(key) {
            out += &format!(", {words} {}", plain(value));
        }
    }
    out
}

/// A JSON value without quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(" | "),
        other => other.to_string(),
    }
}

/// Checks a file in a child process and passes on what it says.
pub(super) fn check(host: &Host, file: &Path) -> Result<()> {
    let file = file.canonicalize().map_err(|e| fail!(NotFound, "{}: {e}", file.display()))?;
    let program = std::env::current_exe().map_err(|e| fail!(Io, "finding this program: {e}"))?;
    let mut child = Command::new(program);
    child.args(["plugin", "check-here"]).arg(&file);
    if host.json {
        child.arg("--json");
    }
    let status = child.status().map_err(|e| fail!(Io, "starting the check: {e}"))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(_) => bail!(Plugin, "{}: not fit to be loaded", file.display()),
        None => bail!(Plugin, "{}: killed the process that loaded it ({status})", file.display()),
    }
}

/// The check itself, inside the child.
pub(super) fn check_here(host: &Host, file: &Path) -> Result<()> {
    let engine = engine(host)?;
    let before: Vec<Value> = engine.plugins_json().as_array().cloned().unwrap_or_default();
    engine.load_instead(file, None)?; // a built-in as a file is looked at too
    let after: Vec<Value> = engine.plugins_json().as_array().cloned().unwrap_or_default();
    let Some(plugin) = after.iter().find(|p| !before.contains(p)) else {
        bail!(Plugin, "the file was loaded and brought no plugin");
    };
    let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let mut faults = 0;
    let mut rows = Vec::new();
    for f in plugin.get("factories").and_then(Value::as_array).into_iter().flatten() {
        let (kind, id) = (text(f, "kind"), text(f, "id"));
        let made = create(&engine, &kind, &id);
        faults += usize::from(made.is_err());
        rows.push((kind, id, made.err().map(|e| e.message)));
    }
    if host.json {
        let list: Vec<Value> = rows
            .iter()
            .map(|(kind, id, fault)| json!({"kind": kind, "id": id, "fault": fault}))
            .collect();
        println!(
            "{}",
            json!({"id": text(plugin, "id"), "version": text(plugin, "version"), "factories": list})
        );
    } else {
        println!(
            "{} {} ({})",
            text(plugin, "id"),
            text(plugin, "version"),
            text(plugin, "license")
        );
        for (kind, id, fault) in rows {
            match fault {
                None => println!("  {kind:<10} {id}  ok"),
                Some(fault) => println!("  {kind:<10} {id}  {fault}"),
            }
        }
    }
    if faults > 0 {
        bail!(Plugin, "{faults} factories do not work with their defaults");
    }
    Ok(())
}

/// An instance with its defaults, and what it says about itself.
fn create(engine: &Engine, kind: &str, id: &str) -> Result<()> {
    let setting = Setting::of(id);
    match kind {
        "model" => engine.model(&setting)?.info().map(drop),
        "process" => engine.process(&setting)?.info(&Default::default()).map(drop),
        "guidance" => engine.guidance(&setting).map(drop),
        "sampler" => engine.sampler(&setting).map(drop),
        // a grid of given levels refuses other numbers of steps
        "grid" => match engine.grid(&setting)?.knots(8, 0.01, 10.0) {
            Err(e) if e.status == Status::Invalid => Ok(()),
            knots => knots.map(drop),
        },
        "objective" => engine.objective(&setting)?.info().map(drop),
        _ => Ok(()), // a kind of a later version
    }
}
