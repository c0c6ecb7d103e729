//! Laws of simulated paths: the exact ones at several dates and between them, and the bias of Euler's, which is there
//! and of order one.

use crate::run::{distance, paths, simulate};
use crate::{ACCEPT, N};
use diffx::base::special::law;
use diffx::base::special::normal::ndtr;
use diffx::sample::Scheme;
use serde_json::{Value, json};

const TIMES: [f64; 3] = [0.25, 0.8, 2.0];

/// A process with what is known of it.
struct Known {
    id: &'static str,
    config: Value,
    x0: f64,
    /// P(X_t <= x)
    cdf: fn(t: f64, x: f64) -> f64,
    /// E X_t
    mean: fn(t: f64) -> f64,
    /// Cov(X_s, X_t), s <= t
    covariance: fn(s: f64, t: f64) -> f64,
}

/// CIR: kappa 1.2, theta 0.9, sigma 0.7 from 0.5.
const CIR: [f64; 4] = [1.2, 0.9, 0.7, 0.5];
/// OU: kappa 0.8, theta -1, sigma 0.6 from 1.5.
const OU: [f64; 4] = [0.8, -1.0, 0.6, 1.5];
/// GBM: mu 0.1, sigma 0.4 from 2.
const GBM: [f64; 3] = [0.1, 0.4, 2.0];
/// BESQ: delta 3 from 1.3.
const BESQ: [f64; 2] = [3.0, 1.3];

fn known() -> [Known; 4] {
    let [kappa, theta, sigma, x0] = CIR;
    let cir = Known {
        id: "cir",
        config: json!({ "kappa": kappa, "theta": theta, "sigma": sigma }),
        x0,
        cdf: |t, x| cir_cdf(CIR, t, x),
        mean: |t| CIR[1] + (CIR[3] - CIR[1]) * (-CIR[0] * t).exp(),
        covariance: |s, t| {
            let [kappa, theta, sigma, x0] = CIR;
            let e = (-kappa * s).exp();
            let from_start = x0 * (e - e * e);
            let variance = sigma * sigma / kappa * (from_start + 0.5 * theta * (1.0 - e).powi(2));
            variance * (-kappa * (t - s)).exp()
        },
    };
    let [kappa, theta, sigma, x0] = OU;
    let ou = Known {
        id: "ou",
        config: json!({ "kappa": kappa, "theta": theta, "sigma": sigma }),
        x0,
        cdf: |t, x| {
            let [kappa, theta, sigma, x0] = OU;
            let mean = theta + (x0 - theta) * (-kappa * t).exp();
            ndtr((x - mean) / (sigma * (-(-2.0 * kappa * t).exp_m1() / (2.0 * kappa)).sqrt()))
        },
        mean: |t| OU[1] + (OU[3] - OU[1]) * (-OU[0] * t).exp(),
        covariance: |s, t| {
            let [kappa, _, sigma, _] = OU;
            -sigma * sigma * (-2.0 * kappa * s).exp_m1() / (2.0 * kappa) * (-kappa * (t - s)).exp()
        },
    };
    let [mu, sigma, x0] = GBM;
    let gbm = Known {
        id: "gbm",
        config: json!({ "mu": mu, "sigma": sigma }),
        x0,
        cdf: |t, x| {
            let [mu, sigma, x0] = GBM;
            ndtr(((x / x0).ln() - (mu - 0.5 * sigma * sigma) * t) / (sigma * t.sqrt()))
        },
        mean: |t| GBM[2] * (GBM[0] * t).exp(),
        covariance: |s, t| {
            let [mu, sigma, x0] = GBM;
            x0 * x0 * (mu * (s + t)).exp() * (sigma * sigma * s).exp_m1()
        },
    };
    let [delta, x0] = BESQ;
    let besq = Known {
        id: "besq",
        config: json!({ "delta": delta }),
        x0,
        cdf: |t, x| law::chi_square_cdf(x / t, BESQ[0], BESQ[1] / t),
        mean: |t| BESQ[1] + BESQ[0] * t,
        covariance: |s, _| 4.0 * s * BESQ[1] + 2.0 * BESQ[0] * s * s,
    };
    [cir, ou, gbm, besq]
}

fn cir_cdf([kappa, theta, sigma, x0]: [f64; 4], t: f64, x: f64) -> f64 {
    let delta = 4.0 * kappa * theta / (sigma * sigma);
    let c = -sigma * sigma * (-kappa * t).exp_m1() / (4.0 * kappa);
    law::chi_square_cdf(x / c, delta, x0 * (-kappa * t).exp() / c)
}

/// How many standard errors the mean of `values` is away from `want`.
fn z(values: impl Iterator<Item = f64> + Clone, want: f64) -> f64 {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    let variance = values.map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
    (mean - want) / (variance / n).sqrt()
}

