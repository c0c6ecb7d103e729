//! Critically damped Langevin diffusion (Dockhorn et al. 2022; specs processes 4.1):
//! `dx = beta v/M dt, dv = -beta (x + Gamma v/M) dt + √(2 Gamma beta) dW` with Gamma² = 4M, v0 ~ N(0, gamma M).
//! Its law at late times is N(0, 1) x N(0, M). A sample is `[2, ...]`: position, velocity.

use crate::additive::Frame;
use crate::critical::{Critical, Damped};
use core::ffi::CStr;
use diffx_plugin::{Config, Factory, POSITIVE, Result, schema};

pub(crate) struct Cld(Critical);

impl Factory for Cld {
    const ID: &'static CStr = c"org.diffx.cld";
    const SUMMARY: &'static CStr =
        c"critically damped Langevin: position and velocity in samples [2, ...]";
    const SCHEMA: Option<&'static CStr> = schema![
        "mass": number "M; the friction is 2 sqrt(M)", default 0.25, exclusiveMinimum 0;
        "beta": number "speed of time", default 4, exclusiveMinimum 0;
        "gamma": number "variance of the velocity at time 0 over the mass", default 0.04, exclusiveMinimum 0;
        "center": number "position that has w = 0; a trainer sets it to the mean", default 0;
        "scale": number "deviation of the data, for the process is that of 1; a trainer sets it", default 1, exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let mass = config.f64("mass", 0.25, POSITIVE)?;
        let beta = config.f64("beta", 4.0, POSITIVE)?;
        let start = config.f64("gamma", 0.04, POSITIVE)? * mass;
        let frame = Frame::scaled(config)?;
        let (mu, k, q) = (beta / mass, mass.sqrt(), 4.0 * beta * mass.sqrt());
        Ok(Self(Critical { mu, k, q, start, frame }))
    }
}

impl Damped for Cld {
    fn critical(&self) -> Critical {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both eigenvalues of the drift [[0, beta/M], [-beta, -beta Gamma/M]] are -mu k.
    #[test]
    fn damping_is_critical() {
        let cld = |json: &str| Cld::create(&mut Config::parse(json).unwrap()).unwrap().0;
        for (json, mass, beta) in [("{}", 0.25_f64, 4.0), (r#"{"mass":4,"beta":3}"#, 4.0, 3.0)] {
            let p = cld(json);
            let friction = beta * 2.0 * mass.sqrt() / mass;
            assert_eq!((p.mu, p.mu * p.k * p.k, 2.0 * p.mu * p.k), (beta / mass, beta, friction));
            assert_eq!(p.q, 2.0 * 2.0 * mass.sqrt() * beta);
        }
    }
}
