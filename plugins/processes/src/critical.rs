//! What CLD and VSMD share: a position x and a velocity v, coupled by a critically damped linear drift, with noise on the
//! velocity alone (specs processes 4). One component holds both: its samples are `[2, ...]`, position first.
//!
//! `dz = A z dt + (0, √q dW)` with `A = mu [[0, 1], [-k², -2k]]`, both of whose eigenvalues are -mu k. With y = mu k t the
//! flow is `F = e^-y [[1 + y, y/k], [-k y, 1 - y]]`, and in w = F^-1 z the start stays where it is: w = w0 + noise of a
//! covariance C(t), every increment of which is rank one along c = F^-1 (0, 1) = e^y (-y/k, 1 + y). As everywhere here a
//! level stands for the time, sigma² = e^2y - 1, and D is what makes the probability flow `dw/dsigma = (w - D)/sigma`:
//!
//! `D = w + kappa c (c . score) e^-2y, kappa = q sigma²/(2 mu k)`, linear in the score, so D = E[target | w] with the
//! conditional score `-C^-1 (w - w0)` in the target. The velocity starts with variance `start` that belongs to the noise,
//! and not to the data (hybrid score matching): data has velocity 0.
//!
//! Moments are formed in f64, whatever the graph's type: the variance of x at small times is a third-order remainder.

use crate::additive::Frame;
use core::ffi::CStr;
use diffx_plugin::{
    Config, Cx, Error, Factory, Function, Functions, Node, Precond, Process, ProcessInfo, Result,
    Space, Stats, abi,
};

/// ln(2 pi) / 2
const HALF_LOG_TAU: f64 = 0.918_938_533_204_672_8;

/// Smallest square of c_out relative to the variance it corrects, as the loss weighs it: below, f32 differences of D and
/// its target are rounding.
const LEAST: f64 = 1e-11;

/// A critically damped process of natural time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Critical {
    pub(crate) mu: f64,
    pub(crate) k: f64,
    /// Variance of the noise on the velocity per time.
    pub(crate) q: f64,
    /// Variance of the velocity at time 0.
    pub(crate) start: f64,
    pub(crate) frame: Frame,
}

/// What tells one such process from another.
pub(crate) trait Damped: Factory {
    fn critical(&self) -> Critical;

    /// Earliest and latest time of a run.
    fn times(&self) -> (f64, f64) {
        (1e-4, 1.0)
    }
}

/// Such a process as a process.
pub(crate) struct OnPhaseSpace<T>(T);

impl<T: Damped> Factory for OnPhaseSpace<T> {
    const ID: &'static CStr = T::ID;
    const SUMMARY: &'static CStr = T::SUMMARY;
    const SCHEMA: Option<&'static CStr> = T::SCHEMA;

    fn create(config: &mut Config) -> Result<Self> {
        T::create(config).map(Self)
    }
}

impl<T: Damped> Process for OnPhaseSpace<T> {
    /// The score of w is known along c only, and a step between two levels has no scalar variance.
    const FUNCTIONS: Functions =
        Functions::CONTINUOUS.without(Function::ToScore).without(Function::Ancestral);
    const CLOCK: bool = true;
    const HOMOGENEOUS: bool = true;

    fn info(&self, _: &Stats) -> Result<ProcessInfo> {
        let (first, last) = self.0.times();
        let (sigma_min, sigma_max) = (self.clock(first), self.clock(last));
        if sigma_max.is_nan() || sigma_max >= 1e15 {
            return Err(Error::invalid(format!("the last level is {sigma_max}, want below 1e15")));
        }
        Ok(ProcessInfo {
            space: Space::Continuous,
            positive: false,
            additive: false,
            sigma_min,
            sigma_max,
        })
    }

    fn clock(&self, time: f64) -> f64 {
        let p = self.0.critical();
        (2.0 * p.mu * p.k * time).exp_m1().sqrt()
    }

    /// Position in its frame, velocity in the same unit.
    fn encode<'b>(&self, cx: &Cx<'b>, x: Node<'b>) -> Node<'b> {
        let frame = self.0.critical().frame;
        let [x, v] = halves(cx, x);
        join([frame.enter(x), frame.shrink(v)])
    }

