//! Gradients of pointwise ops: the cotangent times the derivative, summed back over what was broadcast.

use super::{Step, bessel};
use crate::graph::attr::Attrs;
use crate::graph::op::{AttrKey, Op};
use crate::graph::{Graph, NodeId};

pub(super) fn contributions(g: &mut Graph, step: &Step<'_>) -> Vec<Option<NodeId>> {
    let c = step.cotangent;
    let parts = match step.node.inputs.len() {
        1 if step.node.op == Op::Cast => vec![Some(c)],
        1 => vec![Some(unary(g, step.node.op, &step.node.attrs, step.input(0), step.id, c))],
        2 => binary(g, step),
        _ => {
            let zero = g.scalar(0.0);
            vec![
                None,
                step.wanted[1].then(|| g.choose(step.input(0), c, zero)),
                step.wanted[2].then(|| g.choose(step.input(0), zero, c)),
            ]
        }
    };
    let mut out = Vec::with_capacity(parts.len());
    for (i, part) in parts.into_iter().enumerate() {
        let shape = g.desc(step.input(i)).shape;
        out.push(part.filter(|_| step.wanted[i]).map(|part| g.sum_to(part, shape)));
    }
    out
}

/// `c f'(x)`, given x and `y = f(x)`.
pub(super) fn unary(
    g: &mut Graph,
    op: Op,
    attrs: &Attrs,
    x: NodeId,
    y: NodeId,
    c: NodeId,
) -> NodeId {
    let slope = match op {
        Op::Neg => return g.neg(c),
        Op::Relu => {
            let inside = g.compare(Op::Gt, x, 0.0);
            return g.choose_or(inside, c, 0.0);
        }
        Op::Log => return g.div(c, x),
        Op::Log1p => {
            let below = g.shifted(x, 1.0);
            return g.div(c, below);
        }
        Op::Sqrt => {
            // 0 at 0, so that a clamped root trains
            let inside = g.compare(Op::Gt, y, 0.0);
            let root = g.choose_or(inside, y, 1.0);
            let half = g.scaled(c, 0.5);
            let slope = g.div(half, root);
            return g.choose_or(inside, slope, 0.0);
        }
        Op::Abs => g.unary(Op::Sign, x),
        Op::Recip => {
            let square = g.square(y);
            g.neg(square)
        }
        Op::Square => g.scaled(x, 2.0),
        Op::Rsqrt => {
            let square = g.square(y);
            let cube = g.mul(square, y);
            g.scaled(cube, -0.5)
        }
        Op::Exp => y,
        Op::Expm1 => g.shifted(y, 1.0),
        Op::Sin => g.unary(Op::Cos, x),
        Op::Cos => {
            let sin = g.unary(Op::Sin, x);
            g.neg(sin)
        }
        Op::Tanh => {
            let square = g.square(y);
            one_minus(g, square)
        }
        Op::Sigmoid => {
            let rest = one_minus(g, y);
            g.mul(y, rest)
        }
        Op::Silu => {
            // s + x s (1 - s)
            let s = g.unary(Op::Sigmoid, x);
            let rest = one_minus(g, s);
            let bend = g.mul(x, rest);
            let bend = g.shifted(bend, 1.0);
            g.mul(s, bend)
        }
        Op::Gelu => gelu_slope(g, x),
        Op::GeluTanh => gelu_tanh_slope(g, x),
        Op::Softplus => g.unary(Op::Sigmoid, x),
        Op::Erf => {
            let bell = bell(g, x, -1.0);
            g.scaled(bell, std::f64::consts::FRAC_2_SQRT_PI)
        }
        Op::Lgamma => g.emit(Op::Polygamma, &[x], Attrs::NONE.with_int(AttrKey::Order, 0)),
        Op::Polygamma => {
            let order = attrs.int(AttrKey::Order, 0) + 1;
            g.emit(Op::Polygamma, &[x], Attrs::NONE.with_int(AttrKey::Order, order))
        }
        Op::LogNdtr => log_ndtr_slope(g, x, y),
        Op::BesselRatio => bessel::ratio_slope(g, attrs.float(AttrKey::Nu, 0.0), x, y),
        Op::LogIve => bessel::log_ive_slope(g, attrs.float(AttrKey::Nu, 0.0), x),
        // the others stop gradients and are never asked
        _ => return g.scaled(c, 0.0),
    };
    g.mul(c, slope)
}

fn one_minus(g: &mut Graph, x: NodeId) -> NodeId {
    let one = g.scalar(1.0);
    g.sub(one, x)
}

/// `exp(factor x^2)`.
fn bell(g: &mut Graph, x: NodeId, factor: f64) -> NodeId {
    let square = g.square(x);
    let exponent = g.scaled(square, factor);
    g.exp(exponent)
}

