//! The SDE of a rectified flow as Flow-GRPO steps it (arXiv 2505.05470; specs objectives 0): Euler in t on the reverse SDE of
//! x = (1 - t) w with noise g² = eta² t/(1 - t),
//! `x' = x - dt (v + g²/(2t) (x + (1 - t) v)) + g √dt z`, v = (x - D)/t, t = sigma/(1 + sigma).
//!
//! eta = √2 is the noise of the reverse SDE, of which the end forgets its first draw; 0 is Euler on the ODE. At the first
//! step, where 1 - t may be tiny, g is that of the second knot. Its last step, to sigma 0, returns D.

use crate::linear::{Linear, Row};
use core::ffi::CStr;
use diffx_plugin::{Config, Factory, Result, schema};

pub(crate) struct FlowSde {
    eta: f64,
}

impl Factory for FlowSde {
    const ID: &'static CStr = c"org.diffx.flow_sde";
    const SUMMARY: &'static CStr = c"Euler on the SDE of a rectified flow, as Flow-GRPO";
    const SCHEMA: Option<&'static CStr> = schema![
        "eta": number "size of the noise: 0 the ODE, 1.4142136 the reverse SDE", default 0.7, minimum 0, maximum 4;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self { eta: config.f64("eta", 0.7, 0.0..=4.0)? })
    }
}

impl Linear for FlowSde {
    const PAST: usize = 0;
    const STOCHASTICITY: f64 = 1.0;

    fn row(&self, levels: &[f64], k: usize) -> Row {
        // 1 - t is 1/(1 + sigma), and written so it is never 0
        let (near, far) = (1.0 + levels[k], 1.0 + levels[k + 1]);
        let t = levels[k] / near;
        let dt = (levels[k] - levels[k + 1]) / near / far;
        let g2 = self.eta * self.eta * t * if k == 0 { far } else { near };
        // x' = cx x + cv v + .., v = (x - D)/t
        let cx = 1.0 - g2 * dt / (2.0 * t);
        let cv = -dt * (1.0 + g2 / near / (2.0 * t));
        // from x to w at the end
        let keep = (cx + cv / t) / near * far;
        Row { v: g2 * dt * far * far, ..Row::new(keep, -cv / t * far) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::plan;

    /// Without noise it is Euler in t, which is Euler in sigma.
    #[test]
    fn no_noise_is_euler() {
        let got = plan::<FlowSde>(r#"{"eta":0}"#, &[4.0, 2.0, 0.5, 0.0]).rows;
        let want = [4.0, 2.0, 0.5, 0.0, 0.5, 2.0, 0.5, 0.25, 0.0, 0.75, 0.5, 0.0, 0.0, 0.0, 1.0];
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-12), "{got:?}");
    }

    /// The formula of the specification in x, at t 0.5 -> 0.4 with D = 1, x = 2: v = 2, g² = eta².
    #[test]
    fn a_step_is_the_formula() {
        let rows = plan::<FlowSde>(r#"{"eta":0.7}"#, &[9.0, 1.0, 0.4 / 0.6, 0.0]).rows;
        let [keep, v, step] = [rows[7], rows[8], rows[9]];
        let (x, d, eta2, dt) = (2.0, 1.0, 0.49, 0.1);
        let velocity = (x - d) / 0.5;
        let want = x - dt * (velocity + eta2 / (2.0 * 0.5) * (x + 0.5 * velocity));
        let got = (keep * (x / 0.5) + step * d) * 0.6;
        assert!((got - want).abs() < 1e-12, "{got}, want {want}");
        assert!((v * 0.36 - eta2 * dt).abs() < 1e-12, "{v}");
    }

    /// Whatever the range, a number: 1 - t at sigma 1e30 is not what a subtraction makes of it.
    #[test]
    fn extremes_are_finite() {
        for levels in [[1e30, 1e15, 1.0, 1e-30, 0.0], [1e18, 1.0, 1e-9, 1e-18, 0.0]] {
            for eta in ["1e-30", "0.7", "4"] {
                let rows = plan::<FlowSde>(&format!(r#"{{"eta":{eta}}}"#), &levels).rows;
                assert!(rows.iter().all(|v| v.is_finite()), "{levels:?} {eta}: {rows:?}");
            }
        }
    }
}
