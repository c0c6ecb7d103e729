//! A sample is its pipeline, its seed and its id: not its batch, its neighbours, its thread or its process.

#[path = "support/model.rs"]
mod model;

use diffx::base::Status;
use diffx::engine::{
    Engine, Job, JobOptions, OpenModel, Options, Paths, Pipeline, Preview, Setting,
};
use diffx::mem::Tensor;
use diffx::sample::Scheme;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const N: usize = 1000;
const FOREVER: Duration = Duration::from_secs(600);

/// Ancestral steps draw in every step; the law is positive.
const CONFIG: &str = r#"{"sampler":"ancestral","steps":9}"#;

fn file(name: &str) -> std::path::PathBuf {
    let path = model::temporary(name);
    model::save(&path, &model::manifest(&[6], "besq:{\"delta\":3}")).unwrap();
    path
}

fn pipeline(engine: &Arc<Engine>, path: &Path, config: &str) -> Arc<Pipeline> {
    let model = OpenModel::open(engine, path.to_str().unwrap(), "").unwrap();
    Pipeline::new(&model, config).unwrap()
}

fn options(first: u64, n: usize) -> JobOptions {
    JobOptions { seed: 42, first_sample: first, n_samples: n, ..JobOptions::default() }
}

fn run(pipeline: &Arc<Pipeline>, first: u64, n: usize) -> Arc<Tensor> {
    let job = Job::start(pipeline, options(first, n)).unwrap();
    assert!(job.wait(FOREVER));
    job.result("x").unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn batches_and_threads_do_not_show() {
    let path = file("batches.safetensors");
    let one = pipeline(&model::engine(1), &path, CONFIG);
    let whole = run(&one, 0, N);
    let values: &[f32] = whole.elements().unwrap();
    assert!(values.iter().all(|v| v.is_finite() && *v >= 0.0), "the law is positive");
    assert!(values.windows(2).filter(|w| w[0] == w[1]).count() < 10, "samples differ");

    // seven uneven ranges
    let mut parts = Vec::new();
    let mut first = 0;
    for n in [1, 2, 397, 100, 256, 243, 1] {
        parts.extend_from_slice(run(&one, first, n).bytes());
        first += n as u64;
    }
    assert_eq!(first, N as u64);
    assert!(parts == whole.bytes(), "seven ranges");

    for config in [
        r#"{"sampler":"ancestral","steps":9,"batch":1000}"#,
        r#"{"sampler":"ancestral","steps":9,"batch":7}"#,
    ] {
        let other = pipeline(&model::engine(2), &path, config);
        assert!(run(&other, 0, N).bytes() == whole.bytes(), "{config} on two threads");
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn processes_share_the_work_by_ranges() {
    let path = file("processes.safetensors");
    let whole = run(&pipeline(&model::engine(1), &path, CONFIG), 0, N);
    let mut joined = Vec::new();
    for (first, n) in [(0, 321), (321, 679)] {
        let out = model::temporary(&format!("range-{first}"));
        let done = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "one_range_of_another_process", "--nocapture", "--ignored"])
            .env("DIFFX_TEST_RANGE", format!("{first} {n} {} {}", path.display(), out.display()))
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        joined.extend(std::fs::read(&out).unwrap());
        std::fs::remove_file(out).unwrap();
    }
    assert!(joined == whole.bytes());
    std::fs::remove_file(path).unwrap();
}

/// Run by `processes_share_the_work_by_ranges` in a process of its own.
#[test]
#[ignore = "a part of another test"]
fn one_range_of_another_process() {
    let Ok(range) = std::env::var("DIFFX_TEST_RANGE") else { return };
    let words: Vec<&str> = range.split(' ').collect();
    let pipeline = pipeline(&model::engine(2), Path::new(words[2]), CONFIG);
    let x = run(&pipeline, words[0].parse().unwrap(), words[1].parse().unwrap());
    std::fs::write(words[3], x.bytes()).unwrap();
}

#[test]
fn a_job_saved_half_way_ends_with_the_same_bits() {
    let path = file("saved.safetensors");
    let saved = model::temporary("job.safetensors");
    let whole = run(&pipeline(&model::engine(1), &path, CONFIG), 0, N);

    // on an engine without threads the job stands where we leave it
    let quiet =
        Engine::new(diffx::engine::Options { no_threads: true, ..Default::default() }).unwrap();
    let first = pipeline(&quiet, &path, CONFIG);
    let job = Job::start(&first, options(0, N)).unwrap();
    let total = job.progress().n_steps;
    for calls in 0.. {
        let at = job.progress();
        assert!(!at.state.is_over(), "{:?}", job.error());
        if at.step >= total / 2 {
            break;
        }
        assert!(calls < 1_000_000, "a pump without time moves a job on by a piece");
        quiet.pump(0);
    }
    job.save(&saved).unwrap();
    let at = job.progress().step;
    assert!(at >= total / 2 && at < total, "saved at {at} of {total}");
    drop((job, first, quiet));

    let second = pipeline(&model::engine(2), &path, CONFIG);
    let job = Job::resume(&second, &saved).unwrap();
    assert!(job.wait(FOREVER));
    assert!(job.result("x").unwrap().bytes() == whole.bytes());

    let other = pipeline(&model::engine(1), &path, r#"{"sampler":"ancestral","steps":8}"#);
    assert_eq!(Job::resume(&other, &saved).err().unwrap().status, Status::Invalid);
    std::fs::remove_file(path).unwrap();
    std::fs::remove_file(saved).unwrap();
}

#[test]
fn a_job_saved_while_a_thread_runs_it_can_be_resumed() {
    let path = file("running.safetensors");
    let saved = model::temporary("running-job.safetensors");
    let slow = r#"{"sampler":"ancestral","steps":300,"batch":100}"#;
    let pipeline = pipeline(&model::engine(2), &path, slow);
    let job = Job::start(&pipeline, options(0, 300)).unwrap();
    while job.progress().step < 20 {
        assert!(!job.progress().state.is_over(), "{:?}", job.error());
        std::thread::yield_now();
    }
    let kept = job.save(&saved);
    assert!(job.wait(FOREVER));
    if kept.is_err() {
        println!("skipped: the job was over before it could be saved");
        return;
    }
    let again = Job::resume(&pipeline, &saved).unwrap();
    assert!(again.wait(FOREVER));
    assert!(again.result("x").unwrap().bytes() == job.result("x").unwrap().bytes());
    std::fs::remove_file(path).unwrap();
    std::fs::remove_file(saved).unwrap();
}

#[test]
fn cancelled_and_failed_jobs_say_so() {
    let path = file("cancel.safetensors");
    let pipeline = pipeline(&model::engine(1), &path, r#"{"steps":2000}"#);
    let job = Job::start(&pipeline, options(0, N)).unwrap();
    assert_eq!(job.result("x").unwrap_err().status, Status::State);
    while job.progress().step < 3 {
        assert!(!job.progress().state.is_over(), "{:?}", job.error());
        std::thread::yield_now();
    }
    job.cancel();
    assert!(job.wait(FOREVER));
    assert_eq!(job.result("x").unwrap_err().status, Status::Cancelled);
    assert_eq!(
        Job::start(&pipeline, options(u64::MAX - 5, 10)).err().unwrap().status,
        Status::Invalid
    );
    let x0 = Tensor::from_f64(&[1], &[1.0], pipeline.engine.budget()).unwrap();
    let paths = Paths {
        process: &Setting::of("gbm"),
        x0: &x0,
        per_sample: false,
        times: &[1.0],
        keep: &[],
        scheme: Scheme::Exact,
        n_samples: 10,
        seed: 0,
        first_sample: u64::MAX - 5,
    };
    assert_eq!(pipeline.engine.simulate(&paths).err().unwrap().status, Status::Invalid);
    // the engine goes on
    let small = Job::start(&pipeline, JobOptions { n_steps: 3, ..options(0, 2) }).unwrap();
    assert!(small.wait(FOREVER));
    assert_eq!(small.result("x").unwrap().dims(), [2, 6]);
    assert_eq!(small.result("y").unwrap_err().status, Status::NotFound);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_path_is_its_id_whatever_threads_ranges_and_what_is_kept() {
    const PATHS: usize = 5000;
    let times: Vec<f64> = (1..=20).map(|k| f64::from(k) / 10.0).collect();
    let starts: Vec<f32> = (0..3 * PATHS).map(|k| 0.5 + (k % 97) as f32 / 50.0).collect();
    let (one, three) = (model::engine(1), model::engine(3));
    let schemes = [Scheme::Exact, Scheme::Euler { substeps: 3 }];
    for (process, scheme) in ["cir", "gbm", "besq:{\"delta\":0.7}", "ou"]
        .into_iter()
        .flat_map(|p| schemes.map(|s| (p, s)))
    {
        let setting = Setting::parse(process).unwrap();
        let run = |engine: &Arc<Engine>, first: usize, n: usize, keep: &[u32]| {
            let start = &starts[3 * first..3 * (first + n)];
            let x0 = Tensor::from_f32(&[n, 3], start, engine.budget()).unwrap();
            let paths = Paths {
                process: &setting,
                x0: &x0,
                per_sample: true,
                times: &times,
                keep,
                scheme,
                n_samples: n,
                seed: 9,
                first_sample: first as u64,
            };
            let out = engine.simulate(&paths).unwrap();
            let kept = if keep.is_empty() { times.len() } else { keep.len() };
            assert_eq!(out.dims(), [n, kept, 3]);
            out.elements::<f32>().unwrap().to_vec()
        };
        let whole = run(&one, 0, PATHS, &[]);
        assert!(whole.iter().all(|x| x.is_finite()), "{process} {scheme:?}");
        assert!(whole == run(&three, 0, PATHS, &[]), "{process} {scheme:?} on three threads");
        let mut joined = Vec::new();
        let mut first = 0;
        for n in [1, 2, 1999, 1366, 1632] {
            joined.extend(run(&three, first, n, &[]));
            first += n;
        }
        assert!(first == PATHS && joined == whole, "{process} {scheme:?} in ranges");
        let some = run(&three, 0, PATHS, &[0, 7, 19]);
        let same = whole.chunks(60).zip(some.chunks(9)).all(|(all, some)| {
            all[..3] == some[..3] && all[21..24] == some[3..6] && all[57..] == some[6..]
        });
        assert!(same, "{process} {scheme:?}: three of twenty times");
    }
}

/// A preview says whose it is: behind the last row of a batch its rows are the results of those samples.
#[test]
fn a_preview_says_which_samples_it_shows() {
    const STEPS: u64 = 9;
    let path = file("previews.safetensors");
    let engine = Engine::new(Options { no_threads: true, ..Options::default() }).unwrap();
    let pipeline = pipeline(&engine, &path, r#"{"sampler":"euler","steps":9,"batch":4}"#);
    for (n, first, shown) in [(3, 0, 3), (4, 0, 4), (7, 4, 3), (10, 8, 2)] {
        let asked = JobOptions { preview_every: 3, ..options(100, n) };
        let job = Job::start(&pipeline, asked).unwrap();
        assert_eq!(job.preview("x").err().map(|e| e.status), Some(Status::State));
        assert!(job.wait(FOREVER));
        let (preview, what) = job.preview("x").unwrap();
        let step = (first as u64 / 4 + 1) * STEPS;
        assert_eq!(what, Preview { first_sample: 100 + first as u64, n_samples: shown, step });
        let (x, preview) = (job.result("x").unwrap(), preview.elements::<f32>().unwrap().to_vec());
        let x: &[f32] = x.elements().unwrap();
        let close = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4 * b.abs().max(1.0))
        };
        let rows = shown as usize * 6;
        assert!(close(&preview[..rows], &x[first * 6..first * 6 + rows]), "{what:?}");
        assert!(!close(&preview[..6], &x[(first + 1) * 6..]), "of others that is not so");
    }
    std::fs::remove_file(path).unwrap();
}
