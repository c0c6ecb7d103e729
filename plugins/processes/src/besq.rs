//! Squared Bessel process `dX = delta du + 2√X dW` in w = √x, sigma = √u (specs processes 1.3; arXiv 2605.19391).
//!
//! Any real delta >= 0; delta = 0 is absorbed at 0 and can only be simulated. The default 3 never reaches 0, has an
//! elementary target and draws by one normal and one gamma.

use crate::bessel::{Bessel, Radial};
use core::ffi::CStr;
use diffx_plugin::{Config, Cx, Data, Factory, Fitted, Node, Result, schema};

pub(crate) struct Besq(Bessel);

impl Factory for Besq {
    const ID: &'static CStr = c"org.diffx.besq";
    const SUMMARY: &'static CStr = c"squared Bessel process of any dimension";
    const SCHEMA: Option<&'static CStr> = schema![
        "delta": number "dimension; 0 can only be simulated", default 3, minimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self(Bessel { delta: config.f64("delta", 3.0, 0.0..)? }))
    }
}

impl Radial for Besq {
    fn fit(&self, data: &Data<'_>) -> Result<Vec<Fitted>> {
        Ok(vec![Fitted::law(c"delta", Bessel::fitted(&data.positive()?.moments()?))])
    }

    fn bessel(&self) -> Bessel {
        self.0
    }

    /// sigma = √u
    fn clock(&self, time: f64) -> f64 {
        time.sqrt()
    }

    fn leave<'b>(&self, square: Node<'b>, _: Node<'b>) -> Node<'b> {
        square
    }

    fn sde<'b>(&self, cx: &Cx<'b>, x: Node<'b>) -> [Node<'b>; 2] {
        [cx.b.scalar(self.0.delta), x.sqrt() * 2.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use diffx_plugin::Stats;

    #[test]
    fn delta_is_any_number_from_zero() {
        for (json, delta) in [("{}", 3.0), (r#"{"delta":0.3}"#, 0.3), (r#"{"delta":0}"#, 0.0)] {
            assert_eq!(Besq::create(&mut Config::parse(json).unwrap()).unwrap().0.delta, delta);
        }
        let message = Besq::create(&mut Config::parse(r#"{"delta":-1}"#).unwrap()).err().unwrap();
        assert_eq!(message.message, "delta is -1, want a number from 0 up");
    }

    #[test]
    fn range_follows_the_mean() {
        let besq = Besq::create(&mut Config::parse("{}").unwrap()).unwrap();
        let stats = Stats { x_mean: 4.0, ..Stats::default() };
        assert_eq!(besq.range(&stats).unwrap(), (0.006, 20.0));
        assert_eq!(besq.range(&Stats::default()).unwrap().1, 10.0);
        assert!(besq.range(&Stats { x_mean: -1.0, ..Stats::default() }).is_err());
    }
}