/// `Phi(x) + x phi(x)`.
fn gelu_slope(g: &mut Graph, x: NodeId) -> NodeId {
    let arg = g.scaled(x, std::f64::consts::FRAC_1_SQRT_2);
    let erf = g.unary(Op::Erf, arg);
    let twice = g.shifted(erf, 1.0);
    let cdf = g.scaled(twice, 0.5);
    let bell = bell(g, x, -0.5);
    let density =
        g.scaled(bell, 0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2);
    let bend = g.mul(x, density);
    g.add(cdf, bend)
}

/// `(1 + t)/2 + x (1 - t^2) k (1 + 3 a x^2)/2` with `t = tanh(k (x + a x^3))`.
fn gelu_tanh_slope(g: &mut Graph, x: NodeId) -> NodeId {
    let (k, a) = ((2.0 / std::f64::consts::PI).sqrt(), 0.044_715);
    let square = g.square(x);
    let inner = g.scaled(square, k * a);
    let inner = g.shifted(inner, k);
    let inner = g.mul(inner, x);
    let t = g.unary(Op::Tanh, inner);
    let flat = g.shifted(t, 1.0);
    let flat = g.scaled(flat, 0.5);
    let speed = g.scaled(square, 1.5 * k * a);
    let speed = g.shifted(speed, 0.5 * k);
    let t_square = g.square(t);
    let rest = one_minus(g, t_square);
    let bend = g.mul(x, rest);
    let bend = g.mul(bend, speed);
    g.add(flat, bend)
}

/// `phi(x)/Phi(x)`; far left by its continued fraction, where the logarithms would cancel.
fn log_ndtr_slope(g: &mut Graph, x: NodeId, y: NodeId) -> NodeId {
    const FAR: f64 = -8.0;
    const TERMS: usize = 16;
    let far = g.compare(Op::Lt, x, FAR);
    let at_far = g.scalar(FAR);
    let tail = g.choose(far, x, at_far);
    let t = g.neg(tail);
    let mut fraction = t;
    for k in (1..=TERMS).rev() {
        let numerator = g.scalar(k as f64);
        let part = g.div(numerator, fraction);
        fraction = g.add(t, part);
    }
    let near = g.choose(far, at_far, x);
    let square = g.square(near);
    let exponent = g.scaled(square, -0.5);
    let log_density = g.shifted(exponent, -0.5 * (2.0 * std::f64::consts::PI).ln());
    let zero = g.scalar(0.0);
    let y = g.choose(far, zero, y); // no inf - inf in the branch that is not taken
    let difference = g.sub(log_density, y);
    let ratio = g.exp(difference);
    g.choose(far, fraction, ratio)
}

fn binary(g: &mut Graph, step: &Step<'_>) -> Vec<Option<NodeId>> {
    let (a, b, y, c) = (step.input(0), step.input(1), step.id, step.cotangent);
    let (want_a, want_b) = (step.wanted[0], step.wanted[1]);
    match step.node.op {
        Op::Add => vec![Some(c), Some(c)],
        Op::Sub => vec![Some(c), want_b.then(|| g.neg(c))],
        Op::Mul => vec![want_a.then(|| g.mul(c, b)), want_b.then(|| g.mul(c, a))],
        Op::Div => {
            let over = g.div(c, b);
            let by_b = want_b.then(|| {
                let part = g.mul(over, y);
                g.neg(part)
            });
            vec![Some(over), by_b]
        }
        Op::Rem => {
            // a - floor(a/b) b
            let by_b = want_b.then(|| {
                let ratio = g.div(a, b);
                let whole = g.unary(Op::Floor, ratio);
                let part = g.mul(c, whole);
                g.neg(part)
            });
            vec![Some(c), by_b]
        }
        Op::Pow => vec![
            want_a.then(|| {
                // b a^(b-1); with the exponent 0 for b = 0, so that 0 comes out whatever a
                let constant = g.compare(Op::Eq, b, 0.0);
                let (zero, less) = (g.scalar(0.0), g.shifted(b, -1.0));
                let exponent = g.choose(constant, zero, less);
                let power = g.binary(Op::Pow, a, exponent);
                let slope = g.mul(b, power);
                g.mul(c, slope)
            }),
            want_b.then(|| {
                let inside = g.compare(Op::Gt, a, 0.0);
                let base = g.choose_or(inside, a, 1.0);
                let log = g.unary(Op::Log, base);
                let slope = g.mul(y, log);
                let part = g.mul(c, slope);
                g.choose_or(inside, part, 0.0)
            }),
        ],
        Op::Min | Op::Max => {
            let (wins, loses) =
                if step.node.op == Op::Max { (Op::Gt, Op::Lt) } else { (Op::Lt, Op::Gt) };
            let tie = g.binary(Op::Eq, a, b);
            let half = g.scaled(c, 0.5);
            let tied = g.choose_or(tie, half, 0.0);
            let mut side = |op| {
                let taken = g.binary(op, a, b);
                g.choose(taken, c, tied)
            };
            vec![want_a.then(|| side(wins)), want_b.then(|| side(loses))]
        }
        // comparisons have a bool result and are never asked
        _ => vec![None, None],
    }
}
