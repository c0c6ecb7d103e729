//! Log-likelihoods by the probability flow against closed forms: the golden normal mixture in two dimensions (F4), the
//! variance of Hutchinson's estimate (F5), lognormal data under GBM and a gamma law under squared Bessel noise.

use diffx::base::{DType, Desc, Result};
use diffx::cpu::Cpu;
use diffx::exec::{Backend, Interrupt};
use diffx::graph::{AttrKey, Attrs, Graph, NodeId, Op};
use diffx::mem::{Budget, Tensor};
use diffx::plugin::Registry;
use diffx::sample::{
    Build, Component, Likelihood, Model, ModelInfo, ModelIo, Network, Parts, Predicts, Space, Stats,
};
use serde_json::{Value, json};
use std::sync::Arc;

fn reshape(g: &mut Graph, x: NodeId, dims: &[usize]) -> NodeId {
    g.emit(Op::Reshape, &[x], Attrs::NONE.with_dims(AttrKey::Shape, dims))
}

/// D(w, sigma) as a function of the graph.
struct Exact<F> {
    dims: Vec<i64>,
    denoiser: F,
}

impl<F: Fn(&mut Graph, NodeId, NodeId) -> NodeId + Send + Sync> Model for Exact<F> {
    fn info(&self) -> Result<ModelInfo> {
        Ok(ModelInfo {
            predicts: Predicts::Denoised,
            components: vec![component(&self.dims)],
            conds: vec![],
            slots: vec![],
        })
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        let g = &mut b.graph;
        let rows = g.desc(io.x[0]).dims()[0];
        let log = g.scaled(io.sigma[0], 4.0);
        let sigma = g.unary(Op::Exp, log);
        let sigma = reshape(g, sigma, &[rows, 1]);
        io.out[0] = (self.denoiser)(g, io.x[0], sigma);
        Ok(())
    }
}

fn component(dims: &[i64]) -> Component {
    Component {
        name: "x".into(),
        dtype: DType::F64,
        dims: dims.to_vec(),
        space: Space::Continuous,
        classes: 0,
    }
}

fn parts(process: (&str, Value), model: impl Model + 'static, float: DType, stats: Stats) -> Parts {
    let mut registry = Registry::new(Box::new(|_, _| {}));
    // Safety: a static of a crate linked into this test.
    unsafe { registry.register(std::ptr::from_ref(diffx_processes::plugin()).cast()) }.unwrap();
    let mut component = model.info().unwrap().components.remove(0);
    component.dtype = float;
    Parts {
        components: vec![component],
        processes: vec![registry.process(process.0, &process.1).unwrap()],
        stats: vec![stats],
        conds: vec![],
        networks: vec![Network { slot: "base".into(), model: Arc::new(model), lora: None }],
        guidances: vec![],
        float,
        weight_dtype: float,
    }
}

/// log p of rows of `x`.
fn score(parts: &Parts, x: &[f64], range: (f64, f64), steps: u32, probes: usize) -> Vec<f64> {
    let budget = Budget::unlimited();
    let each = parts.components[0].dims.iter().product::<i64>() as usize;
    let dims = [x.len() / each, each];
    let data = match parts.float {
        DType::F64 => Tensor::from_f64(&dims, x, &budget),
        _ => Tensor::from_f32(&dims, &x.iter().map(|v| *v as f32).collect::<Vec<_>>(), &budget),
    };
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(2));
    let data = data.unwrap();
    let likelihood =
        Likelihood { parts, x: &data, conds: &[], range, steps, probes, seed: 8, first_sample: 0 };
    let out = likelihood
        .run(&backend, &budget, &mut |_| Ok(vec![]), &mut || Interrupt::Continue)
        .unwrap();
    out.elements::<f64>().unwrap().to_vec()
}

/// sum_k w_k N(m_k, diag s_k²) in two dimensions, of golden F4.
const MEANS: [[f64; 2]; 3] = [[-1.5, 0.0], [1.0, 1.0], [0.5, -1.2]];
const SDS: [[f64; 2]; 3] = [[0.3, 0.8], [0.5, 0.2], [0.25, 0.25]];
const WEIGHTS: [f64; 3] = [0.3, 0.4, 0.3];
const POINTS: [f64; 10] = [0.0, 0.0, 1.0, 1.0, -1.5, 0.7, 0.6, -1.0, 2.0, -0.5];
const EXACT: [f64; 5] =
    [-13.0785996572, -0.451597205129, -1.99754607606, -0.669270748466, -22.1886986411];

fn mixture() -> impl Model {
    Exact { dims: vec![2], denoiser: denoise_mixture }
}

