//! Numbers out of `dsm`, `ism` and `cfg`: losses whose expectation is known in closed form, guidance of constant denoisers, and
//! what a sampler of positive data makes of a denoiser that is not.

use diffx::base::{DType, Desc, Result};
use diffx::cpu::Cpu;
use diffx::exec::{RunKey, SessionBuilder};
use diffx::graph::op::Op;
use diffx::graph::{AttrKey, Attrs, Graph, NodeId};
use diffx::mem::Budget;
use diffx::plugin::Registry;
use diffx::sample::{
    Build, Component, Cond, Eval, Model, ModelInfo, ModelIo, Network, Parts, Predicts, Program,
    Replay, Request, Rows, Space, Stats,
};
use diffx::train::LossIo;
use serde_json::{Value, json};
use std::sync::Arc;

const ROWS: usize = 100_000;

fn registry() -> Registry {
    let mut r = Registry::new(Box::new(|level, text| assert!(level > 1, "{text}")));
    let plugins = [
        diffx_models::plugin(),
        diffx_processes::plugin(),
        diffx_guidance::plugin(),
        diffx_samplers::plugin(),
        diffx_objectives::plugin(),
    ];
    for plugin in plugins {
        // Safety: a linked descriptor is a constant.
        unsafe { r.register((&raw const *plugin).cast()) }.unwrap();
    }
    r
}

type Output = fn(&mut Graph, &ModelIo) -> NodeId;

/// A network whose output is a formula.
struct Given {
    predicts: Predicts,
    component: Component,
    conditional: bool,
    output: Output,
}

impl Model for Given {
    fn info(&self) -> Result<ModelInfo> {
        let desc = Desc::new(DType::F64, &[1])?;
        let cond = Cond { name: "y".into(), desc, null_value: 0.25 };
        Ok(ModelInfo {
            predicts: self.predicts,
            components: vec![self.component.clone()],
            conds: if self.conditional { vec![cond] } else { vec![] },
            slots: vec![],
        })
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        io.out[0] = (self.output)(&mut b.graph, io);
        Ok(())
    }
}

fn continuous(dims: &[i64]) -> Component {
    let space = Space::Continuous;
    Component { name: "x".into(), dtype: DType::F64, dims: dims.into(), space, classes: 0 }
}

fn parts(r: &Registry, process: (&str, Value), model: Arc<dyn Model>, stats: Stats) -> Parts {
    let info = model.info().unwrap();
    Parts {
        components: info.components,
        processes: vec![r.process(process.0, &process.1).unwrap()],
        stats: vec![stats],
        conds: info.conds,
        networks: vec![Network { slot: "base".into(), model, lora: None }],
        guidances: vec![],
        float: DType::F64,
        weight_dtype: DType::F64,
    }
}

