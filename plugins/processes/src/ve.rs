//! Variance exploding, in the form of EDM: `w = w0 + sigma xi` (specs processes 0.2, 2; Karras et al. 2022).
//!
//! w = x - center: the preconditioning is that of data about 0, so a trainer sets `center` (default 0) to the mean of
//! the data.
//!
//! The default range is EDM's 0.002 to 80 for data of standard deviation 0.5, scaled to the data: 0.004 sd to 160 sd.

use crate::gaussian;
use core::ffi::CStr;
use diffx_plugin::{
    Config, Cx, FINITE, Factory, Functions, Node, Precond, Process, ProcessInfo, Result, Space,
    Stats, schema,
};

pub(crate) struct Ve {
    center: f64,
}

impl Factory for Ve {
    const ID: &'static CStr = c"org.diffx.ve";
    const SUMMARY: &'static CStr = c"Gaussian noise added to the data (variance exploding, EDM)";
    const SCHEMA: Option<&'static CStr> = schema![
        "center": number "x that has w = 0; a trainer sets it to the mean", default 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self { center: config.f64("center", 0.0, FINITE)? })
    }
}

impl Process for Ve {
    const FUNCTIONS: Functions = Functions::CONTINUOUS;
    /// The EDM clock: sigma(t) = t.
    const CLOCK: bool = true;

    fn info(&self, stats: &Stats) -> Result<ProcessInfo> {
        let sd = gaussian::deviation(stats)?;
        Ok(ProcessInfo {
            space: Space::Continuous,
            positive: false,
            additive: true,
            sigma_min: 0.004 * sd,
            sigma_max: 160.0 * sd,
        })
    }

    fn encode<'b>(&self, _: &Cx<'b>, x: Node<'b>) -> Node<'b> {
        if self.center == 0.0 { x } else { x - self.center }
    }

    fn decode<'b>(&self, _: &Cx<'b>, w: Node<'b>, _: Node<'b>) -> Node<'b> {
        if self.center == 0.0 { w } else { w + self.center }
    }

    fn perturb<'b>(&self, cx: &Cx<'b>, w0: Node<'b>, sigma: Node<'b>) -> [Node<'b>; 2] {
        gaussian::perturb(cx, w0, sigma)
    }

    /// mean(w0) + sigma xi
    fn prior<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Node<'b> {
        sigma * cx.normal() + cx.stats.w_mean
    }

    fn precond<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Precond<'b> {
        gaussian::precond(cx, sigma)
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
}
