//! Variance exploding with the preconditionings of EDM's code (Karras et al. 2022, table 1), for networks trained with
//! it: w = x + sigma xi, and what the network gets and means is one of
//!
//! - `edm`: skip and scale by `sigma_data`, c_noise = ln(sigma)/4;
//! - `vp`: x - sigma F(x/√(1+σ²), (M - 1) t) with sigma(t)² = e^{beta_d t²/2 + beta_min t} - 1;
//! - `ve`: x + sigma F(x, ln(sigma/2));
//! - `iddpm`: as `vp`, with the number of the nearest level of a table of `M` in place of (M - 1) t.

use crate::additive::Additive;
use crate::gaussian::{self, TINY};
use core::f64::consts::FRAC_PI_2;
use core::ffi::CStr;
use core::ops::Bound::{Excluded, Included};
use diffx_plugin::{
    Config, Cx, Data, Error, Factory, Fitted, Node, POSITIVE, Precond, Result, Stats, schema,
};

pub(crate) struct Edm {
    form: Form,
    range: (f64, f64),
}

#[derive(Debug, Clone, PartialEq)]
enum Form {
    /// sigma_data.
    Edm(f64),
    Vp(Vp),
    Ve,
    /// Levels, falling to 0.
    Iddpm(Vec<f32>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Vp {
    beta_d: f64,
    beta_min: f64,
    steps: f64,
}

impl Vp {
    fn sigma(self, t: f64) -> f64 {
        (t * (0.5 * self.beta_d * t + self.beta_min)).exp_m1().sqrt()
    }
}

impl Factory for Edm {
    const ID: &'static CStr = c"org.diffx.edm";
    const SUMMARY: &'static CStr = c"variance exploding, preconditioned as EDM's networks are";
    const SCHEMA: Option<&'static CStr> = schema![
        "precond": string "what the network gets and means", default "edm", enum ["edm", "vp", "ve", "iddpm"];
        "sigma_data": number "deviation of the data, of edm", default 0.5, exclusiveMinimum 0;
        "beta_d": number "growth of beta, of vp", default 19.9, minimum 0, maximum 100;
        "beta_min": number "beta at time 0, of vp", default 0.1, exclusiveMinimum 0, maximum 100;
        "epsilon_t": number "smallest time, of vp", default 1e-5, exclusiveMinimum 0, exclusiveMaximum 1;
        "M": integer "steps of the original chain, of vp and iddpm", default 1000, minimum 2, maximum 1000000;
        "C_1": number "smallest ratio of signals of neighbours, of iddpm", default 0.001, exclusiveMinimum 0, exclusiveMaximum 1;
        "C_2": number "shift of the cosine, of iddpm", default 0.008, exclusiveMinimum 0, maximum 1;
        "sigma_min": number "lowest level; by precond when absent", exclusiveMinimum 0;
        "sigma_max": number "highest level; by precond when absent", exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let kind = config.one_of("precond", &[("edm", 0), ("vp", 1), ("ve", 2), ("iddpm", 3)])?;
        let sigma_data = config.f64("sigma_data", 0.5, POSITIVE)?;
        let (beta_d, beta_min) = (
            config.f64("beta_d", 19.9, 0.0..=100.0)?,
            config.f64("beta_min", 0.1, (Excluded(0.0), Included(100.0)))?,
        );
        let between = (Excluded(0.0), Excluded(1.0));
        let first = config.f64("epsilon_t", 1e-5, between)?;
        let steps = config.usize("M", 1000, 2..=1_000_000)?;
        let c_1 = config.f64("C_1", 0.001, between)?;
        let c_2 = config.f64("C_2", 0.008, (Excluded(0.0), Included(1.0)))?;
        let vp = Vp { beta_d, beta_min, steps: steps as f64 };
        let (form, (low, high)) = match kind {
            0 => (Form::Edm(sigma_data), (0.002, 80.0)),
            1 => (Form::Vp(vp), (vp.sigma(first), vp.sigma(1.0))),
            2 => (Form::Ve, (0.02, 100.0)),
            _ => {
                let table = levels(steps, c_1, c_2);
                let ends = (f64::from(table[steps - 1]), f64::from(table[0]));
                (Form::Iddpm(table), ends)
            }
        };
        let range = (
            config.opt_f64("sigma_min", POSITIVE)?.unwrap_or(low),
            config.opt_f64("sigma_max", POSITIVE)?.unwrap_or(high),
        );
        if !range.1.is_finite() || range.0 >= range.1 {
            let (low, high) = range;
            return Err(Error::invalid(format!(
                "levels go from {low} to {high}, want them to rise"
            )));
        }
        Ok(Self { form, range })
    }
}

/// The levels of the chain, highest first, 0 last: sums and roots are rounded to f32 where the reference's are.
fn levels(steps: usize, c_1: f64, c_2: f64) -> Vec<f32> {
    let signal = |j: usize| (FRAC_PI_2 * j as f64 / steps as f64 / (c_2 + 1.0)).sin().powi(2);
    let mut u = vec![0_f32; steps + 1];
    for j in (1..=steps).rev() {
        let ratio = (signal(j - 1) / signal(j)).max(c_1) as f32;
        u[j - 1] = ((u[j] * u[j] + 1.0) / ratio - 1.0).sqrt();
    }
    u
}

impl Additive for Edm {
    /// Nothing: the networks are trained on data as it comes.
    fn fit(&self, _: &Data<'_>) -> Result<Vec<Fitted>> {
        Ok(Vec::new())
    }