    /// F w
    fn decode<'b>(&self, cx: &Cx<'b>, w: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        let p = self.0.critical();
        let [x, v] = halves(cx, w);
        let y = sigma.square().log1p() * 0.5;
        let decay = (sigma.square() + 1.0).rsqrt();
        let position = decay * (x * (y + 1.0) + v * y * (1.0 / p.k));
        let velocity = decay * (v * (1.0 - y) - x * y * p.k);
        join([p.frame.leave(position), p.frame.stretch(velocity)])
    }

    fn perturb<'b>(&self, cx: &Cx<'b>, w0: Node<'b>, sigma: Node<'b>) -> [Node<'b>; 2] {
        let at = Moments::new(self.0.critical(), sigma);
        let xi = halves(cx, cx.normal_like(w0));
        let w = w0 + join(at.factor().spread(cx, xi));
        let along = at.along();
        let pull = narrow(cx, along[0]) * xi[0] + narrow(cx, along[1]) * xi[1];
        let back = join(at.kick.map(|c| narrow(cx, c * at.kappa) * pull));
        [w, w - back]
    }

    /// (mean of the position, 0) and the noise of the level.
    fn prior<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Node<'b> {
        let at = Moments::new(self.0.critical(), sigma);
        let xi = halves(cx, cx.normal());
        let [x, v] = at.factor().spread(cx, xi);
        join([x + position(&cx.stats).0, v])
    }

    /// The best multiple of each half of w by itself for D of a normal law, and what it leaves over:
    /// `c_skip = 1 - kappa c²/S, c_out = kappa |c| √(c C^-1 c - c²/S), c_in = 1/√S`, S the variance of w.
    fn precond<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Precond<'b> {
        let at = Moments::new(self.0.critical(), sigma);
        let [p, r] = at.along();
        let full = p.square() + r.square();
        let total = [at.xx + position(&cx.stats).1, at.vv];
        let each = |part: &dyn Fn(Node<'b>, Node<'b>) -> Node<'b>| {
            join([0, 1].map(|i| narrow(cx, part(at.kick[i], total[i]))))
        };
        let square = |c: Node<'b>, s: Node<'b>| {
            (at.kappa * c).square() * (full - c.square() / s).max(1e-300)
        };
        Precond {
            skip: each(&|c, s| 1.0 - at.kappa * c.square() / s),
            out: each(&|c, s| square(c, s).sqrt()),
            input: each(&|_, s| s.rsqrt()),
            noise: sigma.max(crate::gaussian::TINY).log() * 0.25,
            weight: each(&|c, s| square(c, s).max(s * LEAST).recip()),
        }
    }

    /// Increments of the noise are independent, and the first holds the velocity's own.
    fn renoise<'b>(&self, cx: &Cx<'b>, w: Node<'b>, s: Node<'b>, s_hat: Node<'b>) -> Node<'b> {
        let p = self.0.critical();
        let (from, to) = (Moments::new(p, s), Moments::new(p, s_hat));
        let factor = Factor::of(to.xx - from.xx, to.xv - from.xv, to.vv - from.vv);
        w + join(factor.spread(cx, halves(cx, cx.normal_like(w))))
    }

    /// log N(w; w0, C): of the position in its half, of the velocity given it in the other.
    fn log_transition<'b>(
        &self,
        cx: &Cx<'b>,
        w: Node<'b>,
        w0: Node<'b>,
        sigma: Node<'b>,
    ) -> Node<'b> {
        let factor = Moments::new(self.0.critical(), sigma).factor();
        let [x, v] = halves(cx, w - w0);
        let first = x / narrow(cx, factor.xx);
        let second = (v - narrow(cx, factor.vx) * first) / narrow(cx, factor.vv);
        let log =
            |xi: Node<'b>, sd: Node<'b>| xi.square() * -0.5 - narrow(cx, sd.log()) - HALF_LOG_TAU;
        join([log(first, factor.xx), log(second, factor.vv)])
    }
}

/// Mean and variance of the position from the moments of a component whose velocities are 0.
fn position(stats: &Stats) -> (f64, f64) {
    let mean = 2.0 * stats.w_mean;
    let second = 2.0 * (stats.w_var + stats.w_mean * stats.w_mean);
    (mean, (second - mean * mean).max(1e-12))
}

