//! Single facts about gradients that differences cannot see: ties, domain borders, far tails, types, what is walked.

use diffx::base::special::bessel;
use diffx::base::{DType, Desc};
use diffx::graph::builder::Lora;
use diffx::graph::reference::{self, RefTensor};
use diffx::graph::{AttrKey, Attrs, Graph, NodeId, Op, WeightInit};

const FLOAT: DType = DType::F64;

fn graph() -> Graph {
    Graph::new(2, FLOAT)
}

fn vector(g: &mut Graph, values: &[f64]) -> NodeId {
    constant(g, FLOAT, &[values.len()], values)
}

/// Constants take gradients as any node does, and need no binding.
fn constant(g: &mut Graph, dtype: DType, dims: &[usize], values: &[f64]) -> NodeId {
    let mut bytes = Vec::new();
    values.iter().for_each(|v| reference::encode(dtype, *v, &mut bytes));
    g.constant(Desc::new(dtype, dims).unwrap(), &bytes)
}

fn values(g: &Graph, id: NodeId) -> Vec<f64> {
    let bind =
        |node: &diffx::graph::Node, _: &[&RefTensor]| Ok(RefTensor::full(node.desc.shape, 0.5));
    reference::evaluate(g, &[id], &bind).unwrap().remove(0).data
}

/// Values of the gradient of the sum of y.
fn slope(g: &mut Graph, y: NodeId, x: NodeId) -> Vec<f64> {
    let one = g.scalar(1.0);
    let found = g.grad(y, one, &[x])[0];
    g.check().unwrap();
    values(g, found)
}

#[test]
fn ties_share() {
    let mut g = graph();
    let a = vector(&mut g, &[1.0, 2.0, 3.0]);
    let b = vector(&mut g, &[1.0, 5.0, 0.0]);
    let most = g.binary(Op::Max, a, b);
    assert_eq!(slope(&mut g, most, a), [0.5, 0.0, 1.0]);
    assert_eq!(slope(&mut g, most, b), [0.5, 1.0, 0.0]);
    let least = g.binary(Op::Min, a, b);
    assert_eq!(slope(&mut g, least, a), [0.5, 1.0, 0.0]);
    let x = vector(&mut g, &[4.0, 1.0, 4.0, 4.0, 0.0]);
    let top = g.unary(Op::ReduceMax, x);
    let third = 1.0 / 3.0;
    assert_eq!(slope(&mut g, top, x), [third, 0.0, third, third, 0.0]);
}

#[test]
fn borders_of_domains() {
    let mut g = graph();
    let x = vector(&mut g, &[0.0, 4.0]);
    let root = g.unary(Op::Sqrt, x);
    assert_eq!(slope(&mut g, root, x), [0.0, 0.25]);
    let relu = g.unary(Op::Relu, x);
    assert_eq!(slope(&mut g, relu, x), [0.0, 1.0]);
    let zero = vector(&mut g, &[0.0, 0.0]);
    let power = g.binary(Op::Pow, x, zero);
    assert_eq!(slope(&mut g, power, x), [0.0, 0.0]);
    let negative = vector(&mut g, &[-2.0, -2.0]);
    let two = vector(&mut g, &[2.0, 3.0]);
    let power = g.binary(Op::Pow, negative, two);
    assert_eq!(slope(&mut g, power, negative), [-4.0, 12.0]);
    assert_eq!(slope(&mut g, power, two), [0.0, 0.0]);
    for op in [Op::BesselRatio, Op::LogIve] {
        for nu in [0.0, 0.5, 3.0] {
            let y = g.emit(op, &[x], Attrs::NONE.with_float(AttrKey::Nu, nu));
            let at_zero = slope(&mut g, y, x)[0];
            let want = if op == Op::BesselRatio { 0.5 / (nu + 1.0) } else { -1.0 };
            assert!((at_zero - want).abs() < 1e-15, "{} nu {nu}: {at_zero}", op.name());
        }
    }
}

