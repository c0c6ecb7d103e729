//! Files that a run is continued from: saved jobs and training checkpoints. The seeds are real ones of a tiny pipeline
//! and a tiny training, without the eight bytes of header length, which the body puts back so that a change of the
//! header's length does not end at the first check. Laws: an accepted job can be driven, saved and ended; memory stays
//! under the cap of the engine and what the texts of the header take.

use super::memory::bounded;
use diffx::engine::recipe::Recipe;
use diffx::engine::trainer::Trainer;
use diffx::engine::{Engine, Job, JobOptions, OpenModel, Options, Pipeline};
use diffx::exec::Interrupt;
use diffx::weights::SafeTensors;
use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;

pub const WORDS: &[&str] = &[
    "\\\"row\\\":",
    "\\\"stage\\\":",
    "\\\"batch\\\":",
    "\\\"n_samples\\\":",
    "\\\"n_steps\\\":",
    "\\\"seed\\\":\\\"",
    "\\\"first_sample\\\":\\\"",
    "\\\"preview_every\\\":",
    "4294967296",
    "18446744073709551615",
    "input.",
    "diffx_job",
    "diffx_checkpoint",
    "\\\"step\\\":",
    "\\\"shape\\\":",
    "\\\"data_offsets\\\":",
];

const CAP: u64 = 1 << 20;

/// What is outside the cap: texts and tables of the header (see `header`), a plan of a tiny graph, staging.
const OUTSIDE: usize = 4 << 20;
const PER_BYTE: usize = 192;

/// What a file is read by; made once, because it costs a thousand files.
struct Readers {
    pipeline: Arc<Pipeline>,
    trainer: Trainer,
}

thread_local! {
    static READERS: RefCell<Option<Readers>> = const { RefCell::new(None) };
}

fn file_of(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// A model without weights whose network has none either.
fn model(engine: &Arc<Engine>) -> Arc<OpenModel> {
    let manifest = r#"{"format":1,"model":"null","components":[{"name":"x","dims":[2],"process":"ve"}],"steps":4}"#;
    let header = serde_json::json!({"__metadata__": {"diffx": manifest}}).to_string();
    let bytes = file_of(header.as_bytes(), &[]).leak();
    let file = SafeTensors::from_static("tiny", bytes).expect("the tiny file");
    OpenModel::from_file(engine, file).expect("the tiny model")
}

/// Tests of one process run side by side, each on a thread of its own.
fn temporary(name: &str) -> PathBuf {
    let (process, thread) = (std::process::id(), std::thread::current().id());
    std::env::temp_dir().join(format!("diffx-fuzz-{process}-{thread:?}-{name}"))
}

fn readers() -> Readers {
    let options = Options { no_threads: true, threads: 1, arena_bytes: CAP, ..Options::default() };
    let engine = Engine::new(options).expect("an engine");
    let pipeline = Pipeline::new(&model(&engine), r#"{"batch":4}"#).expect("a pipeline");
    let csv = temporary("series.csv");
    let rows: String = (0..40).map(|i| format!("{}\n", 1.0 + f64::from(i % 7) * 0.1)).collect();
    std::fs::write(&csv, format!("v\n{rows}")).expect("a series");
    let recipe = serde_json::json!({
        "data": {"path": csv, "window": 2}, "model": "mlp:{\"width\":4,\"depth\":1}",
        "process": "ve", "steps": 4, "batch": 2, "schedule": "constant",
    });
    let recipe = Recipe::parse(&recipe.to_string()).expect("a recipe");
    let trainer = Trainer::new(&engine, recipe).expect("a trainer");
    let _ = std::fs::remove_file(&csv);
    Readers { pipeline, trainer }
}

pub fn run(data: &[u8]) {
    tried(data);
}

/// Whether it was accepted.
fn tried(data: &[u8]) -> bool {
    let Some((kind, rest)) = data.split_first() else { return false };
    // the header ends behind its last two braces and the spaces that fill it up to a multiple of 8
    let mut end = rest.windows(2).rposition(|w| w == b"}}").map_or(rest.len(), |at| at + 2);
    while end % 8 != 0 && rest.get(end) == Some(&b' ') {
        end += 1;
    }
    let (header, body) = rest.split_at(end);
    let file = file_of(header, body);
    READERS.with_borrow_mut(|readers| {
        let readers = readers.get_or_insert_with(self::readers);
        // Safety: what reads the file is gone at the end of this call, and gives out copies only.
        let bytes: &'static [u8] = unsafe { std::slice::from_raw_parts(file.as_ptr(), file.len()) };
        let Ok(file) = SafeTensors::from_static("file", bytes) else { return false };
        match kind & 1 {
            0 => job(&readers.pipeline, file, kind >> 1),
            _ => checkpoint(&mut readers.trainer, &file),
        }
    })
}

fn job(pipeline: &Arc<Pipeline>, file: SafeTensors, pumps: u8) -> bool {
    let budget = pipeline.engine.budget();
    let length = file.label().len() + file.metadata().values().map(String::len).sum::<usize>();
    let mut accepted = false;
    // "nothing is left" cannot be asked: a session may stay for the next job
    super::memory::at_most(OUTSIDE + PER_BYTE * length + CAP as usize, || {
        let Ok(job) = Job::resume_from(pipeline, file) else { return };
        accepted = true;
        for _ in 0..pumps & 7 {
            pipeline.engine.pump(50);
        }
        let progress = job.progress();
        assert!(progress.step <= progress.n_steps, "{progress:?}");
        job.abandon();
        assert!(job.progress().state.is_over());
    });
    assert!(budget.peak() <= CAP, "{} of {CAP}", budget.peak());
    accepted
}

fn checkpoint(trainer: &mut Trainer, file: &SafeTensors) -> bool {
    let mut accepted = false;
    bounded(OUTSIDE, || {
        accepted = trainer.resume_from(file).is_ok();
        if accepted {
            let _ = trainer.advance(&mut || Interrupt::Continue);
        }
    });
    accepted
}

/// The seeds are what they claim to be.
pub fn check_seeds() {
    for (i, seed) in seeds().iter().enumerate() {
        assert!(tried(seed), "seed {i} is refused");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut readers = readers();
    let path = temporary("seed.safetensors");
    let mut out = Vec::new();
    let mut take = |kind: u8| {
        let bytes = std::fs::read(&path).expect("a saved file");
        let _ = std::fs::remove_file(&path);
        out.push([&[kind], &bytes[8..]].concat());
    };
    for (samples, preview, pumps) in [(1, 0, 0), (6, 1, 1), (9, 0, 3)] {
        let options = JobOptions {
            seed: 7,
            first_sample: 3,
            n_samples: samples,
            n_steps: 2,
            preview_every: preview,
            inputs: Vec::new(),
        };
        let job = Job::start(&readers.pipeline, options).expect("a job");
        for _ in 0..pumps {
            readers.pipeline.engine.pump(1);
        }
        if job.save(&path).is_ok() {
            take(2 * pumps as u8);
        }
        job.abandon();
    }
    for _ in 0..2 {
        readers.trainer.save_checkpoint(&path).expect("a checkpoint");
        take(1);
        readers.trainer.advance(&mut || Interrupt::Continue).expect("a step");
    }
    out
}
