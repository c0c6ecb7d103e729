//! The steps of a recorded trajectory as one batch: [steps * batch, ...], step by step, with the mean and variance the
//! sampler gave each of them. So the log-density of a step is the sampler's own, for any sampler whose step is Gaussian.

use crate::rollout::{denoised, inner};
use diffx_plugin::{Builder, Error, Loss, Node, Result};

/// Steps 0 .. n of a rollout.
pub(crate) struct Steps<'b> {
    pub(crate) n: i64,
    batch: i64,
    /// Per component, before the step and after it.
    pub(crate) x: Vec<Node<'b>>,
    pub(crate) next: Vec<Node<'b>>,
    /// [n * batch]
    pub(crate) sigma: Vec<Node<'b>>,
    /// a, c, v: [n * batch, 1, .., 1]; v is 1 where the step draws nothing.
    pub(crate) keep: Vec<Node<'b>>,
    pub(crate) step: Vec<Node<'b>>,
    pub(crate) variance: Vec<Node<'b>>,
    /// [n * batch, 1, .., 1] bool: the step draws.
    pub(crate) draws: Vec<Node<'b>>,
}

impl<'b> Steps<'b> {
    /// The first `most` steps, or all.
    pub(crate) fn of(b: Builder<'b>, io: &Loss<'b>, most: Option<usize>) -> Result<Self> {
        let batch = b.batch();
        let rows = io.kernels(0).shape().first().copied().unwrap_or(0);
        let n = most.map_or(rows, |m| rows.min(m as i64));
        if n == 0 {
            return Err(Error::invalid("a rollout has 0 steps, want at least 1"));
        }
        let mut out = Self {
            n,
            batch,
            x: vec![],
            next: vec![],
            sigma: vec![],
            keep: vec![],
            step: vec![],
            variance: vec![],
            draws: vec![],
        };
        for c in 0..io.components() {
            let states = io.states(c);
            let dims = states.shape();
            let mut flat = dims.to_vec();
            flat.remove(0); // [records, batch, ...]
            flat[0] = n * batch;
            let block = |first: i64| {
                let mut start = vec![0; dims.len()];
                let mut stop = dims.to_vec();
                (start[0], stop[0]) = (first, first + n);
                states.slice(&start, &stop).reshape(&flat)
            };
            out.x.push(block(0));
            out.next.push(block(1));
            let rows = |column: Node<'b>| {
                column.reshape(&[n, 1]).broadcast_to(&[n, batch]).reshape(&[n * batch])
            };
            out.sigma.push(rows(io.sigmas(c).slice(&[0], &[n])));
            let mut shape = vec![1; flat.len()];
            shape[0] = n * batch;
            let column = |k: i64| rows(io.kernels(c).slice(&[0, k], &[n, k + 1])).reshape(&shape);
            let variance = column(2);
            let draws = variance.greater(0.0);
            out.keep.push(column(0));
            out.step.push(column(1));
            out.variance.push(draws.choose(variance, 1.0));
            out.draws.push(draws);
        }
        Ok(out)
    }

    /// D of a slot at every state, per component.
    pub(crate) fn denoised(&self, b: Builder<'b>, slot: &str) -> Result<Vec<Node<'b>>> {
        denoised(b, slot, &self.x, &self.sigma, self.n as usize)
    }

    /// Means of the steps under D.
    pub(crate) fn means(&self, d: &[Node<'b>]) -> Vec<Node<'b>> {
        (0..self.x.len()).map(|c| self.keep[c] * self.x[c] + self.step[c] * d[c]).collect()
    }

    /// Sums or means over elements of what is nonzero where a step draws, [n, batch].
    pub(crate) fn reduced(&self, each: impl Fn(usize) -> Node<'b>, mean: bool) -> Node<'b> {
        let b = self.x[0].builder(); // a state has at least one component
        let (mut total, mut elements) = (b.scalar(0.0), 0.0);
        for c in 0..self.x.len() {
            let value = each(c);
            let kept = self.draws[c].choose(value, value * 0.0);
            total = total + kept.sum(&inner(kept));
            elements += value.shape().iter().skip(1).product::<i64>() as f64;
        }
        let total = if mean { total / elements } else { total };
        total.reshape(&[self.n, self.batch])
    }

    /// log N(x'; mean, v) per step and row, [n, batch].
    pub(crate) fn log_density(&self, mean: &[Node<'b>], averaged: bool) -> Node<'b> {
        let log_two_pi = (2.0 * core::f64::consts::PI).ln();
        let each = |c: usize| {
            let v = self.variance[c];
            let square = (self.next[c] - mean[c]).square();
            -(square / (v * 2.0)) - (v.log() + log_two_pi) * 0.5
        };
        self.reduced(each, averaged)
    }

    /// KL of two steps of the same variance, [n, batch].
    pub(crate) fn divergence(
        &self,
        one: &[Node<'b>],
        other: &[Node<'b>],
        averaged: bool,
    ) -> Node<'b> {
        let each =
            |c: usize| (one[c] - other[c].stop_gradient()).square() / (self.variance[c] * 2.0);
        self.reduced(each, averaged)
    }
}
