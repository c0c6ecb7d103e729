//! Policy gradients with the evidence bound of the final sample for a log-likelihood (arXiv 2602.04663; specs objectives
//! 2.1): any sampler draws, nothing of the trajectory is kept. With D = sg(E) - E_anchor and A the advantage,
//!
//! `pepg` -rho (A - D) E (PAR has the same gradient), `epg` -rho A E, `grpo` max(-A rho', -A clip(rho', 1 ± clip)),
//!
//! where rho = e^D against slot `old`, E is drawn apart from D unless `shared_draws`, which biases the result (the released
//! code shares), `own` adds -own E: denoising on the model's own samples, which keeps sampler and bound together, and `kl`
//! the velocity's distance to `ref`. With `anchor` `ref` the log-ratio is to the model as it was: then the optimum is the
//! tilt ref e^(R/beta), and the update is on-policy.

use crate::evidence::Elbo;
use crate::rollout::{Scale, centred, continuous, mean_valid};
use core::ffi::CStr;
use diffx_plugin::{
    Advantage, Builder, Config, Factory, Loss, Node, Objective, ObjectiveInfo, POSITIVE, Result,
    record, schema,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Pepg,
    Epg,
    Grpo,
}

pub(crate) struct ElboPg {
    form: Form,
    elbo: Elbo,
    scale: Scale,
    /// The log-ratio is to `ref`, else to `old`.
    to_ref: bool,
    shared: bool,
    own: f64,
    kl: f64,
    clip: f64,
}

/// Log-ratios are cut here before they are exponentiated.
const MOST_LOG: f64 = 20.0;

impl Factory for ElboPg {
    const ID: &'static CStr = c"org.diffx.elbo_pg";
    const SUMMARY: &'static CStr = c"policy gradient by the evidence bound of final samples";
    const SCHEMA: Option<&'static CStr> = schema![
        "form": string "of the loss", default "pepg", enum ["pepg", "epg", "grpo"];
        "anchor": string "what the log-ratio is taken to: the policy that drew, or the model as it was", default "old", enum ["old", "ref"];
        "estimator": string "weight of a draw's squared error", default "adaptive", enum ["adaptive", "uniform", "noise", "t", "exact"];
        "reduce": string "over the elements of a sample; auto: sum for exact, else mean", default "auto", enum ["auto", "mean", "sum"];
        "draws": integer "of level and noise per sample", default 8, minimum 1, maximum 64;
        "t_min": number "least flow time", default 0.02, minimum 0.000001, maximum 0.5;
        "shared_draws": boolean "the log-ratio and the gradient see the same noise, as in the released code", default false;
        "own": number "weight of denoising the model's own samples", default 0, minimum 0;
        "kl": number "weight of the squared distance of the velocity to that of ref", default 0, minimum 0;
        "clip": number "grpo: half-width of the interval of ratios", default 0.001, exclusiveMinimum 0;
        "advantage": string "reward less its group's mean, divided by beta or by the deviation of all", default "mean", enum ["mean", "standard"];
        "advantage_clip": number "largest absolute advantage", default 1000, exclusiveMinimum 0;
        "beta": number "reward that one nat of KL is worth", default 1, exclusiveMinimum 0;
        "weights": numbers "of each reward in their sum; default [1]";
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let forms = [("pepg", Form::Pepg), ("epg", Form::Epg), ("grpo", Form::Grpo)];
        Ok(Self {
            form: config.one_of("form", &forms)?,
            elbo: Elbo::create(config, 8, "adaptive")?,
            scale: Scale::create(config, false, 1000.0)?,
            to_ref: config.one_of("anchor", &[("old", false), ("ref", true)])?,
            shared: config.bool("shared_draws", false)?,
            own: config.f64("own", 0.0, 0.0..)?,
            kl: config.f64("kl", 0.0, 0.0..)?,
            clip: config.f64("clip", 1e-3, POSITIVE)?,
        })
    }
}

impl Objective for ElboPg {
    const ADVANTAGE: bool = true;

