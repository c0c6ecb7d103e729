//! Case 5: particles resampled within groups towards a twisted target (guidance_samplers 2.7).

use crate::law::moments;
use crate::rig::{Job, Plugins, plugins};
use diffx::base::Status;

const GROUP: usize = 8;
const TILT: f64 = 1.5;

fn job(p: &Plugins, config: &str) -> Job {
    let mut parts = p.parts(p.model("smc.net", "{}"), vec![p.process("ve", "{}")]);
    parts.guidances = vec![p.guidance("smc.twist", config)];
    Job::new(parts, p.sampler("ancestral", "{}"), vec![p.knots(24, 20.0, 0.05)])
}

/// Variance of the untwisted chain at its end: it is linear and normal with mean 0.
fn chain_variance(knots: &[f64]) -> f64 {
    let mut v = 1.0 + knots[0] * knots[0];
    for k in knots.windows(2) {
        let (s, u) = (k[0] * k[0], k[1] * k[1]);
        let slope = 1.0 / (1.0 + s) + u / s * (1.0 - 1.0 / (1.0 + s));
        v = slope * slope * v + (s - u) * (u / s).sqrt();
    }
    v
}

/// Per group: the mean weight, and the weighted sum of x and of its square.
fn groups(x: &[f64], log_weight: &[f64]) -> Vec<[f64; 3]> {
    x.chunks(GROUP)
        .zip(log_weight.chunks(GROUP))
        .map(|(x, l)| {
            let mut sum = [0.0; 3];
            for (x, l) in x.iter().zip(l) {
                let w = l.exp() / GROUP as f64;
                sum = [sum[0] + w, sum[1] + w * x, sum[2] + w * x * x];
            }
            sum
        })
        .collect()
}

/// Mean of `f` over groups and its standard error.
fn estimate(groups: &[[f64; 3]], f: impl Fn(&[f64; 3]) -> f64) -> (f64, f64) {
    let values: Vec<f64> = groups.iter().map(f).collect();
    let (mean, var) = moments(&values);
    (mean, (var / values.len() as f64).sqrt())
}

#[test]
fn twisted_target() {
    let Some(p) = plugins("smc") else { return };
    let config = format!(r#"{{"tilt":{TILT}}}"#);
    let (job, n) = (job(&p, &config), 32_000);
    let got = job.run(0, n).unwrap();
    let (x, l) = (got.values("x"), got.values("log_weight"));
    let v = chain_variance(&job.knots[0]);
    let (mean, z) = (TILT * v, (0.5 * TILT * TILT * v).exp());

    let groups = groups(&x, &l);
    let (got_z, se) = estimate(&groups, |g| g[0]);
    assert!((got_z - z).abs() < 4.0 * se && se < 0.02 * z, "normaliser {got_z} +- {se}, want {z}");
    let (off, se) = estimate(&groups, |g| (g[1] - mean * g[0]) / z);
    assert!(off.abs() < 4.0 * se && se < 0.02, "mean off by {off} +- {se}");
    let second = v + mean * mean;
    let (off, se) = estimate(&groups, |g| (g[2] - second * g[0]) / z);
    assert!(off.abs() < 4.0 * se && se < 0.1, "second moment off by {off} +- {se}");

    // a group of eight is not the target by itself: without its weight its mean is short
    let (plain, var) = moments(&x);
    let se = (var / (n / GROUP) as f64).sqrt();
    println!("normaliser {got_z} of {z}, unweighted mean {plain} of {mean}");
    assert!(mean - plain > 3.0 * se && plain > 0.5 * mean, "unweighted mean {plain}, want {mean}");
}

#[test]
fn forgetting_the_weights_is_wrong() {
    let Some(p) = plugins("smc") else { return };
    let job = job(&p, &format!(r#"{{"tilt":{TILT},"unweighted":1}}"#));
    let got = job.run(0, 32_000).unwrap();
    let v = chain_variance(&job.knots[0]);
    let z = (0.5 * TILT * TILT * v).exp();
    let (got_z, se) = estimate(&groups(&got.values("x"), &got.values("log_weight")), |g| g[0]);
    assert!((got_z - z).abs() > 10.0 * se.max(0.01), "normaliser {got_z} +- {se}, right is {z}");
}

#[test]
fn a_group_does_not_see_the_others() {
    let Some(p) = plugins("smc") else { return };
    let mut job = job(&p, &format!(r#"{{"tilt":{TILT}}}"#));
    let whole = job.run(0, 96).unwrap();
    for (first, n, batch) in [(0, 96, 8), (24, 8, 8), (24, 40, 96), (32, 64, 24)] {
        job.batch = batch;
        let part = job.run(first, n).unwrap();
        let range = first as usize * 4..(first as usize + n) * 4;
        for name in ["x", "log_weight"] {
            let same = part.bits(name) == &whole.bits(name)[range.clone()];
            assert!(same, "{name} of {first} + {n} by {batch}");
        }
    }
    for (first, n) in [(4, 8), (0, 12)] {
        let e = job.run(first, n).err().unwrap();
        assert_eq!(e.status, Status::Invalid, "{first} + {n} cuts a group: {e}");
    }
}
