//! The law that is sampled is the law that is stated: Kolmogorov-Smirnov distances of whole sampling runs with an exact
//! denoiser, started from the exact marginal (specs processes 9), and of exact simulation against the transition law.
//!
//! 50 000 samples; the 99 % noise floor of the distance is 0.0073 and the acceptance 0.012. Seeds are fixed.

mod additive;
mod draws;
mod joint;
mod mask;
mod oracle;
mod paths;
mod phase;
mod run;
mod samplers;
mod truncation;

use diffx::base::special::law;
use diffx::base::special::normal::ndtr;
use diffx::sample::Stats;
use oracle::{BesselMixture, LogNormalMixture, Oracle};
use run::{Setup, Start, distance};
use serde_json::json;
use std::sync::Arc;

const N: usize = 50_000;
const ACCEPT: f64 = 0.012;

/// Runs one pair of process and sampler and compares the samples with the oracle's data law.
fn law_of(
    name: &str,
    process: (&str, serde_json::Value),
    oracle: &Arc<dyn Oracle>,
    sampler: (&str, serde_json::Value),
    steps: u32,
    range: (f64, f64),
) -> f64 {
    let start = Start::Marginal;
    let setup = Setup { process, sampler, steps, range, start, oracle: Arc::clone(oracle) };
    let samples = setup.sample(N, 11);
    assert!(samples.iter().all(|x| x.is_finite() && *x > 0.0), "{name}: a sample is not positive");
    let d = distance(samples, |x| oracle.cdf(x));
    println!("law {name}: {steps} steps, KS {d:.4}");
    d
}

/// kappa = sigma = 1, delta = 3 (theta = 3/4), T = 6; in w the oracle is that of BESQ.
#[test]
fn laws_of_cir() {
    let oracle: Arc<dyn Oracle> = Arc::new(BesselMixture::GOLDEN);
    let run = |sampler, steps| {
        let process = ("cir", json!({ "kappa": 1.0, "theta": 0.75, "sigma": 1.0 }));
        let top = (6f64.exp_m1() / 4.0).sqrt();
        law_of("cir", process, &oracle, (sampler, json!({})), steps, (1e-3, top))
    };
    assert!(run("heun", 64) < ACCEPT);
    assert!(run("churn", 128) < ACCEPT);
    assert!(run("ancestral", 256) < ACCEPT);
}

/// From the engine's own prior over the engine's own range, on data whose mean is many times its deviation.
#[test]
fn laws_from_the_prior() {
    let from_prior = |process: (&str, serde_json::Value), stats, oracle: &Arc<dyn Oracle>| {
        let range = run::range(process.0, &process.1, &stats);
        let name = process.0.to_owned();
        let start = Start::Prior(stats);
        let sampler = ("heun", json!({}));
        let setup = Setup { process, sampler, steps: 96, range, start, oracle: Arc::clone(oracle) };
        let samples = setup.sample(N, 11);
        // additive noise has this law in the logarithm of a lognormal mixture
        let x = samples.into_iter().map(|x| if name == "ve" { x.exp() } else { x }).collect();
        let d = distance(x, |x| oracle.cdf(x));
        println!("law {name} from its prior: KS {d:.4}");
        d
    };
    // in w = x - center or log(x / reference) the mixture is about 0; variance by hand
    let (mean, sd) = ([-0.3, 0.3], [0.5, 0.4]);
    let centre = 0.35 * mean[0] + 0.65 * mean[1];
    let spread: f64 = (0..2)
        .map(|i| [0.35, 0.65][i] * (sd[i] * sd[i] + (mean[i] - centre) * (mean[i] - centre)))
        .sum();
    let far: Arc<dyn Oracle> = Arc::new(LogNormalMixture { mean: mean.map(|m| m + 25.0), sd });
    let stats =
        Stats { x_mean: 25.0 + centre, x_var: spread, w_mean: 25.0 + centre, w_var: spread };
    assert!(from_prior(("ve", json!({})), stats, &far) < ACCEPT);
    assert!(from_prior(("gbm", json!({})), stats, &far) < ACCEPT);
    // a prior about 0, as of data that nobody centred, is seen
    assert!(from_prior(("ve", json!({})), Stats { w_mean: 0.0, ..stats }, &far) > ACCEPT);
    // mean b (3 + lambda), variance 2 b² (3 + 2 lambda)
    let (b, lambda) = (0.02, 1000.0);
    let narrow: Arc<dyn Oracle> =
        Arc::new(BesselMixture { delta: 3.0, parts: [(0.4, b, lambda), (0.6, b, lambda)] });
    let (x_mean, x_var) = (b * (3.0 + lambda), 2.0 * b * b * (3.0 + 2.0 * lambda));
    let stats = Stats { x_mean, x_var, w_mean: x_mean.sqrt(), w_var: b };
    assert!(from_prior(("besq", json!({ "delta": 3.0 })), stats, &narrow) < ACCEPT);
    let config = json!({ "kappa": 1.0, "theta": 20.0 });
    assert!(from_prior(("cir", config), stats, &narrow) < ACCEPT);
}

/// Exact simulation along several times: each marginal is the transition law from x0, whatever the times between.
#[test]
fn laws_of_simulation() {
    let (kappa, theta, vol) = (1.2, 0.9, 0.7);
    let cir_cdf = |kappa: f64, theta: f64, vol: f64, x0: f64, t: f64, x: f64| {
        let delta = 4.0 * kappa * theta / (vol * vol);
        let c = -vol * vol * (-kappa * t).exp_m1() / (4.0 * kappa);
        law::chi_square_cdf(x / c, delta, x0 * (-kappa * t).exp() / c)
    };
    // Feller's condition holds, fails, and delta < 1 where the draw takes the Poisson route
    for (theta, vol) in [(theta, vol), (0.1, 0.7), (0.02, 0.5)] {
        let config = json!({ "kappa": kappa, "theta": theta, "sigma": vol });
        let paths = run::simulate("cir", &config, 0.5, &[0.25, 0.8, 2.0], N);
        for (t, x) in [0.25, 0.8, 2.0].into_iter().zip(paths) {
            let d = distance(x, |x| cir_cdf(kappa, theta, vol, 0.5, t, x));
            println!("law cir(theta {theta}, sigma {vol}) at {t}: KS {d:.4}");
            assert!(d < ACCEPT);
        }
    }
    for delta in [0.3, 1.0, 3.0, 7.3] {
        let paths = run::simulate("besq", &json!({ "delta": delta }), 1.3, &[0.4], N);
        let d = distance(paths.into_iter().next().unwrap(), |x| {
            law::chi_square_cdf(x / 0.4, delta, 1.3 / 0.4)
        });
        println!("law besq({delta}): KS {d:.4}");
        assert!(d < ACCEPT);
    }
    let (mu, vol, t) = (0.1, 0.8, 1.5);
    let paths = run::simulate("gbm", &json!({ "mu": mu, "sigma": vol }), 2.0, &[0.5, t], N);
    let d = distance(paths.into_iter().nth(1).unwrap(), |x| {
        ndtr(((x / 2.0).ln() - (mu - 0.5 * vol * vol) * t) / (vol * t.sqrt()))
    });
    println!("law gbm: KS {d:.4}");
    assert!(d < ACCEPT);
    // the wrong mean is seen
    let paths = run::simulate("gbm", &json!({ "mu": mu, "sigma": vol }), 2.0, &[t], N);
    let d = distance(paths.into_iter().next().unwrap(), |x| {
        ndtr(((x / 2.0).ln() - mu * t) / (vol * t.sqrt()))
    });
    assert!(d > ACCEPT);
}
