//! What a sample is held against: moments, laws and their critical values.

/// Mean and variance.
pub(crate) fn moments(x: &[f64]) -> (f64, f64) {
    weighted(x, &vec![1.0; x.len()])
}

pub(crate) fn weighted(x: &[f64], w: &[f64]) -> (f64, f64) {
    let total: f64 = w.iter().sum();
    let mean = x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>() / total;
    let var = x.iter().zip(w).map(|(x, w)| w * (x - mean) * (x - mean)).sum::<f64>() / total;
    (mean, var)
}

/// Kolmogorov-Smirnov distance of a sample to a continuous law.
pub(crate) fn distance(sample: &[f64], cdf: impl Fn(f64) -> f64) -> f64 {
    let mut sample = sample.to_vec();
    sample.sort_by(f64::total_cmp);
    let n = sample.len() as f64;
    sample.iter().enumerate().fold(0.0f64, |d, (i, &x)| {
        let f = cdf(x);
        d.max(f - i as f64 / n).max((i + 1) as f64 / n - f)
    })
}

/// The distance a true sample of size `n` exceeds with probability `p`.
pub(crate) fn limit(n: usize, p: f64) -> f64 {
    (-0.5 * (p / 2.0).ln() / n as f64).sqrt()
}
