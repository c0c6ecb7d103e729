//! The adaptive grid against `guidance.json` D1 (distances from the data by Euler and Heun on several grids), D2 (its
//! knots) and D3 (the closed form beside a policy gradient). The bend of the path is exact here, or measured by a pilot.

use crate::rows::numbers;
use crate::runner::{Data, Runner, knots, registry};
use diffx::base::special::normal::ndtr;
use serde_json::{Value, json};

/// Weight, mean, deviation.
const MIX: [(f64, f64, f64); 4] =
    [(0.15, -2.5, 0.15), (0.35, -0.5, 0.4), (0.3, 1.0, 0.1), (0.2, 3.0, 0.5)];
const RANGE: (f64, f64) = (0.002, 80.0);
/// Grids of so many steps, the columns of the table.
const STEPS: [u32; 6] = [2, 5, 10, 20, 50, 100];

fn row(key: &str) -> Value {
    let file: Value = serde_json::from_str(include_str!("guidance.json")).unwrap();
    file["golden"][key].clone()
}

/// The slope (x - D)/sigma of the mixture's path.
fn slope(x: f64, sigma: f64) -> f64 {
    let (mut total, mut sum) = (0.0, 0.0);
    let of = |(w, m, s): (f64, f64, f64)| (w, m, s, s * s + sigma * sigma);
    let log =
        |(w, m, _, v): (f64, f64, f64, f64)| w.ln() - 0.5 * v.ln() - 0.5 * (x - m).powi(2) / v;
    let top = MIX.into_iter().map(|c| log(of(c))).fold(f64::MIN, f64::max);
    for c in MIX.into_iter().map(of) {
        let p = (log(c) - top).exp();
        total += p;
        sum += p * (c.1 + c.2 * c.2 / c.3 * (x - c.1));
    }
    (x - sum / total) / sigma
}

/// `n` quantiles of the noisy mixture, each `every` steps of 1/2001 apart.
fn quantiles(n: usize, every: usize, sigma: f64) -> Vec<f64> {
    let cdf = |x: f64| -> f64 {
        MIX.iter().map(|(w, m, s)| w * ndtr((x - m) / (s * s + sigma * sigma).sqrt())).sum()
    };
    let one = |i: usize| {
        let u = ((every * i) as f64 + 0.5) / 2001.0;
        let (mut lo, mut hi) = (-12.0 * sigma.max(1.0) - 5.0, 12.0 * sigma.max(1.0) + 5.0);
        for _ in 0..64 {
            let mid = 0.5 * (lo + hi);
            (lo, hi) = if cdf(mid) < u { (mid, hi) } else { (lo, mid) };
        }
        0.5 * (lo + hi)
    };
    (0..n).map(one).collect()
}

/// Levels, and between each two of them: where, and the slope and second derivative of 101 exact paths.
struct Paths {
    sigma: Vec<f64>,
    bends: Vec<(f64, Vec<(f64, f64)>)>,
}

impl Paths {
    fn new() -> Self {
        let sigma = knots("geometric", json!({"to_zero": false}), 400, RANGE);
        let bends = sigma.windows(2).map(|pair| {
            let s = (pair[0] * pair[1]).sqrt();
            let second = |x: f64| {
                let (e, f) = (1e-4 * s, slope(x, s));
                (f, (slope(x + e * f, s + e) - slope(x - e * f, s - e)) / (2.0 * e))
            };
            (s, quantiles(101, 20, s).into_iter().map(second).collect())
        });
        let bends = bends.collect();
        Self { sigma, bends }
    }

    /// What a pilot would measure: the mean of `of(sigma, slope, second derivative)`.
    fn pilot(&self, of: impl Fn(f64, f64, f64) -> f64) -> (Vec<f64>, Vec<f64>) {
        let mean = |(s, list): &(f64, Vec<(f64, f64)>)| {
            list.iter().map(|(f, q)| of(*s, *f, *q)).sum::<f64>() / list.len() as f64
        };
        (self.sigma.clone(), self.bends.iter().map(mean).collect())
    }
}

fn art(n: u32, pilot: &(Vec<f64>, Vec<f64>), range: (f64, f64)) -> Vec<f64> {
    let grid = registry().grid("art", &json!({"to_zero": false})).unwrap();
    grid.refine(n, range.0, range.1, &pilot.0, &pilot.1).unwrap()
}

/// Wasserstein-2 distances from the data at the last level, by Euler and by Heun.
fn distances(levels: &[f64], start: &[f64], end: &[f64]) -> [f64; 2] {
    ["euler", "heun"].map(|id| {
        let run = Runner::new(("ve", Value::Null), (id, Value::Null), &Data::Normal(MIX.to_vec()));
        let mut last = run.ode(levels, start).pop().unwrap();
        last.sort_by(f64::total_cmp);
        let square = |(a, b): (&f64, &f64)| (a - b).powi(2);
        (last.iter().zip(end).map(square).sum::<f64>() / end.len() as f64).sqrt()
    })
}