/// Position and velocity of a state `[batch, 2, ...]`, each `[batch, 1, ...]`.
fn halves<'b>(cx: &Cx<'b>, state: Node<'b>) -> [Node<'b>; 2] {
    let shape = state.shape();
    if shape.len() < 2 || shape[1] != 2 {
        let why = "position and velocity in one component want samples of shape [2, ...]";
        return [cx.b.fail(abi::E_INVALID, why); 2];
    }
    [0, 1].map(|i| {
        let (mut start, mut stop) = (vec![0; shape.len()], shape.to_vec());
        (start[1], stop[1]) = (i, i + 1);
        state.slice(&start, &stop)
    })
}

fn join(parts: [Node<'_>; 2]) -> Node<'_> {
    parts[0].builder().concat(&parts, 1)
}

/// From f64 to the type of the graph.
fn narrow<'b>(cx: &Cx<'b>, x: Node<'b>) -> Node<'b> {
    x.cast(cx.b.float_type())
}

/// Moments of the noise at a level, in f64, shaped like the level.
struct Moments<'b> {
    xx: Node<'b>,
    xv: Node<'b>,
    vv: Node<'b>,
    /// c e^-y
    kick: [Node<'b>; 2],
    kappa: Node<'b>,
}

impl<'b> Moments<'b> {
    fn new(p: Critical, sigma: Node<'b>) -> Self {
        let mut dims = sigma.shape().to_vec();
        dims.resize(dims.len().max(2), 1);
        let square = sigma.cast(abi::F64).reshape(&dims).square();
        let log = square.log1p();
        // integrals of y^n e^2y from 0, by those of s^n e^s with s = 2y
        let [j1, j2] = [1, 2].map(|n| incomplete(square, log, n));
        let (i1, i2) = (j1 * 0.25, j2 * 0.125);
        let unit = p.q / (p.mu * p.k);
        let y = log * 0.5;
        Self {
            xx: i2 * (unit / (p.k * p.k)),
            xv: (i1 + i2) * (-unit / p.k),
            vv: (square * 0.5 + i1 * 2.0 + i2) * unit + p.start,
            kick: [y * (-1.0 / p.k), y + 1.0],
            kappa: square * (0.5 * unit),
        }
    }

    fn factor(&self) -> Factor<'b> {
        Factor::of(self.xx, self.xv, self.vv)
    }

    /// L^-1 c e^-y with C = L L': the score along c is minus its product with the draws.
    fn along(&self) -> [Node<'b>; 2] {
        let f = self.factor();
        let first = self.kick[0] / f.xx;
        [first, (self.kick[1] - f.vx * first) / f.vv]
    }
}

/// The lower triangle L of a covariance L L'.
struct Factor<'b> {
    xx: Node<'b>,
    vx: Node<'b>,
    vv: Node<'b>,
}

impl<'b> Factor<'b> {
    /// Finite where there is no noise.
    fn of(xx: Node<'b>, xv: Node<'b>, vv: Node<'b>) -> Self {
        let first = xx.max(1e-300).sqrt();
        let vx = xv / first;
        Self { xx: first, vx, vv: (vv - vx.square()).max(1e-300).sqrt() }
    }

    /// L xi
    fn spread(&self, cx: &Cx<'b>, [x, v]: [Node<'b>; 2]) -> [Node<'b>; 2] {
        let second = narrow(cx, self.vx) * x + narrow(cx, self.vv) * v;
        [narrow(cx, self.xx) * x, second]
    }
}

/// The integral of s^n e^s from 0 to `log`, n = 1 or 2, where e^log - 1 = `square`: in closed form, and below 1, where
/// that cancels, by its series.
fn incomplete<'b>(square: Node<'b>, log: Node<'b>, n: u32) -> Node<'b> {
    let grown = square + 1.0;
    let closed = match n {
        1 => (log - 1.0) * grown + 1.0,
        _ => ((log - 2.0) * log + 2.0) * grown - 2.0,
    };
    const TERMS: u32 = 18;
    let factorial = |m: u32| (1..=m).map(f64::from).product::<f64>();
    let term = |m: u32| 1.0 / (factorial(m) * f64::from(m + n + 1));
    let s = log.min(1.0);
    let mut sum = s * term(TERMS) + term(TERMS - 1);
    for m in (0..TERMS - 1).rev() {
        sum = sum * s + term(m);
    }
    let lead = if n == 1 { s.square() } else { s.square() * s };
    log.less(1.0).choose(lead * sum, closed)
}
