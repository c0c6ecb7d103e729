//! Case 2: CIR with the exact draw in the graph, Feller's condition kept and violated (processes 1.3, 1.4).

use crate::law::{distance, limit};
use crate::rig::{Job, Plugins, backend, plugins};
use diffx::base::special::law::chi_square_cdf;
use diffx::base::special::normal::ndtr;
use diffx::mem::{Budget, Tensor};
use diffx::sample::{Scheme, Simulation, Stats};

const N: usize = 20_000;

/// kappa, theta, sigma. Feller's condition is delta = 4 kappa theta / sigma^2 >= 2; here delta is 3, 1.2 and .64.
const CASES: [(f64, f64, f64); 3] = [(1.0, 0.75, 1.0), (1.0, 0.075, 0.5), (1.0, 0.04, 0.5)];

fn config((kappa, theta, sigma): (f64, f64, f64), gaussian: u32) -> String {
    format!(r#"{{"kappa":{kappa},"theta":{theta},"sigma":{sigma},"gaussian":{gaussian}}}"#)
}

fn delta((kappa, theta, sigma): (f64, f64, f64)) -> f64 {
    4.0 * kappa * theta / (sigma * sigma)
}

#[test]
fn simulated_transitions_are_noncentral_chi_square() {
    let Some(p) = plugins("cir") else { return };
    for case @ (kappa, theta, sigma) in CASES {
        let model = p.model("cir.net", &format!(r#"{{"delta":{}}}"#, delta(case)));
        let parts = p.parts(model, vec![p.process("cir", &config(case, 0))]);
        let x0 = Tensor::from_f32(&[1], &[0.05], &Budget::unlimited()).unwrap();
        let times = [0.25, 1.0, 3.0];
        let run = Simulation {
            parts: &parts,
            x0: &x0,
            times: &times,
            keep: &[],
            scheme: Scheme::Exact,
            n_samples: N,
            seed: 3,
            first_sample: 0,
        };
        let go = &mut || diffx::exec::Interrupt::Continue;
        let out = run.run(&backend(), &Budget::unlimited(), go).unwrap();
        let all = out.elements::<f32>().unwrap();
        for (k, t) in times.into_iter().enumerate() {
            let x: Vec<f64> = all.chunks(3).map(|c| f64::from(c[k])).collect();
            assert!(x.iter().all(|x| *x >= 0.0), "{case:?}: negative at {t}");
            let decay = f64::exp(-kappa * t);
            let c = sigma * sigma * (1.0 - decay) / (4.0 * kappa);
            let exact = |x: f64| chi_square_cdf(x / c, delta(case), 0.05 * decay / c);
            let d = distance(&x, exact);
            assert!(d < limit(N, 1e-4), "{case:?} at {t}: distance {d}");
            // a normal law of the same mean and variance is far away
            let mean = 0.05 * decay + theta * (1.0 - decay);
            let var = sigma * sigma / kappa
                * (0.05 * (decay - decay * decay) + 0.5 * theta * (1.0 - decay).powi(2));
            let far = distance(&x, |x| ndtr((x - mean) / var.sqrt()));
            assert!(far > 2.0 * limit(N, 1e-4), "{case:?} at {t}: a normal law is at {far}");
        }
    }
}

/// The plugin's own equation, in f32: near the law with many steps, far with two; past the end of its clock in f32 the
/// exact paths go on.
#[test]
fn euler_paths_and_late_times_of_a_plugin() {
    let Some(p) = plugins("cir") else { return };
    let (kappa, _, sigma) = CASES[0];
    let x0 = Tensor::from_f32(&[1], &[0.05], &Budget::unlimited()).unwrap();
    let paths = |scheme, times: &[f64]| {
        let model = p.model("cir.net", &format!(r#"{{"delta":{}}}"#, delta(CASES[0])));
        let parts = p.parts(model, vec![p.process("cir", &config(CASES[0], 0))]);
        let last = times.len() as u32 - 1;
        let run = Simulation {
            parts: &parts,
            x0: &x0,
            times,
            keep: &[last],
            scheme,
            n_samples: N,
            seed: 3,
            first_sample: 0,
        };
        let go = &mut || diffx::exec::Interrupt::Continue;
        let out = run.run(&backend(), &Budget::unlimited(), go).unwrap();
        out.elements::<f32>().unwrap().iter().map(|x| f64::from(*x)).collect::<Vec<_>>()
    };
    let law = |t: f64, x: f64| {
        let decay = f64::exp(-kappa * t);
        let c = sigma * sigma * (1.0 - decay) / (4.0 * kappa);
        chi_square_cdf(x / c, delta(CASES[0]), 0.05 * decay / c)
    };
    let fine = distance(&paths(Scheme::Euler { substeps: 200 }, &[1.0]), |x| law(1.0, x));
    let coarse = distance(&paths(Scheme::Euler { substeps: 2 }, &[1.0]), |x| law(1.0, x));
    assert!(fine < limit(N, 1e-4) && coarse > 2.0 * limit(N, 1e-4), "{fine} {coarse}");
    let late = distance(&paths(Scheme::Exact, &[0.5, 300.0]), |x| law(300.0, x));
    assert!(late < limit(N, 1e-4), "{late}");
}

/// Samples of the ancestral sampler for data b chi'^2_delta(lambda).
fn ancestral(
    p: &Plugins,
    case: (f64, f64, f64),
    b: f64,
    lambda: f64,
    knots: &[f64],
    gaussian: u32,
) -> Vec<f64> {
    let delta = delta(case);
    let model = p.model("cir.net", &format!(r#"{{"b":{b},"lambda":{lambda},"delta":{delta}}}"#));
    let mut parts = p.parts(model, vec![p.process("cir", &config(case, gaussian))]);
    let x_mean = b * (delta + lambda);
    parts.stats = vec![Stats { x_mean, x_var: 1.0, w_mean: x_mean.sqrt(), w_var: 1.0 }];
    let job = Job::new(parts, p.sampler("ancestral", "{}"), vec![knots.to_vec()]);
    job.run(0, N).unwrap().values("x")
}

/// For data b chi^2_delta the chain stays in the family, whatever the steps: its scale has a recursion.
#[test]
fn every_ancestral_draw_is_exact() {
    let Some(p) = plugins("cir") else { return };
    let (b, knots) = (0.3, p.knots(12, 8.0, 0.05));
    for case in CASES {
        let mut scale = b + knots[0] * knots[0];
        for k in knots.windows(2) {
            let (s, u) = (k[0] * k[0], k[1] * k[1]);
            let slope = (b + u) / (b + s);
            scale = slope * slope * scale + if u > 0.0 { (s - u) * (u / s).sqrt() } else { 0.0 };
        }
        let exact = |x: f64| chi_square_cdf(x / scale, delta(case), 0.0);
        let x = ancestral(&p, case, b, 0.0, &knots, 0);
        let d = distance(&x, exact);
        assert!(d < limit(N, 1e-4), "{case:?}: distance {d}");
        let wrong = distance(&ancestral(&p, case, b, 0.0, &knots, 1), exact);
        assert!(wrong > 2.0 * limit(N, 1e-4), "{case:?}: normal draws are at {wrong}");
    }
}

#[test]
fn generated_noncentral_data() {
    let Some(p) = plugins("cir") else { return };
    let (b, lambda) = (0.02, 20.0);
    let x = ancestral(&p, CASES[0], b, lambda, &p.knots(256, 10.0, 0.003), 0);
    let d = distance(&x, |x| chi_square_cdf(x / b, 3.0, lambda));
    println!("noncentral data: distance {d}");
    assert!(d < 0.02, "distance {d}");
    let coarse = ancestral(&p, CASES[0], b, lambda, &p.knots(4, 10.0, 0.003), 0);
    let d = distance(&coarse, |x| chi_square_cdf(x / b, 3.0, lambda));
    assert!(d > 0.05, "four steps are at {d}");
}
