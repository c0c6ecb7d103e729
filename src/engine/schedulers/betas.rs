//! The betas of a chain and the products of its alphas, in f32 and in the order in which they are multiplied where the
//! files come from: the last digits decide at a tolerance of 1e-6.

use super::keys::Keys;
use crate::bail;
use crate::base::Result;

/// Most steps a chain is trained with.
pub const MOST: usize = 100_000;

/// A trained chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    pub betas: Vec<f32>,
    /// Products of 1 - beta.
    pub bars: Vec<f32>,
}

impl Chain {
    /// Reads `num_train_timesteps`, `beta_start`, `beta_end`, `beta_schedule`, `trained_betas` and
    /// `rescale_betas_zero_snr`. `last` replaces the last product where that would be 0.
    pub(super) fn read(keys: &Keys, last: Option<f32>) -> Result<Self> {
        let n = keys.whole("num_train_timesteps", 1, MOST)?;
        let (lo, hi) = (keys.number("beta_start")?, keys.number("beta_end")?);
        let schedule = keys.word("beta_schedule")?;
        let mut betas = match keys.list("trained_betas")? {
            Some(given) => given.iter().map(|b| *b as f32).collect(),
            None => betas(&schedule, lo, hi, n)?,
        };
        if betas.is_empty() || betas.len() > MOST {
            bail!(Format, "scheduler: {} trained_betas, want 1 to {MOST}", betas.len());
        }
        if let Some(bad) = betas.iter().find(|b| !(0.0..1.0).contains(*b)) {
            bail!(Format, "scheduler: a beta is {bad}, want 0 to below 1");
        }
        let rescaled = keys.flag("rescale_betas_zero_snr")?;
        if rescaled {
            betas = zero_terminal(&betas);
        }
        let mut bars = products(&betas);
        if let (true, Some(last), Some(end)) = (rescaled, last, bars.last_mut()) {
            *end = last;
        }
        Ok(Self { betas, bars })
    }

    /// Its times are 0 to below this.
    pub fn steps(&self) -> usize {
        self.bars.len()
    }

    /// The product at a whole time, or none outside of the chain.
    pub fn bar(&self, t: i64) -> Option<f32> {
        usize::try_from(t).ok().and_then(|t| self.bars.get(t)).copied()
    }

    /// Noise over signal at each time. A root that falls between two numbers goes up, as the original's power does: it
    /// has exactly 4096 where a chain without terminal signal ends.
    pub fn sigmas(&self) -> Vec<f64> {
        let root = |ratio: f32| (f64::from(ratio).sqrt() * (1.0 + 1e-12)) as f32;
        self.bars.iter().map(|a| f64::from(root((1.0 - a) / a))).collect()
    }
}

fn products(betas: &[f32]) -> Vec<f32> {
    let mut product = 1.0f32;
    let step = |b: &f32| {
        product *= 1.0 - b;
        product
    };
    betas.iter().map(step).collect()
}

fn betas(schedule: &str, lo: f64, hi: f64, n: usize) -> Result<Vec<f32>> {
    Ok(match schedule {
        "linear" => linspace_f32(lo, hi, n),
        "scaled_linear" => {
            if lo < 0.0 || hi < 0.0 {
                bail!(Format, "scheduler: beta from {lo} to {hi}, want both above 0");
            }
            linspace_f32(lo.sqrt(), hi.sqrt(), n).iter().map(|r| r * r).collect()
        }
        "squaredcos_cap_v2" => {
            of_bar(n, |t| ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2))
        }
        "exp" => of_bar(n, |t| (-12.0 * t).exp()),
        "laplace" => of_bar(n, |t| {
            let sign = if t <= 0.5 { 1.0 } else { -1.0 };
            let snr = (-0.5 * sign * (1.0 - 2.0 * (0.5 - t).abs() + 1e-6).ln()).exp();
            (snr / (1.0 + snr)).sqrt()
        }),
        "sigmoid" => {
            let (width, lo) = ((hi - lo) as f32, lo as f32);
            let sigmoid = |x: &f32| width / (1.0 + (-x).exp()) + lo;
            linspace_f32(-6.0, 6.0, n).iter().map(sigmoid).collect()
        }
        other => bail!(
            Unsupported,
            "scheduler: beta_schedule is {other}, want linear, scaled_linear, squaredcos_cap_v2, sigmoid, laplace or exp"
        ),
    })
}

/// Betas that give a curve of products, at most 0.999.
fn of_bar(n: usize, bar: impl Fn(f64) -> f64) -> Vec<f32> {
    let at = |i: usize| bar(i as f64 / n as f64);
    (0..n).map(|i| (1.0 - at(i + 1) / at(i)).min(0.999) as f32).collect()
}

/// Evenly from `lo` to `hi`: from both ends towards the middle, as torch does.
pub fn linspace_f32(lo: f64, hi: f64, n: usize) -> Vec<f32> {
    let (lo, hi) = (lo as f32, hi as f32);
    if n == 1 {
        return vec![lo];
    }
    let step = (hi - lo) / (n - 1) as f32;
    let half = n / 2;
    (0..n)
        .map(|i| if i < half { lo + step * i as f32 } else { hi - step * (n - 1 - i) as f32 })
        .collect()
}

/// No signal at the last time (Lin et al. 2024, algorithm 1).
fn zero_terminal(betas: &[f32]) -> Vec<f32> {
    let mut roots: Vec<f32> = products(betas).iter().map(|a| a.sqrt()).collect();
    let (Some(first), Some(last)) = (roots.first().copied(), roots.last().copied()) else {
        return Vec::new();
    };
    for r in &mut roots {
        *r -= last;
        *r *= first / (first - last);
    }
    let bars: Vec<f32> = roots.iter().map(|r| r * r).collect();
    let mut before = 1.0f32;
    let beta = |bar: &f32| {
        let alpha = bar / before;
        before = *bar;
        1.0 - alpha
    };
    bars.iter().map(beta).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_exact_and_the_middle_is_even() {
        let five = linspace_f32(0.0, 1.0, 5);
        assert_eq!(five, [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(linspace_f32(2.0, 3.0, 1), [2.0]);
    }

    #[test]
    fn the_last_time_of_a_rescaled_chain_has_no_signal() {
        let betas = betas("scaled_linear", 0.00085, 0.012, 1000).unwrap();
        let before = products(&betas);
        let after = products(&zero_terminal(&betas));
        assert!((after[0] / before[0] - 1.0).abs() < 1e-6);
        assert_eq!(after[999], 0.0);
        assert!(super::betas("square", 0.1, 0.2, 3).is_err());
    }
}
