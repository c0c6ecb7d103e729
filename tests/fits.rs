//! Settings of processes fitted to data, through the engine as a trainer asks for them.

use diffx::base::philox::Stream;
use diffx::engine::{Engine, Options, Setting};
use std::sync::Arc;

fn engine() -> Arc<Engine> {
    Engine::new(Options { no_threads: true, ..Options::default() }).unwrap()
}

fn fit(id: &str, values: &[f64], ordered: bool) -> Vec<(String, f64, u32)> {
    let law = engine().process(&Setting::parse(id).unwrap()).unwrap();
    let found = law.fit(values, ordered).unwrap();
    found.into_iter().map(|f| (f.key, f.value, f.group)).collect()
}

fn refused(id: &str, values: &[f64]) -> String {
    let law = engine().process(&Setting::parse(id).unwrap()).unwrap();
    law.fit(values, true).unwrap_err().message
}

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
fn the_parameters_of_cir_are_found_again() {
    let series = cir(0.1, 19.0, 0.8, 40_000);
    let wanted = [("kappa", 0.1, 0.12), ("theta", 19.0, 0.03), ("sigma", 0.8, 0.08)];
    for ((key, got, group), (name, want, tolerance)) in
        fit("cir", &series, true).into_iter().zip(wanted)
    {
        assert_eq!((key.as_str(), group), (name, 1));
        assert!((got / want - 1.0).abs() < tolerance, "{key}: {got}, want {want}");
    }
    // the same values in no order: the stationary law alone
    let [kappa, theta, sigma] = &fit("cir", &series, false)[..] else { panic!() };
    assert_eq!(kappa.1, 1.0);
    let variance = sigma.1.powi(2) * theta.1 / 2.0;
    let n = series.len() as f64;
    let want = series.iter().map(|v| (v - theta.1).powi(2)).sum::<f64>() / n;
    assert!((variance / want - 1.0).abs() < 1e-9, "{variance} {want}");
}

#[test]
fn a_dimension_stays_in_range() {
    // mean 100, variance 0.25: a Gamma of shape 40000
    let narrow: Vec<f64> = (0..100).map(|i| 100.0 + 0.5 * f64::from(i % 2 * 2 - 1)).collect();
    assert_eq!(fit("besq", &narrow, false), [("delta".to_owned(), 40.0, 1)]);
    assert!(fit("mask", &narrow, false).is_empty());
}

#[test]
fn data_is_centred_in_the_coordinate() {
    let series: Vec<f64> = (0..50).map(|i| 20.0 * 1.2_f64.powi(i % 3 - 1)).collect();
    let of = |id, key: &str| {
        let found = fit(id, &series, true).into_iter().find(|f| f.0 == key).unwrap();
        assert_eq!(found.2, 0, "{key} is set on its own");
        found.1
    };
    let mean = series.iter().sum::<f64>() / 50.0;
    let sd = (series.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 50.0).sqrt();
    for id in ["ve", "vp", "sub_vp", "flow", "pfgmpp"] {
        assert!((of(id, "center") / mean - 1.0).abs() < 1e-12, "{id}");
    }
    for id in ["vp", "sub_vp", "flow"] {
        assert!((of(id, "scale") / sd - 1.0).abs() < 1e-12, "{id}");
    }
    let log_mean = series.iter().map(|v| v.ln()).sum::<f64>() / 50.0;
    assert!((of("gbm", "reference").ln() - log_mean).abs() < 1e-12);
    let ou = fit("ou", &series, false);
    let stationary = ou[2].1.powi(2) / 2.0;
    assert_eq!((ou[0].1, ou.len()), (1.0, 3));
    assert!((stationary / (sd * sd) - 1.0).abs() < 1e-12);
}

#[test]
fn unfit_data_is_named() {
    for id in ["gbm", "cir", "besq"] {
        let e = refused(id, &[1.0, 0.0, 2.0]);
        assert!(e.contains("wants positive data, a value is 0"), "{id}: {e}");
    }
    assert!(refused("besq", &[2.0, 2.0, 2.0, 2.0]).contains("too few to fit to"));
    assert!(refused("ve", &[1.0, f64::NAN, 2.0]).contains("a value is NaN"));
}