fn denoise_mixture(g: &mut Graph, w: NodeId, sigma: NodeId) -> NodeId {
    let float = g.desc(w).dtype;
    let rows = g.desc(w).dims()[0];
    let u = g.square(sigma);
    let (mut logs, mut means) = (Vec::new(), Vec::new());
    for k in 0..3 {
        let row = |g: &mut Graph, v: [f64; 2]| {
            let desc = Desc::new(float, &[1, 2]).unwrap();
            let bytes: Vec<u8> = match float {
                DType::F64 => v.iter().flat_map(|v| v.to_ne_bytes()).collect(),
                _ => v.iter().flat_map(|v| (*v as f32).to_ne_bytes()).collect(),
            };
            g.constant(desc, &bytes)
        };
        let (m, v) = (row(g, MEANS[k]), row(g, SDS[k].map(|s| s * s)));
        let total = g.add(v, u);
        let off = g.sub(w, m);
        let square = g.square(off);
        let ratio = g.div(square, total);
        let log_total = g.unary(Op::Log, total);
        let sum = g.add(ratio, log_total);
        let sum = g.reduce(Op::Sum, sum, &[1], true);
        let log = g.scaled(sum, -0.5);
        logs.push(g.shifted(log, WEIGHTS[k].ln()));
        let gain = g.mul(v, off);
        let gain = g.div(gain, total);
        means.push(g.add(m, gain));
    }
    let all = g.emit(Op::Concat, &logs, Attrs::NONE.with_int(AttrKey::Axis, 1));
    let share = g.emit(Op::Softmax, &[all], Attrs::NONE.with_int(AttrKey::Axis, 1));
    let mut d = g.scalar(0.0);
    for (k, mean) in means.iter().enumerate() {
        let attrs =
            Attrs::NONE.with_dims(AttrKey::Start, &[0, k]).with_dims(AttrKey::Stop, &[rows, k + 1]);
        let one = g.emit(Op::Slice, &[share], attrs);
        let part = g.mul(one, *mean);
        d = g.add(d, part);
    }
    d
}

