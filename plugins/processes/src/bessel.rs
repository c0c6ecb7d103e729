//! What BESQ and CIR share: the squared Bessel process of any dimension delta >= 0 in r = √x with clock u = sigma²
//! (specs processes 1.2, 1.3; arXiv 2605.19391).
//!
//! The target √x0 R_nu(√x √x0 / sigma²), nu = delta/2 - 1, R_nu = I_{nu+1}/I_nu, is what makes
//! `d/dr log q = (delta - 1)/r + (D - r)/sigma²` hold for D = E[target | r]: the pole at 0 stays out of the network.
//! delta = 0 is absorbed at 0: it has exact draws, but no density there and so no target; it can only be simulated.

use core::ffi::CStr;
use diffx_plugin::{
    Config, Cx, Data, Error, Factory, Fitted, Function, Functions, Moments, Node, Precond, Process,
    ProcessInfo, Result, Space, Stats, abi,
};

/// What tells one such process from another.
pub(crate) trait Radial: Factory {
    /// The clock may start anew at each moment (`Process::HOMOGENEOUS`).
    const HOMOGENEOUS: bool = false;

    fn bessel(&self) -> Bessel;

    /// What the data says about its settings.
    fn fit(&self, data: &Data<'_>) -> Result<Vec<Fitted>>;

    /// Smallest and largest sigma of a run.
    fn range(&self, stats: &Stats) -> Result<(f64, f64)> {
        Bessel::range(stats)
    }

    /// sigma at a natural time.
    fn clock(&self, time: f64) -> f64;

    /// From w² at a level to the data.
    fn leave<'b>(&self, square: Node<'b>, sigma: Node<'b>) -> Node<'b>;

    /// Drift and diffusion of x.
    fn sde<'b>(&self, cx: &Cx<'b>, x: Node<'b>) -> [Node<'b>; 2];
}

/// Such a process as a process.
pub(crate) struct OnBessel<T>(T);

impl<T: Radial> Factory for OnBessel<T> {
    const ID: &'static CStr = T::ID;
    const SUMMARY: &'static CStr = T::SUMMARY;
    const SCHEMA: Option<&'static CStr> = T::SCHEMA;

    fn create(config: &mut Config) -> Result<Self> {
        T::create(config).map(Self)
    }
}

impl<T: Radial> OnBessel<T> {
    /// delta = 0 has no law to reverse: from any noisy level all of it ends at 0.
    fn absorbed<'b>(&self, cx: &Cx<'b>) -> Option<Node<'b>> {
        let why = "the dimension is 0, absorbed at 0: it can be simulated, not trained or sampled";
        (self.0.bessel().delta == 0.0).then(|| cx.b.fail(abi::E_UNSUPPORTED, why))
    }
}

impl<T: Radial> Process for OnBessel<T> {
    const FUNCTIONS: Functions = Functions::CONTINUOUS.with(Function::Sde);
    const CLOCK: bool = true;
    const HOMOGENEOUS: bool = T::HOMOGENEOUS;

    fn info(&self, stats: &Stats) -> Result<ProcessInfo> {
        let (sigma_min, sigma_max) = self.0.range(stats)?;
        Ok(ProcessInfo {
            space: Space::Continuous,
            positive: true,
            additive: false,
            sigma_min,
            sigma_max,
        })
    }

    const FIT: bool = true;

    fn fit(&self, data: &Data<'_>) -> Result<Vec<Fitted>> {
        self.0.fit(data)
    }

    fn clock(&self, time: f64) -> f64 {
        self.0.clock(time)
    }

    fn encode<'b>(&self, _: &Cx<'b>, x: Node<'b>) -> Node<'b> {
        x.sqrt()
    }

    fn decode<'b>(&self, _: &Cx<'b>, w: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        self.0.leave(w.square(), sigma)
    }

    fn perturb<'b>(&self, cx: &Cx<'b>, w0: Node<'b>, sigma: Node<'b>) -> [Node<'b>; 2] {
        self.absorbed(cx).map_or_else(|| self.0.bessel().perturb(cx, w0, sigma), |n| [n; 2])
    }

    fn prior<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Node<'b> {
        self.absorbed(cx).unwrap_or_else(|| self.0.bessel().prior(cx, sigma))
    }

    fn precond<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Precond<'b> {
        match self.absorbed(cx) {
            Some(n) => Precond { skip: n, out: n, input: n, noise: n, weight: n },
            None => self.0.bessel().precond(cx, sigma),
        }
    }

    fn renoise<'b>(&self, cx: &Cx<'b>, w: Node<'b>, s: Node<'b>, s_hat: Node<'b>) -> Node<'b> {
        self.0.bessel().renoise(cx, w, s, s_hat)
    }

    fn ancestral<'b>(&self, cx: &Cx<'b>, mu: Node<'b>, v: Node<'b>) -> Node<'b> {
        self.absorbed(cx).unwrap_or_else(|| self.0.bessel().ancestral(cx, mu, v))
    }

    fn to_score<'b>(&self, cx: &Cx<'b>, w: Node<'b>, d: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        self.absorbed(cx).unwrap_or_else(|| self.0.bessel().to_score(w, d, sigma))
    }

    fn log_transition<'b>(
        &self,
        cx: &Cx<'b>,
        w: Node<'b>,
        w0: Node<'b>,
        sigma: Node<'b>,
    ) -> Node<'b> {
        self.absorbed(cx).unwrap_or_else(|| self.0.bessel().log_transition(w, w0, sigma))
    }

    fn sde<'b>(&self, cx: &Cx<'b>, x: Node<'b>, _: Node<'b>) -> [Node<'b>; 2] {
        self.0.sde(cx, x)
    }
}

