//! Processes that are Gaussian noise of standard deviation sigma in their coordinate w: they differ in the clock, in the
//! way between x and w, and in the range of sigma. Everything else is `gaussian`.

use crate::gaussian;
use core::ffi::CStr;
use diffx_plugin::{
    Config, Cx, Data, FINITE, Factory, Fitted, Function, Functions, Node, POSITIVE, Precond,
    Process, ProcessInfo, Result, Space, Stats,
};

/// What tells one additive process from another.
pub(crate) trait Additive: Factory {
    /// Data must be above 0.
    const POSITIVE: bool = false;
    /// The clock may start anew at each moment (`Process::HOMOGENEOUS`).
    const HOMOGENEOUS: bool = false;
    /// It has an equation in natural time.
    const SDE: bool = false;

    /// What the data says about its settings.
    fn fit(&self, data: &Data<'_>) -> Result<Vec<Fitted>>;

    /// Smallest and largest sigma of a run.
    fn range(&self, stats: &Stats) -> Result<(f64, f64)>;

    /// sigma at a natural time; not finite where there is none.
    fn clock(&self, time: f64) -> f64;

    fn encode<'b>(&self, x: Node<'b>) -> Node<'b>;

    fn decode<'b>(&self, w: Node<'b>, sigma: Node<'b>) -> Node<'b>;

    /// The level at which D is the state itself.
    fn boundary(&self) -> f64 {
        0.0
    }

    /// What a network gets and means at a level.
    fn precond<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Precond<'b> {
        gaussian::precond(cx, sigma, self.boundary())
    }

    /// Drift and diffusion of x, if `SDE`.
    fn sde<'b>(&self, _cx: &Cx<'b>, x: Node<'b>) -> [Node<'b>; 2] {
        [x; 2]
    }
}

/// An additive process as a process.
pub(crate) struct OnGaussian<T>(T);

impl<T: Additive> Factory for OnGaussian<T> {
    const ID: &'static CStr = T::ID;
    const SUMMARY: &'static CStr = T::SUMMARY;
    const SCHEMA: Option<&'static CStr> = T::SCHEMA;

    fn create(config: &mut Config) -> Result<Self> {
        T::create(config).map(Self)
    }
}

impl<T: Additive> Process for OnGaussian<T> {
    const FUNCTIONS: Functions =
        if T::SDE { Functions::CONTINUOUS.with(Function::Sde) } else { Functions::CONTINUOUS };
    const CLOCK: bool = true;
    const HOMOGENEOUS: bool = T::HOMOGENEOUS;

    fn info(&self, stats: &Stats) -> Result<ProcessInfo> {
        let (sigma_min, sigma_max) = self.0.range(stats)?;
        Ok(ProcessInfo {
            space: Space::Continuous,
            positive: T::POSITIVE,
            additive: true,
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
        self.0.encode(x)
    }

    fn decode<'b>(&self, _: &Cx<'b>, w: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        self.0.decode(w, sigma)
    }

    fn perturb<'b>(&self, cx: &Cx<'b>, w0: Node<'b>, sigma: Node<'b>) -> [Node<'b>; 2] {
        gaussian::perturb(cx, w0, sigma)
    }

    /// mean(w0) + sigma xi
    fn prior<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Node<'b> {
        sigma * cx.normal() + cx.stats.w_mean
    }

    fn precond<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Precond<'b> {
        self.0.precond(cx, sigma)
    }

    fn renoise<'b>(&self, cx: &Cx<'b>, w: Node<'b>, s: Node<'b>, s_hat: Node<'b>) -> Node<'b> {
        gaussian::renoise(cx, w, s, s_hat)
    }

    fn ancestral<'b>(&self, cx: &Cx<'b>, mu: Node<'b>, v: Node<'b>) -> Node<'b> {
        gaussian::ancestral(cx, mu, v)
    }

    fn to_score<'b>(&self, _: &Cx<'b>, w: Node<'b>, d: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        gaussian::to_score(w, d, sigma)
    }

    fn log_transition<'b>(
        &self,
        _: &Cx<'b>,
        w: Node<'b>,
        w0: Node<'b>,
        sigma: Node<'b>,
    ) -> Node<'b> {
        gaussian::log_transition(w, w0, sigma)
    }

    fn sde<'b>(&self, cx: &Cx<'b>, x: Node<'b>, _: Node<'b>) -> [Node<'b>; 2] {
        self.0.sde(cx, x)
    }
}

/// Where the data lies and how wide it is: (x - center) / scale has mean 0, and variance 1 where a process needs that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Frame {
    center: f64,
    scale: f64,
}

impl Frame {
    /// Reads `center` alone.
    pub(crate) fn centered(config: &mut Config) -> Result<Self> {
        Ok(Self { center: config.f64("center", 0.0, FINITE)?, scale: 1.0 })
    }

    /// Reads `center` and `scale`.
    pub(crate) fn scaled(config: &mut Config) -> Result<Self> {
        let scale = config.f64("scale", 1.0, POSITIVE)?;
        Ok(Self { scale, ..Self::centered(config)? })
    }

    /// `center` is the mean.
    pub(crate) fn fit_center(data: &Data<'_>) -> Result<Vec<Fitted>> {
        Ok(vec![Fitted::place(c"center", data.moments()?.mean)])
    }

    /// `center` is the mean, `scale` the standard deviation.
    pub(crate) fn fit_both(data: &Data<'_>) -> Result<Vec<Fitted>> {
        let m = data.moments()?;
        Ok(vec![Fitted::place(c"center", m.mean), Fitted::place(c"scale", m.variance.sqrt())])
    }

    pub(crate) fn enter(self, x: Node<'_>) -> Node<'_> {
        self.shrink(if self.center == 0.0 { x } else { x - self.center })
    }

    /// A difference of x, as of velocities.
    pub(crate) fn shrink(self, v: Node<'_>) -> Node<'_> {
        if self.scale == 1.0 { v } else { v * (1.0 / self.scale) }
    }

    pub(crate) fn stretch(self, v: Node<'_>) -> Node<'_> {
        if self.scale == 1.0 { v } else { v * self.scale }
    }

    pub(crate) fn leave(self, w: Node<'_>) -> Node<'_> {
        let w = self.stretch(w);
        if self.center == 0.0 { w } else { w + self.center }
    }
}
