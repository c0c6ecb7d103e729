//! Where the rewards of `diffx tune` come from: `expression:{"text": "mean(x) - 0.1 * max(abs(x))"}` over the decoded
//! samples, `library:{"path": .., "function": ..}`, a C function, or `process:{"command": [..]}`, a program that reads and
//! writes .npy.

mod process;

use diffx::base::{DType, Result};
use diffx::engine::Setting;
use diffx::engine::strict::Fields;
use diffx::mem::{Budget, Tensor};
use diffx::plugin::judge::Judge;
use diffx::train::Reward;
use diffx::{bail, fail};
use diffx_event::{Expression, Part, Resolved};
use process::Program;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Seconds a process may take for one rollout unless its setting says otherwise.
const TIMEOUT: f64 = 60.0;

/// A source of rewards.
pub(super) enum Source {
    Expression(Resolved),
    Library(Judge),
    Process(Program),
}

/// Samples of one component, by name, [samples, ...].
pub(super) type Samples = [(String, Arc<Tensor>)];

impl Source {
    /// `components` are name and sizes of one sample.
    pub(super) fn open(setting: &Setting, components: &[(String, Vec<usize>)]) -> Result<Self> {
        let what = format!("reward {}", setting.id);
        let mut f = Fields::new(&what, setting.value())?;
        let source = match setting.id.as_str() {
            "expression" => {
                let Some(text) = f.text("text")? else { bail!(Format, "{what}: text is missing") };
                let parts: Vec<Part<'_>> =
                    components.iter().map(|(name, dims)| Part { name, dims }).collect();
                let fault = |e: diffx_event::Fault| fail!(Format, "{what}: {e}");
                let parsed = Expression::parse(&text).map_err(fault)?;
                Self::Expression(parsed.resolve(&parts).map_err(fault)?)
            }
            "library" => {
                let (path, function) = (f.text("path")?, f.text("function")?);
                let Some(path) = path else { bail!(Format, "{what}: path is missing") };
                let function = function.unwrap_or_else(|| "reward".to_owned());
                Self::Library(Judge::open(path.as_ref(), &function)?)
            }
            "process" => {
                let mut words = Vec::new();
                for word in f.list("command")?.unwrap_or_default() {
                    match word {
                        Value::String(word) => words.push(word),
                        other => bail!(Format, "{what}: command holds {other}, want texts"),
                    }
                }
                let seconds = f.number("timeout")?.unwrap_or(TIMEOUT);
                if !(seconds > 0.0 && seconds <= 1e6) {
                    bail!(Format, "{what}: timeout is {seconds}, want seconds above 0");
                }
                let gradient = matches!(f.take("gradient"), Some(Value::Bool(true)));
                Self::Process(Program::start(&words, Duration::from_secs_f64(seconds), gradient)?)
            }
            other => bail!(
                NotFound,
                "no reward called {other:?}; there are: expression, library, process"
            ),
        };
        f.done()?;
        Ok(source)
    }

    /// The rewards of samples, and their gradient where it is wanted.
    pub(super) fn judge(
        &mut self,
        samples: &Samples,
        gradient: bool,
        budget: &Arc<Budget>,
    ) -> Result<Reward> {
        let Some((name, first)) = samples.first() else { bail!(Internal, "no component") };
        let n = first.dims().first().copied().unwrap_or(0);
        match self {
            Self::Expression(expression) => {
                if gradient {
                    bail!(
                        Unsupported,
                        "this objective wants the gradient of the reward, which an expression does not give; \
                         want a library or a process that does"
                    );
                }
                let wide: Vec<Vec<f64>> = samples
                    .iter()
                    .map(|(_, t)| diffx::weights::convert::to_f64(t))
                    .collect::<Result<_>>()?;
                let row = |i: usize| -> Vec<&[f64]> {
                    let of = |v: &'_ Vec<f64>| v.len() / n.max(1);
                    wide.iter().map(|v| v.get(i * of(v)..(i + 1) * of(v)).unwrap_or(&[])).collect()
                };
                let values = (0..n).map(|i| expression.value(&row(i))).collect();
                Ok(Reward { values, ..Reward::default() })
            }
            Self::Library(judge) => {
                if samples.len() != 1 || first.desc().dtype != DType::F32 {
                    bail!(
                        Unsupported,
                        "reward library: samples are {} of {name}, want one component of f32",
                        first.desc()
                    );
                }
                let said = judge.call(first.elements::<f32>()?, n, gradient)?;
                let mut grads = Vec::new();
                if gradient {
                    let bytes = Tensor::from_f32(first.dims(), &said.gradient, budget)?;
                    grads.push((name.clone(), Arc::new(bytes)));
                }
                Ok(Reward { values: said.rewards, valid: said.valid, grads })
            }
            Self::Process(program) => {
                let (values, grad) = program.ask(first, gradient, budget)?;
                let width = values.len() / n.max(1);
                // NaN says that there is none; how many there are is the tuner's to check
                let lacks = |row: &[f64]| row.iter().any(|v| v.is_nan());
                let valid = values.chunks(width.max(1)).map(|row| !lacks(row)).collect();
                let grads = grad.into_iter().map(|g| (name.clone(), Arc::new(g))).collect();
                Ok(Reward { values, valid, grads })
            }
        }
    }
}
