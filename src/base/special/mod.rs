//! Special functions of the laws: own, safe Rust, in f64 unless a name says f32.
//!
//! Each is checked against 40-digit values; the accuracy promised stands at the function.

pub mod bessel;
pub mod float;
pub mod gamma;
pub mod law;
pub mod normal;
pub mod polygamma;
pub mod wide;

#[cfg(test)]
pub(crate) mod tests {
    /// Relative error of `got`, absolute where `want` is small.
    pub(crate) fn close(got: f64, want: f64, tolerance: f64) -> bool {
        (got - want).abs() <= tolerance * want.abs().max(1.0)
    }

    /// Kolmogorov-Smirnov distance of a sample to a continuous law, and its critical value at level `p`.
    pub(crate) fn kolmogorov(sample: &mut [f64], cdf: impl Fn(f64) -> f64) -> f64 {
        sample.sort_by(f64::total_cmp);
        let n = sample.len() as f64;
        sample.iter().enumerate().fold(0.0f64, |d, (i, &x)| {
            let f = cdf(x);
            d.max(f - i as f64 / n).max((i + 1) as f64 / n - f)
        })
    }

    pub(crate) fn kolmogorov_limit(n: usize, p: f64) -> f64 {
        (-0.5 * (p / 2.0).ln() / n as f64).sqrt()
    }
}
