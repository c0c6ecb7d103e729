//! SDE-DPM-Solver++ 2M (Lu et al. 2022; specs guidance_samplers 4): the reverse SDE with an exact linear part and D
//! extrapolated from two steps, weak order 2 with one call per step. With e = σ'/σ:
//! `w' = e² w + (1 - e²) [D_i + (D_i - D_{i-1})/2r] + σ' √(1 - e²) z`.

use crate::dpmpp_2m::{advance, second_order};
use crate::linear::{Linear, Row};
use core::ffi::CStr;
use diffx_plugin::{Config, Factory, Result, schema};

pub(crate) struct SdeDpmpp2m;

impl Factory for SdeDpmpp2m {
    const ID: &'static CStr = c"org.diffx.sde_dpmpp_2m";
    const SUMMARY: &'static CStr = c"SDE-DPM-Solver++ 2M: stochastic, weak order 2";
    const SCHEMA: Option<&'static CStr> = schema![];

    fn create(_: &mut Config) -> Result<Self> {
        Ok(Self)
    }
}

impl Linear for SdeDpmpp2m {
    const PAST: usize = 1;
    const STOCHASTICITY: f64 = 1.0;

    fn row(&self, levels: &[f64], k: usize) -> Row {
        let (sigma, next) = (levels[k], levels[k + 1]);
        let keep = (next / sigma).powi(2);
        let step = (sigma - next) * (sigma + next) / (sigma * sigma);
        let mut row = Row::new(keep, step);
        if k > 0 {
            row = second_order(
                keep,
                step,
                0.5 * step,
                advance(levels, k - 1).0 / advance(levels, k).0,
            );
        }
        Row { v: next * next * step, ..row }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::plan;

    /// Its first step is ancestral sampling with the small variance.
    #[test]
    fn starts_as_ddpm() {
        let p = plan::<SdeDpmpp2m>("{}", &[4.0, 2.0, 1.0, 0.0]);
        assert_eq!(p.variants, [1, 3, 0]);
        assert_eq!(p.rows[..6], [4.0, 2.0, 0.25, 3.0, 0.75, 0.0]);
        assert_eq!(p.rows[6..12], [2.0, 1.0, 0.25, 0.75, 1.125, -0.375]);
    }
}
