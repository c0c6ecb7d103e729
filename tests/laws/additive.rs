//! Processes that are Gaussian in w, PFGM++ and the phase-space processes: the law of samples by Kolmogorov-Smirnov.

use crate::oracle::{LogNormalMixture, Oracle};
use crate::phase::PhaseSpace;
use crate::run::{self, Atoms, Run, Setup, Start, distance};
use crate::{ACCEPT, N};
use diffx::base::DType;
use diffx::base::special::normal::ndtr;
use diffx::sample::Stats;
use serde_json::{Value, json};
use std::sync::Arc;

/// KS of 0.35 N(-0.7, 0.25²) + 0.65 N(0.9, 0.4²) data, from its marginal at sigma 80.
fn gaussian(process: &str, config: Value, sampler: (&str, Value), steps: u32) -> f64 {
    let oracle: Arc<dyn Oracle> = Arc::new(LogNormalMixture::GOLDEN);
    let name = format!("{process} {} {}", sampler.0, sampler.1);
    let setup = Setup {
        process: (process, config),
        sampler,
        steps,
        range: (1e-2, 80.0),
        start: Start::Marginal,
        oracle: Arc::clone(&oracle),
    };
    // the oracle states the law of the exponential
    let d = distance(setup.sample(N, 11).into_iter().map(f64::exp).collect(), |x| oracle.cdf(x));
    println!("law {name}: {steps} steps, KS {d:.4}");
    d
}

#[test]
fn laws_of_additive_processes() {
    for process in ["ve", "vp", "sub_vp", "flow", "ou"] {
        assert!(gaussian(process, json!({}), ("heun", json!({})), 32) < ACCEPT, "{process}");
    }
    assert!(gaussian("vp", json!({"schedule": "cosine"}), ("ancestral", json!({})), 128) < ACCEPT);
    assert!(gaussian("flow", json!({}), ("churn", json!({"churn": 20.0})), 128) < ACCEPT);
    // what the test says of a sampler that is too coarse
    assert!(gaussian("flow", json!({}), ("euler", json!({})), 16) > ACCEPT);
}

/// From the prior of each process over its own range, on data far from 0 that is framed.
#[test]
fn laws_of_additive_priors() {
    let (mean, sd) = ([-0.7, 0.9], [0.25, 0.4]);
    let centre: f64 = 0.35 * mean[0] + 0.65 * mean[1];
    let variance: f64 = (0..2)
        .map(|i| [0.35, 0.65][i] * (sd[i] * sd[i] + (mean[i] - centre) * (mean[i] - centre)))
        .sum();
    let stats = Stats { x_mean: centre, x_var: variance, w_mean: centre, w_var: variance };
    let oracle: Arc<dyn Oracle> = Arc::new(LogNormalMixture::GOLDEN);
    for process in ["vp", "sub_vp", "flow", "ou"] {
        let range = run::range(process, &json!({}), &stats);
        let setup = Setup {
            process: (process, json!({})),
            sampler: ("heun", json!({})),
            steps: 96,
            range,
            start: Start::Prior(stats),
            oracle: Arc::clone(&oracle),
        };
        let x = setup.sample(N, 12).into_iter().map(f64::exp).collect();
        let d = distance(x, |x| oracle.cdf(x));
        println!("law {process} from its prior: KS {d:.4}");
        assert!(d < ACCEPT, "{process}");
    }
}

/// The same mixture as 256 points at its quantiles, which is closer than the test can see.
fn bimodal() -> (Vec<f64>, impl Fn(f64) -> f64) {
    let cdf = |x: f64| 0.35 * ndtr((x + 0.7) / 0.25) + 0.65 * ndtr((x - 0.9) / 0.4);
    let at = |p: f64| {
        let (mut lo, mut hi) = (-10.0, 10.0);
        for _ in 0..80 {
            let middle = 0.5 * (lo + hi);
            if cdf(middle) < p { lo = middle } else { hi = middle }
        }
        lo
    };
    ((0..256).map(|i| at((f64::from(i) + 0.5) / 256.0)).collect(), cdf)
}

