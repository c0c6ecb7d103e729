//! What additive processes share: in the coordinate w they add Gaussian noise of standard deviation sigma, and E[w0 | w]
//! is regressed. EDM preconditioning (Karras et al. 2022, table 1) with sigma_data^2 = Var(w0).

use diffx_plugin::{Cx, Error, Node, Precond, Result, Stats};

/// Keeps c_noise finite at sigma = 0.
pub(crate) const TINY: f64 = 1e-30;

/// ln(2 pi) / 2
const HALF_LOG_TAU: f64 = 0.918_938_533_204_672_8;

/// `(w0 + sigma xi, w0)`
pub(crate) fn perturb<'b>(cx: &Cx<'b>, w0: Node<'b>, sigma: Node<'b>) -> [Node<'b>; 2] {
    [w0 + sigma * cx.normal_like(w0), w0]
}

/// c_skip = s²/(s²+σ²), c_out = σs/√(s²+σ²), c_in = 1/√(s²+σ²), c_noise = ln(σ)/4, weight 1/c_out², s² = Var(w0).
/// With a boundary e: c_skip = s²/(s²+(σ-e)²) and c_out = (σ-e)s/√(s²+σ²), so that D = w at e and below (specs
/// processes 7.1).
pub(crate) fn precond<'b>(cx: &Cx<'b>, sigma: Node<'b>, boundary: f64) -> Precond<'b> {
    precond_of(sigma, cx.stats.w_var, boundary)
}

/// The same of data of this variance.
pub(crate) fn precond_of(sigma: Node<'_>, variance: f64, boundary: f64) -> Precond<'_> {
    let total = sigma.square() + variance;
    let input = total.rsqrt();
    let (above, spread) = match boundary {
        0.0 => (sigma, total),
        e => {
            let above = (sigma - e).max(0.0);
            (above, above.square() + variance)
        }
    };
    Precond {
        skip: variance / spread,
        out: above * variance.sqrt() * input,
        input,
        noise: sigma.max(TINY).log() * 0.25,
        weight: total / (sigma.square() * variance),
    }
}

/// `w + √(σ̂² − σ²) xi`
pub(crate) fn renoise<'b>(
    cx: &Cx<'b>,
    w: Node<'b>,
    sigma: Node<'b>,
    sigma_hat: Node<'b>,
) -> Node<'b> {
    w + (sigma_hat.square() - sigma.square()).sqrt() * cx.normal_like(w)
}

/// `mu + √v xi`
pub(crate) fn ancestral<'b>(cx: &Cx<'b>, mu: Node<'b>, v: Node<'b>) -> Node<'b> {
    mu + v.sqrt() * cx.normal_like(mu)
}

/// `(D − w) / σ²`
pub(crate) fn to_score<'b>(w: Node<'b>, d: Node<'b>, sigma: Node<'b>) -> Node<'b> {
    (d - w) / sigma.square()
}

/// log N(w; w0, σ²)
pub(crate) fn log_transition<'b>(w: Node<'b>, w0: Node<'b>, sigma: Node<'b>) -> Node<'b> {
    ((w - w0) / sigma).square() * -0.5 - sigma.log() - HALF_LOG_TAU
}

/// Standard deviation of the data in w.
pub(crate) fn deviation(stats: &Stats) -> Result<f64> {
    if stats.w_var > 0.0 && stats.w_var.is_finite() {
        return Ok(stats.w_var.sqrt());
    }
    Err(Error::invalid(format!("variance of the data is {}, want above 0", stats.w_var)))
}
