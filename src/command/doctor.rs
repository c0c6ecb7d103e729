//! `diffx doctor`: what this build finds on this machine.

use super::args::Host;
use super::engine;
use diffx::base::Result;
use diffx::engine::{Engine, Options, carried};
use serde_json::{Value, json};

pub(super) fn run(host: &Host) -> Result<()> {
    let engine = engine(host)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let backend = engine.backend().describe()?;
    let cuda = match Engine::new(Options { device: "cuda:0".into(), ..Options::default() }) {
        Ok(with) => with.backend().describe()?,
        Err(e) => format!("none ({e})"),
    };
    let plugins = engine.plugins_json();
    let count = |v: &Value| v.as_array().map_or(0, Vec::len);
    let factories: usize =
        plugins.as_array().into_iter().flatten().map(|p| p.get("factories").map_or(0, count)).sum();
    let rows = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        ("features", features().join(" ")),
        ("cores", cores.to_string()),
        ("device", backend),
        ("cuda", cuda),
        ("plugins", format!("{} with {factories} factories", count(&plugins))),
        ("models", carried::names().collect::<Vec<_>>().join(" ")),
    ];
    if host.json {
        let map: serde_json::Map<String, Value> =
            rows.into_iter().map(|(k, v)| (k.to_owned(), json!(v))).collect();
        println!("{}", Value::Object(map));
    } else {
        for (key, value) in rows {
            println!("{key:<9} {value}");
        }
    }
    Ok(())
}

/// Vector instructions the kernels can use.
fn features() -> Vec<&'static str> {
    let mut out = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! have {
            ($($name:tt)*) => { $(if std::arch::is_x86_feature_detected!($name) { out.push($name); })* };
        }
        have!("sse4.2" "avx2" "fma" "f16c" "avx512f" "avx512bf16");
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        out.push("neon");
    }
    out
}
