//! Sub-VP (Song et al. 2021; specs processes 2): VP's drift with less noise, x = a x0 + (1 - a²) xi, a = e^{-B/2}.
//! In w = x/a it is Gaussian with sigma = 1/a - a = 2 sinh(B/2), so 1/a = (sigma + √(sigma² + 4))/2. Config as VP's.

use crate::additive::{Additive, Frame};
use crate::vp::Schedule;
use core::ffi::CStr;
use diffx_plugin::{Config, Data, Factory, Fitted, Node, Result, Stats, schema};

pub(crate) struct SubVp {
    schedule: Schedule,
    frame: Frame,
}

impl Factory for SubVp {
    const ID: &'static CStr = c"org.diffx.sub_vp";
    const SUMMARY: &'static CStr = c"sub-VP: variance below that of variance preserving";
    const SCHEMA: Option<&'static CStr> = schema![
        "schedule": string "of beta over time", default "linear", enum ["linear", "scaled_linear", "cosine"];
        "beta_min": number "at time 0; when absent 0.1, scaled_linear 0.85; cosine has none", exclusiveMinimum 0;
        "beta_max": number "at time 1; when absent 20, scaled_linear 12; cosine has none", exclusiveMinimum 0;
        "steps": integer "of the chain whose times are 0 to steps; 0 = continuous time 0 to 1", default 0, minimum 0, maximum 1000000;
        "center": number "x that has w = 0; a trainer sets it to the mean", default 0;
        "scale": number "deviation of the data, for the schedule is that of 1; a trainer sets it", default 1, exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self { schedule: Schedule::read(config)?, frame: Frame::scaled(config)? })
    }
}

impl Additive for SubVp {
    fn fit(&self, data: &Data<'_>) -> Result<Vec<Fitted>> {
        Frame::fit_both(data)
    }

    fn range(&self, _: &Stats) -> Result<(f64, f64)> {
        let (first, last) = self.schedule.ends();
        Ok((self.clock(first), self.clock(last)))
    }

    fn clock(&self, time: f64) -> f64 {
        2.0 * (0.5 * self.schedule.integral(time)).sinh()
    }

    fn encode<'b>(&self, x: Node<'b>) -> Node<'b> {
        self.frame.enter(x)
    }

    /// a w
    fn decode<'b>(&self, w: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        self.frame.leave(w * 2.0 / (sigma + (sigma.square() + 4.0).sqrt()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_noise_over_signal() {
        let p = SubVp::create(&mut Config::parse("{}").unwrap()).unwrap();
        for t in [1e-3, 0.3, 1.0] {
            let b = t * (0.1 + 0.5 * t * 19.9);
            let want = -f64::exp_m1(-b) / (-0.5 * b).exp();
            assert!((p.clock(t) / want - 1.0).abs() < 1e-12, "{t}");
        }
    }
}
