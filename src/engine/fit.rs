//! Settings of a process fitted to a series, for whoever names a process and nothing more. Moments only: closed forms,
//! no search, and the stationary law or the marginal growth of the process is that of the data. One step of the series
//! is one unit of time.

use crate::bail;
use crate::base::Result;
use crate::mem::reserved;

/// Smallest dimension of a Bessel process we set ourselves: below 1 the exact draw needs the Poisson route.
const MIN_DELTA: f64 = 1.0;
/// Largest: beyond it the law is Gaussian for all purposes and the Bessel ratio only costs more.
const MAX_DELTA: f64 = 40.0;

/// Settings that say where the data lies, not how it moves: each is open or not on its own.
pub(super) const SCALES: [&str; 3] = ["reference", "center", "scale"];

/// What the data says about the settings of the process `id`.
///
/// | process | fitted |
/// |---|---|
/// | cir | theta = mean; kappa = -ln(lag-one autocorrelation); sigma^2 = 2 kappa variance / mean, so that the stationary Gamma has the mean and variance of the data |
/// | besq | delta = 2 mean^2 / variance, the dimension of that same Gamma, within 1..40 |
/// | gbm | sigma = standard deviation of one step of the logarithm; reference = geometric mean |
/// | ou | theta = mean; kappa as for cir; sigma^2 = 2 kappa variance, so that the stationary law has the moments of the data |
/// | ve, pfgmpp | center = mean |
/// | vp, sub_vp, flow | center = mean; scale = standard deviation |
///
/// Any other process keeps its own defaults. Of values in no order of time (`ordered` false) kappa is 1 and the step of
/// a logarithm is not fitted: only what the values alone say.
pub(super) fn fit(id: &str, series: &[f64], ordered: bool) -> Result<Vec<(&'static str, f64)>> {
    let short = id.rsplit('.').next().unwrap_or(id);
    let fitted = match short {
        "cir" => {
            let m = Moments::of(positive(short, series)?)?;
            let kappa = if ordered { m.rate() } else { 1.0 };
            // the dimension 4 kappa theta / sigma^2 stays where draws are exact and cheap
            let delta = (2.0 * m.mean * m.mean / m.variance).clamp(MIN_DELTA, MAX_DELTA);
            let sigma = (4.0 * kappa * m.mean / delta).sqrt();
            vec![("kappa", kappa), ("theta", m.mean), ("sigma", sigma)]
        }
        "besq" => {
            let m = Moments::of(positive(short, series)?)?;
            vec![("delta", (2.0 * m.mean * m.mean / m.variance).clamp(MIN_DELTA, MAX_DELTA))]
        }
        "gbm" => {
            let known = positive(short, series)?;
            let mut logs = reserved(known.len(), "the logarithms of a series")?;
            logs.extend(known.iter().map(|v| v.ln()));
            let mut out = vec![("reference", Moments::of(&logs)?.mean.exp())];
            if ordered {
                let mut steps = reserved(logs.len(), "the steps of a series")?;
                steps.extend(logs.windows(2).map(|w| w[1] - w[0]));
                out.push(("sigma", Moments::of(&steps)?.variance.sqrt()));
            }
            out
        }
        "ou" => {
            let m = Moments::of(series)?;
            let kappa = if ordered { m.rate() } else { 1.0 };
            let sigma = (2.0 * kappa * m.variance).sqrt();
            vec![("kappa", kappa), ("theta", m.mean), ("sigma", sigma)]
        }
        "ve" | "pfgmpp" => vec![("center", Moments::of(series)?.mean)],
        "vp" | "sub_vp" | "flow" => {
            let m = Moments::of(series)?;
            vec![("center", m.mean), ("scale", m.variance.sqrt())]
        }
        _ => Vec::new(),
    };
    Ok(fitted.into_iter().map(|(key, value)| (key, round(value))).collect())
}

/// Six digits are more than a fit knows, and read better in the file.
fn round(v: f64) -> f64 {
    format!("{v:.5e}").parse().unwrap_or(v)
}

fn positive<'a>(process: &str, series: &'a [f64]) -> Result<&'a [f64]> {
    match series.iter().find(|v| **v <= 0.0) {
        Some(bad) => bail!(Invalid, "process {process} wants positive data, a value is {bad}"),
        None => Ok(series),
    }
}

