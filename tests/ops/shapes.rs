//! Inferred shapes against the reference, coverage of the table, messages, hostile calls.

use crate::cases::all_cases;
use diffx::base::{DType, Desc};
use diffx::graph::{AttrKey, Attrs, Class, Graph, NodeId, OPS, Op};

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

/// Builds something wrong in the scope `net.head` and returns the message.
fn message(build: impl FnOnce(&mut Graph) -> NodeId) -> String {
    let mut g = Graph::new(4, DType::F32);
    g.push_scope("net");
    g.push_scope("head");
    assert_eq!(build(&mut g), NodeId::ERROR);
    assert_eq!(g.scalar(1.0), NodeId::ERROR, "an error is sticky");
    g.check().expect_err("an error was made").message
}

fn input(g: &mut Graph, dtype: DType, dims: &[usize]) -> NodeId {
    g.input("x", Desc::new(dtype, dims).expect("a legal shape"))
}

#[test]
fn messages_name_the_op_the_shapes_and_the_place() {
    let f32s = |g: &mut Graph, dims: &[usize]| input(g, DType::F32, dims);
    let two = |op: Op, a: &'static [usize], b: &'static [usize]| {
        message(move |g| {
            let (a, b) = (f32s(g, a), f32s(g, b));
            g.binary(op, a, b)
        })
    };
    let one = |op: Op, dims: &'static [usize], attrs: Attrs| {
        message(move |g| {
            let x = f32s(g, dims);
            g.emit(op, &[x], attrs)
        })
    };
    let axis = |axis| Attrs::NONE.with_int(AttrKey::Axis, axis);
    let rows: Vec<(String, &str)> = vec![
        (
            two(Op::MatMul, &[4, 64], &[32, 64]),
            "net.head: matmul: f32[4,64] x f32[32,64]: inner sizes 64 and 32 differ",
        ),
        (two(Op::Add, &[4, 3], &[5]), "net.head: add: f32[4,3] x f32[5]: shapes do not broadcast"),
        (
            two(Op::MatMul, &[4], &[4, 2]),
            "net.head: matmul: operand 0 is f32[4], want rank 2 or more",
        ),
        (two(Op::And, &[4], &[4]), "net.head: and: operand 0 is f32[4], want bool"),
        (
            two(Op::Conv, &[1, 3, 8, 8], &[16, 4, 3, 3]),
            "net.head: conv: x [1,3,8,8] has 3 channels in 1 groups, w [16,4,3,3] takes 4 per group",
        ),
        (
            one(Op::Softmax, &[4, 64], axis(2)),
            "net.head: softmax: axis 2 is outside the rank 2 of [4,64]",
        ),
        (one(Op::Softmax, &[4, 64], Attrs::NONE), "net.head: softmax: needs the attribute axis"),
        (one(Op::Exp, &[4], axis(0)), "net.head: exp: has no attribute axis"),
        (
            one(Op::Reshape, &[4, 6], Attrs::NONE.with_ints(AttrKey::Shape, [5, -1])),
            "net.head: reshape: f32[4,6] has 24 elements, which [5, -1] cannot hold",
        ),
        (
            one(Op::TopK, &[4, 6], axis(1).with_int(AttrKey::K, 7)),
            "net.head: top_k: k is 7, want 1 to 6 for axis 1 of f32[4,6]",
        ),
        (
            one(Op::Gamma, &[3, 2], Attrs::NONE.with_int(AttrKey::Purpose, 1)),
            "net.head: gamma: draws f32[3,2], axis 0 must be the batch of 4 rows",
        ),
        (
            message(|g| {
                let (a, b) = (input(g, DType::F32, &[3]), input(g, DType::F64, &[3]));
                g.binary(Op::Mul, a, b)
            }),
            "net.head: mul: f32[3] x f64[3]: the types differ",
        ),
        (
            message(|g| {
                let x = input(g, DType::BF16, &[3]);
                g.unary(Op::Exp, x)
            }),
            "net.head: exp: operand 0 is bf16[3], want f32 or f64",
        ),
        (
            message(|g| {
                let (x, i) = (input(g, DType::F32, &[3]), input(g, DType::F32, &[2]));
                g.emit(Op::Gather, &[x, i], Attrs::NONE.with_int(AttrKey::Axis, 0))
            }),
            "net.head: gather: operand 1 is f32[2], want i32 or i64",
        ),
        (
            message(|g| {
                let (x, s) = (input(g, DType::F32, &[2, 8]), input(g, DType::F32, &[2]));
                g.emit(Op::LayerNorm, &[x, s], Attrs::NONE.with_float(AttrKey::Epsilon, 1e-5))
            }),
            "net.head: layer_norm: f32[2,8] x f32[2]: operand 1 must have shape [8]",
        ),
        (
            message(|g| {
                let x = input(g, DType::F32, &[2, 8]);
                let c = input(g, DType::F32, &[2]);
                g.grad(x, c, &[x])[0]
            }),
            "net.head: grad: the cotangent of y f32[2,8] is f32[2], want f32[2,8]",
        ),
        (
            message(|g| {
                let i = input(g, DType::I32, &[2]);
                let y = input(g, DType::F32, &[2]);
                g.grad(y, y, &[i])[0]
            }),
            "net.head: grad: by input i32[2], want a float type",
        ),
    ];
    for (found, want) in rows {
        assert_eq!(found, want);
    }
}

