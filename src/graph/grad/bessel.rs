//! Slopes of the Bessel ratio `R = I_{nu+1}/I_nu` and of `log(e^-z I_nu(z))`.
//!
//! Every formula in R itself cancels somewhere (`R' = 1 - R^2 - (2nu+1) R/z`: all leading digits for large z, and a
//! division by 0 at 0), so three branches: the power series near 0, R' = R (1/z + R_{nu+1} - R) in the middle, the
//! series in 1/z far out. All coefficients follow from the Riccati equation and are numbers when the graph is built.

use crate::graph::attr::Attrs;
use crate::graph::op::{AttrKey, Op};
use crate::graph::{Graph, NodeId};

const TERMS: usize = 14;

/// Below this the power series has all digits: its radius of convergence is above 2 sqrt(nu + 1).
fn near(nu: f64) -> f64 {
    0.6 * (nu + 1.0).sqrt()
}

/// Above this the series in 1/z is good to 1e-11.
fn far(nu: f64) -> f64 {
    40.0 + 6.0 * (nu + 1.0)
}

/// `R = z (s_0 + s_1 z^2 + s_2 z^4 + ..)`.
fn near_series(nu: f64) -> [f64; TERMS] {
    let mut s = [0.0; TERMS];
    s[0] = 1.0 / (2.0 * nu + 2.0);
    for k in 1..TERMS {
        let square: f64 = (0..k).map(|i| s[i] * s[k - 1 - i]).sum();
        s[k] = -square / (2.0 * nu + 2.0 + 2.0 * k as f64);
    }
    s
}

/// `R = r_0 + r_1/z + r_2/z^2 + ..`.
fn far_series(nu: f64) -> [f64; TERMS] {
    let mut r = [0.0; TERMS];
    r[0] = 1.0;
    for k in 1..TERMS {
        let square: f64 = (1..k).map(|i| r[i] * r[k - i]).sum();
        r[k] = 0.5 * ((k as f64 - 1.0) * r[k - 1] - (2.0 * nu + 1.0) * r[k - 1] - square);
    }
    r
}

/// R' at z, given `ratio = R(z)`.
pub(super) fn ratio_slope(g: &mut Graph, nu: f64, z: NodeId, ratio: NodeId) -> NodeId {
    let split = Split::new(g, nu, z);

    let mut series = near_series(nu);
    series.iter_mut().enumerate().for_each(|(k, s)| *s *= (2 * k + 1) as f64);
    let part = g.scaled(split.small, 1.0 / near(nu));
    let square = g.square(part);
    let near = polynomial(g, &series, near(nu) * near(nu), square);

    let inverse = g.unary(Op::Recip, split.large);
    let part = g.scaled(inverse, far(nu));
    let mut series = far_series(nu);
    series.iter_mut().enumerate().for_each(|(k, r)| *r *= -(k as f64));
    let tail = polynomial(g, &series, 1.0 / far(nu), part);
    let far = g.mul(tail, inverse);

    let next = Attrs::NONE.with_float(AttrKey::Nu, nu + 1.0);
    let next = g.emit(Op::BesselRatio, &[split.middle], next);
    let gap = g.sub(next, ratio);
    let inverse = g.unary(Op::Recip, split.middle);
    let middle = g.add(inverse, gap);
    let middle = g.mul(ratio, middle);
    split.join(g, near, middle, far)
}

/// `(log(e^-z I_nu))' = R + nu/z - 1`; at z = 0 the pole of `nu/z` is left out.
pub(super) fn log_ive_slope(g: &mut Graph, nu: f64, z: NodeId) -> NodeId {
    let split = Split::new(g, nu, z);
    let ratio = g.emit(Op::BesselRatio, &[z], Attrs::NONE.with_float(AttrKey::Nu, nu));
    let mut plain = g.shifted(ratio, -1.0);
    if nu != 0.0 {
        let positive = g.compare(Op::Gt, z, 0.0);
        let safe = g.choose_or(positive, z, 1.0);
        let inverse = g.unary(Op::Recip, safe);
        let pole = g.scaled(inverse, nu);
        let pole = g.choose_or(positive, pole, 0.0);
        plain = g.add(plain, pole);
    }
    let mut series = far_series(nu);
    series[0] = 0.0; // the 1 that e^-z takes away
    series[1] = -0.5; // r_1 + nu, without rounding
    let inverse = g.unary(Op::Recip, split.large);
    let part = g.scaled(inverse, far(nu));
    let far = polynomial(g, &series, 1.0 / far(nu), part);
    g.choose(split.is_large, far, plain)
}

/// z clamped into the range of each branch, so that a branch not taken holds no infinity.
struct Split {
    is_small: NodeId,
    is_large: NodeId,
    small: NodeId,
    middle: NodeId,
    large: NodeId,
}

impl Split {
    fn new(g: &mut Graph, nu: f64, z: NodeId) -> Self {
        let (lo, hi) = (near(nu), far(nu));
        let is_small = g.compare(Op::Lt, z, lo);
        let is_large = g.compare(Op::Gt, z, hi);
        let (low, high) = (g.scalar(lo), g.scalar(hi));
        Self {
            is_small,
            is_large,
            small: g.choose(is_small, z, low),
            middle: g.choose(is_small, low, z),
            large: g.choose(is_large, z, high),
        }
    }

    fn join(&self, g: &mut Graph, near: NodeId, middle: NodeId, far: NodeId) -> NodeId {
        let rest = g.choose(self.is_large, far, middle);
        g.choose(self.is_small, near, rest)
    }
}

/// `c_0 + c_1 (u x) + c_2 (u x)^2 + ..` for x in 0..1 by Horner's rule. With the unit u in the coefficients they stay
/// in the range of f32 whatever nu.
fn polynomial(g: &mut Graph, coefficients: &[f64; TERMS], unit: f64, x: NodeId) -> NodeId {
    let scaled = |k: usize| coefficients[k] * unit.powi(k as i32);
    let mut sum = g.scalar(scaled(TERMS - 1));
    for k in (0..TERMS - 1).rev() {
        let product = g.mul(sum, x);
        sum = g.shifted(product, scaled(k));
    }
    sum
}
