//! Gradients against central differences of the f64 reference, directional derivatives against gradients, second
//! derivatives against differences of gradients.

use crate::cases::{Case, Kind, all_cases};
use diffx::base::DType;
use diffx::graph::reference::RefTensor;
use diffx::graph::{Attrs, NodeId, Op};

/// A fixed, sign-changing weight for element `i` of tensor `tensor`.
fn weight(tensor: usize, i: usize) -> f64 {
    ((i * 37 + tensor * 61 + 11) as f64 * 0.713).sin() + 0.21
}

fn weights(tensor: usize, like: &RefTensor) -> RefTensor {
    let data = (0..like.data.len()).map(|i| weight(tensor, i)).collect();
    RefTensor { shape: like.shape, data }
}

fn dot(a: &RefTensor, b: &RefTensor) -> f64 {
    a.data.iter().zip(&b.data).map(|(a, b)| a * b).sum()
}

/// The float inputs of a case with their positions.
fn float_inputs(case: &Case) -> Vec<(usize, NodeId)> {
    let list = case.graph.inputs().iter().enumerate();
    list.filter(|(_, input)| input.desc.dtype.is_float())
        .map(|(i, input)| (i, input.node))
        .collect()
}

/// Adds an input for the cotangent of the first output and the gradients by every float input.
fn with_gradient(case: &mut Case) -> Vec<NodeId> {
    let y = case.outputs[0];
    let value = &case.expected()[0];
    case.inputs.push(weights(99, value));
    let c = case.graph.input("cotangent", case.graph.desc(y));
    let xs: Vec<NodeId> = float_inputs(case).iter().map(|(_, x)| *x).filter(|x| *x != c).collect();
    let out = case.graph.grad(y, c, &xs);
    case.graph.check().unwrap_or_else(|e| panic!("{}: {e}", case.name));
    out
}

/// Central difference of `<outputs, u>` by one element of one input.
fn difference(case: &Case, outputs: &[NodeId], u: &[RefTensor], input: usize, i: usize) -> f64 {
    let mut inputs = case.inputs.clone();
    let x = inputs[input].data[i];
    let h = 1e-5 * x.abs().max(0.1);
    let mut at = |x: f64| {
        inputs[input].data[i] = x;
        case.evaluate(outputs, &inputs).iter().zip(u).map(|(y, u)| dot(y, u)).sum::<f64>()
    };
    // fourth order: the error is that of rounding
    (8.0 * (at(x + h) - at(x - h)) - (at(x + 2.0 * h) - at(x - 2.0 * h))) / (12.0 * h)
}

fn assert_close(what: &str, got: f64, want: f64, scale: f64, tolerance: f64) {
    let bound = tolerance * want.abs().max(scale).max(1.0);
    assert!((got - want).abs() <= bound, "{what}: gradient {got}, differences {want}");
}

fn smooth_cases() -> impl Iterator<Item = Case> {
    all_cases(DType::F64).into_iter().filter(|case| {
        let float = case.graph.desc(case.outputs[0]).dtype.is_float();
        case.kind == Kind::Smooth && float && !float_inputs(case).is_empty()
    })
}

#[test]
fn gradient_is_the_limit_of_differences() {
    let mut checked = 0;
    for mut case in smooth_cases() {
        let y = case.outputs.clone();
        let value = case.expected();
        let u = vec![weights(99, &value[0])];
        let inputs = float_inputs(&case);
        let gradients = with_gradient(&mut case);
        let found = case.evaluate(&gradients, &case.inputs);
        for ((input, x), gradient) in inputs.iter().zip(&found) {
            assert_eq!(gradient.shape, case.graph.desc(*x).shape, "{}", case.name);
            if case.op == Op::StopGradient {
                assert!(gradient.data.iter().all(|v| *v == 0.0), "{}", case.name);
                continue;
            }
            for i in 0..gradient.data.len() {
                let want = difference(&case, &y, &u, *input, i);
                let what = format!("{}: input {input} element {i}", case.name);
                assert_close(&what, gradient.data[i], want, dot(&value[0], &value[0]).sqrt(), 2e-8);
                checked += 1;
            }
        }
    }
    assert!(checked > 5000, "only {checked} elements were checked");
}

