//! `temporal` learns known laws: windows of exact CIR, geometric Brownian and Ornstein-Uhlenbeck paths given the values
//! before them, by each process beside VE with the same network, data, steps and sampler. Level, increment and the step
//! from each value to the next have known distributions, so what was learned is compared with the truth and not with data.
//!
//! `DIFFX_LEARNED_STEPS`, `DIFFX_LEARNED_SAMPLES` and `DIFFX_LEARNED_ALL=1` (every process) make the table of
//! `docs/laws.md`.

use diffx::base::special::law;
use diffx::base::special::normal::ndtr;
use diffx::engine::recipe::Recipe;
use diffx::engine::trainer::Trainer;
use diffx::engine::{Engine, Job, JobOptions, OpenModel, Options, Paths, Pipeline, Setting, State};
use diffx::exec::Interrupt;
use diffx::mem::{Budget, Tensor};
use diffx::sample::Scheme;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Values the network is given, and values it draws after them.
const PAST: usize = 4;
const NEXT: usize = 12;
const ROW: usize = PAST + NEXT;
const EXAMPLES: usize = 8192;

fn setting(name: &str, default: usize) -> usize {
    let value = std::env::var(format!("DIFFX_LEARNED_{name}")).ok();
    value.and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// A process that paths are drawn from, with the distributions of what it does.
struct Truth {
    name: &'static str,
    config: serde_json::Value,
    from: f32,
    /// Time of the first value and from each value to the next.
    first: f64,
    step: f64,
    /// P(X_t <= x)
    level: fn(t: f64, x: f64) -> f64,
    /// P(next <= y | now = x); `skew` = 1 but in a wrong variant, which has that many times the rate, the drift or the like.
    next: fn(x: f64, y: f64, skew: f64) -> f64,
}

const STEP: f64 = 0.35;

/// scale chi'^2_3: CIR of kappa 1, theta 1 and dimension 3, so sigma² = 4/3 and half of it the scale of its stationary
/// Gamma law of shape 3/2.
fn cir(kappa: f64, x: f64, y: f64) -> f64 {
    let (square, keep) = (4.0 / 3.0, (-kappa * STEP).exp());
    let scale = square * (1.0 - keep) / (4.0 * kappa);
    law::chi_square_cdf(y.max(0.0) / scale, 3.0 * kappa, x.max(0.0) * keep / scale)
}

fn truths() -> [Truth; 3] {
    let reverting = Truth {
        name: "cir",
        config: json!({ "kappa": 1.0, "theta": 1.0, "sigma": (4.0f64 / 3.0).sqrt() }),
        from: 1.0,
        first: 40.0,
        step: STEP,
        level: |_, x| law::chi_square_cdf(3.0 * x.max(0.0), 3.0, 0.0),
        next: |x, y, skew| cir(skew, x, y),
    };
    let growing = Truth {
        name: "gbm",
        config: json!({ "mu": 0.3, "sigma": 0.5 }),
        from: 1.0,
        first: 1.0,
        step: 0.1,
        level: |t, x| ndtr((x.max(1e-300).ln() - 0.175 * t) / (0.5 * t.sqrt())),
        next: |x, y, skew| {
            let log = (y.max(1e-300) / x.max(1e-300)).ln();
            ndtr((log - 0.0175) / (skew * 0.5 * 0.1f64.sqrt()))
        },
    };
    // stationary variance 1
    let normal = Truth {
        name: "ou",
        config: json!({ "kappa": 1.0, "theta": 0.5, "sigma": std::f64::consts::SQRT_2 }),
        from: 0.5,
        first: 40.0,
        step: STEP,
        level: |_, x| ndtr(x - 0.5),
        next: |x, y, skew| {
            let keep = (-skew * STEP).exp();
            ndtr((y - 0.5 - keep * (x - 0.5)) / ((1.0 - keep * keep) / skew).sqrt())
        },
    };
    [reverting, growing, normal]
}

impl Truth {
    /// Rows of `PAST` + `NEXT` values of exact paths.
    fn draw(&self, engine: &Arc<Engine>, n: usize, seed: u64) -> Vec<f32> {
        let process =
            Setting { id: self.name.into(), config: self.config.as_object().unwrap().clone() };
        let times: Vec<f64> = (0..ROW).map(|i| self.first + i as f64 * self.step).collect();
        let x0 = Tensor::from_f32(&[1], &[self.from], &Budget::unlimited()).unwrap();
        let paths = Paths {
            process: &process,
            x0: &x0,
            per_sample: false,
            times: &times,
            keep: &[],
            scheme: Scheme::Exact,
            n_samples: n,
            seed,
            first_sample: 0,
        };
        engine.simulate(&paths).unwrap().elements::<f32>().unwrap().to_vec()
    }

    fn scores(&self, rows: &[f32], truth: &[f32], skew: f64) -> Scores {
        let at = |row: &[f32], i: usize| f64::from(row[i]);
        let (mut level, mut next, mut moves) = (vec![], vec![], vec![]);
        let (mut product, mut pairs) = (0.0, 0.0);
        for row in rows.chunks(ROW) {
            let mut last = None;
            for i in PAST..ROW {
                level.push((self.level)(self.first + i as f64 * self.step, at(row, i)));
                moves.push(at(row, i) - at(row, i - 1));
                let u = (self.next)(at(row, i - 1), at(row, i), skew);
                if let Some(last) = last.replace(u) {
                    // two steps of a Markov process know nothing of each other
                    (product, pairs) = (product + 12.0 * (u - 0.5) * (last - 0.5), pairs + 1.0);
                }
                next.push(u);
            }
        }
        let free =
            |row: &[f32]| (PAST..ROW).map(|i| at(row, i) - at(row, i - 1)).collect::<Vec<_>>();
        let true_moves: Vec<f64> = truth.chunks(ROW).flat_map(free).collect();
        Scores {
            level: uniform(level),
            moves: two(moves, true_moves),
            next: uniform(next),
            memory: product / pairs,
            window: energy(rows, truth),
            below: rows.chunks(ROW).flat_map(|r| &r[PAST..]).filter(|x| **x <= 0.0).count() as f64
                / (rows.len() / ROW * NEXT) as f64,
        }
    }
}

/// Distances of drawn windows from the law; all 0 for the law itself.
#[derive(Clone, Copy)]
struct Scores {
    /// Kolmogorov's, of values.
    level: f64,
    /// Of differences.
    moves: f64,
    /// Of the place of each value in the law it has given the one before.
    next: f64,
    /// Correlation of two such places in a row.
    memory: f64,
    /// Energy distance of whole windows, the squared MMD of the kernel -|x - y|.
    window: f64,
    /// Share of values at or below 0.
    below: f64,
}

impl std::fmt::Display for Scores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { level, moves, next, memory, window, below } = self;
        write!(
            f,
            "{level:.3} | {moves:.3} | {next:.3} | {memory:+.3} | {window:.4} | {:.2} % |",
            100.0 * below
        )
    }
}

