//! Every case of the op table on the CPU backend against the f64 reference, within the tolerance the table promises.

#[path = "ops/cases.rs"]
mod cases;
#[path = "exec/once.rs"]
mod once;
#[path = "ops/worst.rs"]
mod worst;

use cases::all_cases;
use diffx::base::DType;
use diffx::cpu::{Cpu, Level};
use diffx::graph::reference::element;
use diffx::graph::{Graph, NodeId, Op};
use once::{encoded, run_bytes};
use worst::worst;

/// The naive formula of an op that promises small results is refused by the tolerance of the table.
#[test]
fn cancellation_is_seen() {
    for (op, x) in [(Op::Expm1, 1e-4f32), (Op::Log1p, 1e-4)] {
        let info = op.info();
        let (naive, want) = match op {
            Op::Expm1 => (x.exp() - 1.0, f64::from(x).exp_m1()),
            _ => ((1.0 + x).ln(), f64::from(x).ln_1p()),
        };
        let error = (f64::from(naive) - want).abs() / want.abs().max(info.floor());
        assert!(error > info.tolerance(DType::F32), "{}: {error:e}", info.name);
    }
}

fn check(float: DType, cpu: impl Fn() -> Cpu) {
    let mut failures = Vec::new();
    for case in all_cases(float) {
        let inputs = encoded(&case.graph, &case.inputs);
        match run_bytes(cpu(), true, &case.graph, &inputs, &case.outputs) {
            Err(e) => failures.push(format!("{}: {e}", case.name)),
            Ok(got) => {
                let dtype = case.graph.desc(case.outputs[0]).dtype;
                let (error, place) = worst(&case, &got);
                let limit = case.op.info().tolerance(float);
                if error > limit {
                    failures
                        .push(format!("{} ({dtype}): {error:e} > {limit:e}, {place}", case.name));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn f32_within_the_table() {
    check(DType::F32, || Cpu::new(1));
}

#[test]
fn f64_within_the_table() {
    check(DType::F64, || Cpu::new(1));
}

/// IEEE leaves the sign and payload of a NaN open, and so do processors: every NaN becomes the same one.
fn plain_nan(graph: &Graph, node: NodeId, bytes: &mut [u8]) {
    let dtype = graph.desc(node).dtype;
    for b in bytes.chunks_exact_mut(dtype.bytes()).filter(|b| element(dtype, b).is_nan()) {
        b.fill(0xff);
    }
}

/// Bytes of all cases under one way of running.
fn all_bytes(cpu: impl Fn() -> Cpu, fuse: bool) -> Vec<(String, Vec<Vec<u8>>)> {
    let mut out = Vec::new();
    for float in [DType::F32, DType::F64] {
        for case in all_cases(float) {
            let inputs = encoded(&case.graph, &case.inputs);
            let got = run_bytes(cpu(), fuse, &case.graph, &inputs, &case.outputs);
            let mut got = got.unwrap_or_else(|e| panic!("{}: {e}", case.name));
            for (node, bytes) in case.outputs.iter().zip(&mut got) {
                plain_nan(&case.graph, *node, bytes);
            }
            out.push((format!("{} {float}", case.name), got));
        }
    }
    out
}

#[test]
fn threads_vectors_and_fusion_do_not_show() {
    let base = all_bytes(|| Cpu::new(1), true);
    let ways = [
        ("2 threads", all_bytes(|| Cpu::new(2), true)),
        ("3 threads", all_bytes(|| Cpu::new(3), true)),
        ("unfused", all_bytes(|| Cpu::new(1), false)),
        ("portable", all_bytes(|| Cpu::new(1).at_level(Level::Portable), true)),
        ("avx2", all_bytes(|| Cpu::new(1).at_level(Level::Avx2), true)),
    ];
    for (way, other) in ways {
        for ((name, a), (_, b)) in base.iter().zip(&other) {
            assert_eq!(a, b, "{name}: {way}");
        }
    }
}
