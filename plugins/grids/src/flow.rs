//! The time grid of flow matching: t in equal steps down to 0, shifted to where the network is needed, then
//! sigma = t/(1 - t) (specs processes 2). SD3's shift t' = s t/(1 + (s - 1) t) multiplies sigma by s; FLUX's mu is s = e^mu,
//! linear in the number of image tokens from 0.5 at 256 to 1.15 at 4096.
//!
//! Config: `shift`, or `mu`, or `tokens`. t starts at the time of sigma_max, short of 1, where sigma has no end.

use core::ffi::CStr;
use diffx_plugin::{Config, Error, FINITE, Factory, Grid, POSITIVE, Result, schema};

pub(crate) struct Flow {
    shift: f64,
}

/// FLUX: mu at two numbers of tokens.
const TOKENS: [f64; 2] = [256.0, 4096.0];
const MU: [f64; 2] = [0.5, 1.15];

fn mu(tokens: f64) -> f64 {
    MU[0] + (tokens - TOKENS[0]) * (MU[1] - MU[0]) / (TOKENS[1] - TOKENS[0])
}

impl Factory for Flow {
    const ID: &'static CStr = c"org.diffx.flow_time";
    const SUMMARY: &'static CStr = c"equal steps of flow time, with the shift of SD3 or FLUX";
    const SCHEMA: Option<&'static CStr> = schema![
        "shift": number "factor s on sigma, as SD3; when absent 1", exclusiveMinimum 0;
        "mu": number "log of the shift, instead of it, as FLUX";
        "tokens": number "of the image, which give mu as FLUX does", exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let given = [
            config.opt_f64("shift", POSITIVE)?,
            config.opt_f64("mu", FINITE)?.map(f64::exp),
            config.opt_f64("tokens", POSITIVE)?.map(|n| mu(n).exp()),
        ];
        let mut shifts = given.into_iter().flatten();
        let shift = shifts.next().unwrap_or(1.0);
        if shifts.next().is_some() {
            return Err(Error::invalid("more than one of shift, mu and tokens, want one"));
        }
        Ok(Self { shift })
    }
}

impl Grid for Flow {
    fn knots(&self, n: u32, _: f64, sigma_max: f64) -> Result<Vec<f64>> {
        let first = sigma_max / (sigma_max + self.shift); // the time that is shifted to that of sigma_max
        let level = |i: u32| {
            let t = first * f64::from(n - i) / f64::from(n);
            if i == 0 { sigma_max } else { self.shift * t / (1.0 - t) }
        };
        Ok((0..=n).map(level).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(json: &str) -> Result<Flow> {
        Flow::create(&mut Config::parse(json)?)
    }

    /// The shifted time of the inner knot that is at t before.
    fn shifted(json: &str, i: u32, n: u32) -> f64 {
        let sigma = grid(json).unwrap().knots(n, 1e-3, 1e14).unwrap()[i as usize];
        sigma / (1.0 + sigma)
    }

    /// Golden rows sd3.shift (shift 3) and flux.shift (1024 tokens).
    #[test]
    fn golden_shifts() {
        for (i, want) in [(1, 27.0 / 28.0), (5, 0.75), (9, 0.25)] {
            assert!((shifted(r#"{"shift":3}"#, i, 10) - want).abs() < 1e-10);
        }
        assert!((mu(1024.0) - 0.63).abs() < 1e-12);
        for (i, want) in [(3, 0.384_944_748_817_469_2), (2, 0.652_489_462_192_744_5)] {
            assert!((shifted(r#"{"tokens":1024}"#, i, 4) - want).abs() < 1e-10);
            assert!((shifted(r#"{"mu":0.63}"#, i, 4) - want).abs() < 1e-10);
        }
    }

    #[test]
    fn ends_and_choices() {
        let knots = grid("{}").unwrap().knots(2, 0.1, 9.0).unwrap();
        assert_eq!((knots[0], knots[2]), (9.0, 0.0));
        assert!((knots[1] - 0.45 / 0.55).abs() < 1e-15);
        let e = grid(r#"{"shift":3,"mu":1}"#).err().unwrap();
        assert_eq!(e.message, "more than one of shift, mu and tokens, want one");
    }
}
