//! The gradient of log h as a network of its own, so that guidance by a learned h needs no product with a Jacobian (CDG-MCL;
//! Guo, Tang and Xu, arXiv 2602.05533; specs guidance_samplers 1.1, 1.2). h is a network that stays as it is, learned by `cdg`.
//!
//! `covariation`: between a level and a lower one the increments of h and of the state covary by the gradient of h. For
//! w' at the lower level and w noised from it this holds at any distance, not only in the limit, and for every process:
//!
//! `grad log h(w) = E[(h(w')/h(w) - 1) grad log p(w | w') | w]`
//!
//! (the score of w is the mean of the last factor). Values of h alone are asked, but a target knows of n numbers about
//! one: its cosine with the gradient is `1/sqrt(1 + (n + 1)/R)` after R of them. `distil`: the target is the gradient of
//! log h itself, which has no noise; take it wherever h can be differentiated.
//!
//! The network (slot `base` here; `doob` takes it as `gradient`) gives `sigma grad log h`, shaped as the state, of the same inputs
//! as h. The square is weighted by h, since what is drawn given the event sees states so.
//!
//! Metrics: `loss`, `explained` (share of the target's weighted square that the network tells).

use crate::cdg::{asked, level, size, unit_of};
use core::ffi::CStr;
use diffx_plugin::event::slope;
use diffx_plugin::{
    Builder, Config, Error, Factory, Loss, Node, Objective, ObjectiveInfo, POSITIVE, Result,
    purpose, schema,
};

#[derive(Debug, PartialEq)]
pub(crate) struct CdgGradient {
    /// Of h; several multiply.
    slots: Vec<String>,
    distil: bool,
    /// The lower level, as a share of the level.
    lower: f64,
    range: (f64, f64),
    unit: Option<f64>,
}

/// Keeps the quotient of two h finite.
const LEAST: f64 = -60.0;
const TINY: f64 = 1e-30;

impl Factory for CdgGradient {
    const ID: &'static CStr = c"org.diffx.cdg_gradient";
    const SUMMARY: &'static CStr =
        c"the gradient of log h, from a learned h: by covariation (CDG-MCL) or distilled";
    const SCHEMA: Option<&'static CStr> = schema![
        "slot": string "networks that give the logit of h, with commas between; default h";
        "target": string "what the network learns: increments of h and state, or the gradient of h", default "distil", enum ["distil", "covariation"];
        "lower": number "covariation: the level of the increment's end, as a share of the level", default 0.7, minimum 0.05, maximum 0.95;
        "unit": number "as in cdg: the root mean square of w that the input is scaled by; default that of these data", exclusiveMinimum 0;
        "range": numbers "as in cdg: [lowest, highest] sigma / unit, or / deviation of the data where no unit is given; default [0.002, 160]", exclusiveMinimum 0;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let text = config.opt_str("slot")?.unwrap_or_else(|| "h".into());
        let slots: Vec<String> = text.split(',').map(|s| s.trim().to_owned()).collect();
        let twice = slots.iter().enumerate().any(|(i, s)| s.is_empty() || slots[..i].contains(s));
        if twice {
            let text = format!("slot is {text:?}, want names with commas between, each once");
            return Err(Error::invalid(text));
        }
        Ok(Self {
            slots,
            distil: config.one_of("target", &[("distil", true), ("covariation", false)])?,
            lower: config.f64("lower", 0.7, 0.05..=0.95)?,
            range: crate::cdg::range(config)?,
            unit: config.opt_f64("unit", POSITIVE)?,
        })
    }
}

impl Objective for CdgGradient {
    fn info(&self) -> ObjectiveInfo {
        let metrics = vec!["loss".into(), "explained".into()];
        ObjectiveInfo { networks: self.slots.clone(), metrics, ..ObjectiveInfo::default() }
    }

