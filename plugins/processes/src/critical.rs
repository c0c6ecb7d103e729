//! What CLD and VSMD share: a position x and a velocity v, coupled by a critically damped linear drift, with noise on the
//! velocity alone (specs processes 4). One component holds both: its samples are `[2, ...]`, position first.
//!
//! `dz = A z dt + (0, √q dW)` with `A = mu [[0, 1], [-k², -2k]]`, both of whose eigenvalues are -mu k. With y = mu k t the
//! flow is `F = e^-y [[1 + y, y/k], [-k y, 1 - y]]`. The coordinate is z itself. As everywhere here a level stands for the
//! time, sigma² = e^2y - 1, and D is what makes the probability flow `dw/dsigma = (w - D)/sigma`: with
//! g = sigma²/(1 + sigma²) and h = q/(2 mu k), s_v the score in v,
//!
//! `D = (x - g v/k, v + g (k x + 2 v) + g h s_v)`, linear in the score, so D = E[target | w] with the conditional score
//! `-xi_v/L_vv` in the target. The velocity starts with variance `start` that belongs to the noise, and not to the data
//! (hybrid score matching): data has velocity 0. F^-1 z would leave the start where it is, and is so ill-conditioned that
//! no network can tell position from velocity in it.
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
    /// The score is known in v only, and a step between two levels has no scalar variance.
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

    fn decode<'b>(&self, cx: &Cx<'b>, w: Node<'b>, _: Node<'b>) -> Node<'b> {
        let frame = self.0.critical().frame;
        let [x, v] = halves(cx, w);
        join([frame.leave(x), frame.stretch(v)])
    }

    fn perturb<'b>(&self, cx: &Cx<'b>, w0: Node<'b>, sigma: Node<'b>) -> [Node<'b>; 2] {
        let p = self.0.critical();
        let at = Moments::new(p, sigma);
        let factor = at.factor();
        let xi = halves(cx, cx.normal_like(w0));
        let [x0, v0] = at.carry(cx, halves(cx, w0));
        let [dx, dv] = factor.spread(cx, xi);
        let (x, v) = (x0 + dx, v0 + dv);
        let turn = narrow(cx, at.turn);
        let kick = narrow(cx, at.turn * at.kick / factor.vv);
        let target = [x - turn * v * (1.0 / p.k), v + turn * (x * p.k + v * 2.0) - kick * xi[1]];
        [join([x, v]), join(target)]
    }

    /// (mean of the position, 0) carried to the level, and its noise.
    fn prior<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Node<'b> {
        let at = Moments::new(self.0.critical(), sigma);
        let [x, v] = at.factor().spread(cx, halves(cx, cx.normal()));
        let mean = position(&cx.stats).0;
        join([x + narrow(cx, at.flow[0][0] * mean), v + narrow(cx, at.flow[1][0] * mean)])
    }

    /// The best multiple of each half of w by itself for its half of the target, and what it leaves over, by the second
    /// moments of target and state: `c_skip = E[T w]/S, c_out² = E[T²] - E[T w]²/S, c_in = 1/√S`.
    fn precond<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Precond<'b> {
        let p = self.0.critical();
        let at = Moments::new(p, sigma);
        let data = position(&cx.stats).1;
        let [[xx, _], [vx, _]] = at.flow;
        let total = [at.xx + xx.square() * data, at.vv + vx.square() * data];
        let cross = at.xv + xx * vx * data;
        let (turn, slow) = (at.turn * (1.0 / p.k), at.turn * p.k);
        // x - turn v
        let first = total[0] - turn * cross;
        let left = turn.square() * (total[1] - cross.square() / total[0]);
        // grow v + slow x - kick xi_v / L_vv, and E[xi_v v] = L_vv
        let (grow, kick) = (at.turn * 2.0 + 1.0, at.turn * at.kick);
        let second = grow * total[1] + slow * cross - kick;
        let square = grow.square() * total[1]
            + slow.square() * total[0]
            + (kick / at.factor().vv).square()
            + grow * slow * cross * 2.0
            - grow * kick * 2.0;
        let right = square - second.square() / total[1];
        let each = |parts: [Node<'b>; 2]| join(parts.map(|part| narrow(cx, part)));
        let [s, r] = total;
        Precond {
            skip: each([first / s, second / r]),
            out: each([left, right].map(|part| part.max(1e-300).sqrt())),
            input: each(total.map(Node::rsqrt)),
            noise: sigma.max(crate::gaussian::TINY).log() * 0.25,
            weight: each([left.max(s * LEAST).recip(), right.max(r * LEAST).recip()]),
        }
    }

    /// The flow and the noise of the time between the levels; the velocity's own start is in the state already.
    fn renoise<'b>(&self, cx: &Cx<'b>, w: Node<'b>, s: Node<'b>, s_hat: Node<'b>) -> Node<'b> {
        let p = Critical { start: 0.0, ..self.0.critical() };
        let (s, s_hat) = (s.cast(abi::F64), s_hat.cast(abi::F64));
        // e^2y of the time between, less 1
        let between = (s_hat - s) * (s_hat + s) / (s.square() + 1.0);
        let at = Moments::of(p, between);
        let [x, v] = at.carry(cx, halves(cx, w));
        let [dx, dv] = at.factor().spread(cx, halves(cx, cx.normal_like(w)));
        join([x + dx, v + dv])
    }

    /// log N(w; F w0, S): of the position in its half, of the velocity given it in the other.
    fn log_transition<'b>(
        &self,
        cx: &Cx<'b>,
        w: Node<'b>,
        w0: Node<'b>,
        sigma: Node<'b>,
    ) -> Node<'b> {
        let at = Moments::new(self.0.critical(), sigma);
        let factor = at.factor();
        let [x, v] = halves(cx, w);
        let [x0, v0] = at.carry(cx, halves(cx, w0));
        let first = (x - x0) / narrow(cx, factor.xx);
        let second = (v - v0 - narrow(cx, factor.vx) * first) / narrow(cx, factor.vv);
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

