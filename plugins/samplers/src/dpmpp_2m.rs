//! DPM-Solver++ 2M (Lu et al. 2022; specs guidance_samplers 4): the multistep form of order 2 in λ = -log σ.
//! `w' = (σ'/σ) w + (1 - e^-h) [(1 + 1/2r) D_i - (1/2r) D_{i-1}]`, h = log(σ/σ'), r the last h over this one.

use crate::linear::{Linear, Row};
use core::ffi::CStr;
use diffx_plugin::{Config, Factory, Result, schema};

pub(crate) struct Dpmpp2m;

impl Factory for Dpmpp2m {
    const ID: &'static CStr = c"org.diffx.dpmpp_2m";
    const SUMMARY: &'static CStr = c"DPM-Solver++ 2M: order 2, one call per step";
    const SCHEMA: Option<&'static CStr> = schema![];

    fn create(_: &mut Config) -> Result<Self> {
        Ok(Self)
    }
}

/// h of step k, and the part of D that comes in, 1 - e^-h.
pub(crate) fn advance(levels: &[f64], k: usize) -> (f64, f64) {
    let (sigma, next) = (levels[k], levels[k + 1]);
    ((sigma / next).ln(), (sigma - next) / sigma)
}

/// Euler's row plus `slope` times (D_i - D_{i-1})/r.
pub(crate) fn second_order(keep: f64, step: f64, slope: f64, r: f64) -> Row {
    let extra = slope / r;
    Row { moves: [step + extra, -extra, 0.0], past: 1, ..Row::new(keep, step) }
}

impl Linear for Dpmpp2m {
    const PAST: usize = 1;
    const STOCHASTICITY: f64 = 0.0;

    fn row(&self, levels: &[f64], k: usize) -> Row {
        let (h, step) = advance(levels, k);
        let keep = levels[k + 1] / levels[k];
        if k == 0 {
            return Row::new(keep, step);
        }
        second_order(keep, step, 0.5 * step, advance(levels, k - 1).0 / h)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::plan;

    #[test]
    fn extrapolates_after_the_first_step() {
        let p = plan::<Dpmpp2m>("{}", &[8.0, 4.0, 2.0, 0.0]);
        assert_eq!(p.variants, [0, 2, 0]);
        assert_eq!(p.rows[..6], [8.0, 4.0, 0.5, 0.0, 0.5, 0.0]);
        // r = 1: 3/2 D_i - 1/2 D_{i-1}
        assert_eq!(p.rows[6..12], [4.0, 2.0, 0.5, 0.0, 0.75, -0.25]);
        assert_eq!(p.rows[12..], [2.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    }
}
