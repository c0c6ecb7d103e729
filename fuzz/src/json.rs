//! Everything the engine reads as JSON: pipeline configs, schedulers of diffusers, training recipes, manifests of model files, settings, and the
//! settings every built-in plugin makes an instance of. The first byte chooses the reader. Laws: a manifest and a
//! setting read back what they write; an instance is made or refused, never half.

use super::memory::bounded;
use diffx::engine::config::Config;
use diffx::engine::recipe::Recipe;
use diffx::engine::schedulers::{self, run::Asked};
use diffx::engine::{Engine, Manifest, Options, Setting};
use diffx::sample::Stats;
use serde_json::Value;
use std::sync::{Arc, OnceLock};

pub const WORDS: &[&str] = &[
    "\"format\":1",
    "\"model\":",
    "\"components\":[",
    "\"name\":",
    "\"dims\":[",
    "\"process\":",
    "\"stats\":{",
    "\"sigma_min\":",
    "\"sigma_max\":",
    "\"sampler\":",
    "\"grid\":",
    "\"guidance\":[",
    "\"steps\":",
    "\"networks\":{",
    "\"dtype\":\"f64\"",
    "\"batch\":",
    "\"data\":{\"path\":\"a\"",
    "\"id\":",
    "\"config\":{",
    "\"x-",
    "null",
    "true",
    "1e308",
    "1e-308",
    "-0",
    "4294967296",
    "18446744073709551616",
    "\\ud800",
    "\"w_var\":",
    "\"lora\":",
    "\"window\":",
    "\"split\":\"2020-01-01\"",
    "\"_class_name\":\"DPMSolverMultistepScheduler\"",
    "\"_class_name\":\"UniPCMultistepScheduler\"",
    "\"_class_name\":\"PNDMScheduler\"",
    "\"solver_order\":3",
    "\"use_karras_sigmas\":true",
    "\"num_train_timesteps\":",
    "-Infinity",
];

/// Bytes per byte of the text: a map with one short key is the worst of JSON.
const PER_BYTE: usize = 160;
const CAP: u64 = 1 << 20;

fn engine() -> &'static Arc<Engine> {
    static ENGINE: OnceLock<Arc<Engine>> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let options =
            Options { no_threads: true, arena_bytes: CAP, threads: 1, ..Options::default() };
        Engine::new(options).expect("an engine")
    })
}

pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    if kind % 13 == 12 {
        return scheduler(text);
    }
    let engine = engine();
    bounded(PER_BYTE * data.len() + (1 << 16), || match kind % 13 {
        0 => drop(Config::parse(text)),
        1 => drop(Recipe::parse(text)),
        2 => {
            if let Ok(manifest) = Manifest::parse(text) {
                let again = Manifest::parse(&manifest.to_json());
                assert_eq!(again.as_ref(), Ok(&manifest));
            }
        }
        3 => drop(Setting::from_text("setting", text)),
        4 => with(text, |s| drop(engine.model(s).and_then(|m| m.info()))),
        5 => with(text, |s| drop(engine.process(s).and_then(|p| p.info(&Stats::default())))),
        6 => with(text, |s| drop(engine.sampler(s).and_then(|p| p.info(&[])))),
        7 => with(text, |s| drop(engine.guidance(s).and_then(|p| p.info(&[])))),
        8 => with(text, |s| drop(engine.grid(s).and_then(|g| g.knots(5, 0.01, 10.0)))),
        9 => with(text, |s| drop(engine.objective(s).and_then(|o| o.info()))),
        10 => with(text, |s| {
            let law = engine.process(s);
            drop(law.and_then(|p| p.clock(&[0.0, 0.5, 1.0, 1e30])));
        }),
        _ => with(text, |s| drop(engine.resolve(diffx::plugin::Kind::Process, s))),
    });
}

/// What a scheduler takes is bounded by its steps and its chain, not by its text.
const SCHEDULE: usize = 64 << 20;

fn scheduler(text: &str) {
    let engine = engine();
    bounded(SCHEDULE, || {
        let Ok(config) = schedulers::parse(text) else { return };
        let steps = 1 + text.len() % 40;
        let asked = Asked { mu: Some(0.5), s_churn: 1.0, ..Asked::steps(steps) };
        if let Ok(settings) = schedulers::plan(&config, &asked).and_then(|r| r.translate(&config)) {
            let of = Value::Object(config);
            drop(engine.process(&settings.process).unwrap_or_else(|e| panic!("{of}: {e}")));
            drop(engine.sampler(&settings.sampler).unwrap_or_else(|e| panic!("{of}: {e}")));
            drop(engine.grid(&settings.grid).unwrap_or_else(|e| panic!("{of}: {e}")));
        }
    });
}

fn with(text: &str, body: impl FnOnce(&Setting)) {
    let Ok(setting) = Setting::from_text("setting", text) else { return };
    assert_eq!(Setting::from_value("again", setting.to_value()).as_ref(), Ok(&setting));
    body(&setting);
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = [
        (0, r#"{"process":["cir","gbm"],"sampler":"heun","grid":"log","guidance":[],"steps":8,"sigma_min":0.1,
                "sigma_max":[2,3],"dtype":"f64","batch":3,"networks":{"h":{"model":"h.safetensors"}},"x-a":1}"#),
        (1, r#"{"data":{"path":"a.csv","window":16,"history":4,"split":"2019-01-01"},"model":"mlp",
                "process":"cir:{\"kappa\":1.0}","steps":7,"rate":0.01,"schedule":"constant","dtype":"bf16"}"#),
        (2, r#"{"format":1,"model":"mlp","components":[{"name":"x","dims":[32],"process":"cir:{\"kappa\":1.0}",
                "stats":{"w_var":2.0},"sigma_max":8.0}],"sampler":"heun","guidance":["cfg"],"steps":24}"#),
        (3, r#"{"id":"cir","config":{"kappa":1.0}}"#),
        (12, r#"{"_class_name":"DPMSolverMultistepScheduler","use_karras_sigmas":true,"lambda_min_clipped":-Infinity}"#),
        (12, r#"{"_class_name":"UniPCMultistepScheduler","use_flow_sigmas":true,"prediction_type":"flow_prediction"}"#),
        (12, r#"{"_class_name":"PNDMScheduler","num_train_timesteps":40,"timestep_spacing":"trailing"}"#),
    ]
    .iter()
    .map(|(kind, text)| [&[*kind], text.as_bytes()].concat())
    .collect();
    // every factory, with every key of its schema
    for factory in engine().factories() {
        let Ok(factory) = serde_json::from_str::<serde_json::Value>(&factory) else { continue };
        let kind = ["model", "process", "sampler", "guidance", "grid", "objective"]
            .iter()
            .position(|k| factory["kind"] == *k);
        let schema = &factory["config_schema"];
        let keys = schema["properties"].as_object().map(|p| {
            p.iter()
                .map(|(k, v)| (k.clone(), v.get("default").cloned().unwrap_or(1.into())))
                .collect()
        });
        let setting = serde_json::json!({
            "id": factory["id"],
            "config": serde_json::Value::Object(keys.unwrap_or_default()),
        });
        if let Some(kind) = kind {
            out.push([&[4 + kind as u8], setting.to_string().as_bytes()].concat());
        }
    }
    out
}
