//! What a class makes of a config: the calls of the network in order, and how the network is to be asked.

use super::betas::Chain;
use super::keys::Keys;
use super::linear::{Call, D_RAW, Form, Point, REGISTER, REGISTERS, X};
use crate::bail;
use crate::base::Result;

/// What a caller says beside the config, under the names that diffusers has for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// `num_inference_steps`.
    pub steps: usize,
    /// Of DDIM (0) and TCD (0.3): share of noise.
    pub eta: Option<f64>,
    /// Of DDIM: the noise is read off the clipped estimate.
    pub use_clipped_model_output: bool,
    pub s_churn: f64,
    pub s_tmin: f64,
    pub s_tmax: f64,
    pub s_noise: f64,
    /// Logarithm of a dynamic shift.
    pub mu: Option<f64>,
    /// Levels instead of the spacing, for flow matching.
    pub sigmas: Option<Vec<f64>>,
    /// Of LMS.
    pub order: usize,
    /// Of the VE SDE: its corrector goes by the norms of each sample, instead of their means over the batch.
    pub norms_per_sample: bool,
    /// Steps that are left out at the beginning, for a sample that is noised to where the others set out.
    pub skipped: usize,
}

impl Asked {
    pub fn steps(steps: usize) -> Self {
        Self {
            steps,
            eta: None,
            use_clipped_model_output: false,
            s_churn: 0.0,
            s_tmin: 0.0,
            s_tmax: f64::INFINITY,
            s_noise: 1.0,
            mu: None,
            sigmas: None,
            order: 4,
            norms_per_sample: false,
            skipped: 0,
        }
    }

    /// How much a step from `sigma` raises its level first, of `n` steps.
    pub fn churn(&self, sigma: f64, n: usize) -> f64 {
        let most = std::f64::consts::SQRT_2 - 1.0;
        let inside = self.s_tmin <= sigma && sigma <= self.s_tmax;
        if inside { (self.s_churn / n as f64).min(most) } else { 0.0 }
    }
}

/// How the network is asked: what it takes of the coordinate, and what surrounds its prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Frame {
    /// a w with a = 1/sqrt(1 + sigma²).
    Preserving,
    /// (1 - t) w with t = sigma/(1 + sigma).
    Flow,
    /// w/sqrt(sigma² + data²), preconditioned as EDM.
    Edm { data: f64 },
    /// w itself.
    Plain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prediction {
    Epsilon,
    V,
    Sample,
    Flow,
    Score,
}

/// Words of `prediction_type`.
pub const PREDICTIONS: [(&str, Prediction); 4] = [
    ("epsilon", Prediction::Epsilon),
    ("v_prediction", Prediction::V),
    ("sample", Prediction::Sample),
    ("flow_prediction", Prediction::Flow),
];

impl Prediction {
    /// One of those that a class knows.
    pub(super) fn read(keys: &Keys, known: &[Self]) -> Result<Self> {
        let word = keys.word("prediction_type")?;
        let word = if word == "original_sample" { "sample" } else { &word };
        let found = PREDICTIONS.iter().find(|(w, p)| *w == word && known.contains(p));
        match found {
            Some((_, p)) => Ok(*p),
            None => {
                let known = PREDICTIONS.iter().filter(|p| known.contains(&p.1)).map(|p| p.0);
                let known: Vec<&str> = known.collect();
                bail!(
                    Unsupported,
                    "scheduler: prediction_type is {word}, of this class want {}",
                    known.join(" or ")
                )
            }
        }
    }

    pub fn word(self) -> &'static str {
        PREDICTIONS.iter().find(|p| p.1 == self).map_or("score", |p| p.0)
    }
}

impl Frame {
    /// D = skip w + out F.
    pub fn back(self, prediction: Prediction, sigma: f64) -> (f64, f64) {
        let (a, s) = match self {
            Self::Preserving => {
                let a = 1.0 / (1.0 + sigma * sigma).sqrt();
                (a, sigma * a)
            }
            Self::Flow => (1.0 / (1.0 + sigma), sigma / (1.0 + sigma)),
            Self::Edm { data } => {
                let total = sigma * sigma + data * data;
                let out = sigma * data / total.sqrt();
                let sign = if prediction == Prediction::V { -1.0 } else { 1.0 };
                return match prediction {
                    Prediction::Sample => (0.0, 1.0),
                    _ => (data * data / total, sign * out),
                };
            }
            Self::Plain => (1.0, sigma),
        };
        match prediction {
            Prediction::Epsilon => (1.0, -sigma),
            Prediction::V => (a * a, -s),
            Prediction::Sample => (0.0, 1.0),
            Prediction::Flow => (a, -s),
            Prediction::Score => (1.0, sigma * sigma),
        }
    }
}

