//! Every process under every sampler that takes it, with an exact denoiser, against the law of its data (specs processes 9,
//! guidance_samplers 4): `docs/laws.md` states the distances, and each run here must find its row there and agree with it.
//!
//! In w the additive processes are one process, and CIR is the BESQ of its dimension. So one of each family is held
//! against the law by every sampler, and every sampler must give the others the same numbers.

use crate::oracle::{BesselMixture, LogNormalMixture, Oracle};
use crate::run::{Setup, Start, distance};
use crate::{ACCEPT, N};
use serde_json::{Value, json};
use std::sync::Arc;

/// A sampler with its settings, and a number of steps that passes.
pub(crate) type Case = (&'static str, Value, u32);

const STATED: &str = include_str!("../../docs/laws.md");

/// The run as `docs/laws.md` calls it: process, sampler with its settings, steps.
fn row(process: &str, (sampler, config, steps): &Case) -> String {
    let settings = config.as_object().unwrap().iter();
    let word = |(key, value): (&String, &Value)| format!(" {key} {value}").replace('"', "");
    format!("| {process} | {sampler}{} | {steps} |", settings.map(word).collect::<String>())
}

/// Runs each case, prints its row, and wants it below `bound` and in the table within .001.
pub(crate) fn hold(process: &str, table: &[Case], bound: f64, ks: impl Fn(&Case) -> f64) {
    let mut wrong = Vec::new();
    for case in table {
        let (row, d) = (row(process, case), ks(case));
        println!("{row} {d:.4} |");
        let stated = STATED.lines().find_map(|line| line.strip_prefix(&row)?.split('|').next());
        match stated.and_then(|cell| cell.trim().parse::<f64>().ok()) {
            _ if d >= bound => wrong.push(format!("{row} {d:.4}, want below {bound}")),
            Some(stated) if (d - stated).abs() < 1e-3 => {}
            stated => wrong.push(format!("{row} {d:.4}, docs/laws.md says {stated:?}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A process around an oracle of its data in x, or for additive noise in e^x.
struct Family {
    process: (&'static str, Value),
    oracle: Arc<dyn Oracle>,
    range: (f64, f64),
    log: bool,
    /// The oracle's distribution function at equal steps of √x from 0, which is a hundred times cheaper.
    cdf: Vec<f64>,
}

/// Past the last sample of any law here, and steps of its root.
const END: f64 = 400.0;
const PLACES: usize = 1 << 16;

impl Family {
    fn new(
        id: &'static str,
        config: Value,
        oracle: impl Oracle + 'static,
        range: (f64, f64),
    ) -> Self {
        let at = |i: usize| END * (i as f64 / PLACES as f64).powi(2);
        let cdf = (0..=PLACES).map(|i| if i == 0 { 0.0 } else { oracle.cdf(at(i)) }).collect();
        Self { process: (id, config), oracle: Arc::new(oracle), range, log: false, cdf }
    }

    fn additive(id: &'static str) -> Self {
        Self {
            log: id != "gbm",
            ..Self::new(id, json!({}), LogNormalMixture::GOLDEN, (1e-2, 80.0))
        }
    }

    fn bessel(delta: f64) -> Self {
        let config = json!({ "delta": delta });
        Self::new("besq", config, BesselMixture::of(delta), (3e-3, 10.0))
    }

    fn run(&self, (sampler, config, steps): &Case, n: usize) -> Vec<f64> {
        let setup = Setup {
            process: (self.process.0, self.process.1.clone()),
            sampler: (sampler, config.clone()),
            steps: *steps,
            range: self.range,
            start: Start::Marginal,
            oracle: Arc::clone(&self.oracle),
        };
        let x = setup.sample(n, 11);
        x.into_iter().map(|x| if self.log { x.exp() } else { x }).collect()
    }

    fn ks(&self, case: &Case) -> f64 {
        distance(self.run(case, N), |x| {
            assert!(x > 0.0 && x < END, "a sample is {x}");
            let place = (x / END).sqrt() * PLACES as f64;
            let (i, part) = (place as usize, place.fract());
            self.cdf[i] + part * (self.cdf[i + 1] - self.cdf[i])
        })
    }
}

/// Steps of: Heun, ancestral, churn, DDIM of eta 0, 1/2 and 1, EM, DPM++ 2S, 2M, 3M and 3M as published, SDE-DPM++ 2M,
/// UniPC 1 to 3, SEEDS-2, RK4, stochastic Heun.
pub(crate) fn cases(steps: [u32; 18]) -> Vec<Case> {
    let none = || json!({});
    let samplers = [
        ("heun", none()),
        ("ancestral", none()),
        ("churn", none()),
        ("ddim", json!({"eta": 0})),
        ("ddim", json!({"eta": 0.5})),
        ("ddim", json!({"eta": 1})),
        ("em", none()),
        ("dpmpp_2s", none()),
        ("dpmpp_2m", none()),
        ("dpmpp_3m", none()),
        ("dpmpp_3m_compat", none()),
        ("sde_dpmpp_2m", none()),
        ("unipc", json!({"order": 1})),
        ("unipc", json!({"order": 2})),
        ("unipc", json!({"order": 3})),
        ("seeds2", none()),
        ("rk4", none()),
        ("stochastic_heun", none()),
    ];
    samplers.into_iter().zip(steps).map(|((id, config), n)| (id, config, n)).collect()
}

fn adaptive() -> Case {
    ("adaptive_sde", json!({"tolerance": 0.05}), 2)
}

/// Spec: Heun at 32 and ancestral sampling at 64 steps on GBM from sigma 5, Heun at 32 on VP and flow from 80.
#[test]
fn samplers_on_additive_noise() {
    let gbm = Family { range: (1e-2, 5.0), ..Family::additive("gbm") };
    let fast = [32, 64, 32, 64, 64, 128, 256, 16, 32, 16, 16, 32, 32, 16, 16, 16, 16, 32];
    let mut table = cases(fast);
    table.push(adaptive());
    hold("gbm", &table, ACCEPT, |case| gbm.ks(case));
    let ve = Family::additive("ve");
    let fast = [32, 128, 64, 128, 128, 256, 256, 32, 32, 32, 32, 64, 32, 32, 32, 32, 16, 64];
    let mut table = cases(fast);
    table.push(adaptive());
    hold("ve", &table, ACCEPT, |case| ve.ks(case));
    for id in ["vp", "sub_vp", "flow", "ou"] {
        let other = Family::additive(id);
        for (sampler, config, _) in &table {
            let case = (*sampler, config.clone(), 8);
            assert_eq!(ve.run(&case, 1000), other.run(&case, 1000), "{id} by {sampler} {config}");
        }
    }
}

/// Spec: Heun at 64 and churn at 128 steps for dimension 3, where the data never come near 0; Heun at 32 and churn at 64
/// for dimensions 1 and 1/2, which are reflected there.
#[test]
fn samplers_on_radial_noise() {
    let besq = Family::bessel(3.0);
    let steps = [64, 256, 128, 512, 256, 512, 512, 64, 64, 32, 32, 256, 64, 32, 32, 128, 16, 128];
    let table = cases(steps);
    hold("besq 3", &table, ACCEPT, |case| besq.ks(case));
    for delta in [1.0, 0.5] {
        let low = Family::bessel(delta);
        let some: Vec<Case> = vec![
            ("heun", json!({}), 32),
            ("ancestral", json!({}), 256),
            ("churn", json!({}), 64),
            ("unipc", json!({"order": 3}), 32),
        ];
        hold(&format!("besq {delta}"), &some, ACCEPT, |case| low.ks(case));
    }
    let config = json!({ "kappa": 0.7, "theta": 0.75 * 1.44 / 0.7, "sigma": 1.2 });
    let cir = Family { process: ("cir", config), ..Family::bessel(3.0) };
    for (sampler, config, _) in &table {
        let case = (*sampler, config.clone(), 8);
        assert_eq!(besq.run(&case, 1000), cir.run(&case, 1000), "cir by {sampler} {config}");
    }
}

/// The table has one row for samplers that are one by another name: DDIM of eta 0 is Euler, of eta 1 ancestral with the
/// small variance, EM is ancestral with the large one.
#[test]
fn samplers_of_two_names() {
    let twins = [
        (("euler", json!({})), ("ddim", json!({"eta": 0}))),
        (("ancestral", json!({"variance": "small"})), ("ddim", json!({"eta": 1}))),
        (("ancestral", json!({"variance": "large"})), ("em", json!({}))),
    ];
    for family in [Family::additive("gbm"), Family::bessel(3.0)] {
        let run = |(id, config): &(&'static str, Value)| family.run(&(id, config.clone(), 8), 1000);
        let far = |a: &[f64], b: &[f64]| {
            a.iter().zip(b).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f64::max)
        };
        for (one, other) in &twins {
            // eight steps of rounding in f32
            assert!(far(&run(one), &run(other)) < 1e-4, "{one:?}");
        }
        assert!(far(&run(&twins[1].0), &run(&twins[2].0)) > 0.1);
    }
}

/// What the bound says of runs that are too coarse, and of noise of a dimension that is not that of the data's law.
#[test]
fn wrong_runs_are_seen() {
    let gbm = Family { range: (1e-2, 5.0), ..Family::additive("gbm") };
    let small = ("ancestral", json!({"variance": "small"}), 16);
    assert!(gbm.ks(&small) > 3.0 * ACCEPT);
    let flow = Family::additive("flow");
    assert!(flow.ks(&("euler", json!({}), 16)) > 3.0 * ACCEPT);
    let besq = Family::bessel(3.0);
    assert!(besq.ks(&("ancestral", json!({"variance": "small"}), 32)) > 3.0 * ACCEPT);
    // the oracle starts and denoises in dimension 3, the process draws in 3.3
    let wrong = Family { process: ("besq", json!({"delta": 3.3})), ..besq };
    for case in [("churn", json!({}), 128), ("ancestral", json!({}), 256)] {
        let d = wrong.ks(&case);
        println!("law of {} in a dimension too high by a tenth: KS {d:.4}", case.0);
        assert!(d > ACCEPT, "{d}");
    }
}
