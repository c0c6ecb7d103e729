//! Momentum diffusion with a linear variational score (arXiv 2501.16675; specs processes 4.2):
//! `dx = beta v/2 dt, dv = beta (-x - gamma v)/2 dt + gamma beta (a x + c v) dt + √(gamma beta) dW`. Critical damping ties
//! a = (1 - (gamma - 2 gamma c)²/4) / 2 gamma, so c is the one parameter. A sample is `[2, ...]`: position, velocity.

use crate::additive::Frame;
use crate::critical::{Critical, Damped};
use core::ffi::CStr;
use diffx_plugin::{Config, Error, Factory, POSITIVE, Result, schema};

pub(crate) struct Vsmd(Critical);

impl Factory for Vsmd {
    const ID: &'static CStr = c"org.diffx.vsmd";
    const SUMMARY: &'static CStr =
        c"momentum diffusion with a linear variational score: samples [2, ...]";
    const SCHEMA: Option<&'static CStr> = schema![
        "gamma": number "friction", default 2, exclusiveMinimum 0;
        "beta": number "speed of time", default 10, exclusiveMinimum 0;
        "c": number "variational score per velocity, below 1/2", default 0.01;
        "velocity": number "variance of the velocity at time 0", default 1, minimum 0;
        "center": number "position that has w = 0; a trainer sets it to the mean", default 0;
        "scale": number "deviation of the data, for the process is that of 1; a trainer sets it", default 1, exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let gamma = config.f64("gamma", 2.0, POSITIVE)?;
        let beta = config.f64("beta", 10.0, POSITIVE)?;
        let c = config.f64("c", 0.01, diffx_plugin::FINITE)?;
        let start = config.f64("velocity", 1.0, 0.0..)?;
        let frame = Frame::scaled(config)?;
        let k = 0.5 * gamma - gamma * c;
        if k <= 0.0 {
            return Err(Error::invalid(format!(
                "c is {c}, want below 1/2: damping needs friction"
            )));
        }
        Ok(Self(Critical { mu: 0.5 * beta, k, q: gamma * beta, start, frame }))
    }
}

impl Damped for Vsmd {
    fn critical(&self) -> Critical {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stiffness_follows_the_tie() {
        for (c, a) in [(0.01, 0.0099), (-0.3, -0.39)] {
            let json = format!(r#"{{"c":{c}}}"#);
            let p = Vsmd::create(&mut Config::parse(&json).unwrap()).unwrap().0;
            // -beta/2 (1 - 2 gamma a) and -beta/2 (gamma - 2 gamma c)
            assert!((p.mu * p.k * p.k - 5.0 * (1.0 - 4.0 * a)).abs() < 1e-12);
            assert!((2.0 * p.mu * p.k - 5.0 * (2.0 - 4.0 * c)).abs() < 1e-12);
        }
        let e = Vsmd::create(&mut Config::parse(r#"{"c":0.5}"#).unwrap()).err().unwrap();
        assert_eq!(e.message, "c is 0.5, want below 1/2: damping needs friction");
    }
}
