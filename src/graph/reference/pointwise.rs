//! Pointwise ops.

use super::{RefTensor, from_index, round};
use crate::base::special::polygamma::polygamma;
use crate::base::special::{bessel, gamma, normal};
use crate::graph::Node;
use crate::graph::op::{AttrKey, Op};

pub(super) fn apply(node: &Node, inputs: &[&RefTensor]) -> RefTensor {
    let shape = node.desc.shape;
    match *inputs {
        [x] => from_index(shape, |i| unary(node, x.at(i))),
        [a, b] => from_index(shape, |i| binary(node, a.at_broadcast(i), b.at_broadcast(i))),
        [c, a, b] => from_index(shape, |i| {
            if c.at_broadcast(i) != 0.0 { a.at_broadcast(i) } else { b.at_broadcast(i) }
        }),
        _ => RefTensor::full(shape, f64::NAN), // the arity was checked
    }
}

fn unary(node: &Node, x: f64) -> f64 {
    match node.op {
        Op::Not => f64::from(x == 0.0),
        Op::IsFinite => f64::from(x.is_finite()),
        Op::Cast => round(node.desc.dtype, x),
        Op::Lgamma => gamma::lgamma(x),
        Op::Polygamma => polygamma(node.attrs.int(AttrKey::Order, 0) as u32, x),
        Op::BesselRatio => bessel::Ratio::new(node.attrs.float(AttrKey::Nu, 0.0)).f64(x),
        Op::LogIve => bessel::log_ive(node.attrs.float(AttrKey::Nu, 0.0), x),
        op => elementary(op, x),
    }
}

/// Unary ops without attributes or tables: also the activations of matmul.
pub(super) fn elementary(op: Op, x: f64) -> f64 {
    match op {
        Op::Neg => -x,
        Op::Abs => x.abs(),
        Op::Sign if x > 0.0 => 1.0,
        Op::Sign if x < 0.0 => -1.0,
        Op::Sign => 0.0,
        Op::Recip => 1.0 / x,
        Op::Square => x * x,
        Op::Sqrt => x.sqrt(),
        Op::Rsqrt => 1.0 / x.sqrt(),
        Op::Exp => x.exp(),
        Op::Expm1 => x.exp_m1(),
        Op::Log => x.ln(),
        Op::Log1p => x.ln_1p(),
        Op::Sin => x.sin(),
        Op::Cos => x.cos(),
        Op::Tanh => x.tanh(),
        Op::Sigmoid => sigmoid(x),
        Op::Silu => x * sigmoid(x),
        Op::Gelu => 0.5 * x * normal::erfc(-x / std::f64::consts::SQRT_2),
        Op::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Op::Relu if x.is_nan() => x,
        Op::Relu => x.max(0.0),
        Op::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        Op::Erf => normal::erf(x),
        Op::Floor => x.floor(),
        Op::Ceil => x.ceil(),
        Op::Round => x.round_ties_even(),
        Op::LogNdtr => normal::log_ndtr(x),
        _ => x, // stop_gradient, and no activation
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn binary(node: &Node, a: f64, b: f64) -> f64 {
    let whole = node.desc.dtype.is_index();
    match node.op {
        Op::Add => a + b,
        Op::Sub => a - b,
        Op::Mul => a * b,
        Op::Div | Op::Rem if whole && b == 0.0 => 0.0,
        Op::Div if whole => (a / b).trunc(),
        Op::Div => a / b,
        Op::Rem => a - b * (a / b).floor(),
        Op::Pow => a.powf(b),
        Op::Min | Op::Max if a.is_nan() || b.is_nan() => f64::NAN,
        Op::Min => a.min(b),
        Op::Max => a.max(b),
        Op::Eq => f64::from(a == b),
        Op::Ne => f64::from(a != b),
        Op::Lt => f64::from(a < b),
        Op::Le => f64::from(a <= b),
        Op::Gt => f64::from(a > b),
        Op::Ge => f64::from(a >= b),
        Op::And => f64::from(a != 0.0 && b != 0.0),
        Op::Or => f64::from(a != 0.0 || b != 0.0),
        _ => f64::NAN, // no other op has two operands here
    }
}
