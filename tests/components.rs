//! Recipes of two components, trained and sampled through the engine: a 2 x 2 matrix, which in a phase space is two positions
//! with their velocities, and one positive number, each with its own process, of a law in which each knows of the other. The network of two components is a plugin of this test; no
//! built-in one has more than one.

#![allow(
    unexpected_cfgs,
    reason = "diffx_plugin! asks for `export`, a feature of crates that build a library"
)]

use core::ffi::CStr;
use diffx::base::philox::Stream;
use diffx::engine::recipe::Recipe;
use diffx::engine::trainer::Trainer;
use diffx::engine::{Engine, Job, JobOptions, OpenModel, Options, Pipeline, State};
use diffx::exec::Interrupt;
use diffx::mem::{Budget, Tensor};
use diffx_plugin::{
    Builder, Component, Config, Factory, Init, Model, ModelInfo, ModelIo, Node, Predicts, Result,
};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const WIDTH: usize = 64;

/// Two layers on both states and both noise levels side by side.
struct Pair;

impl Factory for Pair {
    const ID: &'static CStr = c"org.test.pair";
    const SUMMARY: &'static CStr = c"a small network of two components";

    fn create(_: &mut Config) -> Result<Self> {
        Ok(Self)
    }
}

fn linear<'b>(b: Builder<'b>, name: &str, x: Node<'b>, inputs: usize, outputs: usize) -> Node<'b> {
    let dims = [outputs as i64, inputs as i64];
    let start = if name == "out" { Init::Zeros } else { Init::Normal((inputs as f64).powf(-0.5)) };
    let w = b.weight(&format!("{name}.weight"), &dims, start);
    x.linear(w, b.weight(&format!("{name}.bias"), &dims[..1], Init::Zeros))
}

impl Model for Pair {
    fn info(&self) -> ModelInfo {
        ModelInfo {
            predicts: Predicts::Residual,
            components: vec![Component::continuous("z", &[2, 2]), Component::continuous("y", &[1])],
            conds: vec![],
            slots: vec![],
        }
    }

    fn build<'b>(&self, b: Builder<'b>, io: &mut ModelIo<'b>) -> Result<()> {
        let mut inputs = vec![io.x(0).reshape(&[-1, 4]), io.x(1)];
        for c in 0..2 {
            let level = io.sigma(c).reshape(&[-1, 1]);
            for k in [1.0, 2.0, 4.0, 8.0] {
                inputs.extend([(level * k).sin(), (level * k).cos()]);
            }
        }
        let h = linear(b, "in", b.concat(&inputs, 1), 5 + 16, WIDTH).silu();
        let h = h + linear(b, "middle", h.layer_norm(1e-5), WIDTH, WIDTH).silu();
        let h = h + linear(b, "last", h.layer_norm(1e-5), WIDTH, WIDTH).silu();
        let out = linear(b, "out", h.layer_norm(1e-5), WIDTH, 5);
        let rows = io.x(0).shape()[0];
        io.set_out(0, out.slice(&[0, 0], &[rows, 4]).reshape(&io.x(0).shape()));
        io.set_out(1, out.slice(&[0, 4], &[rows, 5]));
        Ok(())
    }
}

mod linked {
    use super::Pair;

    diffx_plugin::diffx_plugin! {
        id: "org.test",
        version: "1.0.0",
        license: "MIT",
        models: [Pair],
    }
}

/// The matrix row by row, then the number.
type Point = [f64; 5];

/// Two lobes, a second row that follows the first, and a positive number that is larger beside one of the lobes.
fn law(n: u64, step: u32) -> Vec<Point> {
    let stream = Stream { seed: 31, purpose: 70, step, ordinal: 0 };
    let point = |i: u64| {
        let [a, b, c, d, e, f] = [0, 1, 2, 3, 4, 5].map(|k| stream.normal_f64(6 * i + k));
        let side = if f < 0.3 { 1.0 } else { -1.0 };
        let (p, q) = (0.8 * side + 0.3 * a, -0.6 * side + 0.3 * b);
        [p, q, 0.3 * c - 0.5 * p, 0.4 * d + 0.5 * q, (0.5 * side + 0.25 * e).exp()]
    };
    (0..n).map(point).collect()
}

/// Whether the second row is velocities: 0 in the data, and nothing is asked of them.
fn moves(process: &str) -> bool {
    ["cld", "vsmd"].contains(&process)
}

fn still(points: &[Point]) -> Vec<Point> {
    points.iter().map(|p| [p[0], p[1], 0.0, 0.0, p[4]]).collect()
}

fn table(dims: &[usize], values: impl Iterator<Item = f64>) -> Arc<Tensor> {
    let values: Vec<f32> = values.map(|v| v as f32).collect();
    Arc::new(Tensor::from_f32(dims, &values, &Budget::unlimited()).unwrap())
}