fn uniform(mut u: Vec<f64>) -> f64 {
    u.sort_unstable_by(f64::total_cmp);
    let n = u.len() as f64;
    let gap = |(i, u): (usize, &f64)| (u - i as f64 / n).abs().max((u - (i + 1) as f64 / n).abs());
    u.iter().enumerate().map(gap).fold(0.0, f64::max)
}

fn two(mut a: Vec<f64>, mut b: Vec<f64>) -> f64 {
    a.sort_unstable_by(f64::total_cmp);
    b.sort_unstable_by(f64::total_cmp);
    let (mut j, mut worst) = (0, 0.0f64);
    for (i, x) in a.iter().enumerate() {
        while j < b.len() && b[j] <= *x {
            j += 1;
        }
        worst = worst.max(((i + 1) as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs());
    }
    worst
}

/// 2 E|X - Y| - E|X - X'| - E|Y - Y'| of the drawn parts of at most 1024 windows each.
fn energy(x: &[f32], y: &[f32]) -> f64 {
    let take = |v: &[f32]| -> Vec<[f32; NEXT]> {
        v.chunks(ROW).take(1024).map(|r| std::array::from_fn(|i| r[PAST + i])).collect()
    };
    let (x, y) = (take(x), take(y));
    let mean = |a: &[[f32; NEXT]], b: &[[f32; NEXT]]| {
        let far = |p: &[f32; NEXT], q: &[f32; NEXT]| {
            f64::from(p.iter().zip(q).map(|(p, q)| (p - q) * (p - q)).sum::<f32>().sqrt())
        };
        let sum: f64 = a.iter().map(|p| b.iter().map(|q| far(p, q)).sum::<f64>()).sum();
        sum / (a.len() * b.len()) as f64
    };
    // without the pairs of one with itself, so that the law has 0 on average
    let own = |a: &[[f32; NEXT]]| mean(a, a) * a.len() as f64 / (a.len() - 1) as f64;
    2.0 * mean(&x, &y) - own(&x) - own(&y)
}

fn table(dims: &[usize], values: &[f32]) -> Arc<Tensor> {
    Arc::new(Tensor::from_f32(dims, values, &Budget::unlimited()).unwrap())
}

fn part(rows: &[f32], from: usize, to: usize) -> Vec<f32> {
    rows.chunks(ROW).flat_map(|r| &r[from..to]).copied().collect()
}

/// Trains on `data` and draws what follows the pasts of `asked`: whole rows again.
fn learned(
    engine: &Arc<Engine>,
    process: &str,
    data: &[f32],
    asked: &[f32],
    steps: usize,
) -> Vec<f32> {
    let recipe = json!({
        "model": {"id": "temporal", "config": {"width": 32, "depth": 2, "heads": 4}},
        "process": process, "objective": {"id": "dsm", "config": {"mean": -0.3, "std": 1.4}},
        "steps": steps, "batch": 64, "rate": 0.004, "warmup": 50.min(steps), "ema": 0.99, "seed": 5,
        "sampler": "heun", "grid": "edm", "sample_steps": 20,
    });
    let (n, m) = (data.len() / ROW, asked.len() / ROW);
    let tables = vec![
        ("x".to_owned(), table(&[n, NEXT], &part(data, PAST, ROW))),
        ("history".to_owned(), table(&[n, PAST, 1], &part(data, 0, PAST))),
    ];
    let recipe = Recipe::parse(&recipe.to_string()).unwrap();
    let mut trainer = Trainer::with_tables(engine, recipe, tables).unwrap();
    while trainer.training().done() < trainer.training().steps() {
        trainer.advance(&mut || Interrupt::Continue).unwrap();
    }
    let name = format!("diffx-learned-{}-{process}-{steps}.safetensors", std::process::id());
    let path = std::env::temp_dir().join(name);
    trainer.save(&path).unwrap();
    let model = OpenModel::open(engine, path.to_str().unwrap(), "").unwrap();
    std::fs::remove_file(path).unwrap();
    let pipeline = Pipeline::new(&model, "{}").unwrap();
    let past = part(asked, 0, PAST);
    let inputs = vec![("history".to_owned(), table(&[m, PAST, 1], &past))];
    let options = JobOptions { seed: 9, n_samples: m, inputs, ..JobOptions::default() };
    let job = Job::start(&pipeline, options).unwrap();
    assert!(job.wait(Duration::from_secs(3600)));
    assert_eq!(job.progress().state, State::Done, "{:?}", job.error());
    let x = job.result("x").unwrap();
    let x = x.elements::<f32>().unwrap();
    past.chunks(PAST).zip(x.chunks(NEXT)).flat_map(|(a, b)| [a, b].concat()).collect()
}

/// What bounds are taken from: windows of the law whose values are each from another path, so that every value has its
/// law and none knows of the one before.
fn in_no_order(asked: &[f32], fresh: &[f32]) -> Vec<f32> {
    let others = fresh.len() / ROW;
    let mut mixed = asked.to_vec();
    for (i, row) in mixed.chunks_mut(ROW).enumerate() {
        for (j, x) in row.iter_mut().enumerate().skip(PAST) {
            *x = fresh[(i + 37 * j) % others * ROW + j];
        }
    }
    mixed
}

/// What is wrong with windows: of the level by itself, 1024 windows of the law have about .015, else as a share of what is
/// wrong with values in no order.
fn faults(got: Scores, mixed: Scores) -> Vec<&'static str> {
    let far = [
        ("level", got.level, 0.1),
        ("moves", got.moves, mixed.moves),
        ("next", got.next, mixed.next),
        ("memory", got.memory.abs(), mixed.memory.abs()),
        ("window", got.window, mixed.window),
    ];
    far.iter().filter(|(_, got, bad)| *got > 0.4 * bad).map(|(name, ..)| *name).collect()
}

