//! EDM's stochastic sampler (Karras et al. 2022, algorithm 2; specs processes 0.3, guidance_samplers 4): noise is put
//! back by the process, σ to σ̂ = (1 + γ) σ, then one Heun step from σ̂ to σ'.
//! γ = min(churn/n, √2 - 1) while σ is in [s_min, s_max], else 0. Exact for every process with `renoise`, but for
//! `s_noise`, which multiplies the noise that is put back to make up for networks that take off too much.

use crate::discrete;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Denoiser, Factory, Knots, Node, Plan, Result, Sampler, SamplerInfo, Step,
    purpose, schema,
};

pub(crate) struct Churn {
    churn: f64,
    s_min: f64,
    s_max: f64,
    s_noise: f64,
}

/// Bits of a variant: noise is put back; the step is the last, Euler's.
const NOISE: u32 = 1;
const LAST: u32 = 2;
/// σ, σ̂, σ', σ'/σ̂, 1 - σ'/σ̂, then the weights of Heun's two pulls, (σ̂-σ')/2σ̂ and (σ̂-σ')/2σ'
const COLUMNS: usize = 7;

impl Churn {
    fn gamma(&self, sigma: f64, steps: usize) -> f64 {
        if sigma < self.s_min || sigma > self.s_max {
            return 0.0;
        }
        (self.churn / steps as f64).min(core::f64::consts::SQRT_2 - 1.0)
    }
}

impl Factory for Churn {
    const ID: &'static CStr = c"org.diffx.churn";
    const SUMMARY: &'static CStr = c"EDM's stochastic sampler: renoise, then Heun";
    const SCHEMA: Option<&'static CStr> = schema![
        "churn": number "noise added in all, shared by the steps", default 20, minimum 0;
        "s_min": number "no noise is added below this sigma", default 0, minimum 0;
        "s_max": number "no noise is added above this sigma; default no end", minimum 0;
        "s_noise": number "multiplies the noise that is added; 1 is exact", default 1, minimum 0, maximum 10;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self {
            churn: config.f64("churn", 20.0, 0.0..)?,
            s_min: config.f64("s_min", 0.0, 0.0..)?,
            s_max: config.opt_f64("s_max", 0.0..)?.unwrap_or(f64::MAX),
            s_noise: config.f64("s_noise", 1.0, 0.0..=10.0)?,
        })
    }
}

impl Sampler for Churn {
    fn info(&self) -> SamplerInfo {
        SamplerInfo {
            n_coeff: COLUMNS as u32,
            per_component: true,
            n_variants: 4,
            slots: vec![],
            control: false,
            stochasticity: 1.0,
        }
    }

    fn plan(&self, knots: &Knots<'_>) -> Result<Plan> {
        let mut plan = Plan::default();
        let mut highest = Vec::new();
        let steps = knots.steps();
        for k in 0..steps {
            let (mut row, mut variant) = (Vec::new(), 0);
            for c in 0..knots.components() {
                let (sigma, next) = (knots.of(c)[k], knots.of(c)[k + 1]);
                let gamma = self.gamma(sigma, steps);
                let hat = sigma * (1.0 + gamma);
                let drop = hat - next;
                let there = if next > 0.0 { 0.5 * drop / next } else { 0.0 };
                highest.push(hat);
                row.extend([sigma, hat, next, next / hat, drop / hat, 0.5 * drop / hat, there]);
                variant |= if gamma > 0.0 { NOISE } else { 0 };
                variant |= if next == 0.0 { LAST } else { 0 };
            }
            plan.push(variant, &row);
        }
        plan.highest = Some(highest);
        Ok(plan)
    }

    fn step<'b>(&self, b: Builder<'b>, io: &mut Step<'b>) -> Result<()> {
        let n = io.components();
        let rows: Vec<[Node<'b>; COLUMNS]> =
            (0..n).map(|c| core::array::from_fn(|k| io.coeff(c * COLUMNS + k))).collect();
        let discrete: Vec<bool> = (0..n).map(|c| discrete::is_discrete(b, c)).collect();
        // tokens are not corrupted again: they stay at their own time
        let (mut x, mut hat) = (Vec::new(), Vec::new());
        for c in 0..n {
            let [sigma, sigma_hat, ..] = rows[c];
            if discrete[c] {
                x.push(io.x(c));
                hat.push(sigma);
            } else if io.variant() & NOISE != 0 {
                let w = io.x(c);
                let again = b.process(c).renoise(w, sigma, sigma_hat, purpose::STEP);
                x.push(match self.s_noise {
                    1.0 => again,
                    s => w + s * (again - w),
                });
                hat.push(sigma_hat);
            } else {
                x.push(io.x(c));
                hat.push(sigma_hat);
            }
        }
        let d = b.denoise_at(Denoiser::OUTERMOST, &x, &hat);
        let mut out: Vec<Node<'b>> = (0..n)
            .map(|c| {
                let [sigma, _, next, keep, step, ..] = rows[c];
                if discrete[c] {
                    discrete::advance(b, c, x[c], d[c], sigma, next)
                } else {
                    keep * x[c] + step * d[c]
                }
            })
            .collect();
        let mut newest = d.clone();
        if io.variant() & LAST == 0 {
            let next: Vec<_> = rows.iter().map(|r| r[2]).collect();
            newest = b.denoise_at(Denoiser::OUTERMOST, &out, &next);
            for c in (0..n).filter(|c| !discrete[*c]) {
                let [.., here, there] = rows[c];
                out[c] = x[c] + here * (d[c] - x[c]) + there * (newest[c] - out[c]);
            }
        }
        for c in 0..n {
            io.set_next(c, out[c]);
            io.set_denoised(c, newest[c]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gamma_is_capped_and_confined() {
        let churn = |json: &str| Churn::create(&mut Config::parse(json).unwrap()).unwrap();
        let plan = |json: &str| churn(json).plan(&Knots::new(&[4.0, 2.0, 0.0], 1)).unwrap();
        let cap = core::f64::consts::SQRT_2;
        assert_eq!(plan("{}").rows[..3], [4.0, 4.0 * cap, 2.0]);
        assert_eq!(plan("{}").variants, [NOISE, NOISE | LAST]);
        let some = plan(r#"{"churn":0.5,"s_max":3}"#);
        assert_eq!(some.variants, [0, NOISE | LAST]);
        assert_eq!(some.rows[..7], [4.0, 4.0, 2.0, 0.5, 0.5, 0.25, 0.5]);
        assert_eq!(some.rows[8], 2.5);
    }
}
