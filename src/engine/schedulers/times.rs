//! Where a run asks its network: whole times of a chain by spacing, and noise levels read off the chain, or spaced as
//! Karras et al., exponentially or by a beta distribution. In f64 from the f32 chain, rounded to f32 at the end, as the
//! originals do.

use super::keys::Keys;
use crate::bail;
use crate::base::Result;

/// How a class reads `timestep_spacing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spacing {
    /// Both ends, whole times (DDPM, DDIM).
    Whole,
    /// One more step than asked, of which the last is left out (DPM-Solver, UniPC, DEIS).
    Beyond,
    /// Both ends, and times between whole ones (the samplers in sigma).
    Between,
}

/// `n` times of a chain of `total`, of which the last `clipped` are not used, latest first.
pub(super) fn timesteps(
    keys: &Keys,
    spacing: Spacing,
    n: usize,
    total: usize,
    clipped: usize,
) -> Result<Vec<f64>> {
    let kind = keys.one_of("timestep_spacing", &["linspace", "leading", "trailing"])?;
    let offset = keys.number("steps_offset")?;
    let last = total - clipped.min(total - 1);
    let beyond = usize::from(spacing == Spacing::Beyond);
    let mut times: Vec<f64> = match kind {
        0 => {
            let all = linspace(0.0, (last - 1) as f64, n + beyond);
            let round = |t: &f64| {
                if spacing == Spacing::Between { f64::from(*t as f32) } else { t.round_ties_even() }
            };
            all.iter().rev().map(round).collect()
        }
        1 => {
            let ratio = (if beyond == 1 { last } else { total } / (n + beyond)) as f64;
            (0..n + beyond).rev().map(|i| i as f64 * ratio + offset).collect()
        }
        _ => down(last as f64, total as f64 / n as f64)
            .iter()
            .map(|t| t.round_ties_even() - 1.0)
            .collect(),
    };
    if beyond == 1 && kind != 2 {
        times.pop();
    }
    if let Some(bad) = times.iter().find(|t| !(0.0..=(total - 1) as f64).contains(*t)) {
        bail!(Invalid, "scheduler: {n} steps ask at time {bad}, want 0 to {}", total - 1);
    }
    Ok(times)
}

/// From `start` towards 0 by `step`, as long as it is above 0.
pub(super) fn down(start: f64, step: f64) -> Vec<f64> {
    let n = (start / step).ceil() as usize;
    let by = (start - step) - start;
    (0..n).map(|i| start + i as f64 * by).collect()
}

pub(super) fn linspace(lo: f64, hi: f64, n: usize) -> Vec<f64> {
    if n < 2 {
        return vec![lo; n];
    }
    let step = (hi - lo) / (n - 1) as f64;
    (0..n).map(|i| if i == n - 1 { hi } else { i as f64 * step + lo }).collect()
}

/// The table at a time between whole ones.
pub(super) fn interpolate(table: &[f64], t: f64) -> f64 {
    let low = (t.max(0.0) as usize).min(table.len().saturating_sub(1));
    let (a, b) = (table.get(low).copied(), table.get(low + 1).copied());
    match (a, b) {
        (Some(a), Some(b)) => a + (b - a) * (t - low as f64),
        (Some(a), None) => a,
        _ => f64::NAN,
    }
}

/// The time between whole ones at which the chain has this level.
pub(super) fn time_of(sigma: f64, logs: &[f64]) -> f64 {
    let log = sigma.max(1e-10).ln();
    if logs.len() < 2 {
        return 0.0;
    }
    let low = logs.partition_point(|l| *l <= log).saturating_sub(1).min(logs.len() - 2);
    let (a, b) = (logs[low], logs[low + 1]); // low + 1 < len, as there are two
    let w = ((a - log) / (a - b)).clamp(0.0, 1.0);
    (1.0 - w) * low as f64 + w * (low + 1) as f64
}

/// log sigma of a chain, as f32 has it.
pub(super) fn logs(sigmas: &[f64]) -> Vec<f64> {
    sigmas.iter().map(|s| f64::from((*s as f32).ln())).collect()
}

/// Which of `use_karras_sigmas`, `use_exponential_sigmas` and `use_beta_sigmas` is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crowding {
    None,
    Karras,
    Exponential,
    Beta,
}

