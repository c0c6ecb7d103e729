//! Diffusion-DPO (arXiv 2311.12908; specs objectives 2.11): of each two samples that follow each other the one with the
//! larger reward should gain more evidence over `ref` than the other, -log sigmoid(strength [(E - E_ref)_w - (E - E_ref)_l]),
//! both with the same times and the same noise. Rewards may be labels (1 and 0); a tie is no pair. Draws are averaged inside
//! the sigmoid: with one, as released, the model stays timid, and with many it overshoots; neither reaches the tilt.

use crate::evidence::Elbo;
use crate::rollout::{continuous, total, weights};
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Error, Factory, Loss, Node, Objective, ObjectiveInfo, POSITIVE, Result,
    record, schema,
};

pub(crate) struct Dpo {
    elbo: Elbo,
    weights: Vec<f64>,
    strength: f64,
}

impl Factory for Dpo {
    const ID: &'static CStr = c"org.diffx.dpo";
    const SUMMARY: &'static CStr = c"Diffusion-DPO: the better of two samples gains more evidence";
    const SCHEMA: Option<&'static CStr> = schema![
        "strength": number "of the difference inside the sigmoid: half of the released beta", default 2500, exclusiveMinimum 0;
        "estimator": string "weight of a draw's squared error", default "noise", enum ["noise", "adaptive", "uniform", "t", "exact"];
        "reduce": string "over the elements of a sample; auto: sum for exact, else mean", default "auto", enum ["auto", "mean", "sum"];
        "draws": integer "of level and noise per pair", default 1, minimum 1, maximum 64;
        "t_min": number "least flow time", default 0.02, minimum 0.000001, maximum 0.5;
        "weights": numbers "of each reward in their sum; default [1]";
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self {
            elbo: Elbo::create(config, 1, "noise")?,
            weights: weights(config)?,
            strength: config.f64("strength", 2500.0, POSITIVE)?,
        })
    }
}

impl Objective for Dpo {
    fn info(&self) -> ObjectiveInfo {
        ObjectiveInfo {
            records: record::REWARD,
            networks: vec!["ref".into()],
            metrics: vec!["loss".into(), "right".into(), "pairs".into()],
            n_rewards: self.weights.len() as u32,
            ..ObjectiveInfo::default()
        }
    }

    fn loss<'b>(&self, b: Builder<'b>, io: &mut Loss<'b>) -> Result<()> {
        continuous(b, "dpo")?;
        let batch = b.batch();
        if batch % 2 != 0 || io.group() % 2 != 0 && io.group() != 1 {
            let text = format!("a batch of {batch} in groups of {}, want pairs", io.group());
            return Err(Error::invalid(text));
        }
        let x0: Vec<Node<'b>> = (0..io.components()).map(|c| io.x0(c)).collect();
        let draws = self.elbo.draw(b, &x0, true)?;
        let now = self.elbo.score(b, "base", &draws)?.mean();
        let then = self.elbo.score(b, "ref", &draws)?.mean().stop_gradient();
        let difference = |of: Node<'b>| {
            let pairs = of.reshape(&[batch / 2, 2]);
            let side = |k: i64| pairs.slice(&[0, k], &[batch / 2, k + 1]).reshape(&[batch / 2]);
            side(0) - side(1)
        };
        let sign = difference(total(b, io.reward(), &self.weights)).sign();
        let valid = io.valid().reshape(&[batch / 2, 2]);
        let both = valid.min_over(&[1]) * sign.square();
        let margin = difference(now - then) * sign;
        let pairs = both.sum(&[]);
        let loss = ((margin * -self.strength).softplus() * both).sum(&[]) / pairs.max(1.0);
        let right = margin.greater(0.0).cast(0) * both;
        io.set_loss(loss);
        io.set_metric(0, loss);
        io.set_metric(1, right.sum(&[]) / pairs.max(1.0));
        io.set_metric(2, pairs);
        Ok(())
    }
}