/// A dimension.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bessel {
    pub(crate) delta: f64,
}

/// Smallest dimension that is fitted: below 1 the exact draw needs the Poisson route.
const LEAST_FITTED: f64 = 1.0;
/// Largest: beyond it the law is Gaussian for all purposes and the Bessel ratio only costs more.
const MOST_FITTED: f64 = 40.0;

impl Bessel {
    /// The dimension of the Gamma law with these moments, where draws are exact and cheap.
    pub(crate) fn fitted(m: &Moments) -> f64 {
        (2.0 * m.mean * m.mean / m.variance).clamp(LEAST_FITTED, MOST_FITTED)
    }

    /// sigma from 3e-3 to 10 for data of scale 1 (the range of the measurements in 1.3), scaled by √E[X0]. A mean of
    /// 0 is that of statistics nobody has taken yet.
    pub(crate) fn range(stats: &Stats) -> Result<(f64, f64)> {
        let mean = stats.x_mean;
        if !(mean >= 0.0 && mean.is_finite()) {
            return Err(Error::invalid(format!("mean of the data is {mean}, want above 0")));
        }
        let scale = if mean == 0.0 { 1.0 } else { mean.sqrt() };
        Ok((3e-3 * scale, 10.0 * scale))
    }

    const fn nu(self) -> f64 {
        0.5 * self.delta - 1.0
    }

    /// One exact draw of √BESQ(r0²; s²).
    ///
    /// delta > 1: (r0 + s xi)² + s² chi²_{delta-1}, which keeps its precision at large r0/s; delta = 1: |r0 + s xi|;
    /// below, where that split does not exist: K ~ Poisson(r0²/2s²), 2 s² Gamma(delta/2 + K).
    pub(crate) fn draw<'b>(self, cx: &Cx<'b>, r0: Node<'b>, s: Node<'b>) -> Node<'b> {
        if self.delta < 1.0 {
            let k = (r0 / s).square() * 0.5;
            let gamma = (k.poisson(cx.purpose) + 0.5 * self.delta).gamma(cx.purpose);
            return s * (gamma * 2.0).sqrt();
        }
        let shifted = r0 + s * cx.normal_like(r0);
        if self.delta == 1.0 {
            return shifted.abs();
        }
        let chi2 = cx.gamma_like(0.5 * (self.delta - 1.0), r0) * 2.0;
        (shifted.square() + s.square() * chi2).sqrt()
    }

    pub(crate) fn perturb<'b>(self, cx: &Cx<'b>, w0: Node<'b>, sigma: Node<'b>) -> [Node<'b>; 2] {
        let w = self.draw(cx, w0, sigma);
        let z = w * w0 / sigma.square();
        [w, w0 * z.bessel_ratio(self.nu())]
    }

    /// sigma √chi²_delta: the law from 0, which is that of any start at large sigma.
    pub(crate) fn prior<'b>(self, cx: &Cx<'b>, sigma: Node<'b>) -> Node<'b> {
        let gamma = cx.b.full(0.5 * self.delta, &cx.shape()).gamma(cx.purpose);
        sigma * (gamma * 2.0).sqrt()
    }

    /// b = E[X0]/delta; c_skip = b/(b+σ²), c_in = 1/√(E[X0]+δσ²), weight = 1/c_out² =
    /// 1/σ² + 1/Var(√X0) + δσ²/Var(X0). Not EDM's c_out: at large sigma the target shrinks like sd(X0)/(√δ σ).
    pub(crate) fn precond<'b>(self, cx: &Cx<'b>, sigma: Node<'b>) -> Precond<'b> {
        let Stats { x_mean, x_var, w_var, .. } = cx.stats;
        let square = sigma.square();
        let b = x_mean / self.delta;
        let weight = 1.0 / square + 1.0 / w_var + square * (self.delta / x_var);
        Precond {
            skip: b / (square + b),
            out: weight.rsqrt(),
            input: (square * self.delta + x_mean).rsqrt(),
            noise: sigma.max(crate::gaussian::TINY).log() * 0.25,
            weight,
        }
    }

    pub(crate) fn renoise<'b>(
        self,
        cx: &Cx<'b>,
        w: Node<'b>,
        sigma: Node<'b>,
        sigma_hat: Node<'b>,
    ) -> Node<'b> {
        self.draw(cx, w, (sigma_hat.square() - sigma.square()).sqrt())
    }

    /// √BESQ(mu²; v): the Gaussian ancestral step in delta dimensions has this radius.
    pub(crate) fn ancestral<'b>(self, cx: &Cx<'b>, mu: Node<'b>, v: Node<'b>) -> Node<'b> {
        self.draw(cx, mu, v.sqrt())
    }

    /// `(delta - 1)/r + (D - r)/sigma²`, the score of r.
    pub(crate) fn to_score<'b>(self, w: Node<'b>, d: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        (self.delta - 1.0) / w + (d - w) / sigma.square()
    }

    /// Log density of r given r0, z = r r0/u:
    /// `log(r/u) + nu log(r²/u) - (r - r0)²/2u + [log(e^-z I_nu(z)) - nu log z]`.
    /// The bracket is finite down to z = 0, so a start at 0 needs no case of its own.
    pub(crate) fn log_transition<'b>(self, w: Node<'b>, w0: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        let u = sigma.square();
        let nu = self.nu();
        let z = (w * w0 / u).max(1e-30);
        let ratio = z.log_ive(nu) - z.log() * nu;
        (w / u).log() + (w.square() / u).log() * nu - (w - w0).square() / (u * 2.0) + ratio
    }
}