    fn loss<'b>(&self, b: Builder<'b>, io: &mut Loss<'b>) -> Result<()> {
        let n = io.components();
        if n == 0 || (0..n).any(|c| b.component(c).is_some_and(|v| v.discrete)) {
            return Err(Error::invalid("cdg_gradient wants continuous components, at least one"));
        }
        let log = level(b, self.range);
        let (mut w, mut before, mut sigmas, mut lowers) = (vec![], vec![], vec![], vec![]);
        for c in 0..n {
            let (law, x0) = (b.process(c), io.x0(c));
            let sigma = (log.exp() * size(b, c, self.unit)).reshape(&crate::level::shape(x0));
            let lower = sigma * self.lower;
            let [end, _] = law.perturb(law.encode(x0), lower, purpose::DATA);
            w.push(law.renoise(end, lower, sigma, purpose::DATA));
            before.push(end);
            sigmas.push(sigma);
            lowers.push(lower);
        }
        let value = self.log_h(b, &w, &sigmas)?;
        let mut targets = if self.distil {
            slope(b, value, &w)
        } else {
            self.covariation(b, &w, &before, &sigmas, self.log_h(b, &before, &lowers)? - value)?
        };
        let units = unit_of(b, n, self.unit);
        let told = asked(b, "base", &w, &sigmas, &units, n);
        let weight = value.exp().stop_gradient();
        let weight = weight / weight.mean(&[]).max(TINY);
        let (mut loss, mut whole) = (b.scalar(0.0), b.scalar(0.0));
        for (c, target) in targets.iter_mut().enumerate() {
            let u = match told.get(c) {
                Some(u) if u.is_error() => b.error_node(),
                Some(u) if count(*u) == count(*target) => u.reshape(&target.shape()),
                _ => {
                    return Err(Error::invalid(
                        "cdg_gradient: the network gives other than a number for each of the state, want as many, as \
                         of mlp with predicts \"value\" and out that many",
                    ));
                }
            };
            let target = (sigmas[c] * *target).stop_gradient();
            let per_row = |x: Node<'b>| match (1..x.shape().len() as i64).collect::<Vec<_>>() {
                axes if axes.is_empty() => x,
                axes => x.mean(&axes),
            };
            loss = loss + (weight * per_row((u - target).square())).mean(&[]);
            whole = whole + (weight * per_row(target.square())).mean(&[]);
        }
        io.set_loss(loss);
        io.set_metric(0, loss);
        io.set_metric(1, 1.0 - loss / whole.max(TINY));
        Ok(())
    }
}

fn count(x: Node<'_>) -> i64 {
    x.shape().iter().product()
}

impl CdgGradient {
    fn log_h<'b>(&self, b: Builder<'b>, w: &[Node<'b>], sigma: &[Node<'b>]) -> Result<Node<'b>> {
        let batch = b.batch();
        let units = unit_of(b, w.len(), self.unit);
        let mut sum = b.scalar(0.0);
        for slot in &self.slots {
            let logit = match asked(b, slot, w, sigma, &units, 1).first() {
                Some(out) if out.is_error() => b.error_node(),
                Some(out) if count(*out) == batch => out.reshape(&[batch]),
                _ => {
                    return Err(Error::invalid(format!(
                        "network {slot}: gives more than one number per sample, want the logit of h"
                    )));
                }
            };
            sum = sum - (-logit).softplus();
        }
        Ok(sum.max(LEAST))
    }

    /// `(h(w')/h(w) - 1) grad log p(w | w')` of a change of log h.
    fn covariation<'b>(
        &self,
        b: Builder<'b>,
        w: &[Node<'b>],
        before: &[Node<'b>],
        sigma: &[Node<'b>],
        change: Node<'b>,
    ) -> Result<Vec<Node<'b>>> {
        let share = (1.0 - self.lower * self.lower).sqrt();
        let mut out = Vec::new();
        for c in 0..w.len() {
            // level squared is the clock of every process that has a score
            let log = b.process(c).log_transition(w[c], before[c], sigma[c] * share);
            let gain = (change.exp() - 1.0).reshape(&crate::level::shape(w[c]));
            out.push(gain * slope(b, log, &[w[c]]).pop().unwrap_or_else(|| b.error_node()));
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_is_checked() {
        let made = |json: &str| CdgGradient::create(&mut Config::parse(json).unwrap());
        assert_eq!(made("{}").unwrap().slots, ["h"]);
        assert!(made("{}").unwrap().distil);
        let two = made(r#"{"slot":"h1, h2","target":"covariation"}"#).unwrap();
        assert!(two.slots == ["h1", "h2"] && !two.distil);
        assert!(made(r#"{"slot":"h,h"}"#).unwrap_err().message.contains("each once"));
        assert!(made(r#"{"lower":1}"#).unwrap_err().message.starts_with("lower is 1"));
    }
}
