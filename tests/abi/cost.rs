//! What one emitted op costs across the border, against the same op emitted from Rust. Prints; only a gross slip fails.

use crate::compiler::{folder, library, source};
use crate::rig::{build_model, config, loaded};
use diffx::base::{DType, Desc};
use diffx::graph::{Graph, Op};
use std::time::Instant;

const OPS: usize = 20_000;

#[test]
fn emission_is_cheap() {
    let out = folder("cost").join("misuse.so");
    let Some(file) = library(&source("misuse.c"), &out, &["-O2"]) else { return };
    let registry = loaded(&file);
    let model = registry.model("misuse", &config(r#"{"case":"chain"}"#)).unwrap();
    let best = |f: &mut dyn FnMut()| {
        let once = |f: &mut dyn FnMut()| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64() * 1e9 / OPS as f64
        };
        (0..5).map(|_| once(f)).fold(f64::INFINITY, f64::min)
    };
    let across = best(&mut || {
        build_model(model.clone()).unwrap();
    });
    let direct = best(&mut || {
        let mut graph = Graph::new(4, DType::F32);
        let mut x = graph.input("x", Desc::new(DType::F32, &[4, 3]).unwrap());
        for _ in 0..OPS {
            x = graph.unary(Op::Square, x);
        }
        assert!(!x.is_error());
        std::hint::black_box(graph.hash());
    });
    println!("one op: {across:.0} ns across the ABI, {direct:.0} ns from Rust");
    let limit = if cfg!(debug_assertions) { 50_000.0 } else { 5_000.0 };
    assert!(across < limit, "one op takes {across:.0} ns");
}