/// Values of the nodes a build gives.
fn values(
    parts: &Parts,
    rows: usize,
    nodes: impl FnOnce(&mut Build<'_>) -> Vec<NodeId>,
) -> Vec<Vec<f64>> {
    let mut b = Build::new(parts, rows).unwrap();
    let nodes = nodes(&mut b);
    b.graph.check().unwrap();
    let mut session = SessionBuilder::new(Arc::new(Cpu::new(1)));
    let g = &b.graph;
    let outs: Vec<_> = nodes.iter().map(|n| (*n, session.buffer("out", g.desc(*n)))).collect();
    let plan = session.plan(g, &[], &outs, &[]).unwrap();
    let mut session = session.allocate(&Budget::unlimited()).unwrap();
    session.replay(plan, RunKey { seed: 3, step: 0, first_sample: 0 }).unwrap();
    let read = |(node, buffer): &(NodeId, _)| {
        let mut bytes = vec![0; g.desc(*node).bytes()];
        session.read(*buffer, &mut bytes).unwrap();
        bytes.chunks_exact(8).map(|c| f64::from_ne_bytes(c.try_into().unwrap())).collect()
    };
    outs.iter().map(read).collect()
}

fn draw(g: &mut Graph, dims: &[usize]) -> NodeId {
    let attrs = Attrs::NONE.with_dims(AttrKey::Shape, dims).with_int(AttrKey::Purpose, 64);
    g.emit(Op::Normal, &[], attrs)
}

/// The loss and the unweighted error of `dsm` on data drawn in the graph.
fn dsm(parts: &Parts, config: Value, data: impl FnOnce(&mut Graph) -> NodeId) -> [f64; 2] {
    let dsm = registry().objective("dsm", &config).unwrap();
    let got = values(parts, ROWS, |b| {
        if !b.parts.conds.is_empty() {
            b.cond[0] = b.graph.full(1.0, DType::F64, &[ROWS, 1]);
        }
        let x0 = data(&mut b.graph);
        let mut io = LossIo { x0: vec![x0], metrics: vec![NodeId::ERROR; 2], ..LossIo::default() };
        dsm.loss(b, &mut io).unwrap();
        assert_eq!(io.metrics[0], io.loss.unwrap());
        io.metrics
    });
    [got[0][0], got[1][0]]
}

fn near(got: f64, want: f64, tolerance: f64, what: &str) {
    println!("{what}: {got:.4}, want {want:.4}");
    assert!((got / want - 1.0).abs() < tolerance, "{what}: {got}, want {want}");
}

fn null(r: &Registry) -> Arc<dyn Model> {
    r.model("null", &json!({"dims": [1]})).unwrap()
}

/// E[weight (c_skip w - w0)^2] = 1 at every level, whatever their law, if the data is about 0 in w.
#[test]
fn a_network_of_zeros_has_loss_one_on_data_far_from_zero() {
    let r = registry();
    let gauss = |g: &mut Graph| {
        let xi = draw(g, &[ROWS, 1]);
        g.shifted(xi, 100.0)
    };
    let lognormal = |g: &mut Graph| {
        let xi = draw(g, &[ROWS, 1]);
        let log = g.scaled(xi, 0.3);
        let log = g.shifted(log, 100f64.ln());
        g.exp(log)
    };
    let loss = |process, stats, data: &dyn Fn(&mut Graph) -> NodeId| {
        dsm(&parts(&r, process, null(&r), stats), Value::Null, data)[0]
    };
    let unit = Stats { x_mean: 100.0, x_var: 1.0, w_mean: 0.0, w_var: 1.0 };
    near(loss(("ve", json!({"center": 100.0})), unit, &gauss), 1.0, 0.05, "ve");
    let narrow = Stats { x_mean: 104.6, x_var: 1030.0, w_mean: 0.0, w_var: 0.09 };
    near(loss(("gbm", json!({"reference": 100.0})), narrow, &lognormal), 1.0, 0.05, "gbm");
    // what is seen of data left where it is
    assert!(loss(("ve", Value::Null), Stats { w_mean: 100.0, ..unit }, &gauss) > 100.0);
    assert!(loss(("gbm", Value::Null), Stats { w_mean: 4.6, ..narrow }, &lognormal) > 10.0);
}

/// The unweighted error of the network of zeros is c_out^2: its mean over the levels is their law.
#[test]
fn levels_of_dsm_have_the_stated_law() {
    let r = registry();
    let sd = 0.7;
    let stats = Stats { w_var: sd * sd, ..Stats::default() };
    let parts = parts(&r, ("ve", Value::Null), null(&r), stats);
    let data = |g: &mut Graph| {
        let xi = draw(g, &[ROWS, 1]);
        g.scaled(xi, sd)
    };
    // s = sigma / sd: c_out^2 = sd^2 s^2 / (1 + s^2)
    let error = |s: f64| sd * sd * s * s / (1.0 + s * s);
    for s in [0.3, 2.0] {
        let config = json!({"levels": "loguniform", "range": [s, s * 1.000_001]});
        near(dsm(&parts, config, data)[1], error(s), 0.03, "error at one level");
    }
    let mean = |law: &dyn Fn(f64) -> f64, lo: f64, hi: f64| {
        let n = 4000;
        let at = |i: usize| lo + (hi - lo) * (i as f64 + 0.5) / f64::from(n);
        let mass: f64 = (0..n as usize).map(|i| law(at(i))).sum();
        (0..n as usize).map(|i| law(at(i)) * error(at(i).exp())).sum::<f64>() / mass
    };
    let middle = -1.2 + 2f64.ln();
    let normal = |l: f64| (-0.5 * ((l - middle) / 1.2).powi(2)).exp();
    near(dsm(&parts, Value::Null, data)[1], mean(&normal, -12.0, 12.0), 0.03, "log-normal levels");
    let config = json!({"levels": "loguniform", "range": [0.01, 10.0]});
    let want = mean(&|_| 1.0, 0.01f64.ln(), 10f64.ln());
    near(dsm(&parts, config, data)[1], want, 0.03, "log-uniform levels");
}

/// b chi²_3 data, whose exact denoiser is c_skip w, against draws and formulas made here: x0 and w are the radii of
/// vectors in three dimensions, and R_1/2(z) = coth z - 1/z.
#[test]
fn dsm_of_bessel_processes_has_the_stated_loss() {
    let r = registry();
    let b = 0.5;
    let w_var = b * (3.0 - 8.0 / std::f64::consts::PI);
    let stats = Stats { x_mean: 1.5, x_var: 1.5, w_mean: 1.1, w_var };
    let data = |g: &mut Graph| {
        let xi = [0, 1, 2].map(|_| {
            let xi = draw(g, &[ROWS, 1]);
            g.square(xi)
        });
        let two = g.add(xi[0], xi[1]);
        let sum = g.add(two, xi[2]);
        g.scaled(sum, b)
    };
    let stream = diffx::base::philox::Stream { seed: 9, purpose: 70, step: 0, ordinal: 0 };
    for (id, config) in
        [("besq", json!({"delta": 3})), ("cir", json!({"kappa": 0.7, "theta": 1.5}))]
    {
        let parts = parts(&r, (id, config), null(&r), stats);
        for s in [0.5, 2.0] {
            let level = json!({"levels": "loguniform", "range": [s, s * 1.000_001]});
            let [loss, error] = dsm(&parts, level, data);
            let sigma: f64 = s * w_var.sqrt();
            let u = sigma * sigma;
            let mut want = 0.0;
            for i in 0..ROWS as u64 {
                let xi: [f64; 6] = std::array::from_fn(|k| stream.normal_f64(6 * i + k as u64));
                let start: [f64; 3] = std::array::from_fn(|k| b.sqrt() * xi[k]);
                let radius = |v: [f64; 3]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
                let (w0, w) =
                    (radius(start), radius([0, 1, 2].map(|k| start[k] + sigma * xi[k + 3])));
                let z = w * w0 / u;
                let ratio = if z < 1e-3 { z / 3.0 } else { 1.0 / z.tanh() - 1.0 / z };
                want += (b / (b + u) * w - w0 * ratio).powi(2) / ROWS as f64;
            }
            near(error, want, 0.03, &format!("{id} error at {s}"));
            let weight = 1.0 / u + 1.0 / w_var + 3.0 * u / 1.5;
            near(loss, want * weight, 0.03, &format!("{id} loss at {s}"));
        }
    }
}

/// The weight 1/t undoes the chance t of being hit: the loss is the cross entropy itself.
#[test]
fn dsm_of_tokens_is_the_cross_entropy() {
    let r = registry();
    let component = Component {
        name: "x".into(),
        dtype: DType::I32,
        dims: vec![2],
        space: Space::Discrete,
        classes: 4,
    };
    let output: Output = |g, io| {
        let rows = g.desc(io.x[0]).dims()[0];
        let shape = Desc::new(DType::F64, &[rows, 2, 4]).unwrap().shape;
        g.iota(DType::F64, shape, 2)
    };
    let model = Given { predicts: Predicts::Logits, component, conditional: false, output };
    let parts = parts(&r, ("mask", Value::Null), Arc::new(model), Stats::default());
    let logits = |g: &mut Graph| g.full(1.0, DType::I32, &[ROWS, 2]);
    let [loss, error] = dsm(&parts, Value::Null, logits);
    let cross_entropy = (0..4).map(|k| f64::from(k).exp()).sum::<f64>().ln() - 1.0;
    near(loss, cross_entropy, 0.05, "weighted cross entropy");
    near(error, cross_entropy * 0.5005, 0.02, "cross entropy of the tokens hit");
}

/// w ~ N(0, v) and D = k w: the score is c w with c = (k - 1)/sigma², the loss per element sigma² (c² v/2 + c), least
/// where c = -1/v is the true one. With several elements the divergence is that of probes, exact for a diagonal slope.
#[test]
fn ism_of_gaussian_data_has_the_stated_loss() {
    let r = registry();
    let (v, level) = (2.25_f64, 0.8_f64);
    let output: Output = |g, io| g.scaled(io.x[0], 0.5);
    for dims in [&[1][..], &[2, 3]] {
        let (predicts, component) = (Predicts::Denoised, continuous(dims));
        let model = Given { predicts, component, conditional: false, output };
        let parts = parts(&r, ("ve", Value::Null), Arc::new(model), Stats::default());
        let ism = r.objective("ism", &json!({ "sigma": level })).unwrap();
        let shape: Vec<usize> =
            [ROWS].into_iter().chain(dims.iter().map(|d| *d as usize)).collect();
        let got = values(&parts, ROWS, |b| {
            let xi = draw(&mut b.graph, &shape);
            let x0 = vec![b.graph.scaled(xi, v.sqrt())];
            let metrics = vec![NodeId::ERROR];
            let mut io = LossIo { x0, metrics, ..LossIo::default() };
            ism.loss(b, &mut io).unwrap();
            vec![io.loss.unwrap(), io.metrics[0]]
        });
        let u = level * level;
        let c = (0.5 - 1.0) / u;
        let (square, slope) = (0.5 * c * c * v, c);
        let (gap, n) = (got[0][0] - u * (square + slope), shape.iter().product::<usize>());
        println!("ism of {dims:?}: off by {gap:.5}");
        // 4.5 standard errors of the mean of a chi-square with one degree of freedom
        assert!(gap.abs() < 4.5 * u * square * (2.0 / n as f64).sqrt(), "{dims:?}: off by {gap}");
        assert_eq!(got[0], got[1]);
    }
}

#[test]
fn conditions_are_dropped_as_often_as_stated() {
    let r = registry();
    let output: Output = |_, io| io.cond[0];
    let predicts = Predicts::Denoised;
    let model = Given { predicts, component: continuous(&[1]), conditional: true, output };
    let stats = Stats { w_var: 1.0, ..Stats::default() };
    let parts = parts(&r, ("ve", Value::Null), Arc::new(model), stats);
    let zeros = |g: &mut Graph| g.full(0.0, DType::F64, &[ROWS, 1]);
    for rate in [0.0, 0.3, 1.0] {
        // the condition is 1, its null value 1/4
        let error = dsm(&parts, json!({ "cond_dropout": rate }), zeros)[1];
        near(error, 1.0 - rate * (1.0 - 0.0625), 0.01, "dropout");
    }
}

/// D(y) = y [0, 4], y = 3 given and 1/4 null: guided by hand.
#[test]
fn cfg_of_constants() {
    let r = registry();
    let output: Output = |g, io| {
        let rows = g.desc(io.x[0]).dims()[0];
        let shape = Desc::new(DType::F64, &[rows, 2]).unwrap().shape;
        let pattern = g.iota(DType::F64, shape, 1);
        let pattern = g.scaled(pattern, 4.0);
        g.mul(pattern, io.cond[0])
    };
    let guided = |config: Value, sigma: f64| {
        let predicts = Predicts::Denoised;
        let model = Given { predicts, component: continuous(&[2]), conditional: true, output };
        let mut parts = parts(&r, ("ve", Value::Null), Arc::new(model), Stats::default());
        parts.guidances = vec![r.guidance("cfg", &config).unwrap()];
        let got = values(&parts, 2, |b| {
            b.cond[0] = b.graph.full(3.0, DType::F64, &[2, 1]);
            let x = b.graph.full(0.5, DType::F64, &[2, 2]);
            let sigma = b.graph.full(sigma, DType::F64, &[2]);
            b.denoise(0, &[Eval { phase: 0, x: vec![x], sigma: vec![sigma], cond: None }]).unwrap()
                [0]
            .clone()
        });
        assert_eq!((got[0][0], got[0][2]), (0.0, 0.0));
        assert_eq!(got[0][1], got[0][3]);
        got[0][1]
    };
    let want = |s: f64| 1.0 + s * (12.0 - 1.0);
    for s in [0.0, 1.0, 2.5, -1.0] {
        assert_eq!(guided(json!({ "scale": s }), 1.0), want(s), "scale {s}");
    }
    // (lo, hi]
    for (sigma, s) in [(0.5, 1.0), (0.51, 2.5), (2.0, 2.5), (2.01, 1.0)] {
        let config = json!({"scale": 2.5, "interval": [0.5, 2.0]});
        assert_eq!(guided(config, sigma), want(s), "interval at {sigma}");
    }
    let got = guided(json!({"scale": 2.5, "rescale": 0.7}), 1.0);
    near(got, 0.7 * 12.0 + 0.3 * want(2.5), 1e-12, "rescale");
}

/// A root of the data below 0 is no root: it must not come back as its square.
#[test]
fn a_denoiser_below_zero_gives_nearly_nothing() {
    let r = registry();
    let output: Output = |g, io| {
        let dims = g.desc(io.x[0]).dims().to_vec();
        g.full(-0.5, DType::F64, &dims)
    };
    for process in [("besq", json!({"delta": 3})), ("cir", Value::Null)] {
        for sampler in ["euler", "heun", "churn", "ancestral"] {
            let predicts = Predicts::Denoised;
            let model = Given { predicts, component: continuous(&[3]), conditional: false, output };
            let stats = Stats { x_mean: 1.0, x_var: 1.0, w_mean: 1.0, w_var: 0.3 };
            let parts = parts(&r, process.clone(), Arc::new(model), stats);
            let x = run(&r, &parts, sampler, vec![8.0, 2.0, 0.1, 0.0]);
            assert!(x.iter().all(|x| (0.0..1e-15).contains(x)), "{} {sampler}: {x:?}", process.0);
        }
    }
}

fn run(r: &Registry, parts: &Parts, sampler: &str, knots: Vec<f64>) -> Vec<f64> {
    let sampler = r.sampler(sampler, &Value::Null).unwrap();
    let rows = Arc::new(Rows::new(&*sampler, parts, &[knots]).unwrap());
    let mut session = SessionBuilder::new(Arc::new(Cpu::new(1)));
    let none = &mut |_: &[diffx::graph::Weight]| Ok(vec![]);
    let program = Program::new(parts, &*sampler, &rows, 4, false, &mut session, none).unwrap();
    let budget = Budget::unlimited();
    let mut replay = Replay::new(program, session.allocate(&budget).unwrap());
    let request =
        Request { seed: 3, first_sample: 0, n_samples: 4, preview_every: 0, conds: vec![] };
    replay.begin(&rows, request, &[], &budget).unwrap();
    replay.finish().unwrap();
    let results = replay.take_results();
    results.iter().find(|(name, _)| name == "x").unwrap().1.elements::<f64>().unwrap().to_vec()
}

/// c_noise is finite at sigma 0, so that a network can be asked there: D = w.
#[test]
fn a_residual_network_at_level_zero_gives_the_state() {
    let r = registry();
    let output: Output = |g, io| {
        let rows = g.desc(io.x[0]).dims()[0];
        let noise = g.reshape(io.sigma[0], &[rows, 1]);
        g.mul(noise, io.x[0])
    };
    for process in ["ve", "gbm", "besq", "cir"] {
        let predicts = Predicts::Residual;
        let model = Given { predicts, component: continuous(&[1]), conditional: false, output };
        let stats = Stats { x_mean: 1.0, x_var: 1.0, w_mean: 0.0, w_var: 0.3 };
        let parts = parts(&r, (process, Value::Null), Arc::new(model), stats);
        let got = values(&parts, 2, |b| {
            let x = b.graph.full(0.75, DType::F64, &[2, 1]);
            let sigma = b.graph.full(0.0, DType::F64, &[2]);
            b.denoise(0, &[Eval { phase: 0, x: vec![x], sigma: vec![sigma], cond: None }]).unwrap()
                [0]
            .clone()
        });
        assert_eq!(got[0], [0.75, 0.75], "{process}");
    }
}