impl Crowding {
    pub(super) fn read(keys: &Keys) -> Result<Self> {
        let set = [
            (keys.flag("use_karras_sigmas")?, Self::Karras),
            (keys.flag("use_exponential_sigmas")?, Self::Exponential),
            (keys.flag("use_beta_sigmas")?, Self::Beta),
        ];
        let mut chosen = set.iter().filter(|s| s.0).map(|s| s.1);
        match (chosen.next(), chosen.next()) {
            (Some(_), Some(_)) => bail!(
                Format,
                "scheduler: more than one of use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas"
            ),
            (one, _) => Ok(one.unwrap_or(Self::None)),
        }
    }

    /// `n` levels from `hi` to `lo`.
    pub(super) fn levels(self, lo: f64, hi: f64, n: usize) -> Vec<f64> {
        match self {
            Self::None | Self::Karras => karras(lo, hi, 7.0, n),
            Self::Exponential => linspace(hi.ln(), lo.ln(), n).iter().map(|l| l.exp()).collect(),
            Self::Beta => linspace(0.0, 1.0, n)
                .iter()
                .map(|u| lo + beta_quantile(1.0 - u, 0.6) * (hi - lo))
                .collect(),
        }
    }
}

pub(super) fn karras(lo: f64, hi: f64, rho: f64, n: usize) -> Vec<f64> {
    let (a, b) = (hi.powf(1.0 / rho), lo.powf(1.0 / rho));
    linspace(0.0, 1.0, n).iter().map(|u| (a + u * (b - a)).powf(rho)).collect()
}

/// Where the beta distribution of both parameters `a` has that much below.
fn beta_quantile(p: f64, a: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 {
        return p.clamp(0.0, 1.0);
    }
    if p > 0.5 {
        return 1.0 - beta_quantile(1.0 - p, a); // symmetric
    }
    let (mut lo, mut hi) = (0.0f64, 0.5f64);
    for _ in 0..200 {
        let mid = 0.5 * (lo + hi);
        if beta_share(mid, a) < p { lo = mid } else { hi = mid }
    }
    0.5 * (lo + hi)
}

/// The regularised incomplete beta function I_x(a, a) for x up to 1/2, over its value at 1/2, which is 1/2:
/// x^a Σ (1 - a)_k / k! x^k / (a + k), which converges there like 2^-k.
fn beta_share(x: f64, a: f64) -> f64 {
    let sum = |x: f64| -> f64 {
        let (mut term, mut total) = (1.0, 0.0);
        for k in 0..200 {
            total += term / (a + f64::from(k));
            term *= (1.0 - a + f64::from(k)) / f64::from(k + 1) * x;
        }
        total * x.powf(a)
    };
    0.5 * sum(x) / sum(0.5)
}

/// A number as f32 has it.
pub(super) fn rounded(v: f64) -> f64 {
    f64::from(v as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scipy.stats.beta.ppf(u, 0.6, 0.6).
    #[test]
    fn quantiles_of_the_beta_distribution() {
        assert_eq!((beta_quantile(0.0, 0.6), beta_quantile(1.0, 0.6)), (0.0, 1.0));
        assert!((beta_quantile(0.5, 0.6) - 0.5).abs() < 1e-14);
        // a = 1/2 is the arcsine law: sin²(pi p / 2)
        for p in [0.1, 0.3, 0.8] {
            let want = (p * std::f64::consts::FRAC_PI_2).sin().powi(2);
            assert!((beta_quantile(p, 0.5) - want).abs() < 1e-13);
        }
    }

    #[test]
    fn times_and_levels_are_inverse() {
        let table: Vec<f64> = (1..=10).map(|i| f64::from(i) * 0.1).collect();
        let logs = logs(&table);
        assert!((time_of(0.4, &logs) - 3.0).abs() < 1e-5);
        assert_eq!((time_of(1e-9, &logs), time_of(7.0, &logs)), (0.0, 9.0));
        assert!((interpolate(&table, 2.5) - 0.35).abs() < 1e-15);
        assert_eq!(down(1000.0, 250.0), [1000.0, 750.0, 500.0, 250.0]);
    }
}