fn learned(engine: &Arc<Engine>, process: [&str; 2], steps: u32, n: usize) -> Vec<Point> {
    // time of a phase space ends at a level of thousands
    let objective = match moves(process[0]) {
        true => json!({"id": "dsm", "config": {"levels": "loguniform", "range": [0.03, 5000]}}),
        false => json!("dsm"),
    };
    let recipe = json!({
        "model": "pair", "process": process,
        "objective": objective,
        "steps": steps, "batch": 128, "rate": 0.004, "warmup": 50.min(steps), "ema": 0.99,
        "seed": 3, "sampler": "heun", "grid": "edm", "sample_steps": 24,
    });
    let data = if moves(process[0]) { still(&law(4096, 0)) } else { law(4096, 0) };
    let tables = vec![
        ("z".into(), table(&[4096, 2, 2], data.iter().flat_map(|p| [p[0], p[1], p[2], p[3]]))),
        ("y".into(), table(&[4096, 1], data.iter().map(|p| p[4]))),
    ];
    let recipe = Recipe::parse(&recipe.to_string()).unwrap();
    let mut trainer = Trainer::with_tables(engine, recipe, tables).unwrap();
    while trainer.training().done() < trainer.training().steps() {
        trainer.advance(&mut || Interrupt::Continue).unwrap();
    }
    let name = format!("diffx-pair-{}-{}-{steps}", std::process::id(), process.concat());
    let path = std::env::temp_dir().join(name + ".safetensors");
    trainer.save(&path).unwrap();
    let model = OpenModel::open(engine, path.to_str().unwrap(), "").unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!(model.manifest.components.len(), 2);
    let pipeline = Pipeline::new(&model, "{}").unwrap();
    let options = JobOptions { seed: 4, n_samples: n, ..JobOptions::default() };
    let job = Job::start(&pipeline, options).unwrap();
    assert!(job.wait(Duration::from_secs(3600)));
    assert_eq!(job.progress().state, State::Done, "{:?}", job.error());
    let (z, y) = (job.result("z").unwrap(), job.result("y").unwrap());
    assert_eq!((z.dims(), y.dims()), (&[n, 2, 2][..], &[n, 1][..]));
    let of = |(z, y): (&[f32], &f32)| [z[0], z[1], z[2], z[3], *y].map(f64::from);
    let (z, y) = (z.elements::<f32>().unwrap(), y.elements::<f32>().unwrap());
    z.chunks(4).zip(y).map(of).collect()
}

/// Kolmogorov's distance along each axis, and the energy distance of the points with the logarithm of the last.
fn scores(x: &[Point], truth: &[Point]) -> (Point, f64) {
    let ks = |k: usize| {
        let sorted = |p: &[Point]| {
            let mut v: Vec<f64> = p.iter().map(|p| p[k]).collect();
            v.sort_by(f64::total_cmp);
            v
        };
        let (a, b) = (sorted(x), sorted(truth));
        let share = |v: &[f64], at: f64| v.partition_point(|w| *w <= at) as f64 / v.len() as f64;
        a.iter().chain(&b).map(|t| (share(&a, *t) - share(&b, *t)).abs()).fold(0.0, f64::max)
    };
    let logs =
        |p: &[Point]| p.iter().map(|p| [p[0], p[1], p[2], p[3], p[4].ln()]).collect::<Vec<_>>();
    let (x, y) = (logs(x), logs(truth));
    let mean = |a: &[Point], b: &[Point]| {
        let far = |p: &Point, q: &Point| {
            p.iter().zip(q).map(|(p, q)| (p - q) * (p - q)).sum::<f64>().sqrt()
        };
        let sum: f64 = a.iter().map(|p| b.iter().map(|q| far(p, q)).sum::<f64>()).sum();
        sum / (a.len() * b.len()) as f64
    };
    ([0, 1, 2, 3, 4].map(ks), 2.0 * mean(&x, &y) - mean(&x, &x) - mean(&y, &y))
}

#[test]
fn recipes_of_two_components_learn_their_joint_law() {
    let engine = Engine::new(Options { threads: 2, ..Options::default() }).unwrap();
    // Safety: a static of this program.
    unsafe { engine.register(std::ptr::from_ref(linked::plugin()).cast()) }.unwrap();
    let (n, truth) = (1500, law(1500, 1));
    let say = |name: &str, x: &[Point], truth: &[Point]| {
        let (ks, energy) = scores(x, truth);
        println!("{name}: KS {ks:.3?}, energy {energy:.5}");
        (ks.into_iter().fold(0.0, f64::max), energy)
    };
    let same = say("the law itself", &law(1500, 2), &truth);
    // each component by its law, and none knows of the other
    let other = law(1500, 3);
    let apart: Vec<_> =
        law(1500, 2).iter().zip(&other).map(|(a, b)| [a[0], a[1], a[2], a[3], b[4]]).collect();
    let apart = say("components that do not know each other", &apart, &truth);
    let raw = say("after one step", &learned(&engine, ["ve", "besq"], 1, n), &truth);
    assert!(same.0 < 0.07 && same.1 < 0.1 * apart.1 && apart.0 < 0.07);
    assert!(raw.0 > 0.15 && raw.1 > 0.5 * apart.1);
    // a phase space takes longer, of CLD longest: its position moves with a velocity that the network has to find first
    for (process, steps, most, share) in [
        (["ve", "besq"], 800, 0.1, 0.3),
        (["vp", "gbm"], 800, 0.1, 0.3),
        (["flow", "cir"], 800, 0.1, 0.3),
        (["vsmd", "gbm"], 3000, 0.1, 0.3),
        (["cld", "besq"], 3000, 0.2, 1.0),
    ] {
        let x = learned(&engine, process, steps, n);
        let (x, truth) = match moves(process[0]) {
            true => (still(&x), still(&truth)),
            false => (x, truth.clone()),
        };
        assert!(x.iter().all(|p| p[4] > 0.0), "{process:?}: positive for ever");
        let (ks, energy) = say(&process.join(" and "), &x, &truth);
        assert!(ks < most && energy < share * apart.1, "{process:?}: {ks} {energy}");
    }
}
