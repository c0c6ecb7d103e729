//! PFGM++ (Xu et al. 2023; specs processes 3) in its Student-t form: with D augmented dimensions and r = sigma √D,
//! `w = x0 + sigma xi √(D/chi²_D)`, one chi² for all coordinates of a sample. D to infinity is VE, D = 1 a Cauchy law.
//!
//! Levels, preconditioning, grids and the ODE are EDM's. There is no cheap exact way to put noise back, so no `renoise`
//! and no `ancestral`; and the score of the noisy law is not what D = E[x0 | w] tells, so no `to_score`.

use crate::additive::Frame;
use crate::gaussian;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Cx, Data, Factory, Fitted, Function, Functions, Node, POSITIVE, Precond,
    Process, ProcessInfo, Result, Space, Stats, schema,
};

pub(crate) struct Pfgmpp {
    /// D
    augmented: f64,
    frame: Frame,
}

impl Factory for Pfgmpp {
    const ID: &'static CStr = c"org.diffx.pfgmpp";
    const SUMMARY: &'static CStr =
        c"PFGM++: heavy-tailed noise, Student-t with D degrees of freedom";
    const SCHEMA: Option<&'static CStr> = schema![
        "augmented": number "dimensions D added: degrees of freedom of the noise", default 128, exclusiveMinimum 0;
        "center": number "x that has w = 0; a trainer sets it to the mean", default 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let augmented = config.f64("augmented", 128.0, POSITIVE)?;
        Ok(Self { augmented, frame: Frame::centered(config)? })
    }
}

impl Pfgmpp {
    /// xi √(D/chi²_D) of a shape: a chi² per sample.
    fn noise<'b>(&self, cx: &Cx<'b>, shape: &[i64]) -> Node<'b> {
        let half = 0.5 * self.augmented;
        let mut each = shape.to_vec();
        each.iter_mut().skip(1).for_each(|d| *d = 1);
        let gamma = cx.b.full(half, &each).gamma(cx.purpose);
        cx.b.normal(shape, cx.purpose) * (half / gamma).sqrt()
    }
}

/// Log of the Gamma function at a number.
fn lgamma(b: Builder<'_>, x: f64) -> Node<'_> {
    b.full(x, &[]).lgamma()
}

impl Process for Pfgmpp {
    const FIT: bool = true;

    fn fit(&self, data: &Data<'_>) -> Result<Vec<Fitted>> {
        Frame::fit_center(data)
    }

    const FUNCTIONS: Functions = Functions::CONTINUOUS
        .without(Function::Renoise)
        .without(Function::Ancestral)
        .without(Function::ToScore);
    /// sigma(t) = t, as EDM.
    const CLOCK: bool = true;

    fn info(&self, stats: &Stats) -> Result<ProcessInfo> {
        let sd = gaussian::deviation(stats)?;
        Ok(ProcessInfo {
            space: Space::Continuous,
            positive: false,
            additive: false,
            sigma_min: 0.004 * sd,
            sigma_max: 160.0 * sd,
        })
    }

    fn clock(&self, time: f64) -> f64 {
        time
    }

    fn encode<'b>(&self, _: &Cx<'b>, x: Node<'b>) -> Node<'b> {
        self.frame.enter(x)
    }

    fn decode<'b>(&self, _: &Cx<'b>, w: Node<'b>, _: Node<'b>) -> Node<'b> {
        self.frame.leave(w)
    }

    fn perturb<'b>(&self, cx: &Cx<'b>, w0: Node<'b>, sigma: Node<'b>) -> [Node<'b>; 2] {
        [w0 + sigma * self.noise(cx, &w0.shape()), w0]
    }

    fn prior<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Node<'b> {
        sigma * self.noise(cx, &cx.shape()) + cx.stats.w_mean
    }

    fn precond<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Precond<'b> {
        gaussian::precond(cx, sigma, 0.0)
    }

    /// The joint log density of a sample, an equal share to each of its n coordinates:
    /// `lgamma((n+D)/2) - lgamma(D/2) - n/2 log(pi D) - n log sigma - (n+D)/2 log(1 + |w - w0|²/(D sigma²))`.
    fn log_transition<'b>(
        &self,
        cx: &Cx<'b>,
        w: Node<'b>,
        w0: Node<'b>,
        sigma: Node<'b>,
    ) -> Node<'b> {
        let shape = w.shape();
        let axes: Vec<i64> = (1..shape.len() as i64).collect();
        let n = shape.iter().skip(1).product::<i64>() as f64;
        let d = self.augmented;
        let square = ((w - w0) / sigma).square();
        let distance = if axes.is_empty() { square } else { square.sum_keep(&axes) };
        let bracket = (distance * (1.0 / d)).log1p() * (-0.5 * (n + d) / n);
        let norm = lgamma(cx.b, 0.5 * (n + d)) - lgamma(cx.b, 0.5 * d);
        let share = bracket + norm * (1.0 / n) - sigma.log();
        (share - 0.5 * (core::f64::consts::PI * d).ln()).broadcast_to(&shape)
    }
}