/// Flow and covariance of the noise at a level, in f64, shaped like the level.
struct Moments<'b> {
    /// F
    flow: [[Node<'b>; 2]; 2],
    xx: Node<'b>,
    xv: Node<'b>,
    vv: Node<'b>,
    /// g
    turn: Node<'b>,
    /// h
    kick: f64,
}

impl<'b> Moments<'b> {
    fn new(p: Critical, sigma: Node<'b>) -> Self {
        Self::of(p, sigma.cast(abi::F64).square())
    }

    /// At the level of this square.
    fn of(p: Critical, square: Node<'b>) -> Self {
        let mut dims = square.shape().to_vec();
        dims.resize(dims.len().max(2), 1);
        let square = square.reshape(&dims);
        let y = square.log1p() * 0.5;
        let fade = (square + 1.0).recip(); // e^-2y
        let decay = fade.sqrt();
        let flow =
            [[decay * (y + 1.0), decay * y * (1.0 / p.k)], [decay * y * -p.k, decay * (1.0 - y)]];
        let turn = square * fade;
        // integrals over s up to y of e^-2s (s/k, 1 - s) times itself, times the noise per s
        let unit = p.q / (p.mu * p.k);
        let [a, b] = [flow[0][1], flow[1][1]]; // where the velocity's own start goes
        Self {
            xx: remainder(y, fade) * (unit / (p.k * p.k)) + a.square() * p.start,
            xv: fade * y.square() * (0.5 * unit / p.k) + a * b * p.start,
            vv: (turn * 0.25 + fade * y * (1.0 - y) * 0.5) * unit + b.square() * p.start,
            flow,
            turn,
            kick: 0.5 * unit,
        }
    }

    fn factor(&self) -> Factor<'b> {
        Factor::of(self.xx, self.xv, self.vv)
    }

    /// F z
    fn carry(&self, cx: &Cx<'b>, [x, v]: [Node<'b>; 2]) -> [Node<'b>; 2] {
        self.flow.map(|[a, b]| narrow(cx, a) * x + narrow(cx, b) * v)
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

/// The integral of s² e^-2s up to y, (1 - e^-2y (1 + 2y + 2y²))/4, where e^-2y = `fade`; below 2y = 1, where that cancels,
/// by its series, in which nothing does: e^-2y y³ (1/3 + 2y/(3 4) + (2y)²/(3 4 5) + ..).
fn remainder<'b>(y: Node<'b>, fade: Node<'b>) -> Node<'b> {
    let closed = (1.0 - fade * (y * (y + 1.0) * 2.0 + 1.0)) * 0.25;
    const TERMS: u32 = 18;
    let s = y.min(0.5);
    let mut sum = s * 0.0 + 1.0;
    for m in (0..TERMS).rev() {
        sum = sum * s * (2.0 / f64::from(m + 4)) + 1.0;
    }
    let series = fade * s.square() * s * sum * (1.0 / 3.0);
    y.less(0.5).choose(series, closed)
}
