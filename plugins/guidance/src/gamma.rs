//! h of a half line for Gamma data under BESQ and CIR, in closed form: X0 of dimension delta and mean delta u0 is the
//! squared Bessel process at time u0 from 0, so given its root w at clock s = sigma^2 later it is `c` times a noncentral
//! chi-square of delta degrees, `c = u0 s/(u0 + s)`, noncentrality `(w/sigma)^2 u0/(u0 + s)` (specs guidance_samplers 1.3
//! read backwards: stationary CIR is its own reverse).
//!
//! The survival function is the integral of the density of the noncentral chi from the threshold, by 64 nodes of Gauss
//! and Legendre over where its mass beyond the threshold lies; relative to its value it holds far into the tail.

use crate::rows::{column, per_row};
use diffx_plugin::event::{Condition, Tree};
use diffx_plugin::{Builder, Error, Node, Result};

/// The law of the data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HalfLine {
    pub(crate) dimension: f64,
    /// None = what the statistics say.
    pub(crate) mean: Option<f64>,
}

const NODES: usize = 64;
/// How far mass is followed, in the exponent: e^-45 of the largest value is left out.
const REACH: f64 = 90.0;

impl HalfLine {
    /// Component and threshold of an event that is `x >= a`.
    pub(crate) fn threshold(&self, event: &Condition) -> Result<(usize, f64)> {
        match above(event) {
            Some((tree, a)) if a > 0.0 => match tree.picks() {
                Some(c) => Ok((c, a)),
                None => Err(refuse()),
            },
            _ => Err(refuse()),
        }
    }

    /// log P(X0 >= threshold | w), `[rows]`; w is component `c` and has one number per row.
    pub(crate) fn log_h<'b>(
        &self,
        b: Builder<'b>,
        c: usize,
        w: Node<'b>,
        sigma: Node<'b>,
        threshold: f64,
    ) -> Result<Node<'b>> {
        let rows = w.shape().first().copied().unwrap_or(0);
        if w.shape().iter().product::<i64>() != rows {
            let text = format!("h \"gamma\" is for one number per sample, not {:?}", &*w.shape());
            return Err(Error::unsupported(text));
        }
        let nu = 0.5 * self.dimension - 1.0;
        let mean = self.mean.unwrap_or_else(|| b.stats(c).x_mean);
        if !(mean > 0.0 && mean.is_finite()) {
            let text = format!("mean of the data is {mean}, want above 0: give it as \"mean\"");
            return Err(Error::invalid(text));
        }
        let u0 = mean / self.dimension;
        let sigma = per_row(sigma, w).max(1e-18);
        let w = w.reshape(&[rows]);
        // root of the noncentrality, and the threshold on the same scale
        let near = (sigma.square() + u0).rsqrt() * u0.sqrt(); // sqrt(u0 / (u0 + s))
        let center = w / sigma * near;
        let from = 1.0 / (sigma * near) * threshold.sqrt();
        // the mass beyond `from`: down from the mean to the threshold or 9.5 deviations, and up until it is gone
        let mean = (center.square() + self.dimension.max(1.0)).sqrt().stop_gradient();
        let low = from.max(mean - REACH.sqrt());
        let beyond = (low - mean).max(0.0);
        let high = mean + (beyond.square() + REACH).sqrt();
        let (nodes, weights) = legendre();
        let at = b.constant_f64(&[1, NODES as i64], &nodes).cast(0);
        let weight = b.constant_f64(&[1, NODES as i64], &weights).cast(0);
        let wide = |x: Node<'b>| column(x, at);
        let width = wide(high - low);
        let r = wide(low) + width * at;
        let z = (r * wide(center)).max(1e-30);
        // log density of the noncentral chi: r^(2 nu + 1) e^{-(r-center)^2/2} [e^-z I_nu(z) z^-nu]
        let density = r.log() * (2.0 * nu + 1.0) - (r - wide(center)).square() * 0.5
            + z.log_ive(nu)
            - z.log() * nu;
        Ok((density + weight + width.log()).logsumexp(&[1]).min(0.0))
    }
}

fn refuse() -> Error {
    Error::unsupported("h \"gamma\" knows events like x >= 0.15, of a number above 0")
}

/// The tree and the number of an event `tree >= number`.
fn above(event: &Condition) -> Option<(&Tree, f64)> {
    use diffx_plugin::event::Compare::{Greater, GreaterEq, Less, LessEq};
    match event {
        Condition::Compare(Greater | GreaterEq, tree, Tree::Number(a)) => Some((tree, *a)),
        Condition::Compare(Less | LessEq, Tree::Number(a), tree) => Some((tree, *a)),
        _ => None,
    }
}

/// Nodes in (0, 1) and logarithms of weights that sum to 1.
fn legendre() -> (Vec<f64>, Vec<f64>) {
    let n = NODES as f64;
    let mut out = (Vec::new(), Vec::new());
    for i in 0..NODES {
        let mut x = (core::f64::consts::PI * (i as f64 + 0.75) / (n + 0.5)).cos();
        let mut slope = 1.0;
        for _ in 0..12 {
            let (mut now, mut before) = (1.0, 0.0);
            for k in 0..NODES {
                let k = k as f64;
                (now, before) = (((2.0 * k + 1.0) * x * now - k * before) / (k + 1.0), now);
            }
            slope = n * (x * now - before) / (x * x - 1.0);
            x -= now / slope;
        }
        out.0.push(0.5 * (1.0 + x));
        out.1.push((1.0 / ((1.0 - x * x) * slope * slope)).ln());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quadrature_is_exact_for_polynomials() {
        let (nodes, weights) = legendre();
        for power in [0, 1, 7, 60, 120] {
            let sum: f64 = nodes.iter().zip(&weights).map(|(x, w)| w.exp() * x.powi(power)).sum();
            let want = 1.0 / f64::from(power + 1);
            assert!((sum / want - 1.0).abs() < 1e-12, "{power}: {sum}, want {want}");
        }
    }
}
