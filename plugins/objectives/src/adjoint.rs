//! Adjoint matching (arXiv 2409.08861, 2605.06583; specs objectives 2.5, 2.6): the gradient of the reward by the last state is
//! carried back along the stored trajectory through the mean of the reference's step alone, and the model regresses on it.
//! With a step w' = a w + c D + sqrt(v) z and g the gradient at the state after it,
//!
//! stochastic: |c / sqrt(v) (D - D_ref) - sqrt(v) g / beta|² over the steps that draw; its optimum, under the noise of the
//! reverse SDE, is the tilt ref e^(r/beta). deterministic: |(D - D_ref)/t - (1 + sigma) g / beta|² with g at the state
//! before the step, the control of least energy of the ODE, which is not the tilt.
//!
//! The public code pairs a stochastic step with the gradient before it, which is biased: `pairing` `before` is there to show.

use crate::rollout::{continuous, denoised, mean_valid};
use crate::steps::Steps;
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Error, Factory, Loss, Node, Objective, ObjectiveInfo, POSITIVE, Result, Sweep,
    record, schema,
};

pub(crate) struct Adjoint {
    beta: f64,
    deterministic: bool,
    /// Of a stochastic step: the gradient at the state after it.
    after: bool,
    /// Only so many steps at the end. Before them a control of 0 is the truncated problem's own, so the deterministic form
    /// regresses on 0 there: left alone the network would carry the control of the others on.
    last: Option<usize>,
}

impl Factory for Adjoint {
    const ID: &'static CStr = c"org.diffx.adjoint_matching";
    const SUMMARY: &'static CStr =
        c"regression on the reward's gradient carried back through the reference";
    const SCHEMA: Option<&'static CStr> = schema![
        "beta": number "reward that one nat of KL (deterministic: one unit of energy) is worth", default 1, exclusiveMinimum 0;
        "deterministic": boolean "for the steps of an ODE sampler (euler)", default false;
        "pairing": string "which gradient a stochastic step regresses on", default "after", enum ["after", "before"];
        "last": integer "only so many steps at the end are trained, deterministic ones before them held to the reference; absent: all", minimum 1, maximum 1048576;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self {
            beta: config.f64("beta", 1.0, POSITIVE)?,
            deterministic: config.bool("deterministic", false)?,
            after: config.one_of("pairing", &[("after", true), ("before", false)])?,
            last: config.opt_usize("last", 1..=1 << 20)?,
        })
    }
}

impl Objective for Adjoint {
    const SWEEP: bool = true;

    fn info(&self) -> ObjectiveInfo {
        ObjectiveInfo {
            records: record::STATES
                | record::SIGMAS
                | record::KERNELS
                | record::CARRY
                | record::REWARD
                | record::REWARD_GRAD,
            networks: vec!["ref".into()],
            metrics: vec!["loss".into(), "pull".into()],
            sweep_backwards: true,
            n_rewards: 1,
        }
    }

    fn sweep<'b>(&self, b: Builder<'b>, io: &mut Sweep<'b>) -> Result<()> {
        let n = io.components();
        let x: Vec<Node<'b>> = (0..n).map(|c| io.x(c)).collect();
        let sigma: Vec<Node<'b>> = (0..n).map(|c| io.sigma(c)).collect();
        let d = denoised(b, "ref", &x, &sigma, 1)?;
        let mut total: Vec<Option<Node<'b>>> = vec![None; n];
        for (c, d) in d.iter().enumerate() {
            let number = |k: i64| io.kernel(c).slice(&[k], &[k + 1]).sum(&[]);
            let mean = number(0) * x[c] + number(1) * *d;
            for (sum, part) in total.iter_mut().zip(b.grad(mean, io.carry(c), &x)) {
                *sum = Some(sum.map_or(part, |s| s + part));
            }
        }
        for (c, sum) in total.into_iter().enumerate() {
            if let Some(sum) = sum {
                io.set_carry(c, sum);
            }
        }
        Ok(())
    }

    fn loss<'b>(&self, b: Builder<'b>, io: &mut Loss<'b>) -> Result<()> {
        continuous(b, "adjoint_matching")?;
        let steps = Steps::of(b, io, None)?;
        let (now, then) = (steps.denoised(b, "base")?, steps.denoised(b, "ref")?);
        let first = if self.after && !self.deterministic { 1 } else { 0 };
        let mut carries = Vec::new();
        for c in 0..io.components() {
            let carry = io.carry(c);
            let mut start = vec![0; carry.shape().len()];
            let mut stop = carry.shape().to_vec();
            (start[0], stop[0]) = (first, first + steps.n);
            carries.push(carry.slice(&start, &stop).reshape(&steps.x[c].shape()));
        }
        let strength = 1.0 / self.beta;
        let kept = self.last.map_or(steps.n, |l| steps.n.min(l as i64));
        let skipped = steps.n - kept;
        let gap = |c: usize| now[c] - then[c].stop_gradient();
        let each = |c: usize| {
            let g = carries[c].stop_gradient() * strength;
            if self.deterministic {
                let level = steps.sigma[c].reshape(&steps.keep[c].shape());
                let t = level / (level + 1.0);
                let g = if skipped > 0 {
                    let row = b.iota(&g.shape(), 0, 0);
                    row.greater((skipped * b.batch()) as f64 - 0.5).choose(g, 0.0)
                } else {
                    g
                };
                return (gap(c) / t - g * (level + 1.0)).square();
            }
            let deviation = steps.variance[c].sqrt();
            (gap(c) * steps.step[c] / deviation - g * deviation).square()
        };
        let per_step = if self.deterministic {
            let parts = (0..io.components()).map(|c| {
                let part = each(c);
                part.sum(&crate::rollout::inner(part))
            });
            let total = parts.reduce(|a, b| a + b);
            let Some(total) = total else {
                return Err(Error::invalid("there are 0 components, want at least 1"));
            };
            total.reshape(&[steps.n, b.batch()])
        } else {
            steps.reduced(each, false)
        };
        let first = if self.deterministic { 0 } else { skipped };
        let per_step = per_step.slice(&[first, 0], &[steps.n, b.batch()]);
        let valid = io.valid();
        let loss = mean_valid(per_step.mean(&[0]), valid);
        let pull = steps.reduced(|c| carries[c].square(), true);
        io.set_loss(loss);
        io.set_metric(0, loss);
        io.set_metric(1, mean_valid(pull.mean(&[0]), valid));
        Ok(())
    }
}
