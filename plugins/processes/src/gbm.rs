//! Geometric Brownian motion `dX = mu X dt + s X dW` (specs processes 1.1; arXiv 2605.19391, 2507.19003).
//!
//! In w = log(x / reference) - m it is Gaussian: m = (mu - s²/2) t, sigma = s √t, so m = (mu/s² - 1/2) sigma². Without
//! `mu` the drift is s²/2 and m = 0: plain variance exploding in log price. The denoiser is D = E[log x0 | x]; the
//! score of x itself, which has a pole at 0, is never formed.
//!
//! `reference` (default 1) is a fixed scale: data far from it has a mean in w that the preconditioning does not take
//! out, so a trainer sets it to the geometric mean of the data.

use crate::additive::Additive;
use crate::gaussian;
use core::ffi::CStr;
use diffx_plugin::{
    Config, Cx, Data, FINITE, Factory, Fitted, Node, POSITIVE, Result, Stats, schema,
};

pub(crate) struct Gbm {
    volatility: f64,
    /// m = tilt sigma²
    tilt: f64,
    reference: f64,
}

impl Factory for Gbm {
    const ID: &'static CStr = c"org.diffx.gbm";
    const SUMMARY: &'static CStr =
        c"geometric Brownian motion, of drift sigma^2/2 unless mu is given";
    const SCHEMA: Option<&'static CStr> = schema![
        "sigma": number "volatility s", default 1, exclusiveMinimum 0;
        "mu": number "drift; when absent s^2/2, so that the logarithm has none";
        "reference": number "x that has w = 0; a trainer sets it to the geometric mean", default 1, exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let volatility = config.f64("sigma", 1.0, POSITIVE)?;
        let tilt = match config.opt_f64("mu", FINITE)? {
            Some(mu) => mu / (volatility * volatility) - 0.5,
            None => 0.0,
        };
        let reference = config.f64("reference", 1.0, POSITIVE)?;
        Ok(Self { volatility, tilt, reference })
    }
}

impl Additive for Gbm {
    /// reference = geometric mean; sigma = standard deviation of one step of the logarithm, where the data has steps.
    fn fit(&self, data: &Data<'_>) -> Result<Vec<Fitted>> {
        let logs: Vec<f64> = data.positive()?.values.iter().map(|v| v.ln()).collect();
        let of = |values| Data { values, ordered: data.ordered }.moments();
        let mut out = vec![Fitted::place(c"reference", of(&logs)?.mean.exp())];
        if data.ordered {
            let steps: Vec<f64> =
                logs.iter().zip(logs.iter().skip(1)).map(|(a, b)| b - a).collect();
            out.push(Fitted::law(c"sigma", of(&steps)?.variance.sqrt()));
        }
        Ok(out)
    }

    const POSITIVE: bool = true;
    const SDE: bool = true;

    /// 0.002 sd to 80 sd of log x0.
    fn range(&self, stats: &Stats) -> Result<(f64, f64)> {
        let sd = gaussian::deviation(stats)?;
        Ok((0.002 * sd, 80.0 * sd))
    }

    /// sigma = s √t
    fn clock(&self, time: f64) -> f64 {
        self.volatility * time.sqrt()
    }

    fn encode<'b>(&self, x: Node<'b>) -> Node<'b> {
        let w = x.log();
        if self.reference == 1.0 { w } else { w - self.reference.ln() }
    }

    fn decode<'b>(&self, w: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        let w = if self.tilt == 0.0 { w } else { w + sigma.square() * self.tilt };
        if self.reference == 1.0 { w.exp() } else { (w + self.reference.ln()).exp() }
    }

    /// mu = (tilt + 1/2) s²
    fn sde<'b>(&self, _: &Cx<'b>, x: Node<'b>) -> [Node<'b>; 2] {
        let mu = (self.tilt + 0.5) * self.volatility * self.volatility;
        [x * mu, x * self.volatility]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gbm(json: &str) -> Result<Gbm> {
        Gbm::create(&mut Config::parse(json)?)
    }

    #[test]
    fn drift_only_when_given() {
        assert_eq!(gbm("{}").unwrap().tilt, 0.0);
        let g = gbm(r#"{"mu":0.1,"sigma":0.2}"#).unwrap();
        // m_t = (0.1 - 0.02) t and sigma² = 0.04 t
        let t = 3.0;
        assert!((g.tilt * g.clock(t).powi(2) - 0.08 * t).abs() < 1e-15);
        let message = gbm(r#"{"sigma":0}"#).err().unwrap().message;
        assert_eq!(message, "sigma is 0, want a number above 0");
    }

    #[test]
    fn range_follows_the_data() {
        let stats = Stats { w_var: 0.25, ..Stats::default() };
        assert_eq!(gbm("{}").unwrap().range(&stats).unwrap(), (0.001, 40.0));
        let none = Stats { w_var: 0.0, ..Stats::default() };
        let message = gbm("{}").unwrap().range(&none).unwrap_err().message;
        assert_eq!(message, "variance of the data is 0, want above 0");
    }
}
