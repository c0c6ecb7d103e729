//! Squared Bessel process `dX = delta du + 2√X dW` in w = √x, sigma = √u (specs processes 1.3; arXiv 2605.19391).
//!
//! Any real delta > 0. The default 3 never reaches 0, has an elementary target and draws by one normal and one gamma.

use crate::bessel::Bessel;
use core::ffi::CStr;
use diffx_plugin::{
    Config, Cx, Factory, Functions, Node, POSITIVE, Precond, Process, ProcessInfo, Result, Stats,
    schema,
};

pub(crate) struct Besq(Bessel);

impl Factory for Besq {
    const ID: &'static CStr = c"org.diffx.besq";
    const SUMMARY: &'static CStr = c"squared Bessel process of any dimension above 0";
    const SCHEMA: Option<&'static CStr> = schema![
        "delta": number "dimension", default 3, exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self(Bessel { delta: config.f64("delta", 3.0, POSITIVE)? }))
    }
}

impl Process for Besq {
    const FUNCTIONS: Functions = Functions::CONTINUOUS;
    const CLOCK: bool = true;

    fn info(&self, stats: &Stats) -> Result<ProcessInfo> {
        Bessel::info(stats)
    }

    /// sigma = √u
    fn clock(&self, time: f64) -> f64 {
        time.sqrt()
    }

    fn encode<'b>(&self, _: &Cx<'b>, x: Node<'b>) -> Node<'b> {
        x.sqrt()
    }

    fn decode<'b>(&self, _: &Cx<'b>, w: Node<'b>, _: Node<'b>) -> Node<'b> {
        w.square()
    }

    fn perturb<'b>(&self, cx: &Cx<'b>, w0: Node<'b>, sigma: Node<'b>) -> [Node<'b>; 2] {
        self.0.perturb(cx, w0, sigma)
    }

    fn prior<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Node<'b> {
        self.0.prior(cx, sigma)
    }

    fn precond<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Precond<'b> {
        self.0.precond(cx, sigma)
    }

    fn renoise<'b>(&self, cx: &Cx<'b>, w: Node<'b>, s: Node<'b>, s_hat: Node<'b>) -> Node<'b> {
        self.0.renoise(cx, w, s, s_hat)
    }

    fn ancestral<'b>(&self, cx: &Cx<'b>, mu: Node<'b>, v: Node<'b>) -> Node<'b> {
        self.0.ancestral(cx, mu, v)
    }

    fn to_score<'b>(&self, _: &Cx<'b>, w: Node<'b>, d: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        self.0.to_score(w, d, sigma)
    }

    fn log_transition<'b>(
        &self,
        _: &Cx<'b>,
        w: Node<'b>,
        w0: Node<'b>,
        sigma: Node<'b>,
    ) -> Node<'b> {
        self.0.log_transition(w, w0, sigma)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delta_is_any_positive_number() {
        for (json, delta) in [("{}", 3.0), (r#"{"delta":0.3}"#, 0.3), (r#"{"delta":7.3}"#, 7.3)] {
            assert_eq!(Besq::create(&mut Config::parse(json).unwrap()).unwrap().0.delta, delta);
        }
        let message = Besq::create(&mut Config::parse(r#"{"delta":0}"#).unwrap()).err().unwrap();
        assert_eq!(message.message, "delta is 0, want a number above 0");
    }

    #[test]
    fn range_follows_the_mean() {
        let besq = Besq::create(&mut Config::parse("{}").unwrap()).unwrap();
        let stats = Stats { x_mean: 4.0, ..Stats::default() };
        let info = besq.info(&stats).unwrap();
        assert_eq!((info.sigma_min, info.sigma_max), (0.006, 20.0));
        assert!(info.positive && !info.additive);
        assert_eq!(besq.info(&Stats::default()).unwrap().sigma_max, 10.0);
        assert!(besq.info(&Stats { x_mean: -1.0, ..Stats::default() }).is_err());
    }
}
