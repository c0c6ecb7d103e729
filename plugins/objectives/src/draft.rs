//! DRaFT-K (arXiv 2309.17400; specs objectives 2.10): the gradient of the reward goes back through the last K steps of the
//! sampler into the weights. States stay those of the rollout, and the mean of each step carries the gradient on, so
//! stochastic samplers serve as well. No KL: the reward rises without bound, stop early or scale an adapter.

use crate::rollout::{continuous, denoised, mean_valid};
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Config, Factory, Loss, Node, Objective, ObjectiveInfo, Result, record, schema,
};

pub(crate) struct Draft {
    last: usize,
}

impl Factory for Draft {
    const ID: &'static CStr = c"org.diffx.draft";
    const SUMMARY: &'static CStr =
        c"DRaFT-K: the reward's gradient through the last K steps of the sampler";
    const SCHEMA: Option<&'static CStr> = schema![
        "last": integer "K: how many steps at the end carry the gradient", default 1, minimum 1, maximum 256;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self { last: config.usize("last", 1, 1..=256)? })
    }
}

impl Objective for Draft {
    fn info(&self) -> ObjectiveInfo {
        ObjectiveInfo {
            records: record::STATES
                | record::SIGMAS
                | record::KERNELS
                | record::REWARD
                | record::REWARD_GRAD,
            metrics: vec!["loss".into()],
            n_rewards: 1,
            ..ObjectiveInfo::default()
        }
    }

    fn loss<'b>(&self, b: Builder<'b>, io: &mut Loss<'b>) -> Result<()> {
        continuous(b, "draft")?;
        let components = io.components();
        let rows = io.kernels(0).shape().first().copied().unwrap_or(0);
        let kept = rows.min(self.last as i64);
        let record = |c: usize, k: i64| {
            let states = io.states(c);
            let dims = states.shape();
            let mut start = vec![0; dims.len()];
            let mut stop = dims.to_vec();
            (start[0], stop[0]) = (k, k + 1);
            states.slice(&start, &stop).reshape(dims.get(1..).unwrap_or_default())
        };
        let mut x: Vec<Node<'b>> = (0..components).map(|c| record(c, rows - kept)).collect();
        for k in rows - kept..rows {
            let level = |c: usize| io.sigmas(c).slice(&[k], &[k + 1]).sum(&[]);
            let sigma: Vec<Node<'b>> = (0..components).map(level).collect();
            let d = denoised(b, "base", &x, &sigma, 1)?;
            x = (0..components)
                .map(|c| {
                    let number = |i: i64| io.kernels(c).slice(&[k, i], &[k + 1, i + 1]).sum(&[]);
                    let mean = number(0) * x[c] + number(1) * d[c];
                    // the state of the rollout, with the gradient of the mean
                    record(c, k + 1) + (mean - mean.stop_gradient())
                })
                .collect();
        }
        let mut gain = b.scalar(0.0);
        for (c, x) in x.iter().enumerate() {
            let level = io.sigmas(c).slice(&[rows], &[rows + 1]);
            let level = crate::rollout::shaped(level.broadcast_to(&[b.batch()]), *x);
            let sample = b.process(c).decode(*x, level);
            let part = io.reward_grad(c).stop_gradient() * sample;
            gain = gain + part.sum(&crate::rollout::inner(part));
        }
        let loss = -mean_valid(gain, io.valid());
        io.set_loss(loss);
        io.set_metric(0, loss);
        Ok(())
    }
}
