//! Flow matching, rectified flow (Lipman et al. 2023, Liu et al. 2023; specs processes 2): x = (1 - t) x0 + t xi.
//! In w = x/(1 - t) it is Gaussian with sigma = t/(1 - t), so every sampler applies; Euler in t is Euler in sigma. t = 1,
//! where w is infinite, is approached by sigma_max = 1000 sd. The shift of SD3 and FLUX is in the grid `flow_time`.

use crate::additive::{Additive, Frame};
use crate::gaussian;
use core::ffi::CStr;
use diffx_plugin::{Config, Data, Factory, Fitted, Node, Result, Stats, schema};

pub(crate) struct Flow(Frame);

impl Factory for Flow {
    const ID: &'static CStr = c"org.diffx.flow";
    const SUMMARY: &'static CStr = c"flow matching: straight lines from data to noise";
    const SCHEMA: Option<&'static CStr> = schema![
        "center": number "x that has w = 0; a trainer sets it to the mean", default 0;
        "scale": number "deviation of the data; a trainer sets it", default 1, exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Frame::scaled(config).map(Self)
    }
}

impl Additive for Flow {
    fn fit(&self, data: &Data<'_>) -> Result<Vec<Fitted>> {
        Frame::fit_both(data)
    }

    fn range(&self, stats: &Stats) -> Result<(f64, f64)> {
        let sd = gaussian::deviation(stats)?;
        Ok((0.002 * sd, 1000.0 * sd))
    }

    fn clock(&self, time: f64) -> f64 {
        if time < 1.0 { time / (1.0 - time) } else { f64::INFINITY }
    }

    fn encode<'b>(&self, x: Node<'b>) -> Node<'b> {
        self.0.enter(x)
    }

    /// (1 - t) w
    fn decode<'b>(&self, w: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        self.0.leave(w / (sigma + 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_time_is_at_infinity() {
        let flow = Flow::create(&mut Config::parse("{}").unwrap()).unwrap();
        assert_eq!((flow.clock(0.0), flow.clock(0.75)), (0.0, 3.0));
        assert!(flow.clock(1.0).is_infinite() && flow.clock(1.5).is_infinite());
    }
}
