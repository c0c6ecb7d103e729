//! What must not cross the border: a panic of a Rust plugin, an exception of a C++ one. And the descriptor checks
//! without a file: static registration takes the same path.

use crate::compiler::{folder, library, source};
use crate::rig::{config, loaded, registry};
use core::ffi::CStr;
use diffx::base::Status;
use diffx::plugin::{Registry, abi};
use diffx_plugin::{Config, Factory, Grid, Result};
use linked::plugin;

struct Panicker {
    at: String,
}

impl Factory for Panicker {
    const ID: &'static CStr = c"org.test.panicker";
    const SUMMARY: &'static CStr = c"panics where its config says";

    fn create(config: &mut Config) -> Result<Self> {
        let at = if config.bool("create", false)? {
            panic!("while creating")
        } else if config.bool("knots", false)? {
            "knots"
        } else {
            ""
        };
        Ok(Self { at: at.into() })
    }
}

impl Grid for Panicker {
    fn knots(&self, n: u32, sigma_min: f64, sigma_max: f64) -> Result<Vec<f64>> {
        assert_ne!(self.at, "knots", "on purpose");
        let at = |i: u32| sigma_max + (sigma_min - sigma_max) * f64::from(i) / f64::from(n);
        Ok((0..=n).map(at).collect())
    }
}

mod linked {
    use super::Panicker;

    diffx_plugin::diffx_plugin! {
        id: "org.test",
        version: "1.0.0",
        license: "MIT",
        grids: [Panicker],
    }
}

fn with_panicker() -> Registry {
    let (mut registry, _) = registry();
    // Safety: a static of this program.
    unsafe { registry.register(std::ptr::from_ref(plugin()).cast()) }.unwrap();
    registry
}

#[test]
fn a_panic_of_a_plugin_is_a_status() {
    let registry = with_panicker();
    let e = registry.grid("panicker", &config(r#"{"create": true}"#)).err().unwrap();
    assert_eq!(e.status, Status::Plugin);
    assert!(e.message.contains("while creating"), "{e}");
    let grid = registry.grid("panicker", &config(r#"{"knots": true}"#)).unwrap();
    for _ in 0..2 {
        let e = grid.knots(4, 0.5, 1.0).unwrap_err();
        assert_eq!((e.status, e.source), (Status::Plugin, 1));
        assert!(e.message.starts_with("org.test/panicker: ") && e.message.contains("on purpose"));
    }
    let fine = registry.grid("panicker", &config("null")).unwrap();
    assert_eq!(fine.knots(2, 0.5, 1.0).unwrap(), [1.0, 0.75, 0.5]);
    assert!(registry.grid("panicker", &config(r#"{"typo": 1}"#)).is_err());
}

#[test]
fn an_exception_is_a_status() {
    let out = folder("thrower").join("thrower.so");
    let Some(file) = library(&source("thrower.cpp"), &out, &[]) else { return };
    let registry = loaded(&file);
    let knots = |case: &str| {
        let grid = registry.grid("thrower", &config(&format!(r#"{{"{case}": 1}}"#)))?;
        grid.knots(2, 0.0, 1.0)
    };
    for (case, status, words) in [
        ("create", Status::Plugin, "thrown while creating"),
        ("runtime", Status::Plugin, "thrown on purpose"),
        ("memory", Status::NoMemory, "out of memory"),
        ("choice", Status::Unsupported, "chosen"),
        ("number", Status::Plugin, "unknown type"),
        ("upwards", Status::Plugin, "does not lie below"),
        ("partial", Status::Plugin, "knot 1 is NaN"),
        ("offset", Status::Plugin, "want 1 to 0"),
    ] {
        let e = knots(case).expect_err(case);
        assert_eq!(e.status, status, "{case}: {e}");
        assert!(e.message.contains(words), "{case}: {e}");
    }
    assert_eq!(knots("fine").unwrap(), [1.0, 0.5, 0.0]);
}

/// Every bit of the numbers of a linked descriptor: refused or registered, never a crash.
#[test]
fn flipped_bits_of_a_linked_descriptor() {
    // Safety: the descriptor of this program, read as the engine's mirror of the same struct.
    let whole = unsafe { std::ptr::from_ref(plugin()).cast::<abi::Plugin>().read() };
    let count_at = std::mem::offset_of!(abi::Plugin, n_factories);
    for bit in 0..24 * 8 {
        let grows = bit / 8 >= count_at; // it would promise factories that are not there
        let copy: &'static mut abi::Plugin = Box::leak(Box::new(whole));
        let p = std::ptr::from_mut(copy);
        // Safety: byte bit / 8 of our own copy.
        unsafe { *p.cast::<u8>().add(bit / 8) ^= 1 << (bit % 8) };
        if grows {
            continue;
        }
        // Safety: what the copy points to are statics of this program.
        let outcome = unsafe { registry().0.register(p.cast_const().cast()) };
        let must_fail = matches!(bit / 8, 0..=5 | 16..=19); // magic, major, layout
        assert!(outcome.is_err() || !must_fail, "bit {bit}");
    }
    // Safety: null and misaligned pointers are refused before they are followed.
    unsafe {
        for p in [std::ptr::null(), std::ptr::without_provenance(9)] {
            assert_eq!(registry().0.register(p).unwrap_err().status, Status::Format);
        }
    }
}

#[test]
fn a_plugin_is_known_once() {
    let mut registry = with_panicker();
    // Safety: a static of this program.
    let again = unsafe { registry.register(std::ptr::from_ref(plugin()).cast()) };
    assert_eq!(again.unwrap_err().status, Status::State);
    assert_eq!(registry.list()[0]["file"], serde_json::Value::Null);
}
