//! Whole jobs on the device beside the same on the CPU, and how a run goes to the device.

use crate::machine;
use crate::once::KEY;
use crate::support;
use diffx::base::{DType, Desc, Shape, Status};
use diffx::engine::{Engine, Job, JobOptions, OpenModel, Options, Pipeline};
use diffx::exec::SessionBuilder;
use diffx::graph::{Graph, Op};
use diffx::mem::Budget;
use std::sync::Arc;
use std::time::Duration;

fn engine(device: &str) -> Arc<Engine> {
    let options = Options { device: device.into(), threads: 1, ..Options::default() };
    Engine::new(options).unwrap_or_else(|e| panic!("{e}"))
}

fn sampled(device: &str, file: &str, config: &str, seed: u64, n: usize) -> Vec<f32> {
    let model = OpenModel::open(&engine(device), file, "").unwrap();
    let pipeline = Pipeline::new(&model, config).unwrap();
    let options = JobOptions { seed, n_samples: n, ..JobOptions::default() };
    let job = Job::start(&pipeline, options).unwrap();
    assert!(job.wait(Duration::from_secs(600)));
    if let Some(e) = job.error() {
        panic!("{device}: {e}");
    }
    job.result("x").unwrap().elements::<f32>().unwrap().to_vec()
}

/// An MLP under VE: prior, 12 steps, finish, with and without noise in the steps. The noise is the same bits, the network
/// sums in another order: 1e-4 of the largest value is what twelve steps make of 2e-7 a product.
#[test]
fn a_network_samples_what_it_samples_on_the_cpu() {
    if machine::device(0).is_none() {
        return;
    }
    for (process, sampler) in [("ve", "euler"), ("ve", "heun"), ("vp", "euler")] {
        let path = support::temporary(&format!("cuda-{process}-{sampler}.safetensors"));
        support::save(&path, &support::manifest(&[5], process)).unwrap();
        let file = path.to_str().unwrap();
        let config = format!("{{\"sampler\":{sampler:?},\"steps\":12}}");
        let (cpu, cuda) =
            (sampled("cpu", file, &config, 3, 33), sampled("cuda:0", file, &config, 3, 33));
        let other = sampled("cuda:0", file, &config, 4, 33);
        std::fs::remove_file(path).unwrap();
        assert_eq!(cpu.len(), cuda.len());
        let size = cpu.iter().fold(0f32, |m, v| m.max(v.abs()));
        let apart = |b: &[f32]| {
            cpu.iter().zip(b).fold(0f32, |m, (a, b)| {
                if m.is_nan() || b.is_nan() { f32::NAN } else { m.max((a - b).abs()) }
            })
        };
        let error = apart(&cuda) / size;
        println!("cuda: {process} {sampler}: {error:e} of the largest value beside the CPU");
        assert!(error < 1e-4, "{process} {sampler}: {error:e}");
        assert!(apart(&other) / size > 1e-2, "another seed is another sample");
    }
}

/// The carried model: CIR with exact draws, a transformer, a condition. The draws are the same bits, so what is left
/// between the two is the order of the network's sums.
#[test]
fn the_carried_model_samples_what_it_samples_on_the_cpu() {
    if machine::device(0).is_none() {
        return;
    }
    let apart = |a: &[f32], b: &[f32]| {
        let each = a.iter().zip(b).map(|(a, b)| (a / b).ln().abs());
        each.fold(0f32, |m, e| if m.is_nan() || e.is_nan() { f32::NAN } else { m.max(e) })
    };
    let config = r#"{"sampler":"ancestral","steps":2}"#;
    let (cpu, cuda) = (sampled("cpu", "vix", config, 5, 2), sampled("cuda:0", "vix", config, 5, 2));
    let error = apart(&cuda, &cpu);
    println!("cuda: vix: {error:e} in the logarithm beside the CPU");
    assert_eq!(cpu.len(), 2 * 32);
    assert!(cuda.iter().all(|v| *v > 0.0 && v.is_finite()), "{cuda:?}");
    assert!(error < 1e-5, "{error:e}");
    let other = sampled("cpu", "vix", config, 6, 2);
    assert!(apart(&cuda, &other) > 1e-2, "another seed is another sample");
}

