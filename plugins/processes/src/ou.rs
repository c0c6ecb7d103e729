//! Ornstein-Uhlenbeck `dX = kappa (theta - X) dt + s dW`: X_t has mean theta + (x0 - theta) e^{-kappa t} and variance
//! s² (1 - e^{-2 kappa t})/2 kappa. In w = (x - theta) e^{kappa t} it is Gaussian with sigma² = s² (e^{2 kappa t} - 1)/2 kappa:
//! VE through a clock, as CIR is BESQ, with e^{2 kappa t} = 1 + 2 kappa sigma²/s². Transitions are exact at any step.

use crate::additive::Additive;
use crate::gaussian;
use core::ffi::CStr;
use diffx_plugin::{
    Config, Cx, Data, FINITE, Factory, Fitted, Node, POSITIVE, Result, Stats, schema,
};

pub(crate) struct Ou {
    kappa: f64,
    theta: f64,
    volatility: f64,
}

impl Ou {
    /// 2 kappa / s²
    fn rate(&self) -> f64 {
        2.0 * self.kappa / (self.volatility * self.volatility)
    }
}

impl Factory for Ou {
    const ID: &'static CStr = c"org.diffx.ou";
    const SUMMARY: &'static CStr = c"Ornstein-Uhlenbeck: mean-reverting, with a normal law";
    const SCHEMA: Option<&'static CStr> = schema![
        "kappa": number "rate of return to the mean", default 1, exclusiveMinimum 0;
        "theta": number "mean", default 0;
        "sigma": number "volatility s", default 1, exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self {
            kappa: config.f64("kappa", 1.0, POSITIVE)?,
            theta: config.f64("theta", 0.0, FINITE)?,
            volatility: config.f64("sigma", 1.0, POSITIVE)?,
        })
    }
}

impl Additive for Ou {
    /// The stationary law has the moments of the data: s² = 2 kappa variance.
    fn fit(&self, data: &Data<'_>) -> Result<Vec<Fitted>> {
        let m = data.moments()?;
        Ok(vec![
            Fitted::law(c"kappa", m.rate),
            Fitted::law(c"theta", m.mean),
            Fitted::law(c"sigma", (2.0 * m.rate * m.variance).sqrt()),
        ])
    }

    const HOMOGENEOUS: bool = true;
    const SDE: bool = true;

    /// Up to 80 sd, and at least kappa t = 7, by which the start has lost all but e^-7 of its weight.
    fn range(&self, stats: &Stats) -> Result<(f64, f64)> {
        let sd = gaussian::deviation(stats)?;
        Ok((0.002 * sd, (80.0 * sd).max(self.clock(7.0 / self.kappa))))
    }

    fn clock(&self, time: f64) -> f64 {
        ((2.0 * self.kappa * time).exp_m1() / self.rate()).sqrt()
    }

    fn encode<'b>(&self, x: Node<'b>) -> Node<'b> {
        if self.theta == 0.0 { x } else { x - self.theta }
    }

    fn decode<'b>(&self, w: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        let x = w * (sigma.square() * self.rate() + 1.0).rsqrt();
        if self.theta == 0.0 { x } else { x + self.theta }
    }

    fn sde<'b>(&self, cx: &Cx<'b>, x: Node<'b>) -> [Node<'b>; 2] {
        [(self.theta - x) * self.kappa, cx.b.scalar(self.volatility)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_gives_the_variance_of_the_transition() {
        let json = r#"{"kappa":0.7,"theta":2,"sigma":0.4}"#;
        let p = Ou::create(&mut Config::parse(json).unwrap()).unwrap();
        for t in [1e-6, 0.5, 4.0] {
            let grown = f64::exp(1.4 * t);
            let want = 0.16 * -f64::exp_m1(-1.4 * t) / 1.4;
            assert!((p.clock(t).powi(2) / grown / want - 1.0).abs() < 1e-12);
            assert!((1.0 + p.rate() * p.clock(t).powi(2) - grown).abs() < 1e-12 * grown);
        }
    }
}
