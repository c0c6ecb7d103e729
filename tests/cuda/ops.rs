//! The op table on the device.

use crate::cases::all_cases;
use crate::machine;
use crate::once::{decoded, encoded, run_on};
use crate::worst::worst;
use diffx::base::{DType, Status};
use diffx::cpu::Cpu;
use diffx::graph::{Class, OPS, Op, OpInfo};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Ops of the table that CUDA refuses. A test fails when one is written and still stands here, or refused and does not.
const MISSING: &[Op] = &[];

fn check(float: DType) {
    let Some(device) = machine::device(0) else { return };
    let (mut failures, mut missing, mut run) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for case in all_cases(float) {
        let inputs = encoded(&case.graph, &case.inputs);
        match run_on(Arc::clone(&device), true, &case.graph, &inputs, &case.outputs) {
            Err(e) if e.status == Status::Unsupported && MISSING.contains(&case.op) => {
                missing.insert(case.op);
            }
            Err(e) => failures.push(format!("{}: {e}", case.name)),
            Ok(got) => {
                run.insert(case.op);
                let (error, place) = worst(&case, &got);
                let limit = case.op.info().tolerance(float);
                if error > limit {
                    failures.push(format!("{}: {error:e} > {limit:e}, {place}", case.name));
                }
            }
        }
    }
    println!("cuda: {} ops of {} within the table in {float}", run.len(), OPS.len());
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    let drawn = crate::noise::ops();
    // what is bound before a run, or rewritten before there is a plan
    let bound = |i: &OpInfo| {
        matches!(i.op, Op::Input | Op::Weight | Op::Constant) || i.class == Class::Meta
    };
    // an op may have cases of no elements, which run without a kernel
    let on = |op: &Op| run.contains(op) && !missing.contains(op) || drawn.contains(op);
    let refused: Vec<Op> = OPS.iter().filter(|i| !bound(i)).map(|i| i.op).collect();
    let refused: Vec<Op> = refused.into_iter().filter(|op| !on(op)).collect();
    assert_eq!(refused, MISSING, "ops that CUDA refuses");
}

/// Pointwise ops in f32 are the CPU's formulas, operation by operation: the same bits, fused or not. Not pow, whose last
/// bit is a library's, and on a device not those functions of laws that ask its library for exp and log.
#[test]
fn pointwise_ops_have_the_bits_of_the_cpu() {
    let Some(device) = machine::device(0) else { return };
    let mut compared = BTreeSet::new();
    for case in all_cases(DType::F32) {
        let law = matches!(case.op, Op::Lgamma | Op::Polygamma | Op::LogNdtr | Op::LogIve);
        let library = case.op == Op::Pow || law && machine::is_real();
        if case.op.class() != Class::Pointwise || library {
            continue;
        }
        let inputs = encoded(&case.graph, &case.inputs);
        let on = |device| run_on(device, true, &case.graph, &inputs, &case.outputs);
        let Ok(got) = on(Arc::clone(&device)) else { continue }; // said by the test of the table
        let want = on(Arc::new(Cpu::new(1))).unwrap();
        for ((node, got), want) in case.outputs.iter().zip(&got).zip(&want) {
            let (got, want) = (decoded(&case.graph, *node, got), decoded(&case.graph, *node, want));
            for (got, want) in got.iter().zip(&want) {
                let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
                assert!(same, "{}: {got:e}, the CPU has {want:e}", case.name);
            }
        }
        compared.insert(case.op);
    }
    assert!(compared.len() > 40, "{compared:?}");
}

#[test]
fn f32_within_the_table() {
    check(DType::F32);
}

#[test]
fn f64_within_the_table() {
    check(DType::F64);
}