/// A run is one copy of the key and one graph, however many kernels it has.
#[test]
fn a_run_is_one_graph_launch() {
    if machine::is_real() {
        return; // what is counted is what the emulated driver counts
    }
    let Some(driver) = machine::driver() else { return };
    let device = machine::device(0).unwrap();
    let desc = Desc { shape: Shape::new(&[4, 6]).unwrap(), dtype: DType::F32 };
    let mut g = Graph::new(4, DType::F32);
    let x = g.input("x", desc);
    let mut y = x;
    for _ in 0..5 {
        let s = g.emit(Op::Softmax, &[y], diffx::graph::Attrs::NONE.with_axis(1));
        y = g.unary(Op::Exp, s);
    }
    let mut session = SessionBuilder::new(device);
    let id = session.buffer("x", desc);
    let plan = session.plan(&g, &[id], &[(y, id)], &[]).unwrap();
    let mut session = session.allocate(&Budget::unlimited()).unwrap();
    // other tests of this process use the same driver: their counts come in between, so it is asked until it is quiet
    let quiet = (0..50).any(|_| {
        let before = machine::counts(driver);
        for _ in 0..7 {
            session.replay(plan, KEY).unwrap();
        }
        let after = machine::counts(driver);
        let [kernels, graphs, _, copies] = std::array::from_fn(|i| after[i] - before[i]);
        (kernels, graphs, copies) == (70, 7, 7)
    });
    assert!(quiet, "want 7 graph launches, 7 copies and 70 kernels for 7 runs");
}

/// The cap of the device is kept, and what a session took comes back.
#[test]
fn the_cap_of_the_device_is_kept() {
    let Some(device) = machine::device(100_000) else { return };
    let build = |n: usize| {
        let desc = Desc { shape: Shape::new(&[n]).unwrap(), dtype: DType::F32 };
        let mut g = Graph::new(1, DType::F32);
        let x = g.input("x", desc);
        let y = g.unary(Op::Exp, x);
        let mut session = SessionBuilder::new(Arc::clone(&device));
        let id = session.buffer("x", desc);
        session.plan(&g, &[id], &[(y, id)], &[]).unwrap();
        session.allocate(&Budget::new(1, None)) // the host's cap does not count here
    };
    let used = || device.budget().unwrap().used();
    let session = build(1000).unwrap();
    assert!(used() >= 4000, "{}", used());
    drop(session);
    assert_eq!(used(), 0);
    let e = build(30_000).err().expect("120000 bytes are above the cap");
    assert_eq!(e.status, Status::NoMemory, "{e}");
    assert_eq!(used(), 0);
}

/// One run that takes more than a mebibyte, for the machines of `faults.rs`.
pub(crate) fn trial(engine: &Engine) -> diffx::base::Result<()> {
    let n = 1 << 19;
    let desc = Desc { shape: Shape::new(&[n])?, dtype: DType::F32 };
    let mut g = Graph::new(1, DType::F32);
    let x = g.input("x", desc);
    let y = g.unary(Op::Exp, x);
    let mut session = SessionBuilder::new(Arc::clone(engine.backend()));
    let id = session.buffer("x", desc);
    let plan = session.plan(&g, &[id], &[(y, id)], &[])?;
    let mut session = session.allocate(engine.budget())?;
    session.replay(plan, KEY)?;
    let mut bytes = vec![0; 4 * n];
    session.read(id, &mut bytes)
}

/// What a kernel writes behind its result is seen: a result that ends where the memory of its session ends, of a length
/// that fills no block.
#[test]
fn a_tensor_at_the_end_of_memory() {
    let Some(device) = machine::device(0) else { return };
    for n in [1usize, 3, 130, 1000] {
        let desc = Desc { shape: Shape::new(&[n, 16]).unwrap(), dtype: DType::F32 };
        let mut g = Graph::new(n, DType::F32);
        let x = g.input("x", desc);
        let y = g.unary(Op::Exp, x);
        let mut session = SessionBuilder::new(Arc::clone(&device));
        let id = session.buffer("x", desc);
        let out = session.buffer("y", g.desc(y)); // the last of the memory: nothing else is laid out behind it
        let plan = session.plan(&g, &[id], &[(y, out)], &[]).unwrap();
        assert_eq!(session.bytes(), 2 * (n as u64 * 64), "the plan takes no work memory");
        let mut session = session.allocate(&Budget::unlimited()).unwrap();
        session.replay(plan, KEY).unwrap();
        let mut bytes = vec![0; n * 64];
        session.read(out, &mut bytes).unwrap();
        assert!(bytes.chunks_exact(4).all(|b| b == 1f32.to_le_bytes()));
    }
}
