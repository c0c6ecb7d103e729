//! Processes that are Gaussian in w, PFGM++ and the phase-space processes: the law of samples by Kolmogorov-Smirnov.

use crate::oracle::{LogNormalMixture, Oracle};
use crate::phase::{CLD, PhaseSpace, VSMD};
use crate::run::{self, Atoms, Run, Setup, Start, distance};
use crate::samplers::{Case, cases, hold};
use crate::{ACCEPT, N};
use diffx::base::DType;
use diffx::base::special::normal::ndtr;
use diffx::sample::Stats;
use serde_json::json;
use std::sync::Arc;

/// The schedule of a process is its own, the samples are not: those of VP by its cosine are the samples of VE.
#[test]
fn laws_of_schedules() {
    let oracle: Arc<dyn Oracle> = Arc::new(LogNormalMixture::GOLDEN);
    let setup = Setup {
        process: ("vp", json!({"schedule": "cosine"})),
        sampler: ("ancestral", json!({})),
        steps: 128,
        range: (1e-2, 80.0),
        start: Start::Marginal,
        oracle: Arc::clone(&oracle),
    };
    let d = distance(setup.sample(N, 11).into_iter().map(f64::exp).collect(), |x| oracle.cdf(x));
    println!("law vp by a cosine: KS {d:.4}");
    assert!(d < ACCEPT);
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

/// The same mixture as 128 points at its quantiles, which is closer than the test can see.
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
    ((0..128).map(|i| at((f64::from(i) + 0.5) / 128.0)).collect(), cdf)
}

/// PFGM++ of this dimension, from its prior.
fn pfgmpp<'a>(dimension: f64, (sampler, config, steps): &Case, points: &[f64]) -> Run<'a> {
    Run {
        process: ("pfgmpp", json!({ "augmented": dimension })),
        sampler: (sampler, config.clone()),
        steps: *steps,
        range: (2e-2, 80.0),
        stats: Stats { w_mean: 0.34, w_var: 0.7, ..Stats::default() },
        model: Arc::new(Atoms(points.to_vec())),
        guidance: None,
        dims: vec![1],
        float: DType::F32,
    }
}

/// Spec: Heun at 32 steps, n = 8000, D = 1, 8 and 128, below 0.025 (processes 3).
#[test]
fn laws_of_pfgmpp() {
    let (points, cdf) = bimodal();
    let ks = |d, case: &Case| distance(pfgmpp(d, case, &points).sample(8000, 3), &cdf);
    let heun = |steps| ("heun", json!({}), steps);
    hold("pfgmpp 1", &[heun(32)], 0.025, |case| ks(1.0, case));
    hold("pfgmpp 128", &[heun(32)], 0.025, |case| ks(128.0, case));
    let mut table = cases([32, 0, 0, 64, 0, 0, 0, 16, 32, 32, 16, 0, 32, 32, 32, 0, 16, 0]);
    table.retain(|case| case.2 > 0);
    hold("pfgmpp 8", &table, 0.025, |case| ks(8.0, case));
    assert!(ks(8.0, &heun(4)) > 0.025);
    // there is no draw from one level to another
    for (sampler, config, steps) in cases([0, 8, 8, 0, 8, 8, 8, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 8]) {
        if steps > 0 {
            let e = pfgmpp(8.0, &(sampler, config, steps), &points).refused();
            assert!(e.contains("has no "), "{sampler}: {e}");
        }
    }
}

/// One of the two phase-space processes around the oracle, with its exact network.
fn in_phase_space(
    process: &'static str,
    phase: PhaseSpace,
    (sampler, config, steps): &Case,
) -> Run<'static> {
    Run {
        process: (process, json!({})),
        sampler: (sampler, config.clone()),
        steps: *steps,
        range: (1e-2, run::range(process, &json!({}), &Stats::default()).1),
        stats: Stats { w_mean: 0.17, w_var: 0.3, ..Stats::default() },
        model: Arc::new(phase),
        guidance: None,
        dims: vec![2],
        float: DType::F64,
    }
}

/// Position of the data's law, velocity back at its start N(0, gamma M): the larger of the two distances.
#[test]
fn laws_of_phase_space() {
    let oracle = LogNormalMixture::GOLDEN;
    let ks = |process, phase: PhaseSpace, case: &Case| {
        let samples = in_phase_space(process, phase, case).sample(N, 5);
        let spread = phase.start.sqrt();
        let half = |i: usize| samples.iter().skip(i).step_by(2).copied().collect::<Vec<_>>();
        let x = distance(half(0).into_iter().map(f64::exp).collect(), |x| oracle.cdf(x));
        x.max(distance(half(1), |v| ndtr(v / spread)))
    };
    let none = |id, steps| (id, json!({}), steps);
    for (process, phase, steps) in [
        ("cld", CLD, [96, 0, 128, 0, 0, 0, 0, 192, 192, 96, 64, 0, 256, 64, 64, 0, 24, 0]),
        ("vsmd", VSMD, [48, 0, 64, 0, 0, 0, 0, 96, 96, 48, 48, 0, 192, 32, 48, 0, 24, 0]),
    ] {
        let mut table = cases(steps);
        table.retain(|case| case.2 > 0);
        hold(process, &table, ACCEPT, |case| ks(process, phase, case));
    }
    // Heun turns too far per step around the origin of phase space, and a network made for another damping is wrong
    let x = ks("cld", CLD, &none("heun", 32));
    assert!(x > ACCEPT, "{x}");
    let x = ks("cld", PhaseSpace { k: 0.6, ..CLD }, &none("rk4", 24));
    assert!(x > ACCEPT, "{x}");
    // a step between two levels has no scalar variance
    for (sampler, config, steps) in cases([0, 8, 0, 0, 8, 8, 8, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 8]) {
        if steps > 0 {
            let e = in_phase_space("cld", CLD, &(sampler, config, steps)).refused();
            assert!(e.contains("has no "), "{sampler}: {e}");
        }
    }
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