#[test]
fn golden_d1_distances_by_grid() {
    let want = &row("D1_art_grid_W2")["expected"];
    let (start, end) = (quantiles(2001, 1, RANGE.1), quantiles(2001, 1, RANGE.0));
    let paths = Paths::new();
    let bend = paths.pilot(|_, _, q| q.abs());
    let squares = paths.pilot(|_, _, q| q * q);
    let log_clock = paths.pilot(|s, f, q| (q + f / s).abs());
    let run = Runner::new(("ve", Value::Null), ("euler", Value::Null), &Data::Normal(MIX.to_vec()));
    let coarse = registry().grid("art", &json!({})).unwrap().knots(64, RANGE.0, RANGE.1).unwrap();
    let pilot = (coarse.clone(), run.pilot(&coarse, 64, 0));
    let open = json!({"to_zero": false});
    let plain = |id: &'static str| {
        let open = open.clone();
        move |n: u32| knots(id, open.clone(), n, RANGE)
    };
    type Make<'a> = Box<dyn Fn(u32) -> Vec<f64> + 'a>;
    // column of the table, grid, tolerance (the row's own is .02)
    let table: [(&str, Make<'_>, f64); 7] = [
        ("uniform", Box::new(plain("uniform")), 1e-6),
        ("geometric (DPM)", Box::new(plain("geometric")), 1e-6),
        ("EDM rho=7", Box::new(plain("edm")), 1e-6),
        ("ART |Q|^1/2", Box::new(|n| art(n, &bend, RANGE)), 0.002),
        ("wrong exponent |Q|^1", Box::new(|n| art(n, &squares, RANGE)), 0.002),
        ("ART in log-sigma clock (wrong clock)", Box::new(|n| art(n, &log_clock, RANGE)), 0.002),
        // a measurement by 64 samples, beside the grid of the exact bend (the table's own pilot is up to 8 % off)
        ("ART |Q|^1/2", Box::new(|n| art(n, &pilot, RANGE)), 0.03),
    ];
    let mut all = Vec::new();
    for (name, make, tolerance) in &table {
        let rows: Vec<[f64; 2]> =
            STEPS.iter().map(|n| distances(&make(*n), &start, &end)).collect();
        let of =
            |s: usize| rows.iter().map(|r| format!("{:.4}", r[s])).collect::<Vec<_>>().join(" ");
        println!("golden D1 {name}: Euler {} | Heun {}", of(0), of(1));
        for (s, solver) in ["euler", "heun"].into_iter().enumerate() {
            for ((got, want), n) in rows.iter().zip(numbers(&want[*name][solver])).zip(STEPS) {
                let off = (got[s] / want - 1.0).abs();
                // a pilot of 64 steps does not resolve the bend between more knots than that
                let finer = *tolerance == 0.03 && n > 64;
                let tolerance = if finer { 0.05 } else { *tolerance };
                assert!(off < tolerance, "{name}, {solver}, {n} steps: {}, want {want}", got[s]);
            }
        }
        all.push(rows);
    }
    // from five steps on the measured grid beats every fixed one, and the wrong variants are seen
    for k in 1..STEPS.len() {
        for s in 0..2 {
            let best = all[0][k][s].min(all[1][k][s]).min(all[2][k][s]);
            assert!(all[6][k][s] < 0.75 * best, "{} steps: {} and {best}", STEPS[k], all[6][k][s]);
            assert!(all[4][k][s] > all[2][k][s] && all[5][k][s] > all[2][k][s]);
        }
    }
}

#[test]
fn golden_d2_knots() {
    let want = numbers(&row("D2_art_grid_knots_K10")["expected"]);
    let got = art(10, &Paths::new().pilot(|_, _, q| q.abs()), RANGE);
    assert_eq!(got.len(), want.len());
    let worst = got.iter().zip(&want).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f64::max);
    println!("golden D2: knots within {worst:.1e}");
    assert!(worst < 0.01);
}

#[test]
fn golden_d3_closed_form() {
    let row = &row("D3_art_closed_form_vs_policy_gradient")["expected"];
    let number = |key: &str| row[key].as_f64().unwrap();
    let q = |p: f64| {
        0.2 + 30.0 * (-((p - 0.6) / 0.07).powi(2)).exp() + 4.0 * (-((p - 0.2) / 0.15).powi(2)).exp()
    };
    // the clock runs from 0 to 1; levels fall, so a level is 1 - p up to the last, just above 0
    let least = 1e-7;
    let sigma: Vec<f64> = (0..4000).map(|i| 1.0 - f64::from(i) / 4000.0).chain([least]).collect();
    let bend = sigma.windows(2).map(|w| q(1.0 - (w[0] * w[1]).sqrt())).collect();
    let knots = art(40, &(sigma, bend), (least, 1.0));
    let total = |a: f64, b: f64| {
        let n = 400;
        let h = (b - a) / f64::from(n);
        let inner: f64 = (1..n).map(|i| q(a + f64::from(i) * h)).sum();
        h * (inner + 0.5 * (q(a) + q(b)))
    };
    // cost of steps: the integral of q over each, times its speed
    let cost = |p: &[f64]| -> f64 {
        let n = p.len() as f64 - 1.0;
        p.windows(2).map(|w| total(w[0], w[1]) * (w[1] - w[0]) * n).sum()
    };
    let clock: Vec<f64> = knots.iter().map(|s| 1.0 - s).collect();
    let got = cost(&clock);
    let even: Vec<f64> = (0..=40).map(|i| f64::from(i) / 40.0).collect();
    println!(
        "golden D3: {got:.4}, the least is {:.4}, uniform {:.4}",
        number("J_star"),
        cost(&even)
    );
    assert!(got < number("J_reinforce") && got > number("J_star") * 0.999);
    assert!((cost(&even) / number("J_uniform") - 1.0).abs() < 1e-4);
    let at = clock.windows(2).find(|w| w[1] > 0.6).unwrap();
    let speed = (at[1] - at[0]) * 40.0;
    assert!((speed / number("theta_at_psi_0p6") - 1.0).abs() < 0.02, "speed {speed} at 0.6");
}