#[test]
fn exact_paths_have_the_law_and_the_memory() {
    for p in known() {
        let x = simulate(p.id, &p.config, p.x0, &TIMES, N);
        for (t, x) in TIMES.into_iter().zip(&x) {
            let d = distance(x.clone(), |x| (p.cdf)(t, x));
            println!("law of exact {} at {t}: KS {d:.4}", p.id);
            assert!(d < ACCEPT);
        }
        for (i, j) in [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2)] {
            let (m, n) = ((p.mean)(TIMES[i]), (p.mean)(TIMES[j]));
            let products = x[i].iter().zip(&x[j]).map(|(a, b)| (a - m) * (b - n));
            let want = (p.covariance)(TIMES[i], TIMES[j]);
            let off = z(products.clone(), want);
            println!("covariance of exact {} {i} {j}: z {off:.2}", p.id);
            assert!(off.abs() < 4.0);
            // a covariance of independent values, or of the wrong dates, is far away
            assert!(i == j || z(products, 0.0) > 10.0);
        }
    }
}

#[test]
fn fine_euler_paths_are_close_and_coarse_ones_are_not() {
    for p in known() {
        let run = |substeps| {
            let x = paths(p.id, &p.config, p.x0, &[1.0, 2.0], Scheme::Euler { substeps }, N);
            let d = distance(x[1].clone(), |x| (p.cdf)(2.0, x));
            println!("law of Euler {} with {substeps} steps: KS {d:.4}", p.id);
            let (m, n) = ((p.mean)(1.0), (p.mean)(2.0));
            let products = x[0].iter().zip(&x[1]).map(|(a, b)| (a - m) * (b - n));
            (d, z(products, (p.covariance)(1.0, 2.0)).abs())
        };
        let (fine, coarse) = (run(256), run(1));
        assert!(fine.0 < ACCEPT && fine.1 < 4.5, "{}: {fine:?}", p.id);
        assert!(coarse.0 > 2.0 * ACCEPT, "{}: {coarse:?}", p.id);
    }
}

/// A moment that Euler gets wrong, by half as much with half the step.
#[test]
fn the_bias_of_euler_is_of_order_one() {
    const MANY: usize = 400_000;
    let first = |x: f64, _: f64| x;
    let second = |x: f64, mean: f64| (x - mean) * (x - mean);
    type Moment = fn(f64, f64) -> f64;
    let reverting = 1.0 + 2.0 / 1f64.exp();
    let rows: [(&str, Value, f64, Moment, f64, f64, u32); 4] = [
        ("cir", json!({ "theta": 1.0, "sigma": 0.3 }), 3.0, first, 0.0, reverting, 2),
        ("ou", json!({ "theta": 1.0, "sigma": 0.5 }), 3.0, first, 0.0, reverting, 2),
        ("gbm", json!({ "mu": 0.5, "sigma": 0.2 }), 1.0, first, 0.0, 0.5f64.exp(), 2),
        // the mean is right at any step; the variance is 4 x0 + 2 delta
        ("besq", json!({ "delta": 8.0 }), 40.0, second, 48.0, 176.0, 1),
    ];
    for (id, config, x0, moment, mean, want, steps) in rows {
        let bias = |substeps| {
            let x = paths(id, &config, x0, &[1.0], Scheme::Euler { substeps }, MANY);
            x[0].iter().map(|x| moment(*x, mean)).sum::<f64>() / MANY as f64 - want
        };
        let (a, b, c) = (bias(steps), bias(2 * steps), bias(4 * steps));
        println!("bias of Euler {id}: {a:.4} {b:.4} {c:.4}");
        for ratio in [a / b, b / c] {
            assert!((1.6..2.6).contains(&ratio), "{id}: {a} {b} {c}");
        }
    }
}

/// Where no path may go below 0 and the equation wants to: paths stay at or above 0, and near the law.
#[test]
fn full_truncation_keeps_positive_processes_positive() {
    let config = json!({ "kappa": 1.2, "theta": 0.1, "sigma": 0.7 });
    let x = paths("cir", &config, 0.5, &[0.5, 2.0], Scheme::Euler { substeps: 200 }, N);
    assert!(x.iter().flatten().all(|x| *x >= 0.0 && x.is_finite()));
    assert!(x[1].contains(&0.0), "this case never gets to 0");
    let mean = x[1].iter().sum::<f64>() / N as f64;
    let want = 0.1 + 0.4 * (-2.4f64).exp();
    assert!((mean / want - 1.0).abs() < 0.1, "mean {mean}, want about {want}");
}

/// e^{kappa t} has no f64 from kappa t = 709 on; the law forgets its start long before.
#[test]
fn cir_goes_on_past_the_end_of_its_clock() {
    let [kappa, theta, sigma, _] = CIR;
    let config = json!({ "kappa": kappa, "theta": theta, "sigma": sigma });
    let times = [500.0, 650.0, 650.5, 1e5];
    let x = simulate("cir", &config, 0.5, &times, N);
    for (t, x) in times.into_iter().zip(&x) {
        let d = distance(x.clone(), |x| cir_cdf(CIR, 40.0, x));
        println!("law of cir at {t}: KS {d:.4}");
        assert!(d < ACCEPT);
    }
    // neighbours in time still know each other
    let products = x[1].iter().zip(&x[2]).map(|(a, b)| (a - theta) * (b - theta));
    let variance = theta * sigma * sigma / (2.0 * kappa);
    assert!(z(products, variance * (-0.5 * kappa).exp()).abs() < 4.0);
}