#[test]
fn temporal_learns_paths_by_every_process_at_equal_budget() {
    let (steps, n) = (setting("STEPS", 300), setting("SAMPLES", 1024));
    let all = setting("ALL", 0) > 0;
    let engine = Engine::new(Options { threads: 2, ..Options::default() }).unwrap();
    println!("{steps} steps, {n} windows");
    println!("| law | process | level | increment | next given now | memory | windows | <= 0 |");
    for truth in truths() {
        let [data, asked, fresh] =
            [(EXAMPLES, 1), (n, 2), (4 * n, 3)].map(|(n, seed)| truth.draw(&engine, n, seed));
        let say = |process: &str, s: Scores| {
            println!("| {} | {process} | {s}", truth.name);
            s
        };
        let right = say("the law itself", truth.scores(&asked, &fresh, 1.0));
        let wrong = say("the law, judged by a wrong one", truth.scores(&asked, &fresh, 1.3));
        let mixed = in_no_order(&asked, &fresh);
        let mixed = say("its values in no order", truth.scores(&mixed, &fresh, 1.0));
        let raw = learned(&engine, "ve", &data, &asked, 1);
        let raw = say("ve after one step", truth.scores(&raw, &fresh, 1.0));
        // what the statistics see: a rate or a volatility that is off by a third, and a network that knows nothing
        assert!(faults(right, mixed).is_empty());
        assert!(wrong.next > 4.0 * right.next || wrong.memory.abs() > 0.05, "{}", truth.name);
        assert!(faults(raw, mixed).len() >= 4);

        let (few, rest): (&[&str], &[&str]) = match truth.name {
            "cir" => (&["ve", "gbm", "besq", "cir"], &["vp", "sub_vp", "flow", "ou", "pfgmpp"]),
            "gbm" => (&["ve", "gbm", "besq"], &["cir", "vp", "sub_vp", "flow", "ou", "pfgmpp"]),
            _ => (&["ve"], &["vp", "sub_vp", "flow", "ou", "pfgmpp"]),
        };
        for process in few.iter().chain(if all { rest } else { &[] }) {
            let x = learned(&engine, process, &data, &asked, steps);
            let s = say(process, truth.scores(&x, &fresh, 1.0));
            let wrong = faults(s, mixed);
            assert!(wrong.is_empty(), "{process} on {}: {wrong:?}", truth.name);
            if ["gbm", "besq", "cir"].contains(process) {
                assert_eq!(s.below, 0.0, "{process}: positive for ever");
            } else if truth.name == "cir" {
                // mass near 0 in the law: noise that is added to x leaves some of it below
                assert!(s.below > 0.002, "{process} keeps positive: the comparison has no point");
            }
        }
    }
}