#[test]
fn directional_derivative_agrees_with_the_gradient() {
    let mut checked = 0;
    for mut case in all_cases(DType::F64) {
        let y = case.outputs[0];
        let inputs = float_inputs(&case);
        let large = case.inputs.iter().map(|x| x.data.len()).sum::<usize>() > 3000;
        let finite = case.inputs.iter().flat_map(|x| &x.data).all(|v| v.is_finite());
        if !case.graph.desc(y).dtype.is_float() || inputs.is_empty() || large || !finite {
            continue;
        }
        if case.name.ends_with("edges") || !case.graph.desc(y).dtype.is_compute_float() {
            continue;
        }
        let gradients = with_gradient(&mut case);
        let mut tangents = Vec::new();
        for (input, x) in &inputs {
            case.inputs.push(weights(*input, &case.inputs[*input]));
            let half = !case.graph.desc(*x).dtype.is_compute_float();
            let mut desc = case.graph.desc(*x);
            if half {
                desc.dtype = DType::F64;
            }
            tangents.push(case.graph.input(&format!("t{input}"), desc));
        }
        let xs: Vec<NodeId> = inputs.iter().map(|(_, x)| *x).collect();
        let jvp = case.graph.jvp(y, &xs, &tangents);
        case.graph.check().unwrap_or_else(|e| panic!("{}: {e}", case.name));
        assert_eq!(case.graph.desc(jvp).shape, case.graph.desc(y).shape, "{}", case.name);
        let found = case.evaluate(&[vec![jvp], gradients].concat(), &case.inputs);
        let cotangent = &case.inputs[case.inputs.len() - 1 - inputs.len()];
        let forward = dot(&found[0], cotangent);
        let tangents = &case.inputs[case.inputs.len() - inputs.len()..];
        let products = found[1..].iter().zip(tangents);
        let backward: f64 = products.clone().map(|(g, t)| dot(g, t)).sum();
        let size: f64 = products
            .map(|(g, t)| g.data.iter().zip(&t.data).map(|(a, b)| (a * b).abs()).sum::<f64>())
            .sum();
        // casts of the cotangent round to f32
        let tolerance = if case.op == Op::Cast { 1e-6 } else { 1e-12 };
        let bound = tolerance * size.max(1.0);
        assert!((forward - backward).abs() <= bound, "{}: {forward} {backward}", case.name);
        checked += 1;
    }
    assert!(checked > 500, "only {checked} cases were checked");
}

/// Ops whose second derivative is checked, over the first cases of each that are small.
const TWICE: &[Op] = &[
    Op::Mul,
    Op::Div,
    Op::Pow,
    Op::Exp,
    Op::Sqrt,
    Op::Silu,
    Op::Gelu,
    Op::GeluTanh,
    Op::LogNdtr,
    Op::Lgamma,
    Op::BesselRatio,
    Op::LogIve,
    Op::Prod,
    Op::LogSumExp,
    Op::Mean,
    Op::Softmax,
    Op::LogSoftmax,
    Op::MatMul,
    Op::Conv,
    Op::ConvInputGrad,
    Op::ConvWeightGrad,
    Op::Attention,
    Op::LayerNorm,
    Op::GroupNorm,
    Op::RmsNorm,
    Op::Gather,
    Op::Sort,
    Op::CumSum,
    Op::Slice,
];

#[test]
fn second_derivative_is_the_limit_of_differences_of_the_gradient() {
    let mut seen = std::collections::BTreeMap::<Op, usize>::new();
    for mut case in smooth_cases().filter(|case| TWICE.contains(&case.op)) {
        let elements: usize = case.inputs.iter().map(|x| x.data.len()).sum();
        if !(3..=45).contains(&elements) {
            continue;
        }
        *seen.entry(case.op).or_default() += 1;
        let inputs = float_inputs(&case);
        let first = with_gradient(&mut case);
        let values = case.evaluate(&first, &case.inputs);
        let u: Vec<RefTensor> = values.iter().enumerate().map(|(i, v)| weights(i, v)).collect();
        // the gradient of s = sum <first, u> is the second derivative along u
        let mut sum = case.graph.scalar(0.0);
        for (gradient, u) in first.iter().zip(&u) {
            case.inputs.push(u.clone());
            let along = case.graph.input("along", case.graph.desc(*gradient));
            let aligned = case.graph.mul(*gradient, along);
            let part = case.graph.emit(Op::Sum, &[aligned], Attrs::NONE);
            sum = case.graph.add(sum, part);
        }
        let one = case.graph.scalar(1.0);
        let xs: Vec<NodeId> = inputs.iter().map(|(_, x)| *x).collect();
        let second = case.graph.grad(sum, one, &xs);
        case.graph.check().unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let found = case.evaluate(&second, &case.inputs);
        let size = values.iter().map(|v| dot(v, v)).sum::<f64>().sqrt();
        for ((input, _), second) in inputs.iter().zip(&found) {
            for i in 0..second.data.len() {
                let want = difference(&case, &first, &u, *input, i);
                let what = format!("second {}: input {input} element {i}", case.name);
                assert_close(&what, second.data[i], want, size, 1e-7);
            }
        }
    }
    for op in TWICE {
        assert!(seen.contains_key(op), "{}: no case", op.name());
    }
}
