//! DDIM with stochasticity eta (Song et al. 2021; specs guidance_samplers 4), in w and sigma:
//! `w' = D + √(σ'² - η²σ̃²)/σ (w - D) + ησ̃ z`, σ̃² = σ'²(σ² - σ'²)/σ². eta = 0 is Euler, eta = 1 DDPM's small variance.

use crate::linear::{Linear, Row};
use core::ffi::CStr;
use diffx_plugin::{Config, Factory, Result, schema};

pub(crate) struct Ddim {
    eta: f64,
}

impl Factory for Ddim {
    const ID: &'static CStr = c"org.diffx.ddim";
    const SUMMARY: &'static CStr = c"DDIM: from Euler (eta 0) to ancestral sampling (eta 1)";
    const SCHEMA: Option<&'static CStr> = schema![
        "eta": number "share of noise: 0 is Euler, 1 ancestral sampling", default 0, minimum 0, maximum 1;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self { eta: config.f64("eta", 0.0, 0.0..=1.0)? })
    }
}

impl Linear for Ddim {
    const PAST: usize = 0;
    const STOCHASTICITY: f64 = 1.0;

    fn row(&self, levels: &[f64], k: usize) -> Row {
        let (sigma, next) = (levels[k], levels[k + 1]);
        if self.eta == 0.0 {
            return Row::new(next / sigma, (sigma - next) / sigma);
        }
        let ratio = next / sigma;
        let v = self.eta * self.eta * ratio * ratio * (sigma - next) * (sigma + next);
        // next² - v = next² (1 - eta²) + eta² next⁴/sigma²: no difference of near numbers
        let keep = ratio * ((1.0 - self.eta * self.eta) + (self.eta * ratio).powi(2)).sqrt();
        Row { v, ..Row::new(keep, 1.0 - keep) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::plan;

    #[test]
    fn ends_of_eta() {
        // columns σ, σ', a, v, c
        let euler = plan::<Ddim>("{}", &[4.0, 2.0, 0.0]);
        assert_eq!(euler.rows, [4.0, 2.0, 0.5, 0.0, 0.5, 2.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(euler.variants, [0, 0]);
        // ancestral sampling with the small variance: a = σ'²/σ², v = (σ² - σ'²) σ'²/σ²
        let ddpm = plan::<Ddim>(r#"{"eta":1}"#, &[4.0, 2.0, 0.0]);
        assert_eq!(ddpm.rows[..5], [4.0, 2.0, 0.25, 3.0, 0.75]);
        assert_eq!(ddpm.variants, [1, 0]);
        let e = Ddim::create(&mut Config::parse(r#"{"eta":1.5}"#).unwrap()).err().unwrap();
        assert_eq!(e.message, "eta is 1.5, want a number from 0 to 1");
    }
}
