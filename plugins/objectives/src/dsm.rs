//! Denoising score matching for any process (specs processes 0.2, 1, 5.1): draw a noise level, perturb exactly, and
//! regress `weight(sigma) (D - target)²` with the process's own target and weight; components made of tokens take the
//! weighted cross entropy of their corrupted tokens.
//!
//! Levels, relative to the standard deviation of the data in w: log-normal with `mean` and `std` (default EDM's
//! -1.2, 1.2 at sigma_data 0.5, so -1.2 + ln 2 here), or log-uniform in `range`. Or those of flow matching, absolute:
//! sigma = t/(1 - t) with t uniform, or the sigmoid of a normal (SD3), so that sigma is log-normal. `shift` multiplies
//! sigma as SD3's does t; FLUX's mu is its logarithm. `weight` `velocity` is the loss of flow matching, where
//! D - x0 = t (u - (eps - x0)), so 1/t². Times of tokens are uniform in [1e-3, 1]. `cond_dropout` replaces the conditions of a row by their null values that often, for classifier-free
//! guidance.

use crate::level::{self, is_discrete};
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Error, Eval, FINITE, Factory, Loss, Node, Objective, ObjectiveInfo, POSITIVE,
    Result, purpose, schema,
};

#[derive(Debug, PartialEq)]
enum Levels {
    /// Mean and standard deviation of ln(sigma / sd).
    LogNormal(f64, f64),
    /// ln of the ends of sigma / sd.
    LogUniform(f64, f64),
    /// Mean and standard deviation of ln sigma = logit t.
    LogitNormal(f64, f64),
    UniformTime,
}

#[derive(Debug)]
pub(crate) struct Dsm {
    levels: Levels,
    shift: f64,
    /// The loss is that of a flow's velocity.
    velocity: bool,
    cond_dropout: f64,
}

/// 1 - t is no smaller: in f32 a uniform t may round to 1.
const LAST_TIME: f64 = 1e-7;

/// Least time of a token: its weight is 1/t.
const FIRST_TIME: f64 = 1e-3;

impl Factory for Dsm {
    const ID: &'static CStr = c"org.diffx.dsm";
    const SUMMARY: &'static CStr = c"denoising score matching with the process's target and weight";
    const SCHEMA: Option<&'static CStr> = schema![
        "levels": string "law of the noise levels: relative to the deviation of the data in w, or of flow time t", default "lognormal", enum ["lognormal", "loguniform", "logit_normal", "uniform_time"];
        "mean": number "lognormal: mean of ln(sigma / deviation), when absent -0.5068528; logit_normal: of logit t, when absent 0";
        "std": number "lognormal: deviation of ln(sigma / deviation), when absent 1.2; logit_normal: of logit t, when absent 1", exclusiveMinimum 0;
        "shift": number "factor on sigma: the shift s of flow times", default 1, exclusiveMinimum 0;
        "weight": string "of the squared error: the process's, or that of a velocity of flow time", default "process", enum ["process", "velocity"];
        "range": numbers "loguniform: [lowest, highest] sigma / deviation; default [0.002, 80]", exclusiveMinimum 0;
        "cond_dropout": number "how often the conditions of a row are replaced by their null values", default 0, minimum 0, maximum 1;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let kind = config.one_of(
            "levels",
            &[("lognormal", 0), ("loguniform", 1), ("logit_normal", 2), ("uniform_time", 3)],
        )?;
        let (mean, std) = (config.opt_f64("mean", FINITE)?, config.opt_f64("std", POSITIVE)?);
        let shift = config.f64("shift", 1.0, POSITIVE)?;
        let velocity = config.one_of("weight", &[("process", false), ("velocity", true)])?;
        let range = match config.f64s("range", POSITIVE)?.as_deref() {
            None => (0.002, 80.0),
            Some([lo, hi]) if lo < hi => (*lo, *hi),
            Some(other) => {
                return Err(Error::invalid(format!("range is {other:?}, want [lowest, highest]")));
            }
        };
        let edm = -1.2 + core::f64::consts::LN_2;
        let levels = match kind {
            0 => Levels::LogNormal(mean.unwrap_or(edm), std.unwrap_or(1.2)),
            1 => Levels::LogUniform(range.0.ln(), range.1.ln()),
            2 => Levels::LogitNormal(mean.unwrap_or(0.0), std.unwrap_or(1.0)),
            _ => Levels::UniformTime,
        };
        let cond_dropout = config.f64("cond_dropout", 0.0, 0.0..=1.0)?;
        Ok(Self { levels, shift, velocity, cond_dropout })
    }
}

impl Objective for Dsm {
    fn info(&self) -> ObjectiveInfo {
        let metrics = vec!["loss".into(), "mse".into()];
        ObjectiveInfo { metrics, ..ObjectiveInfo::default() }
    }

