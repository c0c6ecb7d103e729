//! The samplers against `guidance.json` C1 (errors of the ODE samplers at each number of steps), C2 (end points),
//! C3 (terminal variances of the stochastic ones, noise carried as coefficients) and C9 (end points under given noise).

use crate::rows::numbers;
use crate::runner::{Data, Hands, Runner, knots};
use diffx::base::special::normal::{ndtr, ndtri};
use serde_json::{Value, json};

fn carried() -> Value {
    let file: Value = serde_json::from_str(include_str!("guidance.json")).unwrap();
    file["golden"].clone()
}

/// 0.3 N(-2, 0.4²) + 0.5 N(0.5, 0.25²) + 0.2 N(3, 0.6²)
const MIX: [(f64, f64, f64); 3] = [(0.3, -2.0, 0.4), (0.5, 0.5, 0.25), (0.2, 3.0, 0.6)];

fn runner(sampler: &str, config: Value) -> Runner {
    Runner::new(("ve", Value::Null), (sampler, config), &Data::Normal(MIX.to_vec()))
}

/// D of the mixture.
fn denoise(x: f64, sigma: f64) -> f64 {
    let (mut total, mut sum) = (0.0, 0.0);
    for (weight, mean, sd) in MIX {
        let v = sd * sd + sigma * sigma;
        let p = weight * (-0.5 * (x - mean).powi(2) / v).exp() / v.sqrt();
        total += p;
        sum += p * (mean + sd * sd / v * (x - mean));
    }
    sum / total
}

/// The exact flow from `sigma` to `to`: Runge-Kutta in log sigma with steps far below those compared.
fn flow(x: f64, sigma: f64, to: f64) -> f64 {
    let steps = 6000;
    let h = (to / sigma).ln() / f64::from(steps);
    let slope = |x: f64, l: f64| x - denoise(x, l.exp());
    let (mut x, start) = (x, sigma.ln());
    for i in 0..steps {
        let l = start + f64::from(i) * h;
        let k1 = slope(x, l);
        let k2 = slope(x + 0.5 * h * k1, l + 0.5 * h);
        let k3 = slope(x + 0.5 * h * k2, l + 0.5 * h);
        let k4 = slope(x + h * k3, l + h);
        x += h / 6.0 * (k1 + 2.0 * (k2 + k3) + k4);
    }
    x
}

fn agree(got: &[f64], want: &Value, rtol: f64, what: &str) {
    let want = numbers(want);
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        let error = (got - want).abs() / want.abs().max(1e-3);
        assert!(error < rtol, "{what}: number {i} is {got}, want {want}, error {error:.1e}");
    }
}

/// The names the golden file gives our ODE samplers.
fn named() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("euler", "euler", Value::Null),
        ("euler", "ddim", json!({"eta": 0})),
        ("heun", "heun", Value::Null),
        ("dpmpp_2S", "dpmpp_2s", Value::Null),
        ("dpmpp_2M", "dpmpp_2m", Value::Null),
        ("dpmpp_3M_public", "dpmpp_3m_compat", Value::Null),
        ("dpmpp_3M_fixed", "dpmpp_3m", Value::Null),
        ("unipc_2", "unipc", json!({"order": 2})),
        ("unipc_3", "unipc", json!({"order": 3})),
    ]
}

#[test]
fn golden_c2_end_points_of_the_ode() {
    let row = &carried()["C2_ode_vectors_N8"];
    let x = numbers(&row["inputs"]["x"]);
    let levels = knots("geometric", json!({"to_zero": false}), 8, (0.05, 10.0));
    agree(&levels, &row["inputs"]["grid"], 1e-9, "grid");
    let edm = knots("edm", json!({"to_zero": false}), 17, (0.002, 80.0));
    agree(&edm, &row["expected"]["edm_grid"], 1e-9, "edm_grid");
    let d: Vec<f64> = x.iter().map(|x| denoise(*x, 10.0)).collect();
    agree(&d, &row["expected"]["D_at_start"], 1e-9, "D_at_start");
    let exact: Vec<f64> = x.iter().map(|x| flow(*x, 10.0, 0.05)).collect();
    agree(&exact, &row["expected"]["reference"], 1e-9, "reference");
    for (name, id, config) in named() {
        let last = runner(id, config).ode(&levels, &x).pop().unwrap();
        agree(&last, &row["expected"][name], 2e-9, id);
        // and a wrong sampler is seen
        let wrong = if name == "heun" { "euler" } else { "heun" };
        let other = numbers(&row["expected"][wrong]);
        assert!(last.iter().zip(&other).any(|(a, b)| (a - b).abs() > 1e-4), "{id}");
    }
}

