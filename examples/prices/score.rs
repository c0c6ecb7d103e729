//! What is measured of scenarios beside what happened. Tables are row-major [windows, days] or [windows, scenarios, days].

/// Continuous ranked probability score of sorted samples, unbiased: E|X - t| - E|X - X'| / 2.
pub(crate) fn crps(sorted: &[f64], t: f64) -> f64 {
    let n = sorted.len() as f64;
    let miss = sorted.iter().map(|v| (v - t).abs()).sum::<f64>() / n;
    let spread: f64 =
        sorted.iter().enumerate().map(|(i, v)| (2.0 * i as f64 + 1.0 - n) * v).sum::<f64>();
    miss - spread / (n * (n - 1.0))
}

/// The p-quantile of sorted samples, the k-th of n standing at k / (n + 1).
pub(crate) fn quantile(sorted: &[f64], p: f64) -> f64 {
    let last = sorted.len() - 1;
    let x = (p * (sorted.len() + 1) as f64 - 1.0).clamp(0.0, last as f64);
    let (lo, hi) = (x.floor() as usize, x.ceil() as usize);
    sorted[lo] + (sorted[hi] - sorted[lo]) * (x - x.floor())
}

/// Minus log density at t of the samples' Gaussian kernel estimate (Silverman's width with the smaller of deviation and
/// quartile range / 1.34), mixed with a normal of ten times the deviation at weight 1e-3, so that one day outside of
/// every fan costs much but not everything.
pub(crate) fn log_score(sorted: &[f64], t: f64) -> f64 {
    let n = sorted.len() as f64;
    let mean = sorted.iter().sum::<f64>() / n;
    let sd = (sorted.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let range = (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / 1.34;
    let width = (0.9 * sd.min(range) * n.powf(-0.2)).max(1e-9);
    let normal = |x: f64, m: f64, s: f64| {
        (-0.5 * ((x - m) / s).powi(2)).exp() / (s * (2.0 * std::f64::consts::PI).sqrt())
    };
    let kernel = sorted.iter().map(|v| normal(t, *v, width)).sum::<f64>() / n;
    -(0.999 * kernel + 0.001 * normal(t, mean, 10.0 * sd.max(1e-9))).ln()
}

/// Log-changes from day to day of paths that start at `start`; where a level is not above 0 there is none.
pub(crate) fn changes(start: f64, path: &[f64]) -> Vec<Option<f64>> {
    let before = std::iter::once(&start).chain(path);
    before.zip(path).map(|(a, b)| (*a > 0.0 && *b > 0.0).then(|| (b / a).ln())).collect()
}

/// Autocorrelation at a lag inside paths, pooled over them around their common mean.
pub(crate) fn autocorrelation(paths: &[Vec<f64>], lag: usize) -> f64 {
    let all: Vec<f64> = paths.iter().flatten().copied().collect();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let variance = all.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / all.len() as f64;
    let (mut sum, mut n) = (0.0, 0usize);
    for path in paths {
        for (a, b) in path.iter().zip(path.iter().skip(lag)) {
            sum += (a - mean) * (b - mean);
            n += 1;
        }
    }
    sum / (n.max(1) as f64) / variance
}