#[test]
fn branch_not_taken_gives_exactly_zero() {
    let mut g = graph();
    let x = vector(&mut g, &[0.0, 2.0]);
    let inside = g.compare(Op::Gt, x, 0.0);
    let log = g.unary(Op::Log, x); // -inf at 0
    let y = g.choose_or(inside, log, 7.0);
    assert_eq!(slope(&mut g, y, log), [0.0, 1.0]);
    // its slope is inf there, and 0 times inf is no number: the operand is made safe, not only the result
    let safe = g.choose_or(inside, x, 1.0);
    let log = g.unary(Op::Log, safe);
    let y = g.choose_or(inside, log, 7.0);
    assert_eq!(slope(&mut g, y, x), [0.0, 0.5]);
}

#[test]
fn far_tail_of_log_ndtr() {
    for x in [-7.9, -8.1, -12.0, -100.0, -1e4, -1e8] {
        let mut g = graph();
        let z = vector(&mut g, &[x]);
        let y = g.unary(Op::LogNdtr, z);
        let t: f64 = -x;
        // the hazard lies between these two (Gordon, and the next bound)
        let found = slope(&mut g, y, z)[0];
        let (low, high) =
            (0.5 * (t + (t * t + 4.0).sqrt()), 0.25 * (3.0 * t + (t * t + 8.0).sqrt()));
        let slack = 1e-12 * t;
        assert!(found > low.min(high) - slack && found < low.max(high) + slack, "{x}: {found}");
    }
}

#[test]
fn bessel_slopes_keep_their_digits() {
    for nu in [-0.9, -0.5, 0.0, 0.5, 1.0, 2.5, 24.0, 300.0] {
        let zs: Vec<f64> = (-40..60).map(|i| 10f64.powf(f64::from(i) / 10.0)).collect();
        let mut g = graph();
        let z = vector(&mut g, &zs);
        let attrs = Attrs::NONE.with_float(AttrKey::Nu, nu);
        let ratio = g.emit(Op::BesselRatio, &[z], attrs.clone());
        let found = slope(&mut g, ratio, z);
        let exact = bessel::Ratio::new(nu);
        for (z, found) in zs.iter().zip(found) {
            // the textbook formula where it does not cancel, else the derivative of the special function
            let r = exact.f64(*z);
            let plain = 1.0 - r * r - (2.0 * nu + 1.0) * r / z;
            let lost = 1e-15 * (1.0 + (2.0 * nu + 1.0).abs() * r / z);
            assert!((found - plain).abs() <= 40.0 * lost + 1e-9 * plain.abs(), "{nu} {z}: {found}");
        }
        let log = g.emit(Op::LogIve, &[z], attrs);
        let found = slope(&mut g, log, z);
        for (z, found) in zs.iter().zip(found) {
            let want = exact.f64(*z) + nu / z - 1.0;
            let lost = 1e-15 * (1.0 + nu.abs() / z);
            assert!((found - want).abs() <= 40.0 * lost + 1e-9 * want.abs(), "{nu} {z}: {found}");
        }
    }
}

#[test]
fn what_is_walked() {
    let mut g = graph();
    let x = vector(&mut g, &[3.0]);
    let u = g.square(x);
    let y = g.exp(u);
    let other = vector(&mut g, &[1.0, 2.0]);
    let one = g.scalar(1.0);
    let found = g.grad(y, one, &[u, x, y, other, x]);
    g.check().unwrap();
    let e9 = 9f64.exp();
    let got: Vec<Vec<f64>> = found.iter().map(|id| values(&g, *id)).collect();
    assert_eq!(got, [vec![e9], vec![6.0 * e9], vec![1.0], vec![0.0, 0.0], vec![6.0 * e9]]);
    let stopped = g.unary(Op::StopGradient, u);
    let y = g.mul(stopped, x);
    assert_eq!(slope(&mut g, y, x), [9.0]);
    let floor = g.unary(Op::Floor, x);
    let y = g.mul(floor, x);
    assert_eq!(slope(&mut g, y, x), [3.0]);
    let still = g.jvp(y, &[other], &[other]);
    assert_eq!(values(&g, still), [0.0]);
}