fn off(got: &[f64], want: &[f64]) -> f64 {
    got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// F4: the largest error over the points after 20, 50 and 100 steps, to the last of which the prior's law N(0, 60²)
/// sets a floor.
#[test]
fn golden_mixture_under_ve() {
    let parts = parts(("ve", json!({})), mixture(), DType::F64, Stats::default());
    for (steps, want) in [(20, 1.86035675763), (50, 0.00854658202813), (100, 0.00737628618742)] {
        let error = off(&score(&parts, &POINTS, (1e-3, 60.0), steps, 0), &EXACT);
        println!("ve: {steps} steps, error {error:.6}");
        assert!((error / want - 1.0).abs() < 1e-6, "{steps} steps: {error}, want {want}");
    }
}

/// F4: one random direction per point; the deviation of its estimate.
#[test]
fn golden_deviation_of_one_direction() {
    let parts = parts(("ve", json!({})), mixture(), DType::F64, Stats::default());
    let n = 400;
    let x: Vec<f64> = (0..n).flat_map(|_| POINTS).collect();
    let got = score(&parts, &x, (1e-3, 60.0), 60, 1);
    let exact = score(&parts, &POINTS, (1e-3, 60.0), 60, 0);
    let want = [0.717182783407, 0.227383974627, 0.211190271582, 0.382339350401, 10.0776763998];
    for i in 0..5 {
        let each: Vec<f64> = got.iter().skip(i).step_by(5).copied().collect();
        let mean = each.iter().sum::<f64>() / f64::from(n);
        let sd = (each.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / f64::from(n)).sqrt();
        println!("point {i}: exact {:.4}, mean {mean:.4}, deviation {sd:.4}", exact[i]);
        assert!((sd / want[i] - 1.0).abs() < 0.5, "point {i}: {sd}, want {}", want[i]);
        assert!((mean - exact[i]).abs() < 4.5 * sd / f64::from(n).sqrt(), "point {i} is biased");
    }
}

/// F5: D = A w has the trace of A, and Rademacher directions the variance 2 Σ_{i≠j} A_ij².
#[test]
fn golden_variance_of_directions() {
    const A: [[f64; 3]; 3] = [[1.0, 0.5, -0.2], [0.5, 2.0, 0.3], [-0.2, 0.3, -1.0]];
    let denoiser = |g: &mut Graph, w: NodeId, _: NodeId| {
        let bytes: Vec<u8> = A.iter().flatten().flat_map(|v| v.to_ne_bytes()).collect();
        let a = g.constant(Desc::new(DType::F64, &[3, 3]).unwrap(), &bytes);
        g.matmul(w, a, false, false)
    };
    let model = Exact { dims: vec![3], denoiser };
    let parts = parts(("ve", json!({})), model, DType::F64, Stats::default());
    let n = 20_000;
    // at 0 the state stays there, so only the divergence differs between samples
    let range = (1.0, std::f64::consts::E);
    let prior = score(&parts, &[0.0; 3], range, 1, 0)[0] - (3.0 - 2.0);
    let traces = |probes| -> Vec<f64> {
        let logs = score(&parts, &vec![0.0; 3 * n], range, 1, probes);
        logs.into_iter().map(|l| 3.0 - (l - prior)).collect()
    };
    for (probes, variance) in [(1, 1.52), (4, 0.38)] {
        let t = traces(probes);
        let mean = t.iter().sum::<f64>() / n as f64;
        let found = t.iter().map(|t| (t - 2.0).powi(2)).sum::<f64>() / n as f64;
        let fourth = t.iter().map(|t| (t - 2.0).powi(4)).sum::<f64>() / n as f64;
        let z_mean = (mean - 2.0) / (variance / n as f64).sqrt();
        let z = (found - variance) / ((fourth - found * found) / n as f64).sqrt();
        println!(
            "{probes} directions: mean {mean:.4}, z {z_mean:.2}; variance {found:.4}, z {z:.2}"
        );
        assert!(z_mean.abs() < 4.5 && z.abs() < 4.5);
        // and not that of normal directions
        assert!((found - 13.52 / probes as f64).abs() > 1.0);
    }
    let exact = traces(0);
    assert!(off(&exact, &vec![2.0; n]) < 1e-12);
}

/// The same data under VP, flow matching and PFGM++'s limit of many dimensions, in f64 and f32.
#[test]
fn mixture_under_other_processes() {
    for (process, range) in [("vp", (1e-3, 600.0)), ("flow", (1e-3, 600.0))] {
        // where the law of the prior is off by (60 / 600)² of what it is in F4
        for (float, within) in [(DType::F64, 2e-3), (DType::F32, 1e-2)] {
            let parts = parts((process, json!({})), mixture(), float, Stats::default());
            let error = off(&score(&parts, &POINTS, range, 150, 0), &EXACT);
            println!("{process} in {float}: error {error:.5}");
            assert!(error < within, "{process} in {float}: {error}");
        }
    }
    // a prior about somewhere else is seen
    let wrong = Stats { w_mean: 20.0, ..Stats::default() };
    let parts = parts(("vp", json!({})), mixture(), DType::F64, wrong);
    assert!(off(&score(&parts, &POINTS, (1e-3, 600.0), 150, 0), &EXACT) > 1e-2);
}

/// log x ~ N(a, b²), D = (b² w + u a)/(b² + u), with and without a reference scale.
#[test]
fn lognormal_under_gbm() {
    let (a, b): (f64, f64) = (0.4, 0.5);
    let x = [0.3, 1.0, 2.5];
    for reference in [1.0, 3.0_f64] {
        let mean = a - reference.ln();
        let denoiser = move |g: &mut Graph, w: NodeId, sigma: NodeId| {
            let u = g.square(sigma);
            let near = g.scaled(w, b * b);
            let far = g.scaled(u, mean);
            let (sum, total) = (g.add(near, far), g.shifted(u, b * b));
            g.div(sum, total)
        };
        let model = Exact { dims: vec![1], denoiser };
        let stats = Stats { w_mean: mean, w_var: b * b, ..Stats::default() };
        let parts = parts(("gbm", json!({ "reference": reference })), model, DType::F64, stats);
        let got = score(&parts, &x, (1e-4, 40.0), 150, 0);
        let want = x.map(|x: f64| {
            let z = (x.ln() - a) / b;
            -0.5 * z * z - (b * x).ln() - 0.5 * (2.0 * std::f64::consts::PI).ln()
        });
        println!("gbm, reference {reference}: {got:?} for {want:?}");
        assert!(off(&got, &want) < 1e-3);
        // the density of log x is another
        assert!(off(&got, &[0, 1, 2].map(|i: usize| want[i] + x[i].ln())) > 1e-2);
    }
}

/// x ~ b chi²_delta, a gamma law of shape delta/2 and scale 2b, D = r b/(b + u): under squared Bessel noise, and through
/// its clock under CIR, where it is the same at time 0.
#[test]
fn gamma_under_squared_bessel() {
    let b = 0.8;
    let x = [0.4, 2.0, 9.0];
    let cases = [("besq", 3.0), ("besq", 7.0), ("cir", 3.0)];
    for (process, delta) in cases {
        let denoiser = move |g: &mut Graph, w: NodeId, sigma: NodeId| {
            let u = g.square(sigma);
            let (near, total) = (g.scaled(w, b), g.shifted(u, b));
            g.div(near, total)
        };
        let config = if process == "besq" { json!({ "delta": delta }) } else { json!({}) };
        let model = Exact { dims: vec![1], denoiser };
        let stats = Stats { x_mean: b * delta, ..Stats::default() };
        let parts = parts((process, config), model, DType::F64, stats);
        let got = score(&parts, &x, (1e-4, 60.0), 150, 0);
        let half = 0.5 * delta;
        let lgamma = if delta == 3.0 {
            (0.5 * std::f64::consts::PI.sqrt()).ln()
        } else {
            (15.0 / 8.0 * std::f64::consts::PI.sqrt()).ln()
        };
        let want =
            x.map(|x: f64| (half - 1.0) * x.ln() - 0.5 * x / b - half * (2.0 * b).ln() - lgamma);
        println!("{process}, delta {delta}: {got:?} for {want:?}");
        assert!(off(&got, &want) < 2e-3, "{process} {delta}");
    }
}