    fn info(&self) -> ObjectiveInfo {
        let mut networks = Vec::new();
        if !self.to_ref {
            networks.push("old".into());
        }
        if self.to_ref || self.kl > 0.0 {
            networks.push("ref".into());
        }
        ObjectiveInfo {
            records: record::REWARD,
            networks,
            metrics: vec!["loss".into(), "elbo".into(), "log_ratio".into(), "kl".into()],
            n_rewards: self.scale.rewards(),
            ..ObjectiveInfo::default()
        }
    }

    fn advantage<'b>(&self, b: Builder<'b>, io: &mut Advantage<'b>) -> Result<()> {
        self.scale.advantage(b, io);
        Ok(())
    }

    fn loss<'b>(&self, b: Builder<'b>, io: &mut Loss<'b>) -> Result<()> {
        continuous(b, "elbo_pg")?;
        let valid = io.valid();
        let x0: Vec<Node<'b>> = (0..io.components()).map(|c| io.x0(c)).collect();
        let anchor = if self.to_ref { "ref" } else { "old" };
        let draws = self.elbo.draw(b, &x0, false)?;
        let scored = self.elbo.score(b, "base", &draws)?;
        // the log-ratio, [draws, batch] on the draws of the gradient or [1, batch] on its own
        let gap = if self.shared || self.form == Form::Grpo {
            scored.each - self.elbo.score(b, anchor, &draws)?.each.stop_gradient()
        } else {
            let apart = self.elbo.draw(b, &x0, false)?;
            let now = self.elbo.score(b, "base", &apart)?;
            let then = self.elbo.score(b, anchor, &apart)?;
            (now.mean() - then.mean()).stop_gradient().reshape(&[1, b.batch()])
        };
        let fixed = gap.stop_gradient().clamp(-MOST_LOG, MOST_LOG);
        let mut pull = io.advantage().reshape(&[1, b.batch()]);
        if self.form == Form::Pepg {
            pull = pull - gap.stop_gradient();
        }
        if self.to_ref {
            // the normalising constant of the tilt is nobody's merit
            pull = centred(pull, valid, io.group(), true);
        }
        let ratio = if self.to_ref { b.scalar(1.0) } else { fixed.exp() };
        let part = match self.form {
            Form::Pepg | Form::Epg => -(ratio * pull.stop_gradient() * scored.each),
            Form::Grpo => {
                let moving = gap.clamp(-MOST_LOG, MOST_LOG).exp();
                let held = moving.clamp(1.0 - self.clip, 1.0 + self.clip);
                (-pull * moving).max(-pull * held)
            }
        };
        let mut loss = mean_valid(part.mean(&[0]), valid);
        let elbo = mean_valid(scored.mean(), valid);
        if self.own > 0.0 {
            loss = loss - elbo * self.own;
        }
        let mut kl = b.scalar(0.0);
        if self.kl > 0.0 {
            let reference = self.elbo.score(b, "ref", &draws)?;
            kl = mean_valid(self.elbo.gap(b, &draws, &scored, &reference), valid);
            loss = loss + kl * self.kl;
        }
        io.set_loss(loss);
        io.set_metric(0, loss);
        io.set_metric(1, elbo);
        io.set_metric(2, mean_valid(gap.mean(&[0]), valid));
        io.set_metric(3, kl);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_follow_the_settings() {
        let of = |json: &str| {
            let mut config = Config::parse(json).unwrap();
            let made = ElboPg::create(&mut config).unwrap();
            config.finish(ElboPg::SCHEMA).unwrap();
            made.info().networks
        };
        assert_eq!(of("{}"), ["old"]);
        assert_eq!(of(r#"{"kl":0.1}"#), ["old", "ref"]);
        assert_eq!(of(r#"{"anchor":"ref"}"#), ["ref"]);
        let mut config = Config::parse(r#"{"weights":[]}"#).unwrap();
        let e = ElboPg::create(&mut config).err().unwrap();
        assert_eq!(e.message, "weights are 0 numbers, want 1 to 64");
    }
}