#[test]
fn attributes_take_their_normal_form() {
    let mut g = Graph::new(1, DType::F32);
    let x = input(&mut g, DType::F32, &[2, 6, 9]);
    let w = input(&mut g, DType::F32, &[4, 6, 3]);
    let ints = |g: &Graph, id: NodeId, key| g.node(id).attrs.ints(key).to_vec();
    let conv = g.emit(Op::Conv, &[x, w], Attrs::NONE.with_ints(AttrKey::Padding, [1]));
    assert_eq!(ints(&g, conv, AttrKey::Padding), [1, 1]);
    assert_eq!(ints(&g, conv, AttrKey::Stride), [1]);
    assert_eq!(ints(&g, conv, AttrKey::Dilation), [1]);
    assert_eq!(g.node(conv).attrs.int(AttrKey::Groups, 0), 1);
    let sum = g.unary(Op::Sum, x);
    assert_eq!(ints(&g, sum, AttrKey::Axes), [0, 1, 2]);
    let flat = g.emit(Op::Reshape, &[x], Attrs::NONE.with_ints(AttrKey::Shape, [2, -1]));
    assert_eq!(ints(&g, flat, AttrKey::Shape), [2, 54]);
    let soft = g.emit(Op::Softmax, &[x], Attrs::NONE.with_int(AttrKey::Axis, -1));
    assert_eq!(g.node(soft).attrs.int(AttrKey::Axis, 0), 2);
    let bounds = Attrs::NONE.with_ints(AttrKey::Start, [0, -2, i64::MIN]);
    let part = g.emit(Op::Slice, &[x], bounds.with_ints(AttrKey::Stop, [9, i64::MAX, -1]));
    assert_eq!(ints(&g, part, AttrKey::Start), [0, 4, 0]);
    assert_eq!(ints(&g, part, AttrKey::Stop), [2, 6, 8]);
    assert_eq!(ints(&g, part, AttrKey::Step), [1, 1, 1]);
    assert_eq!(g.desc(part).dims(), [2, 2, 8]);
    let attention = g.emit(Op::Attention, &[x, x, x], Attrs::NONE);
    assert_eq!(g.node(attention).attrs.float(AttrKey::Scale, 0.0), 1.0 / 3.0);
    let cast = g.emit(Op::Cast, &[x], Attrs::NONE.with_int(AttrKey::DType, 0));
    assert_eq!(g.node(cast).attrs.int(AttrKey::DType, 0), i64::from(DType::F32.code()));
    g.check().expect("all of these are right");
}
