//! Variance preserving `dX = -beta X dt/2 + √beta dW` (Song et al. 2021, Ho et al. 2020; specs processes 2):
//! x = a x0 + √(1 - a²) xi with a² = e^{-B(t)}. In w = x/a it is Gaussian with sigma² = e^B - 1, so 1/a² = 1 + sigma².
//!
//! Config: `schedule` linear (beta from `beta_min` 0.1 to `beta_max` 20), scaled_linear (√beta linear, 0.85 to 12: Stable
//! Diffusion) or cosine; `steps` turns the continuous clock on [0, 1] into that of a chain of so many steps, whose
//! natural times are 0 .. steps and whose betas are those above over the number of steps: 1000 for the originals.

use crate::additive::{Additive, Frame};
use core::ffi::CStr;
use diffx_plugin::{Config, Data, Error, Factory, Fitted, Node, POSITIVE, Result, Stats, schema};

/// ln 1/a² as a function of time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Schedule {
    /// beta from the first to the second, linear in t.
    Linear(f64, f64),
    /// √beta linear.
    ScaledLinear(f64, f64),
    /// a² = cos²((t + 0.008)/1.008 pi/2), relative to its value at 0.
    Cosine,
    /// B after each step of a chain, from 0.
    Chain(Vec<f64>),
}

/// Times between which a continuous schedule is sampled: at 0 there is no noise, and at 1 the cosine has no signal.
const FIRST: f64 = 1e-5;
const LAST_COSINE: f64 = 0.999;

/// Largest B: sigma² = e^B is still a number in f32.
const MOST: f64 = 80.0;

impl Schedule {
    pub(crate) fn read(config: &mut Config) -> Result<Self> {
        let kind =
            config.one_of("schedule", &[("linear", 0), ("scaled_linear", 1), ("cosine", 2)])?;
        let (lo, hi) = if kind == 1 { (0.85, 12.0) } else { (0.1, 20.0) };
        let ends = [config.opt_f64("beta_min", POSITIVE)?, config.opt_f64("beta_max", POSITIVE)?];
        let given = ends.iter().any(Option::is_some);
        let (lo, hi) = (ends[0].unwrap_or(lo), ends[1].unwrap_or(hi));
        let steps = config.usize("steps", 0, 0..=1_000_000)?;
        if kind == 2 && given {
            return Err(Error::invalid(
                "beta_min or beta_max with schedule cosine, which has none",
            ));
        }
        if hi < lo {
            return Err(Error::invalid(format!("beta_max is {hi}, want at least beta_min, {lo}")));
        }
        let schedule = match kind {
            0 => Self::Linear(lo, hi),
            1 => Self::ScaledLinear(lo, hi),
            _ => Self::Cosine,
        };
        let schedule = if steps == 0 { schedule } else { schedule.chain(steps) };
        let (b, most) = (schedule.integral(schedule.ends().1), MOST);
        if b > most {
            return Err(Error::invalid(format!(
                "beta_max is {hi}: the logarithm of the noise reaches {b}, want at most {most}"
            )));
        }
        Ok(schedule)
    }

    /// B(t) = ∫ beta.
    pub(crate) fn integral(&self, t: f64) -> f64 {
        match self {
            _ if t == 0.0 => 0.0,
            Self::Chain(table) => {
                let (k, part) = (t.floor(), t.fract());
                let at = |k: f64| table.get(k as usize).copied();
                match (at(k), at(k + 1.0)) {
                    (Some(b), Some(next)) => b + part * (next - b),
                    (Some(b), None) if part == 0.0 => b,
                    _ => f64::INFINITY,
                }
            }
            _ if t > 1.0 => f64::INFINITY,
            Self::Linear(lo, hi) => t * (lo + 0.5 * t * (hi - lo)),
            Self::ScaledLinear(lo, hi) => {
                let (r, d) = (lo.sqrt(), hi.sqrt() - lo.sqrt());
                t * (r * r + t * (r * d + t * d * d / 3.0))
            }
            Self::Cosine => 2.0 * (cosine(0.0) / cosine(t)).ln(),
        }
    }

    /// The chain of so many steps: beta_i, i = 1 .. n, is 1/n of the continuous one, at most 0.999.
    fn chain(&self, steps: usize) -> Self {
        let n = steps as f64;
        let mut total = 0.0;
        let mut table = vec![0.0];
        for i in 0..steps {
            let u = if steps == 1 { 0.0 } else { i as f64 / (n - 1.0) };
            let beta = match self {
                Self::Linear(lo, hi) => (lo + u * (hi - lo)) / n,
                Self::ScaledLinear(lo, hi) => (lo.sqrt() + u * (hi.sqrt() - lo.sqrt())).powi(2) / n,
                _ => 1.0 - (cosine((i + 1) as f64 / n) / cosine(i as f64 / n)).powi(2),
            };
            total -= (-beta.min(0.999)).ln_1p();
            table.push(total);
        }
        Self::Chain(table)
    }

