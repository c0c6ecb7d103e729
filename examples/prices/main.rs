//! One network, one budget, five processes, two price series: what held-out years say. Trains a `temporal` network for
//! each process on the days before 2019, samples the fan of every held-out window from its past, and prints the tables of
//! docs/prices.md; the fans of the last window become pictures.
//!
//! usage: prices DATA_FOLDER OUT_FOLDER [STEPS] [SCENARIOS]

#[path = "../../src/command/chart/mod.rs"]
#[allow(dead_code, unused_imports)] // the command uses more of it
mod chart;
mod score;

use diffx::bail;
use diffx::base::Result;
use diffx::engine::recipe::Recipe;
use diffx::engine::trainer::Trainer;
use diffx::engine::{Engine, Job, JobOptions, OpenModel, Options, Paths, Pipeline, Setting, State};
use diffx::exec::Interrupt;
use diffx::mem::Tensor;
use diffx::sample::Scheme;
use diffx::train::Series;
use diffx::train::data::{Dataset, Panel, Split, windows};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const DAYS: usize = 32;
const SPLIT: &str = "2019-01-01";
const LEVELS: [f64; 7] = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99];
const LAGS: [usize; 3] = [1, 5, 20];
/// (series, file, column)
const SERIES: [(&str, &str, &str); 2] =
    [("VIX", "vix-daily.csv", "CLOSE"), ("Brent", "brent-daily.csv", "Price")];
/// The settings that are not fitted; BESQ(3) is the dimension the specification recommends.
const PROCESSES: [(&str, &str); 5] = [
    ("VE", "ve"),
    ("flow matching", "flow"),
    ("GBM", "gbm"),
    ("BESQ(3)", "besq:{\"delta\":3}"),
    ("CIR", "cir"),
];

fn main() -> std::process::ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("prices: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(args: Vec<String>) -> Result<()> {
    let [data, out, rest @ ..] = args.as_slice() else {
        bail!(Invalid, "usage: prices DATA_FOLDER OUT_FOLDER [STEPS] [SCENARIOS]");
    };
    let number = |i: usize, default: usize| rest.get(i).map_or(Some(default), |v| v.parse().ok());
    let (Some(steps), Some(scenarios)) = (number(0, 2000), number(1, 100)) else {
        bail!(Invalid, "STEPS and SCENARIOS are {rest:?}, want whole numbers");
    };
    let engine = Engine::new(Options::default())?;
    for (name, file, column) in SERIES {
        let path = Path::new(data).join(file);
        let test = HeldOut::read(&engine, &path, column)?;
        let mut columns = vec![Column::of("what happened", &test, None)];
        for (label, process) in PROCESSES {
            let began = Instant::now();
            let model =
                Path::new(out).join(format!("{file}.{}.safetensors", label.replace(' ', "-")));
            train(&engine, &path, column, process, steps, &model)?;
            let seconds = began.elapsed().as_secs_f64();
            let fans = sample(&engine, &test, &model, scenarios)?;
            picture(name, label, &test, &fans, scenarios, Path::new(out))?;
            columns.push(Column::of(label, &test, Some((&fans, scenarios))));
            eprintln!("{name} {label}: trained in {seconds:.0} s");
        }
        for (label, process) in [("bare GBM", "gbm"), ("bare CIR", "cir")] {
            let fans = bare(&engine, &test, Path::new(out), file, process, scenarios)?;
            columns.push(Column::of(label, &test, Some((&fans, scenarios))));
        }
        println!("## {name}: {} windows of {DAYS} days from {SPLIT} on\n", test.truth.len());
        println!("{}", table(&columns));
    }
    Ok(())
}

/// The held-out windows that do not overlap: their past, what came, and the pasts as a model takes them.
struct HeldOut {
    past: Vec<Vec<f64>>,
    truth: Vec<Vec<f64>>,
    histories: Vec<f32>,
}

