//! Preconditioning under each process, by draws: what a network gets has mean square 1, and so has what it must give,
//! `(target - c_skip w) / c_out`. For normal data under Gaussian noise this is exact, so a z-score; under squared Bessel
//! noise the published form of c_out is an interpolation, right to 8 % (specs processes 1.3).

use diffx::base::DType;
use diffx::cpu::Cpu;
use diffx::exec::{RunKey, SessionBuilder};
use diffx::graph::{AttrKey, Attrs, Graph, NodeId, Op};
use diffx::mem::Budget;
use diffx::plugin::Registry;
use diffx::sample::{Build, Component, Parts, ProcessFn, Space, Stats};
use serde_json::{Value, json};
use std::sync::Arc;

const ROWS: usize = 100_000;
const LEVELS: [f64; 3] = [0.05, 1.0, 20.0];

fn draw(g: &mut Graph, op: Op, dims: &[usize], inputs: &[NodeId]) -> NodeId {
    let attrs = Attrs::NONE.with_int(AttrKey::Purpose, 70);
    let attrs = if inputs.is_empty() { attrs.with_dims(AttrKey::Shape, dims) } else { attrs };
    g.emit(op, inputs, attrs)
}

/// Mean squares over the rows of what the network gets and must give, for each element of a sample.
fn squares(
    process: (&str, Value),
    dims: &[usize],
    stats: Stats,
    sigma: f64,
    start: impl FnOnce(&mut Graph) -> NodeId,
) -> Vec<[f64; 2]> {
    let mut registry = Registry::new(Box::new(|_, _| {}));
    // Safety: a static of a crate linked into this test.
    unsafe { registry.register(std::ptr::from_ref(diffx_processes::plugin()).cast()) }.unwrap();
    let parts = Parts {
        components: vec![Component {
            name: "x".into(),
            dtype: DType::F64,
            dims: dims.iter().map(|d| *d as i64).collect(),
            space: Space::Continuous,
            classes: 0,
        }],
        processes: vec![registry.process(process.0, &process.1).unwrap()],
        stats: vec![stats],
        conds: vec![],
        networks: vec![],
        guidances: vec![],
        float: DType::F64,
        weight_dtype: DType::F64,
    };
    let mut b = Build::new(&parts, ROWS).unwrap();
    let w0 = start(&mut b.graph);
    let level = b.graph.full(sigma, DType::F64, &[ROWS, 1]);
    let noisy = b.process(0, ProcessFn::Perturb, 4, &[w0, level]).unwrap();
    let c = b.process(0, ProcessFn::Precond, 0, &[level]).unwrap();
    let g = &mut b.graph;
    let given = g.mul(c[2], noisy[0]);
    let skipped = g.mul(c[0], noisy[0]);
    let rest = g.sub(noisy[1], skipped);
    let wanted = g.div(rest, c[1]);
    let outputs = [given, wanted].map(|x| {
        let square = g.square(x);
        g.reduce(Op::Mean, square, &[0], false)
    });
    let mut session = SessionBuilder::new(Arc::new(Cpu::new(2)));
    let outs = outputs.map(|o| (o, session.buffer("out", b.graph.desc(o))));
    let plan = session.plan(&b.graph, &[], &outs, &[]).unwrap();
    let mut session = session.allocate(&Budget::unlimited()).unwrap();
    session.replay(plan, RunKey { seed: 6, step: 0, first_sample: 0 }).unwrap();
    let read = |i: usize| {
        let mut bytes = vec![0; 8 * dims[0]];
        session.read(outs[i].1, &mut bytes).unwrap();
        bytes.chunks_exact(8).map(|c| f64::from_ne_bytes(c.try_into().unwrap())).collect::<Vec<_>>()
    };
    read(0).into_iter().zip(read(1)).map(|(a, b)| [a, b]).collect()
}

/// z of a mean square of normals of variance 1.
fn score(square: f64) -> f64 {
    (square - 1.0) / (2.0 / ROWS as f64).sqrt()
}

