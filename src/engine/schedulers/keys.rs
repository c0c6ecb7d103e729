//! The keys of a scheduler's config, with the default of its class where one is absent: old files leave out most of
//! them. Keys that nobody asks for are ignored, as the files' own readers do: they differ from version to version.

use crate::bail;
use crate::base::Result;
use serde_json::{Map, Value};

/// A config being read.
pub(super) struct Keys {
    map: Map<String, Value>,
    /// Defaults of the class, before those of all classes.
    defaults: &'static [(&'static str, Unless)],
}

/// What counts where a key is absent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unless {
    Number(f64),
    Flag(bool),
    Word(&'static str),
}

use Unless::{Flag, Number, Word};

/// Defaults that all classes share unless their own table says otherwise.
const COMMON: &[(&str, Unless)] = &[
    ("num_train_timesteps", Number(1000.0)),
    ("beta_start", Number(0.0001)),
    ("beta_end", Number(0.02)),
    ("beta_schedule", Word("linear")),
    ("prediction_type", Word("epsilon")),
    ("timestep_spacing", Word("linspace")),
    ("steps_offset", Number(0.0)),
    ("rescale_betas_zero_snr", Flag(false)),
    ("clip_sample", Flag(false)),
    ("clip_sample_range", Number(1.0)),
    ("thresholding", Flag(false)),
    ("dynamic_thresholding_ratio", Number(0.995)),
    ("sample_max_value", Number(1.0)),
    ("set_alpha_to_one", Flag(true)),
    ("variance_type", Word("")),
    ("final_sigmas_type", Word("zero")),
    ("use_karras_sigmas", Flag(false)),
    ("use_exponential_sigmas", Flag(false)),
    ("use_beta_sigmas", Flag(false)),
    ("use_lu_lambdas", Flag(false)),
    ("use_flow_sigmas", Flag(false)),
    ("use_dynamic_shifting", Flag(false)),
    ("flow_shift", Number(1.0)),
    ("time_shift_type", Word("exponential")),
    ("solver_order", Number(2.0)),
    ("algorithm_type", Word("dpmsolver++")),
    ("solver_type", Word("midpoint")),
    ("lower_order_final", Flag(true)),
    ("euler_at_final", Flag(false)),
    ("sigma_data", Number(0.5)),
    ("sigma_schedule", Word("karras")),
    ("rho", Number(7.0)),
    ("shift", Number(1.0)),
    ("stochastic_sampling", Flag(false)),
    ("invert_sigmas", Flag(false)),
    ("original_inference_steps", Number(50.0)),
    ("timestep_scaling", Number(10.0)),
    ("interpolation_type", Word("linear")),
    ("timestep_type", Word("discrete")),
    ("skip_prk_steps", Flag(false)),
    ("predict_x0", Flag(true)),
    ("snr", Number(0.15)),
    ("sampling_eps", Number(1e-5)),
    ("correct_steps", Number(1.0)),
];

impl Keys {
    pub(super) fn new(
        map: Map<String, Value>,
        defaults: &'static [(&'static str, Unless)],
    ) -> Self {
        Self { map, defaults }
    }

    fn given(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    fn default(&self, key: &str) -> Option<Unless> {
        let find = |table: &[(&str, Unless)]| table.iter().find(|d| d.0 == key).map(|d| d.1);
        find(self.defaults).or_else(|| find(COMMON))
    }

    /// A number that may be absent.
    pub(super) fn maybe(&self, key: &str) -> Result<Option<f64>> {
        match self.given(key) {
            None => match self.default(key) {
                Some(Number(n)) => Ok(Some(n)),
                _ => Ok(None),
            },
            Some(v) => match v.as_f64().filter(|n| n.is_finite()) {
                Some(n) => Ok(Some(n)),
                None => bail!(Format, "scheduler: {key} is {v}, want a finite number"),
            },
        }
    }

    pub(super) fn number(&self, key: &str) -> Result<f64> {
        match self.maybe(key)? {
            Some(n) => Ok(n),
            None => bail!(Format, "scheduler: {key} is missing"),
        }
    }

    /// A number above 0.
    pub(super) fn positive(&self, key: &str) -> Result<f64> {
        let n = self.number(key)?;
        if n > 0.0 { Ok(n) } else { bail!(Format, "scheduler: {key} is {n}, want above 0") }
    }

    pub(super) fn whole(&self, key: &str, lo: usize, hi: usize) -> Result<usize> {
        let n = self.number(key)?;
        if n.fract() == 0.0 && n >= lo as f64 && n <= hi as f64 {
            return Ok(n as usize);
        }
        bail!(Format, "scheduler: {key} is {n}, want a whole number from {lo} to {hi}")
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool> {
        match (self.given(key), self.default(key)) {
            (Some(Value::Bool(b)), _) => Ok(*b),
            (Some(v), _) => bail!(Format, "scheduler: {key} is {v}, want true or false"),
            (None, Some(Flag(b))) => Ok(b),
            (None, _) => Ok(false),
        }
    }

    pub(super) fn word(&self, key: &str) -> Result<String> {
        match (self.given(key), self.default(key)) {
            (Some(Value::String(s)), _) => Ok(s.clone()),
            (Some(v), _) => bail!(Format, "scheduler: {key} is {v}, want a text"),
            (None, Some(Word(s))) => Ok(s.to_owned()),
            (None, _) => bail!(Format, "scheduler: {key} is missing"),
        }
    }

    /// One of these words; the index of it.
    pub(super) fn one_of(&self, key: &str, words: &[&str]) -> Result<usize> {
        let word = self.word(key)?;
        match words.iter().position(|w| *w == word) {
            Some(i) => Ok(i),
            None => {
                bail!(Unsupported, "scheduler: {key} is {word}, want {}", words.join(" or "))
            }
        }
    }

    /// A list of numbers, if it is there.
    pub(super) fn list(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(v) = self.given(key) else { return Ok(None) };
        let numbers = |list: &Vec<Value>| {
            list.iter().map(|n| n.as_f64().filter(|n| n.is_finite())).collect::<Option<Vec<_>>>()
        };
        match v.as_array().and_then(numbers) {
            Some(list) => Ok(Some(list)),
            None => bail!(Format, "scheduler: {key} is no list of finite numbers"),
        }
    }
}
