//! Inferred shapes against the reference, coverage of the table, messages, hostile calls.

use crate::cases::all_cases;
use diffx::base::DType;
use diffx::graph::{Class, OPS, Op};

/// Ops without a case here, and why.
const ELSEWHERE: &[(Op, &str)] = &[
    (Op::Weight, "an input bound by name; bound like one in the tests of the backends"),
    (Op::Grad, "rewritten while building; the gradient tests"),
    (Op::Jvp, "rewritten while building; the derivative tests"),
];

#[test]
fn every_op_has_a_case_or_a_reason() {
    let cases = all_cases(DType::F64);
    for info in OPS {
        let random = info.class == Class::Random; // the tests of the laws
        let excused = random || ELSEWHERE.iter().any(|(op, _)| *op == info.op);
        let covered = cases.iter().any(|c| c.op == info.op);
        assert!(covered != excused, "{}: covered {covered}, excused {excused}", info.name);
    }
}

#[test]
fn inferred_shape_is_the_shape_of_the_reference() {
    for float in [DType::F32, DType::F64] {
        for case in all_cases(float) {
            // evaluate fails when a node's value has another shape than the node
            let values = case.expected();
            for (value, id) in values.iter().zip(&case.outputs) {
                assert_eq!(value.shape, case.graph.desc(*id).shape, "{}", case.name);
            }
        }
    }
}
