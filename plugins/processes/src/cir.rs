//! Cox-Ingersoll-Ross `dX = kappa (theta - X) dt + s √X dW` (specs processes 1.4; arXiv 2605.19391).
//!
//! X_t = e^{-kappa t} Z_{u(t)} with Z squared Bessel of dimension delta = 4 kappa theta / s² and
//! u(t) = s² (e^{kappa t} - 1) / 4 kappa: CIR is to BESQ what VP is to VE. So w = √x e^{kappa t/2}, sigma = √u, every
//! draw and the target are BESQ's, and only the way back knows of kappa: e^{kappa t} = 1 + 4 kappa sigma²/s².
//!
//! Of theta and s the one not given follows from delta = 3; neither: s = 1 and kappa = 1, theta = 3/4. theta = 0 is
//! delta = 0, absorbed at 0: it can only be simulated.

use crate::bessel::{Bessel, Radial};
use core::ffi::CStr;
use diffx_plugin::{Config, Cx, Data, Factory, Fitted, Node, POSITIVE, Result, Stats, schema};

const DELTA: f64 = 3.0;

pub(crate) struct Cir {
    kappa: f64,
    volatility: f64,
    bessel: Bessel,
}

impl Cir {
    /// 4 kappa / s²
    fn rate(&self) -> f64 {
        4.0 * self.kappa / (self.volatility * self.volatility)
    }
}

impl Factory for Cir {
    const ID: &'static CStr = c"org.diffx.cir";
    const SUMMARY: &'static CStr = c"Cox-Ingersoll-Ross: mean-reverting and positive";
    const SCHEMA: Option<&'static CStr> = schema![
        "kappa": number "rate of return to the mean", default 1, exclusiveMinimum 0;
        "theta": number "mean; when absent that of dimension 3, 3 sigma^2 / (4 kappa); 0 can only be simulated", minimum 0;
        "sigma": number "volatility; when absent 1, or with theta that of dimension 3", exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let kappa = config.f64("kappa", 1.0, POSITIVE)?;
        let theta = config.opt_f64("theta", 0.0..)?;
        let volatility = config.opt_f64("sigma", POSITIVE)?;
        let (volatility, delta) = match (theta, volatility) {
            (Some(theta), Some(s)) => (s, 4.0 * kappa * theta / (s * s)),
            (Some(0.0), None) => (1.0, 0.0),
            (Some(theta), None) => ((4.0 * kappa * theta / DELTA).sqrt(), DELTA),
            (None, s) => (s.unwrap_or(1.0), DELTA),
        };
        Ok(Self { kappa, volatility, bessel: Bessel { delta } })
    }
}

impl Radial for Cir {
    /// The stationary Gamma has the moments of the data: sigma² = 4 kappa theta / delta.
    fn fit(&self, data: &Data<'_>) -> Result<Vec<Fitted>> {
        let m = data.positive()?.moments()?;
        let sigma = (4.0 * m.rate * m.mean / Bessel::fitted(&m)).sqrt();
        Ok(vec![
            Fitted::law(c"kappa", m.rate),
            Fitted::law(c"theta", m.mean),
            Fitted::law(c"sigma", sigma),
        ])
    }

    /// e^{kappa t} has no number from kappa t = 709 on.
    const HOMOGENEOUS: bool = true;

    fn bessel(&self) -> Bessel {
        self.bessel
    }

    /// BESQ's range: at kappa = s = 1 and mean 3/4 its upper end is kappa t = 5.7, and 1.4 asks for 6 to 8, by which
    /// the start has lost all but e^-6 of its weight.
    fn range(&self, stats: &Stats) -> Result<(f64, f64)> {
        let (sigma_min, sigma_max) = Bessel::range(stats)?;
        // kappa t = 7: u = s² (e^7 - 1) / 4 kappa
        Ok((sigma_min, sigma_max.max((7.0_f64.exp_m1() / self.rate()).sqrt())))
    }

    fn clock(&self, time: f64) -> f64 {
        ((self.kappa * time).exp_m1() / self.rate()).sqrt()
    }

    /// w² / (1 + 4 kappa sigma²/s²)
    fn leave<'b>(&self, square: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        square / (sigma.square() * self.rate() + 1.0)
    }

    fn sde<'b>(&self, _: &Cx<'b>, x: Node<'b>) -> [Node<'b>; 2] {
        let theta = self.bessel.delta / self.rate();
        [(theta - x) * self.kappa, x.sqrt() * self.volatility]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cir(json: &str) -> Cir {
        Cir::create(&mut Config::parse(json).unwrap()).unwrap()
    }

    #[test]
    fn dimension_of_each_way_to_say_it() {
        assert_eq!(cir("{}").bessel.delta, 3.0);
        assert_eq!(cir("{}").volatility, 1.0);
        assert_eq!(cir(r#"{"kappa":2,"theta":0.5,"sigma":2}"#).bessel.delta, 1.0);
        let absorbed = cir(r#"{"theta":0}"#);
        assert_eq!((absorbed.bessel.delta, absorbed.volatility), (0.0, 1.0));
        let fitted = cir(r#"{"kappa":2,"theta":6}"#);
        assert_eq!((fitted.bessel.delta, fitted.volatility), (3.0, 4.0));
    }

    #[test]
    fn clock_is_the_time_map_of_besq() {
        let p = cir(r#"{"kappa":0.5,"theta":1,"sigma":0.8}"#);
        let u = |t: f64| 0.64 * ((0.5 * t).exp() - 1.0) / 2.0;
        for t in [1e-9, 0.3, 6.0] {
            let got = p.clock(t).powi(2);
            assert!((got - u(t)).abs() < 1e-7 * u(t).max(1e-9), "{got} {}", u(t));
            // decode's factor is e^{kappa t}
            assert!((1.0 + p.rate() * got - (0.5 * t).exp()).abs() < 1e-12 * (0.5 * t).exp());
        }
        assert_eq!(p.clock(0.0), 0.0);
    }
}