    fn loss<'b>(&self, b: Builder<'b>, io: &mut Loss<'b>) -> Result<()> {
        let n = io.components();
        if n == 0 {
            return Err(Error::invalid("there are 0 components, want at least 1"));
        }
        let Some(base) = b.denoiser_of("base") else {
            return Err(Error::invalid("there is no network slot named base"));
        };
        let (mut x, mut sigma, mut target) = (Vec::new(), Vec::new(), Vec::new());
        for c in 0..n {
            let level = self.level(b, c, io.x0(c));
            let law = b.process(c);
            let start = if is_discrete(b, c) { io.x0(c) } else { law.encode(io.x0(c)) };
            let [w, t] = law.perturb(start, level, purpose::DATA);
            x.push(w);
            sigma.push(level);
            target.push(t);
        }
        let cond = self.conditions(b);
        let eval = Eval { phase: 0, x: &x, sigma: &sigma, cond: cond.as_deref() };
        let d = b.denoise(base, &[eval]).pop().unwrap_or_default();
        let (mut loss, mut error) = (b.scalar(0.0), b.scalar(0.0));
        for (c, d) in d.into_iter().enumerate() {
            let law = b.process(c);
            let (part, weight) = if is_discrete(b, c) {
                let (x0, hit) = (io.x0(c), target[c]);
                (hit * cross_entropy(d, x0), law.loss_weight(sigma[c]))
            } else {
                let weight = if self.velocity {
                    ((sigma[c] + 1.0) / sigma[c]).square()
                } else {
                    let [.., weight] = law.precond(sigma[c]);
                    weight
                };
                ((d - target[c].stop_gradient()).square(), weight)
            };
            loss = loss + (weight * part).mean(&[]);
            error = error + part.mean(&[]);
        }
        io.set_loss(loss);
        io.set_metric(0, loss);
        io.set_metric(1, error);
        Ok(())
    }
}

impl Dsm {
    /// One level per row, shaped `[batch, 1, ..]` for data of the shape of `like`.
    fn level<'b>(&self, b: Builder<'b>, component: usize, like: Node<'b>) -> Node<'b> {
        let shape = level::shape(like);
        if is_discrete(b, component) {
            return b.uniform(&shape, purpose::LEVEL) * (1.0 - FIRST_TIME) + FIRST_TIME;
        }
        let sd = b.stats(component).w_var.sqrt();
        let log = match self.levels {
            Levels::LogNormal(mean, std) => b.normal(&shape, purpose::LEVEL) * std + mean,
            Levels::LogUniform(lo, hi) => b.uniform(&shape, purpose::LEVEL) * (hi - lo) + lo,
            Levels::LogitNormal(mean, std) => b.normal(&shape, purpose::LEVEL) * std + mean,
            Levels::UniformTime => {
                let t = b.uniform(&shape, purpose::LEVEL);
                return t / (1.0 - t).max(LAST_TIME) * self.shift;
            }
        };
        let unit = if matches!(self.levels, Levels::LogitNormal(..)) { 1.0 } else { sd };
        log.exp() * (unit * self.shift)
    }

    /// None = those of the job.
    fn conditions<'b>(&self, b: Builder<'b>) -> Option<Vec<Node<'b>>> {
        if self.cond_dropout == 0.0 || b.conds() == 0 {
            return None;
        }
        let drop = b.uniform(&[b.batch()], purpose::LEVEL).less(self.cond_dropout);
        let choose = |i| {
            let (value, null) = b.cond(i);
            drop.reshape(&level::shape(value)).choose(null, value)
        };
        Some((0..b.conds()).map(choose).collect())
    }
}

/// `-log p(x0)` per token.
fn cross_entropy<'b>(logits: Node<'b>, x0: Node<'b>) -> Node<'b> {
    let dims = x0.shape().to_vec();
    let index: Vec<i64> = dims.iter().copied().chain([1]).collect();
    -logits.log_softmax(-1).take_along(x0.reshape(&index), -1).reshape(&dims)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dsm(json: &str) -> Result<Dsm> {
        Dsm::create(&mut Config::parse(json).unwrap())
    }

    #[test]
    fn default_levels_are_edms() {
        let Levels::LogNormal(mean, std) = dsm("{}").unwrap().levels else { panic!("log-normal") };
        // ln sigma ~ N(-1.2, 1.2²) at sigma_data = 0.5
        assert!((mean + 0.5_f64.ln() + 1.2).abs() < 1e-15 && std == 1.2);
        let wide = dsm(r#"{"levels":"loguniform","range":[0.01,10]}"#).unwrap();
        assert_eq!(wide.levels, Levels::LogUniform(0.01_f64.ln(), 10.0_f64.ln()));
    }

    #[test]
    fn flow_times_have_their_own_defaults() {
        let flow = dsm(r#"{"levels":"logit_normal","shift":3,"weight":"velocity"}"#).unwrap();
        assert_eq!(
            (flow.levels, flow.shift, flow.velocity),
            (Levels::LogitNormal(0.0, 1.0), 3.0, true)
        );
        let d = dsm("{}").unwrap();
        assert!(d.shift == 1.0 && !d.velocity);
    }

    #[test]
    fn config_is_checked() {
        let message = |json: &str| dsm(json).unwrap_err().message;
        assert_eq!(message(r#"{"range":[1]}"#), "range is [1.0], want [lowest, highest]");
        assert_eq!(
            message(r#"{"levels":"normal"}"#),
            "levels is \"normal\", want one of lognormal, loguniform, logit_normal, uniform_time"
        );
    }
}
