//! Exact draws of CIR and squared Bessel processes, a million of each for three seeds: mean, variance and three quantiles
//! by z-scores against the noncentral chi-square law, and the atom of dimension 0 against its probability.

use crate::run;
use diffx::base::special::law;
use serde_json::{Value, json};

const DRAWS: usize = 1_000_000;
const SEEDS: [u64; 3] = [1, 2, 3];
const LIMIT: f64 = 4.5;

/// scale chi'^2_delta(lambda)
#[derive(Clone, Copy)]
struct Law {
    delta: f64,
    lambda: f64,
    scale: f64,
}

impl Law {
    /// P(X = 0)
    fn atom(self) -> f64 {
        if self.delta == 0.0 { (-0.5 * self.lambda).exp() } else { 0.0 }
    }

    fn cdf(self, x: f64) -> f64 {
        let x = x / self.scale;
        if self.delta > 0.0 {
            return law::chi_square_cdf(x, self.delta, self.lambda);
        }
        // a Poisson mixture of chi^2 laws of even degrees, the first of which is the atom
        let half = 0.5 * self.lambda;
        let (mut weight, mut sum) = (self.atom(), self.atom());
        for k in 1..80 {
            weight *= half / f64::from(k);
            sum += weight * law::chi_square_cdf(x, 2.0 * f64::from(k), 0.0);
        }
        sum
    }

    fn quantile(self, p: f64) -> f64 {
        let (mut lo, mut hi) = (0.0, 1e4 * self.scale);
        for _ in 0..200 {
            let middle = 0.5 * (lo + hi);
            if self.cdf(middle) < p { lo = middle } else { hi = middle }
        }
        hi
    }

    /// z of the mean, the variance about the true mean, three quantiles, and the atom where there is one.
    fn scores(self, x: &[f64]) -> Vec<f64> {
        let n = x.len() as f64;
        let (delta, lambda) = (self.delta, self.lambda);
        let mean = self.scale * (delta + lambda);
        let variance = self.scale.powi(2) * 2.0 * (delta + 2.0 * lambda);
        let fourth = self.scale.powi(4) * 48.0 * (delta + 4.0 * lambda) + 3.0 * variance * variance;
        let average = x.iter().sum::<f64>() / n;
        let spread = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let mut out = vec![
            (average - mean) / (variance / n).sqrt(),
            (spread - variance) / ((fourth - variance * variance) / n).sqrt(),
        ];
        let share = |hits: usize, p: f64| (hits as f64 - n * p) / (n * p * (1.0 - p)).sqrt();
        let atom = self.atom();
        for p in [0.1, 0.5, 0.9] {
            let p = atom + p * (1.0 - atom);
            let q = self.quantile(p);
            out.push(share(x.iter().filter(|x| **x <= q).count(), p));
        }
        if atom > 0.0 {
            out.push(share(x.iter().filter(|x| **x == 0.0).count(), atom));
        }
        out
    }
}

/// The largest |z| over seeds.
fn worst(id: &str, config: &Value, x0: f64, time: f64, law: Law) -> f64 {
    let mut worst: f64 = 0.0;
    for seed in SEEDS {
        let paths = run::simulate_from(id, config, x0, &[time], DRAWS, seed);
        let scores = law.scores(&paths[0]);
        let text: Vec<String> = scores.iter().map(|z| format!("{z:.2}")).collect();
        println!("draws {id} {config} seed {seed}: z {}", text.join(" "));
        assert!(paths[0].iter().all(|x| *x >= 0.0 && x.is_finite()), "{id} {config}: no number");
        worst = scores.iter().fold(worst, |w, z| w.max(z.abs()));
    }
    worst
}

const DELTAS: [f64; 5] = [0.0, 0.3, 1.0, 3.0, 7.3];

#[test]
fn draws_of_besq() {
    let (x0, u) = (1.3, 0.4);
    for delta in DELTAS {
        let law = Law { delta, lambda: x0 / u, scale: u };
        assert!(worst("besq", &json!({ "delta": delta }), x0, u, law) < LIMIT, "{delta}");
    }
    // a dimension off by one in a hundred is seen
    let wrong = Law { delta: 3.03, lambda: x0 / u, scale: u };
    assert!(worst("besq", &json!({ "delta": 3.0 }), x0, u, wrong) > LIMIT);
}

#[test]
fn draws_of_cir() {
    let (kappa, vol, x0, t): (f64, f64, f64, f64) = (1.2, 0.7, 0.5, 0.8);
    for delta in DELTAS {
        let theta = delta * vol * vol / (4.0 * kappa);
        let config = json!({ "kappa": kappa, "theta": theta, "sigma": vol });
        let scale = -vol * vol * (-kappa * t).exp_m1() / (4.0 * kappa);
        let law = Law { delta, lambda: x0 * (-kappa * t).exp() / scale, scale };
        assert!(worst("cir", &config, x0, t, law) < LIMIT, "{delta}");
    }
}

/// Once at 0, a path of dimension 0 stays there.
#[test]
fn absorption_is_for_good() {
    for (id, config) in [
        ("besq", json!({ "delta": 0 })),
        ("cir", json!({ "theta": 0, "kappa": 0.8, "sigma": 1.1 })),
    ] {
        let paths = run::simulate_from(id, &config, 1.3, &[0.2, 0.6, 3.0], 20_000, 4);
        let mut dead = 0;
        for (earlier, later) in
            paths[0].iter().zip(&paths[1]).zip(&paths[2]).map(|((a, b), c)| (a, (b, c)))
        {
            dead += usize::from(*later.0 == 0.0);
            assert!(*earlier > 0.0 || (*later.0 == 0.0 && *later.1 == 0.0), "{id} came back");
            assert!(*later.0 > 0.0 || *later.1 == 0.0, "{id} came back");
        }
        assert!(dead > 100, "{id}: only {dead} absorbed");
    }
}

/// Dimension 0 has exact draws and nothing to reverse.
#[test]
fn absorbed_processes_cannot_be_reversed() {
    for (id, config) in [("besq", json!({ "delta": 0 })), ("cir", json!({ "theta": 0 }))] {
        let e = run::refusal(id, &config);
        assert!(e.contains("the dimension is 0, absorbed at 0"), "{e}");
    }
}
