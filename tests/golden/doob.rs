//! Guidance against `guidance.json`, through the plugins in f64: log h and its gradient for normal data (A1) and under CIR
//! (A11), the guided ODE against quantile matching (A15), classifier-free guidance of two normal laws (B1).

use crate::rows::numbers;
use crate::runner::{Data, Runner, knots, registry};
use diffx::base::{DType, Desc, Result};
use diffx::graph::reference::evaluate;
use diffx::graph::{AttrKey, Attrs, NodeId, Op};
use diffx::sample::{
    Build, Component, Cond, Eval, GuideIo, Hook, Model, ModelInfo, ModelIo, Network, Parts,
    Predicts, Space, Stats,
};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) fn carried() -> Value {
    let file: Value = serde_json::from_str(include_str!("guidance.json")).unwrap();
    file["golden"].clone()
}

/// D of normal laws N(mean, variance), chosen by the class where there are two; with mean 0 also that of Gamma data.
pub(crate) struct Shrink(pub(crate) Vec<(f64, f64)>);

impl Model for Shrink {
    fn info(&self) -> Result<ModelInfo> {
        let class =
            Cond { name: "class".into(), desc: Desc::new(DType::F64, &[1])?, null_value: 0.0 };
        Ok(ModelInfo {
            predicts: Predicts::Denoised,
            components: vec![component()],
            conds: if self.0.len() > 1 { vec![class] } else { vec![] },
            slots: vec![],
        })
    }

    fn build(&self, b: &mut Build<'_>, io: &mut ModelIo) -> Result<()> {
        let g = &mut b.graph;
        let rows = g.desc(io.x[0]).dims()[0];
        let log = g.scaled(io.sigma[0], 8.0);
        let square = g.exp(log);
        let column = Attrs::NONE.with_dims(AttrKey::Shape, &[rows, 1]);
        let u = g.emit(Op::Reshape, &[square], column);
        let mut d = Vec::new();
        for (mean, variance) in &self.0 {
            let centred = g.shifted(io.x[0], -mean);
            let (near, total) = (g.scaled(centred, *variance), g.shifted(u, *variance));
            let shrunk = g.div(near, total);
            d.push(g.shifted(shrunk, *mean));
        }
        io.out[0] = d[0];
        if let [null, class] = d[..] {
            let gap = g.sub(class, null);
            let part = g.mul(io.cond[0], gap);
            io.out[0] = g.add(null, part);
        }
        Ok(())
    }
}

fn component() -> Component {
    Component {
        name: "x".into(),
        dtype: DType::F64,
        dims: vec![1],
        space: Space::Continuous,
        classes: 0,
    }
}

pub(crate) fn parts(
    process: (&str, Value),
    model: Shrink,
    stats: Stats,
    guidance: (&str, Value),
) -> Parts {
    let r = registry();
    let model: Arc<dyn Model> = Arc::new(model);
    Parts {
        components: vec![component()],
        processes: vec![r.process(process.0, &process.1).unwrap()],
        stats: vec![stats],
        conds: model.info().unwrap().conds,
        networks: vec![Network { slot: "base".into(), model, lora: None }],
        guidances: vec![r.guidance(guidance.0, &guidance.1).unwrap()],
        float: DType::F64,
        weight_dtype: DType::F64,
    }
}

/// log h and its gradient by w, from what `start` weighs and what `wrap` adds to D.
pub(crate) fn log_h(parts: &Parts, w: &[f64], sigma: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let n = w.len();
    let mut b = Build::new(parts, n).unwrap();
    let bytes = |v: &[f64]| -> Vec<u8> { v.iter().flat_map(|v| v.to_ne_bytes()).collect() };
    let desc = Desc::new(DType::F64, &[n, 1]).unwrap();
    let x = b.graph.constant(desc, &bytes(w));
    let s = b.graph.constant(desc, &bytes(sigma));
    let eval = Eval { phase: 0, x: vec![x], sigma: vec![s], cond: None };
    let inner = b.denoise(1, std::slice::from_ref(&eval)).unwrap()[0][0];
    let outer = b.denoise(0, &[eval]).unwrap()[0][0];
    let mut io = GuideIo {
        x: vec![x],
        sigma: vec![s],
        out: vec![x],
        slots: vec![],
        slots_out: vec![],
        index: None,
        feasible: None,
        log_weight: None,
    };
    let guidance = Arc::clone(&parts.guidances[0]);
    guidance.guide(&mut b, Hook::Start, 1, &mut io).unwrap();
    b.graph.check().unwrap();
    let nodes: [NodeId; 3] = [io.log_weight.unwrap(), inner, outer];
    let out = evaluate(&b.graph, &nodes, &|_, _| panic!("no inputs")).unwrap();
    let slope = (0..n).map(|i| (out[2].data[i] - out[1].data[i]) / (sigma[i] * sigma[i]));
    (out[0].data.clone(), slope.collect())
}