/// What is done to D before a step uses it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clip {
    No,
    /// To this range about 0.
    Range(f64),
    /// To a quantile of each sample's magnitudes, from 1 to `most`, and divided by it.
    Quantile {
        share: f64,
        most: f64,
    },
}

impl Clip {
    pub(super) fn read(keys: &Keys) -> Result<Self> {
        let range = keys.positive("clip_sample_range")?;
        let clip = keys.flag("clip_sample")?;
        Ok(match Self::threshold(keys)? {
            Self::No if clip => Self::Range(range),
            other => other,
        })
    }

    /// Of the classes that only threshold.
    pub(super) fn threshold(keys: &Keys) -> Result<Self> {
        let (share, most) =
            (keys.number("dynamic_thresholding_ratio")?, keys.number("sample_max_value")?);
        if !keys.flag("thresholding")? {
            return Ok(Self::No);
        }
        if !(0.0..=1.0).contains(&share) || most.is_nan() || most <= 0.0 {
            bail!(
                Format,
                "scheduler: thresholds at a share of {share} up to {most}, want 0 to 1 and above 0"
            );
        }
        Ok(Self::Quantile { share, most })
    }
}

/// Calls of a run and what is around them.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub calls: Vec<Call>,
    /// Where the sample is at last.
    pub end: Point,
    /// Standard deviation of the sample that it starts from.
    pub init: f64,
    pub frame: Frame,
    pub prediction: Prediction,
    pub clip: Clip,
    /// The levels as the class lists them; empty where it has times only.
    pub sigmas: Vec<f64>,
    /// The chain it was trained with, if it is one.
    pub chain: Option<Chain>,
    /// The levels between which the predictor of the VE SDE steps.
    pub discrete: Vec<f64>,
    /// With which call each step begins; empty where all steps have as many, a corrector's or half a step apart.
    pub begins: Vec<usize>,
}

impl Run {
    /// Without the calls of the first steps. What is left must not read what those would have left behind.
    pub(super) fn skip(mut self, asked: &Asked) -> Result<Self> {
        let (n, steps, skipped) = (self.calls.len(), asked.steps.max(1), asked.skipped);
        // of steps that are listed there may be one less than was asked for, as of intervals between moments
        let least = usize::from(skipped > 0);
        let first = self.begins.len().saturating_sub(steps.saturating_sub(skipped)).max(least);
        let listed = self.begins.get(first).copied();
        let calls = match n {
            _ if !self.begins.is_empty() => listed.unwrap_or(n),
            _ if n == steps => skipped,
            _ if n + 1 == 2 * steps => 2 * skipped,
            _ => n / steps * skipped, // a corrector's come before each step
        };
        let even = listed.is_some() || n == steps || n + 1 == 2 * steps || n.is_multiple_of(steps);
        if calls >= n || !even {
            bail!(Unsupported, "scheduler: {n} calls in {steps} steps, which cannot set out later");
        }
        self.calls.drain(..calls);
        let reads = |form: &Form, known: &[bool; REGISTERS]| {
            let registers = form.0.iter().skip(REGISTER).zip(known);
            registers.into_iter().any(|(v, known)| *v != 0.0 && !known)
        };
        let mut known = [false; REGISTERS];
        for call in &self.calls {
            if reads(&call.next, &known) || reads(&call.shown, &known) {
                bail!(
                    Unsupported,
                    "scheduler: its steps hang on what earlier ones left, so it cannot set out later: name another \
                     scheduler, or a sampler in its place"
                );
            }
            let before = known;
            for (k, form) in &call.keep {
                if let Some(slot) = known.get_mut(*k) {
                    *slot = !reads(form, &before);
                }
            }
        }
        Ok(self)
    }

    /// The level at a time that a host names, to noise data to: of the chain, where samples have its units and the time
    /// is whole, else of the call that is told this time.
    pub fn noising(&self, time: f64) -> Result<Point> {
        let exploding = self.calls.iter().all(|c| c.at.alpha == 1.0);
        if let (false, Frame::Preserving, Some(chain)) = (exploding, self.frame, &self.chain)
            && let Some(bar) = chain.bar(time as i64).filter(|_| time >= 0.0)
            && self.sigmas.is_empty()
        {
            return Ok(Point::of_alpha_bar(f64::from(bar)));
        }
        let near = |c: &&Call| (c.time - time).abs() <= 1e-6 * time.abs().max(1e-3);
        match self.calls.iter().find(near) {
            Some(call) => Ok(call.at),
            None => bail!(NotFound, "scheduler: no call is told time {time}"),
        }
    }
}

/// How a network is asked, as calls are written.
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    pub frame: Frame,
    pub prediction: Prediction,
}

impl Asking {
    /// The network's own output from the sample and D.
    pub fn output(self, at: Point) -> Form {
        let (skip, out) = self.frame.back(self.prediction, at.level());
        (D_RAW - (skip / at.scale()) * X) * (1.0 / out)
    }
}
