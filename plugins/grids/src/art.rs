//! ART, the adaptive grid of Huang, Tang and Zhou in closed form (specs guidance_samplers 3.2, 3.3): Euler's error is
//! least when the steps share the integral of √Q evenly, Q the second derivative of the path in sigma. Q comes from a
//! pilot run once per model and guidance; every number of steps is read off the same measurement.
//!
//! The clock is sigma because there the solvers freeze the slope: √Q in log sigma, or Q for √Q, is worse than `edm`.

use core::ffi::CStr;
use diffx_plugin::{Config, Error, Factory, Grid, Pilot, Result, schema};

pub(crate) struct Art {
    to_zero: bool,
}

/// Levels on which the integral is taken, evenly in log sigma.
const FINE: usize = 4096;

impl Factory for Art {
    const ID: &'static CStr = c"org.diffx.art";
    const SUMMARY: &'static CStr =
        c"adaptive grid from a pilot run: even shares of the bend of the path";
    const SCHEMA: Option<&'static CStr> = schema![
        "to_zero": boolean "end at level 0 instead of sigma_min", default false;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self { to_zero: config.bool("to_zero", false)? })
    }
}

impl Grid for Art {
    const PILOT_STEPS: u32 = 64;
    const PILOT_SAMPLES: u32 = 64;

    /// Of the pilot itself: even in log sigma.
    fn knots(&self, n: u32, sigma_min: f64, sigma_max: f64) -> Result<Vec<f64>> {
        let ratio = sigma_min / sigma_max;
        let level = |i: u32| match i {
            0 => sigma_max,
            i if i == n => sigma_min,
            i => sigma_max * ratio.powf(f64::from(i) / f64::from(n)),
        };
        Ok((0..=n).map(level).collect())
    }

    fn refine(
        &self,
        n: u32,
        sigma_min: f64,
        sigma_max: f64,
        pilot: &Pilot<'_>,
    ) -> Result<Vec<f64>> {
        let density = Density::new(pilot)?;
        let above = if self.to_zero { n - 1 } else { n };
        if above == 0 {
            return Ok(vec![sigma_max, if self.to_zero { 0.0 } else { sigma_min }]);
        }
        let mut knots = even_shares(&density, above, sigma_min, sigma_max);
        if self.to_zero {
            knots.push(0.0);
        }
        Ok(knots)
    }
}

/// √Q over log sigma: lines between the logarithms measured at the geometric middles of the pilot's steps, level outside.
struct Density {
    /// Ascending log sigma, and log √Q there.
    points: Vec<(f64, f64)>,
}

impl Density {
    fn new(pilot: &Pilot<'_>) -> Result<Self> {
        let (sigma, bend) = (pilot.sigma, pilot.bend);
        if sigma.len() != bend.len() + 1 || bend.len() < 2 {
            let (levels, n) = (sigma.len(), bend.len());
            return Err(Error::invalid(format!("a pilot of {n} bends at {levels} levels")));
        }
        let mut points = Vec::new();
        for (pair, q) in sigma.windows(2).zip(bend) {
            if !(pair[1] > 0.0 && pair[1] < pair[0]) {
                let (a, b) = (pair[0], pair[1]);
                return Err(Error::invalid(format!("a pilot from level {a} to {b}")));
            }
            if *q > 0.0 && q.is_finite() {
                points.push((0.5 * (pair[0].ln() + pair[1].ln()), 0.5 * q.ln()));
            }
        }
        if points.is_empty() {
            return Err(Error::invalid("a pilot whose paths do not bend anywhere"));
        }
        points.reverse();
        Ok(Self { points })
    }

    fn at(&self, log_sigma: f64) -> f64 {
        let after = self.points.partition_point(|p| p.0 <= log_sigma);
        let log =
            match (after.checked_sub(1).and_then(|i| self.points.get(i)), self.points.get(after)) {
                (Some(a), Some(b)) => a.1 + (log_sigma - a.0) / (b.0 - a.0) * (b.1 - a.1),
                (Some(end), None) | (None, Some(end)) => end.1,
                (None, None) => 0.0, // never: there is a point
            };
        log.exp()
    }
}

/// n + 1 levels with equal integrals of the density between them.
fn even_shares(density: &Density, n: u32, sigma_min: f64, sigma_max: f64) -> Vec<f64> {
    let (top, bottom) = (sigma_max.ln(), sigma_min.ln());
    let log = |i: usize| top + (bottom - top) * i as f64 / FINE as f64;
    let sigma: Vec<f64> = (0..=FINE).map(|i| log(i).exp()).collect();
    let mut share = vec![0.0; FINE + 1];
    for i in 0..FINE {
        let mean = 0.5 * (density.at(log(i)) + density.at(log(i + 1)));
        share[i + 1] = share[i] + mean * (sigma[i] - sigma[i + 1]);
    }
    let place = |part: f64| {
        let want = part * share[FINE];
        let i = share.partition_point(|s| *s < want).clamp(1, FINE);
        let t = (want - share[i - 1]) / (share[i] - share[i - 1]).max(f64::MIN_POSITIVE);
        sigma[i - 1] + t.clamp(0.0, 1.0) * (sigma[i] - sigma[i - 1])
    };
    let mut knots: Vec<f64> = (0..=n).map(|k| place(f64::from(k) / f64::from(n))).collect();
    (knots[0], knots[n as usize]) = (sigma_max, sigma_min);
    knots
}
