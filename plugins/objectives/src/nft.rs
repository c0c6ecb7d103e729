//! DiffusionNFT (arXiv 2509.16117; specs objectives 2.3): samples of slot `old` are forward-diffused, and what their reward
//! says enters as a mixture of a policy pulled towards the model and one pushed from it, v± = (1 ∓ b) v_old ± b v. With q the
//! advantage mapped to [0, 1], the loss is clip / b (q e(v+) + (1 - q) e(v-)); no likelihood and no ratio.
//!
//! Where `old` is consistent the optimum of one round is v_old + (2/b) E[(q - 1/2)(v* - v_old) | x_t].

use crate::evidence::Elbo;
use crate::rollout::{Scale, continuous, mean_valid};
use core::ffi::CStr;
use diffx_plugin::{
    Advantage, Builder, Config, Factory, Loss, Node, Objective, ObjectiveInfo, POSITIVE, Result,
    record, schema,
};

pub(crate) struct Nft {
    elbo: Elbo,
    scale: Scale,
    mix: f64,
    clip: f64,
    kl: f64,
}

/// Largest advantage unless the config says otherwise.
const CLIP: f64 = 5.0;

impl Factory for Nft {
    const ID: &'static CStr = c"org.diffx.nft";
    const SUMMARY: &'static CStr =
        c"DiffusionNFT: a denoising loss on samples weighed by their rewards";
    const SCHEMA: Option<&'static CStr> = schema![
        "mix": number "b: how far the two policies stand from old", default 1, exclusiveMinimum 0;
        "kl": number "weight of the squared distance of the velocity to that of ref", default 0.0001, minimum 0;
        "estimator": string "weight of a draw's squared error", default "adaptive", enum ["adaptive", "uniform", "noise", "t", "exact"];
        "reduce": string "over the elements of a sample; auto: sum for exact, else mean", default "auto", enum ["auto", "mean", "sum"];
        "draws": integer "of level and noise per sample", default 8, minimum 1, maximum 64;
        "t_min": number "least flow time", default 0.02, minimum 0.000001, maximum 0.5;
        "advantage": string "reward less its group's mean, divided by the deviation of all or by beta", default "standard", enum ["standard", "mean"];
        "advantage_clip": number "the advantage that is mapped to probability 1", default 5, exclusiveMinimum 0;
        "beta": number "what rewards are divided by where advantage is mean", default 1, exclusiveMinimum 0;
        "weights": numbers "of each reward in their sum; default [1]";
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self {
            elbo: Elbo::create(config, 8, "adaptive")?,
            scale: Scale::create(config, true, CLIP)?,
            clip: config.f64("advantage_clip", CLIP, POSITIVE)?,
            mix: config.f64("mix", 1.0, POSITIVE)?,
            kl: config.f64("kl", 1e-4, 0.0..)?,
        })
    }
}

impl Objective for Nft {
    const ADVANTAGE: bool = true;

    fn info(&self) -> ObjectiveInfo {
        let mut networks = vec!["old".into()];
        if self.kl > 0.0 {
            networks.push("ref".into());
        }
        ObjectiveInfo {
            records: record::REWARD,
            networks,
            metrics: vec!["loss".into(), "optimality".into(), "moved".into()],
            n_rewards: self.scale.rewards(),
            ..ObjectiveInfo::default()
        }
    }

    fn advantage<'b>(&self, b: Builder<'b>, io: &mut Advantage<'b>) -> Result<()> {
        self.scale.advantage(b, io);
        Ok(())
    }

    fn loss<'b>(&self, b: Builder<'b>, io: &mut Loss<'b>) -> Result<()> {
        continuous(b, "nft")?;
        let valid = io.valid();
        let x0: Vec<Node<'b>> = (0..io.components()).map(|c| io.x0(c)).collect();
        let q = (io.advantage() / (2.0 * self.clip) + 0.5).clamp(0.0, 1.0);
        let q = q.reshape(&[1, b.batch()]);
        let draws = self.elbo.draw(b, &x0, false)?;
        let now = self.elbo.score(b, "base", &draws)?;
        let old = self.elbo.score(b, "old", &draws)?;
        let mixed = |sign: f64| -> Vec<Node<'b>> {
            let of = |(d, o): (&Node<'b>, &Node<'b>)| {
                let o = o.stop_gradient();
                o + (*d - o) * (sign * self.mix)
            };
            now.d.iter().zip(&old.d).map(of).collect()
        };
        let towards = -self.elbo.weigh(b, &draws, &mixed(1.0));
        let away = -self.elbo.weigh(b, &draws, &mixed(-1.0));
        let part = (q * towards + (-q + 1.0) * away) * (self.clip / self.mix);
        let mut loss = mean_valid(part.mean(&[0]), valid);
        if self.kl > 0.0 {
            let reference = self.elbo.score(b, "ref", &draws)?;
            let kl = self.elbo.gap(b, &draws, &now, &reference);
            loss = loss + mean_valid(kl, valid) * self.kl;
        }
        let moved = mean_valid(self.elbo.gap(b, &draws, &now, &old), valid);
        io.set_loss(loss);
        io.set_metric(0, loss);
        io.set_metric(1, mean_valid(q.reshape(&[b.batch()]), valid));
        io.set_metric(2, moved);
        Ok(())
    }
}