    /// The times a run goes between.
    pub(crate) fn ends(&self) -> (f64, f64) {
        match self {
            Self::Chain(table) => (1.0, (table.len() - 1) as f64),
            Self::Cosine => (FIRST, LAST_COSINE),
            _ => (FIRST, 1.0),
        }
    }
}

fn cosine(t: f64) -> f64 {
    ((t + 0.008) / 1.008 * core::f64::consts::FRAC_PI_2).cos()
}

pub(crate) struct Vp {
    schedule: Schedule,
    frame: Frame,
}

impl Factory for Vp {
    const ID: &'static CStr = c"org.diffx.vp";
    const SUMMARY: &'static CStr = c"variance preserving: linear, scaled linear or cosine schedule";
    const SCHEMA: Option<&'static CStr> = schema![
        "schedule": string "of beta over time", default "linear", enum ["linear", "scaled_linear", "cosine"];
        "beta_min": number "at time 0; when absent 0.1, scaled_linear 0.85; cosine has none", exclusiveMinimum 0;
        "beta_max": number "at time 1; when absent 20, scaled_linear 12; cosine has none", exclusiveMinimum 0;
        "steps": integer "of the chain whose times are 0 to steps; 0 = continuous time 0 to 1", default 0, minimum 0, maximum 1000000;
        "center": number "x that has w = 0; a trainer sets it to the mean", default 0;
        "scale": number "deviation of the data, for the schedule is that of 1; a trainer sets it", default 1, exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self { schedule: Schedule::read(config)?, frame: Frame::scaled(config)? })
    }
}

impl Additive for Vp {
    fn fit(&self, data: &Data<'_>) -> Result<Vec<Fitted>> {
        Frame::fit_both(data)
    }

    fn range(&self, _: &Stats) -> Result<(f64, f64)> {
        let (first, last) = self.schedule.ends();
        Ok((self.clock(first), self.clock(last)))
    }

    fn clock(&self, time: f64) -> f64 {
        self.schedule.integral(time).exp_m1().sqrt()
    }

    fn encode<'b>(&self, x: Node<'b>) -> Node<'b> {
        self.frame.enter(x)
    }

    /// a w
    fn decode<'b>(&self, w: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        self.frame.leave(w * (sigma.square() + 1.0).rsqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(json: &str) -> Schedule {
        Schedule::read(&mut Config::parse(json).unwrap()).unwrap()
    }

    /// Golden rows linear and scaled linear: a² at the end of the chains of 1000 steps.
    #[test]
    fn chains_end_where_their_originals_do() {
        let signal = |json: &str| (-schedule(json).integral(1000.0)).exp();
        let linear = signal(r#"{"steps":1000}"#);
        assert!((linear / 4.036e-5 - 1.0).abs() < 2e-4, "{linear:e}");
        let scaled = signal(r#"{"schedule":"scaled_linear","steps":1000}"#);
        assert!((scaled / 4.660e-3 - 1.0).abs() < 2e-4, "{scaled:e}");
        // clipped: below a² of the unclipped curve there is still something left
        let cosine = signal(r#"{"schedule":"cosine","steps":1000}"#);
        assert!(cosine > 0.0 && cosine < 1e-8, "{cosine:e}");
    }

    #[test]
    fn chains_follow_their_continuous_clocks() {
        for (kind, steps) in
            [("linear", 1000), ("scaled_linear", 1000), ("cosine", 1000), ("linear", 4000)]
        {
            let chain = schedule(&format!(r#"{{"schedule":"{kind}","steps":{steps}}}"#));
            let smooth = schedule(&format!(r#"{{"schedule":"{kind}"}}"#));
            for part in [0.1, 0.5, 0.9] {
                let k = part * f64::from(steps);
                let (a, b) = (chain.integral(k), smooth.integral(part));
                assert!((a / b - 1.0).abs() < 0.02, "{kind} {k}: {a} {b}");
            }
            assert_eq!(chain.integral(f64::from(steps) + 1.0), f64::INFINITY);
            assert_eq!((chain.integral(0.0), smooth.integral(1.5)), (0.0, f64::INFINITY));
        }
    }

    #[test]
    fn betas_are_checked() {
        let mut c = Config::parse(r#"{"beta_min":3,"beta_max":2}"#).unwrap();
        let e = Schedule::read(&mut c).unwrap_err();
        assert_eq!(e.message, "beta_max is 2, want at least beta_min, 3");
        for json in [r#"{"schedule":"cosine","beta_max":2}"#, r#"{"beta_max":1000}"#] {
            assert!(Schedule::read(&mut Config::parse(json).unwrap()).is_err(), "{json}");
        }
    }
}