impl HeldOut {
    fn read(engine: &Arc<Engine>, path: &Path, column: &str) -> Result<Self> {
        let series = Panel::from(Series::read(path, Some(column))?);
        let cut = windows(&series, DAYS, DAYS, DAYS, Some(SPLIT), Split::HeldOut)?;
        let data = cut.dataset(&series, engine.budget())?;
        let (mut past, mut truth, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..data.len() {
            let history = Dataset::row(&data.cond[0], i)?;
            rows.extend_from_slice(history);
            past.push(history.iter().map(|v| f64::from(*v)).collect());
            truth.push(Dataset::row(&data.x[0], i)?.iter().map(|v| f64::from(*v)).collect());
        }
        Ok(Self { past, truth, histories: rows })
    }

    fn last(&self, window: usize) -> f64 {
        self.past[window][DAYS - 1]
    }

    /// Every window's past, once per scenario.
    fn repeated(&self, scenarios: usize) -> Vec<f32> {
        let each = self.histories.chunks(DAYS);
        each.flat_map(|row| row.iter().copied().cycle().take(DAYS * scenarios)).collect()
    }
}

fn train(
    engine: &Arc<Engine>,
    data: &Path,
    column: &str,
    process: &str,
    steps: usize,
    out: &Path,
) -> Result<()> {
    let recipe = json!({
        "data": {"path": data, "column": column, "window": DAYS, "history": DAYS, "split": SPLIT},
        "model": {"id": "temporal", "config": {"width": 32, "depth": 2, "heads": 4}},
        "process": process,
        "objective": {"id": "dsm", "config": {"cond_dropout": 0.1, "mean": -0.3, "std": 1.4}},
        "sampler": "heun", "grid": "edm", "sample_steps": 32,
        "steps": steps, "batch": 64, "rate": 0.002, "warmup": 100, "ema": 0.998, "decay": 0.05, "seed": 1,
    });
    let mut trainer = Trainer::new(engine, Recipe::parse(&recipe.to_string())?)?;
    while trainer.training().done() < trainer.training().steps() {
        trainer.advance(&mut || Interrupt::Continue)?;
    }
    trainer.save(out)
}

/// [windows x scenarios, days]
fn sample(
    engine: &Arc<Engine>,
    test: &HeldOut,
    model: &Path,
    scenarios: usize,
) -> Result<Vec<f64>> {
    let Some(model) = model.to_str() else { bail!(Invalid, "OUT_FOLDER is no UTF-8 text") };
    let model = OpenModel::open(engine, model, "")?;
    let n = test.truth.len() * scenarios;
    let history = Tensor::from_f32(&[n, DAYS, 1], &test.repeated(scenarios), engine.budget())?;
    let pipeline = Pipeline::new(&model, "{}")?;
    let options = JobOptions {
        seed: 5,
        n_samples: n,
        inputs: vec![("history".into(), Arc::new(history))],
        ..JobOptions::default()
    };
    let job = Job::start(&pipeline, options)?;
    while !job.wait(Duration::from_secs(60)) {}
    if let (true, Some(e)) = (job.progress().state != State::Done, job.error()) {
        return Err(e);
    }
    Ok(job.result("x")?.elements::<f32>()?.iter().map(|v| f64::from(*v)).collect())
}

/// The fitted process alone, from the last level of every window.
fn bare(
    engine: &Arc<Engine>,
    test: &HeldOut,
    out: &Path,
    file: &str,
    process: &str,
    scenarios: usize,
) -> Result<Vec<f64>> {
    let n = test.truth.len() * scenarios;
    let last: Vec<f32> = (0..n).map(|i| test.last(i / scenarios) as f32).collect();
    let x0 = Tensor::from_f32(&[n], &last, engine.budget())?;
    let times: Vec<f64> = (1..=DAYS).map(|t| t as f64).collect();
    // what the trainer fitted to the days before the split
    let label = PROCESSES.iter().find(|p| p.1 == process).map_or("", |p| p.0);
    let model = out.join(format!("{file}.{label}.safetensors"));
    let model = OpenModel::open(engine, &model.to_string_lossy(), "")?;
    let fitted: &Setting = &model.manifest.components[0].process;
    let paths = engine.simulate(&Paths {
        process: fitted,
        x0: &x0,
        per_sample: true,
        times: &times,
        keep: &[],
        scheme: Scheme::Exact,
        n_samples: n,
        seed: 6,
        first_sample: 0,
    })?;
    Ok(paths.elements::<f32>()?.iter().map(|v| f64::from(*v)).collect())
}

/// One column of the table.
struct Column {
    label: String,
    cells: Vec<(&'static str, String)>,
}

impl Column {
    fn of(label: &str, test: &HeldOut, fans: Option<(&[f64], usize)>) -> Self {
        // paths with the level they start from
        let paths: Vec<(f64, &[f64])> = match fans {
            None => test.truth.iter().enumerate().map(|(w, p)| (test.last(w), &p[..])).collect(),
            Some((x, n)) => {
                x.chunks(DAYS).enumerate().map(|(i, p)| (test.last(i / n), p)).collect()
            }
        };
        let mut levels: Vec<f64> = paths.iter().flat_map(|p| p.1.iter().copied()).collect();
        let count = levels.len() as f64;
        let below = levels.iter().filter(|v| **v <= 0.0).count() as f64 / count;
        let log: Vec<Vec<Option<f64>>> = paths.iter().map(|p| score::changes(p.0, p.1)).collect();
        let mut moves: Vec<f64> = log.iter().flatten().flatten().copied().collect();
        levels.sort_by(f64::total_cmp);
        moves.sort_by(f64::total_cmp);
        let whole: Vec<Vec<f64>> = paths.iter().map(|p| p.1.to_vec()).collect();
        let squares: Vec<Vec<f64>> =
            log.iter().map(|p| p.iter().map(|v| v.unwrap_or(0.0).powi(2)).collect()).collect();
        let row = |f: &dyn Fn(f64) -> String| LEVELS.map(f).join(" ");
        let lags = |p: &[Vec<f64>]| {
            LAGS.map(|lag| format!("{:.2}", score::autocorrelation(p, lag))).join(" ")
        };
        let mut cells = vec![
            ("level, quantiles", row(&|p| format!("{:.1}", score::quantile(&levels, p)))),
            ("1-day log-change, %", row(&|p| format!("{:.1}", 100.0 * score::quantile(&moves, p)))),
            ("autocorrelation, level", lags(&whole)),
            ("autocorrelation, squared change", lags(&squares)),
            ("share of levels at or below 0", format!("{below:.5}")),
        ];
        let [crps, log_score, inner, outer] = fans.map_or([f64::NAN; 4], |(x, n)| fan(test, x, n));
        let shown = |v: f64, digits: usize| match v.is_nan() {
            true => String::new(),
            false => format!("{v:.digits$}"),
        };
        cells.push(("CRPS of the fan", shown(crps, 3)));
        cells.push(("log score of the fan", shown(log_score, 3)));
        cells.push(("25-75 % band holds, %", shown(100.0 * inner, 1)));
        cells.push(("5-95 % band holds, %", shown(100.0 * outer, 1)));
        Self { label: label.to_owned(), cells }
    }
}

/// CRPS, log score and the shares held by two bands, mean over days and windows.
fn fan(test: &HeldOut, x: &[f64], n: usize) -> [f64; 4] {
    let mut sum = [0.0; 4];
    let mut days = 0.0;
    for (w, truth) in test.truth.iter().enumerate() {
        for (day, &t) in truth.iter().enumerate() {
            let mut at: Vec<f64> = (0..n).map(|s| x[(w * n + s) * DAYS + day]).collect();
            at.sort_by(f64::total_cmp);
            let holds = |lo: f64, hi: f64| {
                f64::from(score::quantile(&at, lo) <= t && t <= score::quantile(&at, hi))
            };
            let terms = [
                score::crps(&at, t),
                score::log_score(&at, t),
                holds(0.25, 0.75),
                holds(0.05, 0.95),
            ];
            sum.iter_mut().zip(terms).for_each(|(s, t)| *s += t);
            days += 1.0;
        }
    }
    sum.map(|s| s / days)
}

/// Rows are what is measured, columns who was.
fn table(columns: &[Column]) -> String {
    let line = |head: &str, cell: &dyn Fn(&Column) -> String| {
        let cells: Vec<String> = columns.iter().map(cell).collect();
        format!("| {head} | {} |\n", cells.join(" | "))
    };
    let mut out = line("", &|c| c.label.clone());
    out += &format!("|{}\n", "---|".repeat(columns.len() + 1));
    for (i, (name, _)) in columns[0].cells.iter().enumerate() {
        out += &line(name, &|c| c.cells[i].1.clone());
    }
    out
}

fn picture(
    name: &str,
    label: &str,
    test: &HeldOut,
    x: &[f64],
    scenarios: usize,
    out: &Path,
) -> Result<()> {
    let w = test.truth.len() - 1;
    let fan = chart::Fan {
        title: format!("{name}, {label}"),
        subtitle: format!("{scenarios} scenarios of the last held-out window"),
        quantity: name.to_owned(),
        history: &test.past[w],
        samples: &x[w * scenarios * DAYS..],
        horizon: DAYS,
        truth: &test.truth[w],
        ..chart::Fan::default()
    };
    let label = label.replace(' ', "-").replace(['(', ')'], "");
    let file: PathBuf = out.join(format!("{name}-{label}.png").to_lowercase());
    std::fs::write(&file, fan.png()?).or_else(|e| bail!(Io, "{}: {e}", file.display()))
}
