//! The evidence bound of a sample from a few draws of level and noise, the same draws for every slot (specs objectives 0,
//! 2.1). With s = sigma / deviation of the data and t = s/(1 + s), the time of a rectified flow, and e the squared error of D
//! in units of the deviation: `exact` -(1 - t)/t³ e (the bound itself up to a constant), `uniform` -e/t² (the error of the
//! velocity), `noise` -e/s² (that of the noise), `t` -e, and `adaptive` -e / sg(mean |D - x0|).

use crate::rollout::{MOST_DRAWS, denoised, inner, shaped};
use diffx_plugin::{Builder, Config, Error, Node, Result, purpose};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Adaptive,
    Uniform,
    Noise,
    Time,
    Exact,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Elbo {
    kind: Kind,
    draws: usize,
    first: f64,
    /// Sum over elements, else their mean.
    sum: bool,
}

/// 1 - t is no smaller.
const LAST: f64 = 1e-3;

/// Least mean error that `adaptive` divides by.
const LEAST_ERROR: f64 = 1e-5;

/// Noised samples: [draws * batch, ...] per component, draw by draw.
pub(crate) struct Draws<'b> {
    x: Vec<Node<'b>>,
    sigma: Vec<Node<'b>>,
    target: Vec<Node<'b>>,
    /// [draws * batch]
    t: Node<'b>,
}

/// What a slot makes of draws.
pub(crate) struct Scored<'b> {
    /// Estimates, [draws, batch].
    pub(crate) each: Node<'b>,
    /// Per component.
    pub(crate) d: Vec<Node<'b>>,
}

impl<'b> Scored<'b> {
    /// Means over draws, [batch].
    pub(crate) fn mean(&self) -> Node<'b> {
        self.each.mean(&[0])
    }
}

impl Elbo {
    /// `first` is the estimator when none is named.
    pub(crate) fn create(config: &mut Config, draws: usize, first: &str) -> Result<Self> {
        let mut kinds = [
            ("adaptive", Kind::Adaptive),
            ("uniform", Kind::Uniform),
            ("noise", Kind::Noise),
            ("t", Kind::Time),
            ("exact", Kind::Exact),
        ];
        kinds.sort_by_key(|(name, _)| *name != first);
        let kind = config.one_of("estimator", &kinds)?;
        let sum = config
            .one_of("reduce", &[("auto", None), ("mean", Some(false)), ("sum", Some(true))])?;
        let sum = sum.unwrap_or(kind == Kind::Exact);
        let first = config.f64("t_min", 0.02, 1e-6..=0.5)?;
        Ok(Self { kind, draws: config.usize("draws", draws, 1..=MOST_DRAWS)?, first, sum })
    }

    /// Noises samples at times spread evenly over [t_min, 1]; every call draws anew. `paired`: rows 2i and 2i + 1 get the
    /// same times and noise, which wants noise that is added.
    pub(crate) fn draw<'b>(
        &self,
        b: Builder<'b>,
        x0: &[Node<'b>],
        paired: bool,
    ) -> Result<Draws<'b>> {
        let n = self.draws;
        let (mut t, mut x, mut sigma, mut target) = (vec![], vec![], vec![], vec![]);
        for _ in 0..x0.len() {
            x.push(Vec::new());
            sigma.push(Vec::new());
            target.push(Vec::new());
        }
        for k in 0..n {
            let u = (b.uniform(&[b.batch()], purpose::LEVEL) + k as f64) / n as f64;
            let time = (u * (1.0 - self.first) + self.first).min(1.0 - LAST);
            let time = if paired { first_of_pairs(time) } else { time };
            t.push(time);
            for (c, x0) in x0.iter().enumerate() {
                let law = b.process(c);
                let level = shaped(time / (-time + 1.0), *x0) * b.stats(c).w_var.sqrt();
                let start = law.encode(*x0);
                let [w, to] = law.perturb(start, level, purpose::DATA);
                let w = if paired { start + first_of_pairs(w - start) } else { w };
                x[c].push(w); // one list per component
                sigma[c].push(level);
                target[c].push(to);
            }
        }
        let join = |list: Vec<Vec<Node<'b>>>| {
            list.into_iter().map(|l| if n == 1 { l[0] } else { b.concat(&l, 0) }).collect()
        };
        let t = if n == 1 { t[0] } else { b.concat(&t, 0) };
        Ok(Draws { x: join(x), sigma: join(sigma), target: join(target), t })
    }

    /// The estimates of a slot.
    pub(crate) fn score<'b>(
        &self,
        b: Builder<'b>,
        slot: &str,
        at: &Draws<'b>,
    ) -> Result<Scored<'b>> {
        let d = denoised(b, slot, &at.x, &at.sigma, self.draws)?;
        if d.len() != at.x.len() {
            return Err(Error::invalid(format!("a network gave {} components", d.len())));
        }
        let each = self.weigh(b, at, &d);
        Ok(Scored { each, d })
    }

    /// The estimates of denoised states, [draws, batch].
    pub(crate) fn weigh<'b>(&self, b: Builder<'b>, at: &Draws<'b>, d: &[Node<'b>]) -> Node<'b> {
        let t = at.t;
        let (mut squares, mut sizes, mut elements) = (b.scalar(0.0), b.scalar(0.0), 0.0);
        for (c, (d, target)) in d.iter().zip(&at.target).enumerate() {
            let error = (*d - target.stop_gradient()) / b.stats(c).w_var.sqrt();
            squares = squares + error.square().sum(&inner(error));
            sizes = sizes + error.abs().sum(&inner(error));
            elements += error.shape().iter().skip(1).product::<i64>() as f64;
        }
        let per = if self.sum { 1.0 } else { 1.0 / elements };
        let left = -t + 1.0;
        let each = match self.kind {
            Kind::Time => squares * per,
            Kind::Uniform => squares / t.square() * per,
            Kind::Noise => squares * (left / t).square() * per,
            Kind::Exact => squares * left / (t.square() * t) * ((1.0 - self.first) * per),
            Kind::Adaptive => {
                let size = (sizes / elements).max(LEAST_ERROR).stop_gradient();
                squares / size * per
            }
        };
        (-each).reshape(&[self.draws as i64, b.batch()])
    }

    /// mean_d (v - v')² of the velocities of two slots at the same draws, [batch]: Girsanov's KL up to its weight.
    pub(crate) fn gap<'b>(
        &self,
        b: Builder<'b>,
        at: &Draws<'b>,
        one: &Scored<'b>,
        other: &Scored<'b>,
    ) -> Node<'b> {
        let (mut total, mut elements) = (b.scalar(0.0), 0.0);
        for (c, (d, e)) in one.d.iter().zip(&other.d).enumerate() {
            let gap = (*d - e.stop_gradient()) / b.stats(c).w_var.sqrt();
            total = total + gap.square().sum(&inner(gap));
            elements += gap.shape().iter().skip(1).product::<i64>() as f64;
        }
        let each = total / at.t.square() / elements;
        each.reshape(&[self.draws as i64, b.batch()]).mean(&[0])
    }
}

/// Row 2i in the place of row 2i + 1 too.
fn first_of_pairs(x: Node<'_>) -> Node<'_> {
    let dims = x.shape();
    let rows = dims.first().copied().unwrap_or(1);
    let rest = dims.iter().skip(1).product::<i64>();
    let pairs = x.reshape(&[rows / 2, 2, rest]);
    let first = pairs.slice(&[0, 0, 0], &[rows / 2, 1, rest]);
    first.broadcast_to(&[rows / 2, 2, rest]).reshape(&dims)
}
