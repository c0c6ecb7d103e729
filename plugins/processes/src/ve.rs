//! Variance exploding, in the form of EDM: w = x, `w = x0 + sigma xi` (specs processes 0.2, 2; Karras et al. 2022).
//!
//! The default range is EDM's 0.002 to 80 for data of standard deviation 0.5, scaled to the data: 0.004 sd to 160 sd.

use crate::gaussian;
use core::ffi::CStr;
use diffx_plugin::{
    Config, Cx, Factory, Functions, Node, Precond, Process, ProcessInfo, Result, Space, Stats,
    schema,
};

pub(crate) struct Ve;

impl Factory for Ve {
    const ID: &'static CStr = c"org.diffx.ve";
    const SUMMARY: &'static CStr = c"Gaussian noise added to the data (variance exploding, EDM)";
    const SCHEMA: Option<&'static CStr> = schema![];

    fn create(_: &mut Config) -> Result<Self> {
        Ok(Self)
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

    fn perturb<'b>(&self, cx: &Cx<'b>, w0: Node<'b>, sigma: Node<'b>) -> [Node<'b>; 2] {
        gaussian::perturb(cx, w0, sigma)
    }

    fn prior<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Node<'b> {
        sigma * cx.normal()
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