pub(crate) fn close(got: f64, want: f64, tol: f64, what: &str) {
    assert!((got - want).abs() <= tol * want.abs().max(1.0), "{what}: {got}, want {want}");
}

#[test]
fn golden_a1_h_of_normal_data() {
    let row = &carried()["A1_doob_gaussian_table"];
    let tol = row["tol"].as_f64().unwrap();
    let mut n = 0;
    for row in row["expected"].as_array().unwrap() {
        let [m0, s0, threshold, s, y, want, slope] = numbers(row)[..] else { panic!("a row") };
        // dX = -X ds + sqrt2 dW is y = a w at a level of the standard deviation over a
        let a = (-s).exp();
        let sigma = (-(-2.0 * s).exp_m1()).sqrt() / a;
        let stats = Stats { x_mean: m0, x_var: s0 * s0, w_mean: m0, w_var: s0 * s0 };
        let config = json!({"event": format!("x >= {threshold}"), "start": 1});
        let model = Shrink(vec![(m0, s0 * s0)]);
        let parts = parts(("ve", Value::Null), model, stats, ("doob", config));
        let (value, got) = log_h(&parts, &[y / a], &[sigma]);
        close(value[0], want, tol, "log h");
        close(got[0] / a, slope, tol, "its slope");
        n += 1;
    }
    println!("golden A1: {n} rows agree");
    assert_eq!(n, 27);
}

#[test]
fn golden_a11_h_under_cir() {
    let row = &carried()["A11_cir_h_table"];
    let rows = row["expected"]["rows_x_tau_h_dlogh"].as_array().unwrap();
    // stationary CIR is its own reverse: from x it reaches the threshold after tau as data of its stationary law do,
    // given what they are at the level of tau. Feller's condition is violated: dimension 16/9
    let cir = json!({"kappa": 1.0, "theta": 0.04, "sigma": 0.3});
    let stats = Stats { x_mean: 0.04, x_var: 0.0018, w_mean: 0.18, w_var: 0.008 };
    let config = json!({"event": "x >= 0.15", "h": "gamma", "dimension": 16.0 / 9.0, "start": 1});
    let u0 = 0.04 / (16.0 / 9.0);
    let parts = parts(("cir", cir.clone()), Shrink(vec![(0.0, u0)]), stats, ("doob", config));
    for row in rows {
        let [x, tau, h, slope] = numbers(row)[..] else { panic!("a row") };
        let sigma = registry().process("cir", &cir).unwrap().clock(&[tau]).unwrap()[0];
        let w = (x * tau.exp()).sqrt();
        let (value, got) = log_h(&parts, &[w], &[sigma]);
        // by x: dw/dx = w / 2x
        close(value[0].exp() / h, 1.0, 1e-8, "h");
        close(got[0] * w / (2.0 * x) / slope, 1.0, 1e-8, "slope of log h");
    }
    println!("golden A11: {} rows agree", rows.len());
    assert_eq!(rows.len(), 9);
}