/// The point of the noisy mixture below which a share `u` lies.
fn quantile(u: f64, sigma: f64) -> f64 {
    let cdf = |x: f64| -> f64 {
        MIX.iter().map(|(w, m, s)| w * ndtr((x - m) / (s * s + sigma * sigma).sqrt())).sum()
    };
    let (mut lo, mut hi) = (-20.0 - 12.0 * sigma, 20.0 + 12.0 * sigma);
    for _ in 0..80 {
        let mid = 0.5 * (lo + hi);
        (lo, hi) = if cdf(mid) < u { (mid, hi) } else { (lo, mid) };
    }
    0.5 * (lo + hi)
}

/// Flow matching, t in equal steps from 1 to 0. Euler in t is Euler in sigma = t/(1-t), but for the first step, from an
/// infinite sigma, whose velocity is x - E[x0]. Heun in sigma is another trapezoid than the row's, in t: of it the order
/// is held, started from the exact state after the first step.
#[test]
fn golden_c4_flow_matching() {
    let row = &carried()["C4_flow_matching"]["expected"];
    let mean: f64 = MIX.iter().map(|(w, m, _)| w * m).sum();
    let shares: Vec<f64> = (0..64).map(|i| (f64::from(i) + 0.5) / 64.0).collect();
    let exact: Vec<f64> = shares.iter().map(|u| quantile(*u, 0.0)).collect();
    let rms = |id: &str, n: u32, start: &dyn Fn(f64, f64) -> f64| {
        let levels = knots("flow_time", json!({}), n - 1, (1e-3, f64::from(n) - 1.0));
        let x: Vec<f64> = shares.iter().map(|u| start(*u, levels[0])).collect();
        let data = Data::Normal(MIX.to_vec());
        let run = Runner::new(("flow", Value::Null), (id, Value::Null), &data);
        let last = run.ode(&levels, &x).pop().unwrap();
        let square = |(a, b): (&f64, &f64)| (a - b).powi(2);
        (last.iter().zip(&exact).map(square).sum::<f64>() / 64.0).sqrt()
    };
    let steps = [10, 20, 40, 80, 160, 320];
    // x' = x - (x - E x0)/n, and w' = n x'
    let first = |u: f64, sigma: f64| ndtri(u) * sigma + mean;
    let euler = steps.map(|n| rms("euler", n, &first));
    for (got, want) in euler.iter().zip(numbers(&row["euler"]["rms"])) {
        assert!((got / want - 1.0).abs() < 1e-6, "{got:e}, want {want:e}");
    }
    let heun = steps.map(|n| rms("heun", n, &quantile));
    let orders = [euler, heun].map(|e| (e[4] / e[5]).log2());
    println!("golden C4 flow matching: orders {orders:.2?}, Heun {heun:?}");
    assert!((orders[0] - row["euler"]["slope_last"].as_f64().unwrap()).abs() < 0.1);
    assert!((orders[1] - row["heun"]["slope_last"].as_f64().unwrap()).abs() < 0.15);
    // the first step without the mean of the data is another law
    assert!((rms("euler", 320, &|u, sigma| ndtri(u) * sigma) / euler[5] - 1.0).abs() > 1e-3);
}

#[test]
fn golden_c1_errors_of_the_ode() {
    let row = &carried()["C1_ode_orders_mixture"];
    let x: Vec<f64> = (0..64).map(|i| 10.0 * ndtri((f64::from(i) + 0.5) / 64.0)).collect();
    let exact: Vec<f64> = x.iter().map(|x| flow(*x, 10.0, 0.05)).collect();
    let cases = [
        ("euler(=DDIM eta0=DPM++1)", "ddim", json!({}), 0),
        ("heun", "heun", json!({}), 0),
        ("rk4", "rk4", json!({}), 0),
        ("dpmpp_2S", "dpmpp_2s", json!({}), 0),
        ("dpmpp_2M", "dpmpp_2m", json!({}), 0),
        ("dpmpp_3M c3=2, exact start", "dpmpp_3m", json!({}), 2),
        ("unip_3 exact start", "dpmpp_3m", json!({}), 2), // one and the same solver
        ("dpmpp_3M c3=2, 1-2 start", "dpmpp_3m", json!({}), 0),
        ("dpmpp_3M public c3=1, exact start", "dpmpp_3m_compat", json!({}), 2),
        ("dpmpp_3M public c3=1, 1-2 start", "dpmpp_3m_compat", json!({}), 0),
        ("unip_2", "unipc", json!({"order": 2, "corrector": false}), 0),
        ("unipc_1", "unipc", json!({"order": 1}), 0),
        ("unipc_2", "unipc", json!({"order": 2}), 0),
        ("unipc_3", "unipc", json!({"order": 3}), 0),
    ];
    for (kind, grid) in [("log", "geometric"), ("edm7", "edm")] {
        for (name, id, config, start) in &cases {
            let want = &row["expected"][format!("{name} | {kind}")];
            let rms = numbers(&want["rms"]);
            let run = runner(id, config.clone());
            let mut got = Vec::new();
            for n in [20, 40, 80, 160, 320, 640] {
                let levels = knots(grid, json!({"to_zero": false}), n, (0.05, 10.0));
                // the first steps replaced by the exact flow
                let instead = |k: usize| {
                    let exact = k < *start;
                    exact.then(|| x.iter().map(|x| flow(*x, 10.0, levels[k + 1])).collect())
                };
                let mut draw = |_| -> Vec<f64> { panic!("a draw in an ODE") };
                let mut hands = Hands { draw: &mut draw, instead: &instead };
                let last = run.run(&levels, &x, &mut hands).pop().unwrap();
                let square = |(a, b): (&f64, &f64)| (a - b).powi(2);
                got.push((last.iter().zip(&exact).map(square).sum::<f64>() / 64.0).sqrt());
            }
            for (got, want) in got.iter().zip(&rms) {
                // the reference solutions themselves agree to 1e-11
                let off = (got - want).abs();
                assert!(off < 1e-6 * want + 1e-11, "{name}, {kind}: {got:e}, want {want:e}");
            }
            let slope = (got[4] / got[5]).log2();
            println!("golden C1 {name}, {kind}: order {slope:.2}");
            assert!((slope - want["slope_last"].as_f64().unwrap()).abs() < 0.15);
        }
    }
}