/// N(0, s²) data, with the statistics of one of another deviation.
fn normal(process: &str, sd: f64, told: f64, sigma: f64) -> Vec<[f64; 2]> {
    let stats = Stats { w_var: told * told, ..Stats::default() };
    squares((process, json!({})), &[1], stats, sigma, |g| {
        let xi = draw(g, Op::Normal, &[ROWS, 1], &[]);
        g.scaled(xi, sd)
    })
}

#[test]
fn networks_of_additive_processes_see_and_give_variance_1() {
    for process in ["ve", "vp", "sub_vp", "flow", "ou", "gbm"] {
        for sigma in LEVELS {
            let found = normal(process, 0.7, 0.7, sigma);
            let z = found[0].map(score);
            println!("{process} at {sigma}: mean squares {:?}, z {z:.2?}", found[0]);
            assert!(z.iter().all(|z| z.abs() < 4.5), "{process} at {sigma}");
        }
    }
    // statistics of other data are seen
    assert!(normal("vp", 0.7, 0.8, 1.0)[0].iter().any(|s| score(*s).abs() > 4.5));
}

/// Positions N(0, s²), velocities 0: the statistics of the component are those of both.
#[test]
fn networks_of_phase_space_see_and_give_variance_1() {
    let sd: f64 = 0.7;
    let run = |process: &str, told: f64, sigma| {
        let stats = Stats { w_var: 0.5 * told * told, ..Stats::default() };
        squares((process, json!({})), &[2], stats, sigma, |g| {
            let xi = draw(g, Op::Normal, &[ROWS, 1], &[]);
            let (x, v) = (g.scaled(xi, sd), g.full(0.0, DType::F64, &[ROWS, 1]));
            g.emit(Op::Concat, &[x, v], Attrs::NONE.with_int(AttrKey::Axis, 1))
        })
    };
    for process in ["cld", "vsmd"] {
        for sigma in LEVELS {
            let found = run(process, sd, sigma);
            println!("{process} at {sigma}: mean squares {found:?}");
            assert!(found.iter().flatten().all(|s| score(*s).abs() < 4.5), "{process} at {sigma}");
        }
        let wrong = run(process, 2.0 * sd, 1.0);
        assert!(wrong.iter().flatten().any(|s| score(*s).abs() > 4.5), "{process}");
    }
}

/// b chi²_3 data; at large levels EDM's c_out would be off by many times.
#[test]
fn networks_of_squared_bessel_give_variance_1_to_8_percent() {
    let b: f64 = 0.5;
    let (x_mean, x_var, w_var) = (3.0 * b, 6.0 * b * b, b * (3.0 - 8.0 / std::f64::consts::PI));
    let stats = Stats { x_mean, x_var, w_mean: (x_mean - w_var).sqrt(), w_var };
    for sigma in [0.05, 0.3, 1.0, 3.0, 10.0] {
        let [given, wanted] = squares(("besq", json!({})), &[1], stats, sigma, |g| {
            let shape = g.full(1.5, DType::F64, &[ROWS, 1]);
            let gamma = draw(g, Op::Gamma, &[], &[shape]);
            let x = g.scaled(gamma, 2.0 * b);
            g.unary(Op::Sqrt, x)
        })[0];
        let edm = 1.0 / (1.0 / (sigma * sigma) + 1.0 / w_var);
        let own = 1.0 / (1.0 / (sigma * sigma) + 1.0 / w_var + 3.0 * sigma * sigma / x_var);
        let by_edm = (wanted * own / edm).sqrt();
        println!("besq at {sigma}: {given:.4}, {:.4}; by EDM's c_out {by_edm:.4}", wanted.sqrt());
        assert!((given - 1.0).abs() < 0.03 && (wanted.sqrt() - 1.0).abs() < 0.08, "{sigma}");
        assert!(sigma < 5.0 || by_edm < 0.2, "{by_edm}");
    }
}
