//! The carried model on days it has never seen: how often the fan holds what happened, and how its forecasts score
//! beside the bare process. `DIFFX_VIX_WINDOWS` and `DIFFX_VIX_SAMPLES` make it as thorough as `docs/vix.md` reports.

#[path = "../examples/prices/score.rs"]
#[allow(dead_code)]
mod score;

use diffx::engine::{Engine, Job, JobOptions, OpenModel, Options, Paths, Pipeline, State};
use diffx::mem::Tensor;
use diffx::train::data::{Dataset, Panel, Series, Split, windows};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const HORIZON: usize = 32;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn engine() -> Arc<Engine> {
    Engine::new(Options::default()).unwrap()
}

#[test]
fn the_carried_model_samples_positive_paths() {
    let engine = engine();
    let model = OpenModel::open(&engine, "vix", "").unwrap();
    let pipeline = Pipeline::new(&model, r#"{"steps":8}"#).unwrap();
    let options = JobOptions { seed: 1, n_samples: 16, ..JobOptions::default() };
    let job = Job::start(&pipeline, options).unwrap(); // no history: the null condition
    assert!(job.wait(Duration::from_secs(600)));
    let x = job.result("x").unwrap();
    assert_eq!(x.dims(), [16, HORIZON]);
    assert!(x.elements::<f32>().unwrap().iter().all(|v| *v > 1.0 && *v < 300.0));
}

#[test]
fn held_out_days_fall_into_the_fan() {
    let root = std::env::var_os("DIFFX_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = root.join("data/finance/vix-daily.csv");
    if !path.exists() {
        println!("skipped: {} is missing", path.display());
        return;
    }
    let (n_windows, n_each) = (setting("DIFFX_VIX_WINDOWS", 24), setting("DIFFX_VIX_SAMPLES", 24));
    let engine = engine();
    // another model of the same data can be put to the same test
    let name = std::env::var("DIFFX_VIX_MODEL").unwrap_or_else(|_| "vix".into());
    let model = OpenModel::open(&engine, &name, "").unwrap();
    let split = model.manifest.data["split"].as_str().unwrap().to_owned();
    let series = Panel::from(Series::read(&path, Some("CLOSE")).unwrap());
    let all = windows(&series, HORIZON, HORIZON, 1, Some(&split), Split::HeldOut).unwrap();
    let stride = (all.starts.len() / n_windows).max(1);
    let cut = windows(&series, HORIZON, HORIZON, stride, Some(&split), Split::HeldOut).unwrap();
    let data = cut.dataset(&series, engine.budget()).unwrap();
    let n = data.len() * n_each;

    // sample i belongs to window i / n_each
    let mut history = Vec::new();
    let mut last = Vec::new();
    for w in 0..data.len() {
        let row = Dataset::row(&data.cond[0], w).unwrap();
        for _ in 0..n_each {
            history.extend_from_slice(row);
            last.push(row[HORIZON - 1]);
        }
    }
    let history = Tensor::from_f32(&[n, HORIZON, 1], &history, engine.budget()).unwrap();
    let pipeline = Pipeline::new(&model, "{}").unwrap();
    let options = JobOptions {
        seed: 5,
        n_samples: n,
        inputs: vec![("history".into(), Arc::new(history))],
        ..JobOptions::default()
    };
    let job = Job::start(&pipeline, options).unwrap();
    assert!(job.wait(Duration::from_secs(3600)));
    assert_eq!(job.progress().state, State::Done, "{:?}", job.error());
    let result = job.result("x").unwrap();
    let ours = result.elements::<f32>().unwrap();
    // the bare process, started at the last close, as the fitted CIR itself would go on
    let x0 = Tensor::from_f32(&[n], &last, engine.budget()).unwrap();
    let times: Vec<f64> = (1..=HORIZON).map(|t| t as f64).collect();
    let bare = engine
        .simulate(&Paths {
            process: &model.manifest.components[0].process,
            x0: &x0,
            per_sample: true,
            keep: &[],
            scheme: diffx::sample::Scheme::Exact,
            times: &times,
            n_samples: n,
            seed: 6,
            first_sample: 0,
        })
        .unwrap();
    let bare = bare.elements::<f32>().unwrap();

    let mut covered = [[0usize; 2]; 2];
    let (mut score, mut log_score) = ([0f64; 2], [0f64; 2]);
    let mut days = 0;
    for w in 0..data.len() {
        let truth = Dataset::row(&data.x[0], w).unwrap();
        for (day, &t) in truth.iter().enumerate() {
            days += 1;
            for (k, samples) in [ours, bare].into_iter().enumerate() {
                let at = |s: usize| samples[(w * n_each + s) * HORIZON + day];
                let mut fan: Vec<f64> = (0..n_each).map(|s| f64::from(at(s))).collect();
                fan.sort_by(f64::total_cmp);
                let t = f64::from(t);
                let quantile = |p: f64| score::quantile(&fan, p);
                for (b, (lo, hi)) in [(0.25, 0.75), (0.05, 0.95)].into_iter().enumerate() {
                    covered[k][b] += usize::from(quantile(lo) <= t && t <= quantile(hi));
                }
                let logs: Vec<f64> = fan.iter().map(|v| v.ln()).collect();
                score[k] += score::crps(&fan, t);
                log_score[k] += score::crps(&logs, t.ln());
            }
        }
    }
    let share = |k: usize, b: usize| covered[k][b] as f64 / days as f64;
    for (k, name) in ["vix", "bare cir"].into_iter().enumerate() {
        println!(
            "{name}: {} windows x {n_each} samples: 25-75 % holds {:.3}, 5-95 % holds {:.3}, CRPS {:.3}, of logarithms {:.4}",
            data.len(),
            share(k, 0),
            share(k, 1),
            score[k] / days as f64,
            log_score[k] / days as f64,
        );
    }
    // 24 windows of correlated days say a coverage to about 0.1
    assert!((0.3..0.7).contains(&share(0, 0)), "{}", share(0, 0));
    assert!((0.75..=1.0).contains(&share(0, 1)), "{}", share(0, 1));
    // Over 272 windows the two are level (docs/vix.md), over few windows either may lead by a tenth. On logarithms:
    // else a few days of March 2020 decide alone.
    let [ours, bare] = log_score;
    assert!(ours < 1.2 * bare, "the network scores {ours} and the bare process {bare}");
}