/// Heun at 32 steps, n = 8000, D = 1, 8 and 128 (specs processes 3: KS below 0.025).
#[test]
fn laws_of_pfgmpp() {
    let (points, cdf) = bimodal();
    let run = |d: f64, steps| {
        let ks = distance(
            Run {
                process: ("pfgmpp", json!({ "augmented": d })),
                sampler: ("heun", json!({})),
                steps,
                range: (2e-2, 80.0),
                stats: Stats { w_mean: 0.34, w_var: 0.7, ..Stats::default() },
                model: Arc::new(Atoms(points.clone())),
                guidance: None,
                dims: vec![1],
                float: DType::F32,
            }
            .sample(8000, 3),
            &cdf,
        );
        println!("law pfgmpp of D {d}: {steps} steps, KS {ks:.4}");
        ks
    };
    for d in [1.0, 8.0, 128.0] {
        assert!(run(d, 32) < 0.025, "{d}");
    }
    assert!(run(8.0, 4) > 0.025);
}

/// Position of the data's law, velocity back at its start N(0, gamma M).
#[test]
fn laws_of_phase_space() {
    let oracle = LogNormalMixture::GOLDEN;
    let run = |process: &str, config: Value, phase: PhaseSpace, sampler: (&str, Value), steps| {
        let top = run::range(process, &config, &Stats::default()).1;
        let name = format!("{process} {config} {}", sampler.0);
        let spread = phase.start.sqrt();
        let samples = Run {
            process: (process, config),
            sampler,
            steps,
            range: (1e-2, top),
            stats: Stats { w_mean: 0.17, w_var: 0.3, ..Stats::default() },
            model: Arc::new(phase),
            guidance: None,
            dims: vec![2],
            float: DType::F64,
        }
        .sample(N, 5);
        let half = |i: usize| samples.iter().skip(i).step_by(2).copied().collect::<Vec<_>>();
        let x = distance(half(0).into_iter().map(f64::exp).collect(), |x| oracle.cdf(x));
        let v = distance(half(1), |v| ndtr(v / spread));
        println!("law {name}: {steps} steps, KS of the position {x:.4}, of the velocity {v:.4}");
        (x, v)
    };
    let good = |(x, v): (f64, f64)| assert!(x < ACCEPT && v < ACCEPT, "{x} {v}");
    let cld = PhaseSpace { unit: 1.0, k: 0.5, start: 0.01 };
    let vsmd = PhaseSpace { unit: 20.0 / (5.0 * 0.98), k: 0.98, start: 1.0 };
    good(run("cld", json!({}), cld, ("rk4", json!({})), 64));
    good(run("cld", json!({}), cld, ("churn", json!({"churn": 10.0})), 192));
    good(run("vsmd", json!({}), vsmd, ("rk4", json!({})), 64));
    // Heun turns too far per step around the origin of phase space, and a network made for another damping is wrong
    let (x, _) = run("cld", json!({}), cld, ("heun", json!({})), 48);
    assert!(x > ACCEPT, "{x}");
    let (x, _) = run("cld", json!({}), PhaseSpace { k: 0.6, ..cld }, ("rk4", json!({})), 64);
    assert!(x > ACCEPT, "{x}");
}

/// Exact simulation of an Ornstein-Uhlenbeck process and of VP in its own time.
#[test]
fn laws_of_additive_simulation() {
    let normal = |x: Vec<f64>, mean: f64, sd: f64| distance(x, |x| ndtr((x - mean) / sd));
    let (kappa, theta, vol, t): (f64, f64, f64, f64) = (0.7, 0.5, 0.6, 1.2);
    let config = json!({ "kappa": kappa, "theta": theta, "sigma": vol });
    let paths = run::simulate("ou", &config, 2.0, &[0.4, t], N);
    let x = paths.into_iter().nth(1).unwrap();
    let sd = vol * (-f64::exp_m1(-2.0 * kappa * t) / (2.0 * kappa)).sqrt();
    let mean = theta + (2.0 - theta) * (-kappa * t).exp();
    let d = normal(x.clone(), mean, sd);
    println!("law ou: KS {d:.4}");
    assert!(d < ACCEPT);
    assert!(normal(x, mean, 1.05 * sd) > ACCEPT);
    let b = 0.1 * 0.3 + 0.5 * 0.09 * 19.9;
    for (process, sd) in [("vp", (-f64::exp_m1(-b)).sqrt()), ("sub_vp", -f64::exp_m1(-b))] {
        let paths = run::simulate(process, &json!({}), 1.5, &[0.1, 0.3], N);
        let x = paths.into_iter().nth(1).unwrap();
        let d = normal(x, 1.5 * f64::exp(-0.5 * b), sd);
        println!("law {process} simulated: KS {d:.4}");
        assert!(d < ACCEPT, "{process}");
    }
}
