//! What objectives on rollouts share: means over the rows that count, rewards against those of their group, conditions of
//! several evaluations of one row, the error of a denoiser in units that depend on no process.

use diffx_plugin::{
    Advantage, Builder, Config, Denoiser, Error, Eval, FINITE, Node, POSITIVE, Result,
};

/// What rows weigh: `valid` [batch].
pub(crate) fn mean_valid<'b>(x: Node<'b>, valid: Node<'b>) -> Node<'b> {
    (x * valid).sum(&[]) / valid.sum(&[]).max(1.0)
}

/// x [.., rows] without the mean of its group over the rows that count; a group of 1: of all rows. 0 where a row does not
/// count. `unbiased`: without the row itself in the mean, as leaving it out would give.
pub(crate) fn centred<'b>(x: Node<'b>, valid: Node<'b>, group: i64, unbiased: bool) -> Node<'b> {
    let dims = x.shape();
    let rows = dims.last().copied().unwrap_or(1).max(1);
    let lead = dims.iter().product::<i64>() / rows;
    let width = if group > 1 { group } else { rows };
    let grouped = x.reshape(&[lead, rows / width, width]);
    let w = valid.reshape(&[1, rows / width, width]);
    let count = w.sum_keep(&[2]);
    let mean = (grouped * w).sum_keep(&[2]) / count.max(1.0);
    let out = (grouped - mean) * w;
    let out = if unbiased { out * (count / (count - 1.0).max(1.0)) } else { out };
    out.reshape(&dims)
}

/// What each reward counts in their sum.
pub(crate) fn weights(config: &mut Config) -> Result<Vec<f64>> {
    let weights = config.f64s("weights", FINITE)?.unwrap_or_else(|| vec![1.0]);
    if weights.is_empty() || weights.len() > 64 {
        let n = weights.len();
        return Err(Error::invalid(format!("weights are {n} numbers, want 1 to 64")));
    }
    Ok(weights)
}

/// The weighted sum of the rewards, [rows].
pub(crate) fn total<'b>(b: Builder<'b>, reward: Node<'b>, weights: &[f64]) -> Node<'b> {
    let weights: Vec<f32> = weights.iter().map(|w| *w as f32).collect();
    let weights = b.constant(&[1, weights.len() as i64], &weights).cast(0);
    (reward * weights).sum(&[1])
}

/// How rewards become advantages.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scale {
    /// Of each reward, in their sum.
    weights: Vec<f64>,
    /// R - mean divided by the standard deviation of all rows, not by beta.
    standard: bool,
    /// What one unit of KL costs in rewards.
    beta: f64,
    /// Largest absolute advantage; infinite = unlimited.
    clip: f64,
}

/// Added to a standard deviation.
const TINY_STD: f64 = 1e-4;

impl Scale {
    pub(crate) fn create(config: &mut Config, standard: bool, clip: f64) -> Result<Self> {
        let standard = match standard {
            true => config.one_of("advantage", &[("standard", true), ("mean", false)])?,
            false => config.one_of("advantage", &[("mean", false), ("standard", true)])?,
        };
        let weights = weights(config)?;
        let clip = config.f64("advantage_clip", clip, POSITIVE)?;
        Ok(Self { weights, standard, beta: config.f64("beta", 1.0, POSITIVE)?, clip })
    }

    pub(crate) fn rewards(&self) -> u32 {
        self.weights.len() as u32
    }

    pub(crate) fn advantage<'b>(&self, b: Builder<'b>, io: &mut Advantage<'b>) {
        let valid = io.valid();
        let total = total(b, io.reward(), &self.weights);
        let out = centred(total, valid, io.group(), !self.standard);
        let out = if self.standard {
            let whole = centred(total, valid, 1, false);
            let std = mean_valid(whole.square(), valid).sqrt();
            out / (std + TINY_STD)
        } else {
            out / self.beta
        };
        io.set_advantage(out.clamp(-self.clip, self.clip));
    }
}

/// Largest number of evaluations of one row that are joined: what a concat takes.
pub(crate) const MOST_DRAWS: usize = 64;

/// The conditions of the job, once for each of `n` evaluations of a row, draw by draw.
pub(crate) fn conditions(b: Builder<'_>, n: usize) -> Option<Vec<Node<'_>>> {
    let tiled = |i: usize| {
        let value = b.cond(i).0;
        let dims = value.shape().to_vec();
        let wide: Vec<i64> = [n as i64].into_iter().chain(dims.iter().copied()).collect();
        let one: Vec<i64> = [1].into_iter().chain(dims.iter().copied()).collect();
        let mut flat = dims;
        if let Some(rows) = flat.first_mut() {
            *rows *= n as i64;
        }
        value.reshape(&one).broadcast_to(&wide).reshape(&flat)
    };
    (b.conds() > 0 && n > 1).then(|| (0..b.conds()).map(tiled).collect())
}

/// D of a slot at states [n * batch, ...].
pub(crate) fn denoised<'b>(
    b: Builder<'b>,
    slot: &str,
    x: &[Node<'b>],
    sigma: &[Node<'b>],
    n: usize,
) -> Result<Vec<Node<'b>>> {
    let Some(d) = b.denoiser_of(slot) else {
        return Err(Error::invalid(format!("there is no network slot named {slot}")));
    };
    Ok(denoised_by(b, d, x, sigma, n))
}

/// The same by a handle.
pub(crate) fn denoised_by<'b>(
    b: Builder<'b>,
    d: Denoiser,
    x: &[Node<'b>],
    sigma: &[Node<'b>],
    n: usize,
) -> Vec<Node<'b>> {
    let cond = conditions(b, n);
    let eval = Eval { phase: 0, x, sigma, cond: cond.as_deref() };
    b.denoise(d, &[eval]).pop().unwrap_or_default()
}

/// All axes but the first.
pub(crate) fn inner(x: Node<'_>) -> Vec<i64> {
    (1..x.shape().len() as i64).collect()
}

/// [rows] as [rows, 1, .., 1] beside `like`.
pub(crate) fn shaped<'b>(x: Node<'b>, like: Node<'b>) -> Node<'b> {
    let mut dims = vec![1; like.shape().len().max(1)];
    dims[0] = x.shape().iter().product();
    x.reshape(&dims)
}

/// Refuses tokens: what these objectives say holds for continuous components.
pub(crate) fn continuous(b: Builder<'_>, what: &str) -> Result<()> {
    let token = |c: usize| b.component(c).is_some_and(|c| c.discrete);
    match (0..b.components()).find(|c| token(*c)) {
        None => Ok(()),
        Some(c) => Err(Error::invalid(format!("{what}: component {c} is made of tokens"))),
    }
}