#[test]
fn golden_a15_the_guided_ode_matches_quantiles() {
    let row = &carried()["A15_guided_ode_map"];
    let rows: Vec<Vec<f64>> = row["expected"].as_array().unwrap().iter().map(numbers).collect();
    let level = |s: f64| ((-2.0 * s).exp_m1().abs()).sqrt() / (-s).exp();
    let levels = knots("geometric", json!({"to_zero": false}), 400, (level(1e-3), level(3.0)));
    let start: Vec<f64> = rows.iter().map(|r| r[0] * 3f64.exp()).collect();
    let run = |strength: f64| -> Vec<f64> {
        let data = Data::Normal(vec![(1.0, 0.0, 1.0)]);
        let mut runner = Runner::new(("ve", Value::Null), ("rk4", Value::Null), &data);
        let config = json!({"event": "x >= 1.5", "strength": strength});
        runner.parts.guidances = vec![registry().guidance("doob", &config).unwrap()];
        let last = runner.ode(&levels, &start).pop().unwrap();
        last.iter().map(|w| w * (-1e-3f64).exp()).collect()
    };
    for (got, row) in run(1.0).iter().zip(&rows) {
        close(*got, row[1], 1e-6, "end of the guided ODE");
    }
    // twice the gradient is another map
    assert!((run(2.0)[2] - rows[2][1]).abs() > 0.1);
}

#[test]
fn golden_b2_measured_numbers() {
    let row = &carried()["B2_dps_vs_exact"];
    let levels = knots("geometric", json!({"to_zero": false}), 500, (1e-3, 80.0));
    let law = |form: &str, scale: f64| {
        let data = Data::Normal(vec![(1.0, 0.0, 1.0)]);
        let mut run = Runner::new(("ve", Value::Null), ("rk4", Value::Null), &data);
        let config =
            json!({"at": [0], "values": [1.2], "noise": 0.25, "form": form, "scale": scale});
        run.parts.guidances = vec![registry().guidance("dps", &config).unwrap()];
        let ends = run.ode(&levels, &[0.0, 1.0]).pop().unwrap();
        (ends[0], (ends[1] - ends[0]).powi(2) * 6400.0)
    };
    for (name, form, scale) in [
        ("tau2_corrected", "corrected", 1.0),
        ("dps_zeta1", "plain", 1.0),
        ("dps_zeta_half", "plain", 0.5),
        ("dps_zeta1", "self", 4.0), // the squared error without its variance
    ] {
        let want = numbers(&row["expected"][name]);
        let got = law(form, scale);
        println!("golden B2 {form} {scale}: {got:.5?} of {want:.5?}");
        close(got.0, want[0], 1e-4, "mean");
        close(got.1 / want[1], 1.0, 1e-3, "variance");
    }
    // the posterior is N(.96, .2): plain, the variance is ten times too small
    assert!(law("plain", 1.0).1 < 0.1 * 0.2);
}

#[test]
fn golden_b1_classifier_free_guidance() {
    let (b1, interval) = (&carried()["B1_cfg_gaussian"], &carried()["B1_cfg_interval"]);
    let levels = knots("geometric", json!({"to_zero": false}), 500, (1e-3, 80.0));
    let law = |config: Value| {
        let stats = Stats::default();
        let model = Shrink(vec![(0.0, 1.25), (1.0, 0.25)]);
        let data = Data::Normal(vec![(1.0, 0.0, 1.0)]);
        let mut run = Runner::new(("ve", Value::Null), ("rk4", Value::Null), &data);
        run.parts = parts(("ve", Value::Null), model, stats, ("cfg", config));
        let ends = run.ode(&levels, &[0.0, 1.0]).pop().unwrap();
        (ends[0], (ends[1] - ends[0]).powi(2) * 6400.0)
    };
    for row in b1["expected"].as_array().unwrap() {
        let [w, mean, var, closed, tilted, tilted_var] = numbers(row)[..] else { panic!("a row") };
        let got = law(json!({"scale": w}));
        close(got.0, mean, 1e-6, "mean");
        close(got.1 / var, 1.0, 1e-5, "variance");
        // the geometric mean of the variances, and not the law p_c^w p_0^(1-w)
        assert!((got.1 - closed).abs() < 3e-4);
        if w > 1.0 {
            assert!((got.0 - tilted).abs() > 0.05 && (got.1 - tilted_var).abs() > 0.03);
        }
    }
    let want = numbers(&interval["expected"]);
    let got = law(json!({"scale": 3, "interval": [0.28, 2.9]}));
    close(got.0, want[0], 2e-3, "mean under an interval");
    close(got.1, want[1], 2e-3, "variance under an interval");
}