#[test]
fn golden_c3_variances_of_the_sde() {
    let row = &carried()["C3_sde_weak_order_gaussian"];
    let (mean, variance) = (0.7, 0.25);
    let cases = [
        ("euler_maruyama(sigma^2 clock)", "em", json!({})),
        ("ddpm_ancestral", "ancestral", json!({"variance": "small"})),
        ("ddim_eta1", "ddim", json!({"eta": 1})),
        ("sde_dpmpp_1", "ddim", json!({"eta": 1})),
        ("ddim_eta0", "ddim", json!({"eta": 0})),
        ("sde_dpmpp_2M", "sde_dpmpp_2m", json!({})),
        ("stochastic_heun", "stochastic_heun", json!({})),
        ("seeds2_exponential", "seeds2", json!({})),
        ("edm_churn_20", "churn", json!({"churn": 20})),
        ("edm_churn_0", "churn", json!({"churn": 0})),
    ];
    for (name, id, config) in cases {
        let data = Data::Affine(mean, variance);
        let run = Runner::new(("ve", Value::Null), (id, config), &data);
        let mut errors = Vec::new();
        for n in [20usize, 40, 80, 160, 320] {
            let levels = knots("geometric", json!({"to_zero": false}), n as u32, (0.02, 20.0));
            let rows = 2 + 2 * n;
            let mut x = vec![0.0; rows];
            x[0] = mean;
            x[1] = (variance + 400.0f64).sqrt();
            let mut next = 2;
            let mut draw = |_| {
                let mut unit = vec![0.0; rows];
                unit[next] = 1.0;
                next += 1;
                unit
            };
            let mut hands = Hands { draw: &mut draw, instead: &|_| None };
            let last = run.run(&levels, &x, &mut hands).pop().unwrap();
            let got: f64 = last[1..].iter().map(|c| c * c).sum();
            let exact = variance + 0.02 * 0.02;
            errors.push((got - exact).abs() / exact);
        }
        let want = &row["expected"][name];
        println!("golden C3 {name}: weak order {:.2}", (errors[3] / errors[4]).log2());
        for (got, want) in errors.iter().zip(numbers(&want["relvar_err"])) {
            assert!((got - want).abs() < 1e-6 * want + 1e-10, "{name}: {got:e}, want {want:e}");
        }
    }
}

#[test]
fn golden_c9_end_points_of_the_sde() {
    let row = &carried()["C9_sde_vectors_N4"];
    let x = numbers(&row["inputs"]["x"]);
    let noise: Vec<Vec<f64>> =
        row["inputs"]["z_rows"].as_array().unwrap().iter().map(numbers).collect();
    let levels = knots("geometric", json!({"to_zero": false}), 4, (0.1, 10.0));
    agree(&levels, &row["inputs"]["grid"], 1e-9, "grid");
    for (name, id, config) in [
        ("euler_maruyama", "em", json!({})),
        ("ddpm_ancestral", "ancestral", json!({"variance": "small"})),
        ("ddpm_ancestral", "ddim", json!({"eta": 1})),
        ("ddim_eta0.5", "ddim", json!({"eta": 0.5})),
        ("sde_dpmpp_2M", "sde_dpmpp_2m", json!({})),
        ("stochastic_heun", "stochastic_heun", json!({})),
        ("seeds2", "seeds2", json!({})),
        ("edm_churn_S2", "churn", json!({"churn": 2})),
    ] {
        let mut drawn = 0;
        let mut draw = |_| {
            drawn += 1;
            noise[drawn - 1].clone()
        };
        let mut hands = Hands { draw: &mut draw, instead: &|_| None };
        let last = runner(id, config).run(&levels, &x, &mut hands).pop().unwrap();
        // the noise table itself is printed with 12 digits
        agree(&last, &row["expected"][name], 1e-8, id);
        assert!(drawn >= 4, "{id} drew {drawn} times");
    }
}