    fn range(&self, _: &Stats) -> Result<(f64, f64)> {
        Ok(self.range)
    }

    /// sigma(t) = t, of vp the sigma of its time.
    fn clock(&self, time: f64) -> f64 {
        match &self.form {
            Form::Vp(vp) => vp.sigma(time),
            _ => time,
        }
    }

    fn encode<'b>(&self, x: Node<'b>) -> Node<'b> {
        x
    }

    fn decode<'b>(&self, w: Node<'b>, _: Node<'b>) -> Node<'b> {
        w
    }

    fn precond<'b>(&self, _: &Cx<'b>, sigma: Node<'b>) -> Precond<'b> {
        let one = || sigma * 0.0 + 1.0;
        let weight = || sigma.square().recip();
        let inverse_deviation = || (sigma.square() + 1.0).rsqrt();
        match &self.form {
            Form::Edm(sigma_data) => gaussian::precond_of(sigma, sigma_data * sigma_data, 0.0),
            Form::Vp(Vp { beta_d, beta_min, steps }) => {
                let b = sigma.square().log1p();
                // of beta_d t²/2 + beta_min t = ln(1 + sigma²), without cancellation and for beta_d = 0 too
                let root = (b * (2.0 * beta_d) + beta_min * beta_min).sqrt();
                let t = b * 2.0 / (root + *beta_min);
                let noise = t * (steps - 1.0);
                Precond {
                    skip: one(),
                    out: -sigma,
                    input: inverse_deviation(),
                    noise,
                    weight: weight(),
                }
            }
            Form::Ve => {
                let noise = (sigma.max(TINY) * 0.5).log();
                Precond { skip: one(), out: sigma, input: one(), noise, weight: weight() }
            }
            Form::Iddpm(table) => {
                let b = sigma.builder();
                let count = table.len() as i64;
                let table = b.constant(&[1, count], table).cast(0);
                let far = (sigma.reshape(&[-1, 1]) - table).abs();
                let nearest = (-far).argmax(1).cast(0);
                let noise = ((count - 2) as f64 - nearest).reshape(&sigma.shape());
                Precond {
                    skip: one(),
                    out: -sigma,
                    input: inverse_deviation(),
                    noise,
                    weight: weight(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(json: &str) -> Result<Edm> {
        let mut config = Config::parse(json).unwrap();
        let made = Edm::create(&mut config)?;
        config.finish(Edm::SCHEMA).map(|()| made)
    }

    /// Karras et al. 2022, table 1 and appendix C: the ranges of the originals.
    #[test]
    fn ranges_are_those_of_the_originals() {
        let range = |json: &str| made(json).unwrap().range;
        assert_eq!(range("{}"), (0.002, 80.0));
        assert_eq!(range(r#"{"precond":"ve"}"#), (0.02, 100.0));
        let (low, high) = range(r#"{"precond":"vp"}"#);
        assert!((low - 1.0e-3).abs() < 1e-5 && (high - 152.2).abs() < 0.1, "{low} {high}");
        let (low, high) = range(r#"{"precond":"iddpm"}"#);
        assert!((low - 0.0064).abs() < 4e-4 && high > 2e4, "{low} {high}");
    }

    #[test]
    fn levels_of_the_chain_fall_to_nothing() {
        let u = levels(1000, 0.001, 0.008);
        assert_eq!((u.len(), u[1000]), (1001, 0.0));
        assert!(u.windows(2).all(|w| w[0] > w[1]));
    }

    #[test]
    fn levels_must_rise() {
        let e = made(r#"{"sigma_min":90}"#).err().unwrap();
        assert_eq!(e.message, "levels go from 90 to 80, want them to rise");
    }
}
