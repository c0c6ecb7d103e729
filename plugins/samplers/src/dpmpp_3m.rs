//! DPM-Solver++ 3M (Lu et al. 2022; specs guidance_samplers 0.2, 4): D interpolated by a parabola in λ = -log σ,
//! `w' = (σ'/σ) w + (1 - e^-h) D_i + φ₂ D1 - φ₃ D2`, with φ₂ = (e^-h - 1)/h + 1 and φ₃ = φ₂/h - 1/2.
//!
//! The published update takes D2 = (D1₀ - D1₁)/(r₀ + r₁), half of the second derivative, and is of order 2;
//! `dpmpp_3m` has the factor 2 and order 3, `dpmpp_3m_compat` is what its authors and k-diffusion run, to reproduce
//! their pictures. Both start at orders 1 and 2.

use crate::dpmpp_2m::{advance, second_order};
use crate::linear::{Linear, Row};
use core::ffi::CStr;
use diffx_plugin::{Config, Factory, Result, schema};

/// `CURVATURE` is the factor of D2: 2 as it should be, 1 as published.
pub(crate) struct Dpmpp3m<const CURVATURE: u32>;

impl<const CURVATURE: u32> Factory for Dpmpp3m<CURVATURE> {
    const ID: &'static CStr =
        if CURVATURE == 2 { c"org.diffx.dpmpp_3m" } else { c"org.diffx.dpmpp_3m_compat" };
    const SUMMARY: &'static CStr = if CURVATURE == 2 {
        c"DPM-Solver++ 3M: order 3, one call per step"
    } else {
        c"DPM-Solver++ 3M as published, of order 2"
    };
    const SCHEMA: Option<&'static CStr> = schema![];

    fn create(_: &mut Config) -> Result<Self> {
        Ok(Self)
    }
}

impl<const CURVATURE: u32> Linear for Dpmpp3m<CURVATURE> {
    const PAST: usize = 2;
    const STOCHASTICITY: f64 = 0.0;

    fn row(&self, levels: &[f64], k: usize) -> Row {
        let (h, step) = advance(levels, k);
        let keep = levels[k + 1] / levels[k];
        if k == 0 {
            return Row::new(keep, step);
        }
        let r0 = advance(levels, k - 1).0 / h;
        if k == 1 {
            return second_order(keep, step, 0.5 * step, r0);
        }
        let r1 = advance(levels, k - 2).0 / h;
        let phi2 = 1.0 - step / h;
        let phi3 = phi2 / h - 0.5;
        // D1 = p D1₀ - q D1₁ with p = 1 + r₀/(r₀+r₁), q = r₀/(r₀+r₁); D1₀ = (D_i - D_{i-1})/r₀, D1₁ one step older
        let q = r0 / (r0 + r1);
        let bend = f64::from(CURVATURE) * phi3 / (r0 + r1);
        let newer = (phi2 * (1.0 + q) - bend) / r0;
        let older = (bend - phi2 * q) / r1;
        let moves = [step + newer, older - newer, -older];
        Row { moves, past: 2, ..Row::new(keep, step) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::plan;

    /// D polynomial in λ: the step of order 3 integrates `e^-h ∫ e^s D ds` exactly up to squares, the published one
    /// up to straight lines.
    #[test]
    fn exact_for_parabolas_only_when_fixed() {
        let levels = [8.0, 5.0, 2.0, 1.5];
        let lambda: Vec<f64> = levels.iter().map(|s: &f64| -s.ln()).collect();
        let (from, h) = (lambda[2], lambda[3] - lambda[2]);
        let steps = 20_000;
        let exact = |d: &dyn Fn(f64) -> f64| -> f64 {
            let at = |i: usize| (i as f64 + 0.5) * h / f64::from(steps);
            (0..steps as usize).map(|i| (at(i) - h).exp() * d(at(i))).sum::<f64>() * h
                / f64::from(steps)
        };
        let error = |rows: &[f64], d: &dyn Fn(f64) -> f64| {
            let c = &rows[2 * 7 + 4..2 * 7 + 7];
            let got: f64 = (0..3).map(|k| c[k] * d(lambda[2 - k] - from)).sum();
            (got - exact(d)).abs()
        };
        let fixed = plan::<Dpmpp3m<2>>("{}", &levels);
        let compat = plan::<Dpmpp3m<1>>("{}", &levels);
        assert_eq!(fixed.variants, [0, 2, 4]);
        assert!(error(&fixed.rows, &|s| 1.0 + 2.0 * s) < 1e-9);
        assert!(error(&compat.rows, &|s| 1.0 + 2.0 * s) < 1e-9);
        assert!(error(&fixed.rows, &|s| 1.0 + s * s) < 1e-9);
        assert!(error(&compat.rows, &|s| 1.0 + s * s) > 1e-4);
    }
}
