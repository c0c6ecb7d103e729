//! Where a training step of the network `temporal` spends its time: the recipe of the carried model, and one four times
//! as wide. One thread, by its own CPU time (the clock of a shared machine measures the neighbours), medians; then the
//! dearest kinds of node.
//!
//! `cargo bench --bench training -- nodes` prints every node of the plan instead.

use diffx::base::DType;
use diffx::engine::{Engine, Options, Setting};
use diffx::exec::{Interrupt, RunKey, SessionBuilder};
use diffx::plugin::Kind;
use diffx::sample::build::{Network, Parts};
use diffx::sample::{Component, Stats};
use diffx::train::Optimizer;
use diffx::train::update::{self, Slots};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

const BATCH: usize = 64;
const WINDOW: usize = 32;
const STEPS: u32 = 41;

/// Seconds of CPU this thread has used.
fn cpu_seconds() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // Safety: the clock exists on Linux and writes the struct.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The pieces of the recipe of `models/vix.json`, without its data.
fn parts(engine: &Engine, width: usize, process: &str) -> Parts {
    let model = format!(
        r#"temporal:{{"width":{width},"depth":2,"heads":4,"window":{WINDOW},"history":{WINDOW},"history_log":true,
        "history_mean":2.9,"history_std":0.36}}"#
    );
    let setting = |kind, text: &str| {
        let setting = Setting::parse(text).expect("a setting");
        engine.resolve(kind, &setting).expect("a resolved setting")
    };
    let model = engine.model(&setting(Kind::Model, &model)).expect("a model");
    let law = engine.process(&setting(Kind::Process, process)).expect("a process");
    let info = model.info().expect("what the model takes");
    let component = Component { dims: vec![WINDOW as i64], ..info.components[0].clone() };
    Parts {
        components: vec![component],
        processes: vec![law],
        stats: vec![Stats { x_mean: 19.0, x_var: 60.0, w_mean: 19.0, w_var: 60.0 }],
        conds: info.conds,
        networks: vec![Network { slot: "base".into(), model, lora: None }],
        guidances: Vec::new(),
        float: DType::F32,
        weight_dtype: DType::F32,
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let nodes = args.iter().any(|a| a == "nodes");
    for (process, width) in [("cir", 32), ("ve", 32), ("ve", 128)] {
        let options = Options { no_threads: true, threads: 1, ..Options::default() };
        let engine = Engine::new(options).expect("an engine");
        let parts = parts(&engine, width, process);
        let objective = r#"dsm:{"cond_dropout":0.1,"mean":-0.3,"std":1.4}"#;
        let objective = Setting::parse(objective).expect("a setting");
        let objective = engine.objective(&objective).expect("an objective");
        let optimizer = Optimizer { decay: 0.05, ema: 0.998, rate: 0.002, ..Optimizer::default() };
        let mut builder = SessionBuilder::new(Arc::clone(engine.backend()));
        builder.profile(true);
        let trained = ["base".to_owned()];
        let none = HashMap::new();
        let mut slots = Slots { trained: &trained, views: &[], frozen: &mut update::lookup(&none) };
        let objective = objective.as_ref();
        let step =
            update::build(&mut builder, &parts, objective, &optimizer, BATCH, None, 1, &mut slots)
                .expect("a training step");
        let mut session = builder.allocate(engine.budget()).expect("memory");
        for (parameter, place) in &step.parameters {
            for buffer in [place.weight, place.ema] {
                let mut first = |at: usize, out: &mut [u8]| parameter.initial(1, at, out);
                session.fill(buffer, &mut first).expect("weights");
            }
        }
        for buffer in step.x.iter().chain(&step.cond) {
            let n = session.desc(*buffer).expect("a buffer").shape.elements();
            let values: Vec<f32> = (0..n).map(|i| 19.0 + (i as f32 * 0.37).sin() * 8.0).collect();
            session.write(*buffer, bytemuck::cast_slice(&values)).expect("data");
        }
        let count = session.profile(step.plan).len();
        let mut whole = Vec::new();
        let mut each = vec![Vec::new(); count];
        for t in 1..=STEPS {
            let row = optimizer.row(t, STEPS).values().map(|v| v as f32);
            session.write(step.row, bytemuck::cast_slice(&row)).expect("a row");
            let key = RunKey { seed: 1, step: t, first_sample: 0 };
            let start = cpu_seconds();
            session.replay(step.plan, key).expect("a step");
            whole.push(cpu_seconds() - start);
            // once more, asking for the time between nodes
            let mut at = Vec::with_capacity(count + 1);
            let mut ask = || {
                at.push(cpu_seconds());
                Interrupt::Continue
            };
            session.run(step.plan, key, &mut ask).expect("a step");
            at.push(cpu_seconds());
            each.iter_mut().zip(at.windows(2)).for_each(|(e, w)| e.push(w[1] - w[0]));
        }
        let each: Vec<f64> = each.iter_mut().map(|e| median(e) * 1e6).collect();
        let profile = session.profile(step.plan);
        println!(
            "{process}, width {width}, batch {BATCH}: {:.3} ms, {count} nodes",
            median(&mut whole) * 1e3
        );
        if nodes {
            for (t, us) in profile.iter().zip(&each) {
                println!("  {us:9.1} us  {}", t.name);
            }
            continue;
        }
        let mut kinds: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
        for (t, us) in profile.iter().zip(&each) {
            // a node is called by its scope and op, a program by its last op and its length
            let name = if t.name.ends_with(" more") {
                "fused programs"
            } else {
                t.name.rsplit(' ').next().unwrap_or("")
            };
            let of = kinds.entry(name).or_default();
            *of = (of.0 + 1, of.1 + us);
        }
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
        for (name, (count, us)) in kinds.into_iter().take(14) {
            println!("  {us:9.1} us  {count:4}  {name}");
        }
    }
}
