//! Policy gradient on the sampler's own steps (specs objectives 2.2, 2.9): the policy is the Gaussian of each step, whose
//! mean and variance the sampler says. `flow_grpo` (arXiv 2505.05470) adds a KL to the model as it was, `ddpo` is the same
//! with DDIM and none.
//!
//! Per step max(-A rho, -A clip(rho, 1 ± clip)) + kl KL. Means over elements (`reduce` `mean`, as released) make rho the
//! ratio of one element, which is why the clip is 1e-4. Two biases are known: a KL as a loss per step (`kl_in` `loss`, as
//! released) ignores that later divergence depends on earlier actions and under-optimises; `kl_in` `reward` subtracts what is
//! still to come from the reward. And noise below that of the reverse SDE leaves a dependence on the first draw.

use crate::rollout::{Scale, centred, continuous, mean_valid};
use crate::steps::Steps;
use core::ffi::CStr;
use diffx_plugin::{
    Advantage, Builder, Config, Factory, Loss, Objective, ObjectiveInfo, POSITIVE, Result, record,
    schema,
};

struct Steered {
    scale: Scale,
    clip: f64,
    kl: f64,
    /// Divergence to come is taken off the reward.
    to_go: bool,
    averaged: bool,
    steps: Option<usize>,
}

pub(crate) struct FlowGrpo(Steered);
pub(crate) struct Ddpo(Steered);

macro_rules! keys {
    ($($own:tt)*) => { schema![
        $($own)*
        "clip": number "half-width of the interval of ratios", default 0.0001, exclusiveMinimum 0;
        "reduce": string "of log-densities over the elements of a sample", default "mean", enum ["mean", "sum"];
        "steps": integer "how many steps from the first are trained on; absent: all", minimum 1, maximum 1048576;
        "advantage": string "reward less its group's mean, divided by the deviation of all or by beta", default "standard", enum ["standard", "mean"];
        "advantage_clip": number "largest absolute advantage", default 5, exclusiveMinimum 0;
        "beta": number "what rewards are divided by where advantage is mean", default 1, exclusiveMinimum 0;
        "weights": numbers "of each reward in their sum; default [1]";
    ] };
}

impl Steered {
    fn create(config: &mut Config, kl: f64, to_go: bool) -> Result<Self> {
        Ok(Self {
            scale: Scale::create(config, true, 5.0)?,
            clip: config.f64("clip", 1e-4, POSITIVE)?,
            averaged: config.one_of("reduce", &[("mean", true), ("sum", false)])?,
            steps: config.opt_usize("steps", 1..=1 << 20)?,
            kl,
            to_go,
        })
    }

    fn info(&self) -> ObjectiveInfo {
        let mut networks = vec!["old".into()];
        if self.kl > 0.0 {
            networks.push("ref".into());
        }
        let metrics = ["loss", "log_density", "ratio", "kl"];
        ObjectiveInfo {
            records: record::STATES | record::SIGMAS | record::KERNELS | record::REWARD,
            networks,
            metrics: metrics.iter().map(|m| (*m).into()).collect(),
            n_rewards: self.scale.rewards(),
            ..ObjectiveInfo::default()
        }
    }

    fn loss<'b>(&self, b: Builder<'b>, io: &mut Loss<'b>) -> Result<()> {
        continuous(b, "a policy of steps")?;
        let valid = io.valid();
        let steps = Steps::of(b, io, self.steps)?;
        let mean = steps.means(&steps.denoised(b, "base")?);
        let now = steps.log_density(&mean, self.averaged);
        let before = steps.means(&steps.denoised(b, "old")?);
        let ratio = (now - steps.log_density(&before, self.averaged).stop_gradient()).exp();
        let mut pull = io.advantage().reshape(&[1, b.batch()]);
        let mut kl = b.scalar(0.0);
        let mut cost = b.scalar(0.0);
        if self.kl > 0.0 {
            let reference = steps.means(&steps.denoised(b, "ref")?);
            let each = steps.divergence(&mean, &reference, self.averaged) * self.kl;
            kl = each.sum(&[0]);
            cost = kl;
            if self.to_go {
                // what is to come from this step on, less the step's own, whose gradient is exact in `cost`
                let fixed = each.stop_gradient();
                let later = fixed.sum_keep(&[0]) - fixed.cumsum(0);
                pull = centred(pull - later, valid, io.group(), true);
            }
        }
        let pull = pull.stop_gradient();
        let held = ratio.clamp(1.0 - self.clip, 1.0 + self.clip);
        let part = (-pull * ratio).max(-pull * held).sum(&[0]) + cost;
        let loss = mean_valid(part, valid);
        io.set_loss(loss);
        io.set_metric(0, loss);
        io.set_metric(1, mean_valid(now.mean(&[0]), valid));
        io.set_metric(2, mean_valid(ratio.mean(&[0]), valid));
        io.set_metric(3, mean_valid(kl + valid * 0.0, valid));
        Ok(())
    }
}

impl Factory for FlowGrpo {
    const ID: &'static CStr = c"org.diffx.flow_grpo";
    const SUMMARY: &'static CStr =
        c"policy gradient on the sampler's Gaussian steps, with a KL to the model as it was";
    const SCHEMA: Option<&'static CStr> = keys![
        "kl": number "weight of the divergence to ref", default 0.04, minimum 0;
        "kl_in": string "as a loss per step, or taken off the reward with what is to come", default "loss", enum ["loss", "reward"];
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let kl = config.f64("kl", 0.04, 0.0..)?;
        let to_go = config.one_of("kl_in", &[("loss", false), ("reward", true)])?;
        Steered::create(config, kl, to_go).map(Self)
    }
}

impl Factory for Ddpo {
    const ID: &'static CStr = c"org.diffx.ddpo";
    const SUMMARY: &'static CStr =
        c"policy gradient on the sampler's Gaussian steps, clipped and without KL";
    const SCHEMA: Option<&'static CStr> = keys![];

    fn create(config: &mut Config) -> Result<Self> {
        Steered::create(config, 0.0, false).map(Self)
    }
}

macro_rules! objective {
    ($($name:ident)*) => { $(
        impl Objective for $name {
            const ADVANTAGE: bool = true;

            fn info(&self) -> ObjectiveInfo {
                self.0.info()
            }

            fn advantage<'b>(&self, b: Builder<'b>, io: &mut Advantage<'b>) -> Result<()> {
                self.0.scale.advantage(b, io);
                Ok(())
            }

            fn loss<'b>(&self, b: Builder<'b>, io: &mut Loss<'b>) -> Result<()> {
                self.0.loss(b, io)
            }
        }
    )* };
}

objective!(FlowGrpo Ddpo);