/// Mean, variance and lag-one autocorrelation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moments {
    pub(super) mean: f64,
    pub(super) variance: f64,
    pub(super) autocorrelation: f64,
}

impl Moments {
    pub(super) fn of(values: &[f64]) -> Result<Self> {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        if values.len() < 3 || !variance.is_finite() || variance <= 0.0 {
            bail!(Invalid, "{} values of variance {variance} are too few to fit to", values.len());
        }
        let pairs = values.iter().zip(values.iter().skip(1));
        let lagged = pairs.map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / n;
        Ok(Self { mean, variance, autocorrelation: lagged / variance })
    }

    /// Rate of return to the mean that has this autocorrelation after one unit of time.
    fn rate(self) -> f64 {
        -self.autocorrelation.clamp(1e-3, 0.9999).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::philox::Stream;

    /// CIR by small Euler steps, started at its mean.
    fn cir(kappa: f64, theta: f64, sigma: f64, n: usize) -> Vec<f64> {
        let stream = Stream { seed: 5, purpose: 70, step: 0, ordinal: 0 };
        let sub = 20;
        let dt = 1.0 / f64::from(sub);
        let mut x = theta;
        let mut e = 0;
        let mut out = Vec::new();
        for _ in 0..n {
            for _ in 0..sub {
                x += kappa * (theta - x) * dt + sigma * (x * dt).sqrt() * stream.normal_f64(e);
                x = x.max(1e-9);
                e += 1;
            }
            out.push(x);
        }
        out
    }

    #[test]
    fn cir_is_found_again() {
        let series = cir(0.1, 19.0, 0.8, 40_000);
        let fitted = fit("org.diffx.cir", &series, true).unwrap();
        let wanted = [("kappa", 0.1, 0.12), ("theta", 19.0, 0.03), ("sigma", 0.8, 0.08)];
        for ((key, got), (name, want, tolerance)) in fitted.into_iter().zip(wanted) {
            assert_eq!(key, name);
            assert!((got / want - 1.0).abs() < tolerance, "{key}: {got}, want {want}");
        }
    }

    #[test]
    fn a_dimension_stays_in_range() {
        // mean 100, variance 0.25: a Gamma of shape 40000
        let narrow: Vec<f64> = (0..100).map(|i| 100.0 + 0.5 * f64::from(i % 2 * 2 - 1)).collect();
        assert_eq!(fit("besq", &narrow, false).unwrap(), [("delta", MAX_DELTA)]);
        assert!(fit("other", &[1.0, -2.0], true).unwrap().is_empty());
    }

    #[test]
    fn data_is_centred_in_the_coordinate() {
        let series: Vec<f64> = (0..50).map(|i| 20.0 * 1.2_f64.powi(i % 3 - 1)).collect();
        let of = |id, key| {
            fit(id, &series, true).unwrap().into_iter().find(|(k, _)| *k == key).unwrap().1
        };
        let mean = series.iter().sum::<f64>() / 50.0;
        assert!((of("org.diffx.ve", "center") / mean - 1.0).abs() < 1e-5);
        assert!((of("vp", "center") / mean - 1.0).abs() < 1e-5);
        let variance = series.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 50.0;
        assert!((of("flow", "scale").powi(2) / variance - 1.0).abs() < 1e-4);
        // the stationary variance sigma² / 2 kappa of an Ornstein-Uhlenbeck process is that of the data
        let stationary = of("ou", "sigma").powi(2) / (2.0 * of("ou", "kappa"));
        assert!(
            (stationary / variance - 1.0).abs() < 1e-4 && of("ou", "theta") == of("ve", "center")
        );
        let log_mean = series.iter().map(|v| v.ln()).sum::<f64>() / 50.0;
        assert!((of("gbm", "reference").ln() - log_mean).abs() < 1e-5);
    }

    #[test]
    fn unfit_data_is_named() {
        let e = fit("gbm", &[1.0, 0.0, 2.0], true).unwrap_err();
        assert!(e.message.contains("process gbm wants positive data, a value is 0"), "{e}");
        assert!(fit("besq", &[2.0, 2.0, 2.0, 2.0], true).is_err());
    }
}