/// What MeanFlow needs: the state was noised from the time, and the two move apart.
#[test]
fn nested_variables_move_on_their_own() {
    let mut g = graph();
    let t = vector(&mut g, &[2.0]);
    let z = g.unary(Op::Square, t);
    let y = g.binary(Op::Mul, z, t); // y = z t with z = t^2
    let (dz, dt) = (vector(&mut g, &[5.0]), vector(&mut g, &[1.0]));
    let along = g.jvp(y, &[z, t], &[dz, dt]);
    g.check().unwrap();
    assert_eq!(values(&g, along), [5.0 * 2.0 + 4.0]);
    // the gradient by t goes through z as well, and a jvp by t alone agrees with it
    let one = vector(&mut g, &[1.0]);
    let by = g.grad(y, one, &[z, t]);
    assert_eq!((values(&g, by[0]), values(&g, by[1])), (vec![2.0], vec![12.0]));
    let alone = g.jvp(y, &[t], &[dt]);
    assert_eq!(values(&g, alone), [12.0]);
}

#[test]
fn draws_have_no_gradient() {
    let mut g = graph();
    let shape_parameter = vector(&mut g, &[0.5, 2.0]);
    let draw = g.emit(Op::Gamma, &[shape_parameter], Attrs::NONE.with_int(AttrKey::Purpose, 1));
    let y = g.mul(draw, shape_parameter);
    assert_eq!(slope(&mut g, y, shape_parameter), [0.5, 0.5]); // the draw itself, as bound above
    assert_eq!(slope(&mut g, draw, shape_parameter), [0.0, 0.0]);
}

#[test]
fn half_weights_have_gradients_in_the_float_type() {
    for half in [DType::BF16, DType::F16] {
        let mut g = Graph::new(1, DType::F32);
        let x = constant(&mut g, DType::F32, &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let w = constant(&mut g, half, &[2, 1], &[0.5, -1.0]);
        let y = g.matmul(x, w, false, false);
        let wide = g.cast(w, DType::F32);
        let flat = g.reshape(wide, &[1, 2]);
        let z = g.mul(y, flat);
        let one = g.scalar(1.0);
        let found = g.grad(z, one, &[w])[0];
        g.check().unwrap();
        assert_eq!(g.desc(found).dtype, DType::F32);
        // z[i,j] = (x w)_i w_j; d sum = sum_i x_ik (w_0 + w_1) + sum_i (x w)_i
        assert_eq!(values(&g, found), [-0.5 * 4.0 - 4.0, -0.5 * 6.0 - 4.0]);
    }
}

#[test]
fn gradients_gain_no_adapter() {
    let build = |lora: Option<Lora>| {
        let mut g = graph();
        let before = g.enter_slot("base", lora);
        let x = g.input("x", Desc::new(FLOAT, &[3, 4]).unwrap());
        let w = g.weight("w", Desc::new(FLOAT, &[4, 5]).unwrap(), WeightInit::Zeros);
        let y = g.matmul(x, w, false, false);
        let one = g.scalar(1.0);
        let found = g.grad(y, one, &[x, w]);
        g.leave_slot(before);
        g.check().unwrap();
        (g.weights().len(), found.len())
    };
    assert_eq!(build(None), (1, 2));
    let lora = Lora { rank: 2, scale: 1.0, targets: Vec::new() };
    assert_eq!(build(Some(lora)), (3, 2)); // w, its A and its B, once
}

#[test]
fn same_graph_same_gradient() {
    let build = || {
        let mut g = graph();
        let x = g.input("x", Desc::new(FLOAT, &[3, 4]).unwrap());
        let w = g.weight("w", Desc::new(FLOAT, &[4, 4]).unwrap(), WeightInit::Zeros);
        let mut h = x;
        for _ in 0..4 {
            let z = g.matmul(h, w, false, false);
            let z = g.unary(Op::Silu, z);
            h = g.add(h, z);
        }
        let y = g.emit(Op::Softmax, &[h], Attrs::NONE.with_axis(1));
        let one = g.scalar(1.0);
        let _ = g.grad(y, one, &[w, x]);
        g.check().unwrap();
        g.hash()
    };
    assert_eq!(build(), build());
}
