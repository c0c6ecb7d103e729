//! The training loop on a linear regression, whose gradient and optimum have closed forms.

use diffx::base::{DType, Result, Status};
use diffx::cpu::Cpu;
use diffx::exec::Interrupt;
use diffx::graph::{AttrKey, Attrs, NodeId, Op, WeightInit};
use diffx::mem::{Budget, Tensor};
use diffx::sample::{Build, Component, Space, build::Parts};
use diffx::train::data::Permutation;
use diffx::train::update::lookup;
use diffx::train::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

const FEATURES: usize = 3;
const TRUE: [f64; FEATURES] = [1.5, -0.5, 0.25];
const BIAS: f64 = 0.75;

/// mean((x w + b - y)^2) over rows [x.., y]; the metric is the mean of |residual|.
struct Regression;

impl Objective for Regression {
    fn info(&self) -> Result<ObjectiveInfo> {
        Ok(ObjectiveInfo { metrics: vec!["distance".into()], ..ObjectiveInfo::default() })
    }

    fn loss(&self, b: &mut Build<'_>, io: &mut LossIo) -> Result<()> {
        let g = &mut b.graph;
        let float = g.float();
        let desc = |dims: &[usize]| diffx::base::Desc::new(float, dims).unwrap();
        let columns = |lo: usize, hi: usize| {
            Attrs::NONE
                .with_ints(AttrKey::Start, [0, lo as i64])
                .with_ints(AttrKey::Stop, [i64::from(i32::MAX), hi as i64])
        };
        let x = g.emit(Op::Slice, &[io.x0[0]], columns(0, FEATURES));
        let y = g.emit(Op::Slice, &[io.x0[0]], columns(FEATURES, FEATURES + 1));
        let w = g.weight("w", desc(&[FEATURES, 1]), WeightInit::Normal(0.5));
        let bias = g.weight("b", desc(&[1]), WeightInit::Constant(0.1));
        let line = g.emit(Op::MatMul, &[x, w, bias], Attrs::NONE);
        let gap = g.binary(Op::Sub, line, y);
        let square = g.unary(Op::Square, gap);
        let loss = g.unary(Op::Mean, square);
        let size = g.unary(Op::Abs, gap);
        io.loss = Some(loss);
        let distance: NodeId = g.unary(Op::Mean, size);
        io.metrics = vec![distance];
        Ok(())
    }

    fn has_sweep(&self) -> bool {
        false
    }

    fn sweep(&self, _: &mut Build<'_>, _: &mut SweepIo) -> Result<()> {
        Ok(())
    }
}

fn parts(float: DType) -> Parts {
    Parts {
        components: vec![Component {
            name: "row".into(),
            dtype: float,
            dims: vec![FEATURES as i64 + 1],
            space: Space::Continuous,
            classes: 0,
        }],
        processes: Vec::new(),
        stats: vec![Default::default()],
        conds: Vec::new(),
        networks: Vec::new(),
        guidances: Vec::new(),
        float,
        weight_dtype: float,
    }
}

/// Rows of features in (-1, 1) and the line through them, without noise.
fn rows(n: usize) -> Vec<f32> {
    let mut state = 9u64;
    let mut draw = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f64 / (1 << 23) as f64 - 1.0
    };
    let mut out = Vec::new();
    for _ in 0..n {
        let x = [draw(), draw(), draw()];
        let y = BIAS + x.iter().zip(TRUE).map(|(a, b)| a * b).sum::<f64>();
        out.extend(x.iter().chain([&y]).map(|v| *v as f32));
    }
    out
}

fn dataset(values: &[f32]) -> Dataset {
    let n = values.len() / (FEATURES + 1);
    let table = Tensor::from_f32(&[n, FEATURES + 1], values, &Budget::unlimited()).unwrap();
    Dataset::new(vec![table], Vec::new()).unwrap()
}

fn plan(steps: u32) -> Plan {
    let optimizer = Optimizer {
        rate: 0.05,
        warmup: 5,
        decay: 0.02,
        clip: 0.5,
        ema: 0.9,
        ..Optimizer::default()
    };
    Plan { steps, batch: 8, seed: 42, optimizer, trained: vec!["base".into()] }
}

fn training(float: DType, threads: usize, plan: Plan, values: &[f32]) -> Training {
    let backend = Arc::new(Cpu::new(threads));
    let budget = Budget::unlimited();
    let data = dataset(values);
    Training::new(
        backend,
        &parts(float),
        &Regression,
        plan,
        data,
        &mut lookup(&HashMap::new()),
        &budget,
    )
    .unwrap()
}

fn go(t: &mut Training, steps: u32) -> Report {
    let mut last = None;
    for _ in 0..steps {
        last = t.advance(&mut || Interrupt::Continue).unwrap();
    }
    last.unwrap()
}

fn values(t: &Training, averaged: bool) -> BTreeMap<String, Vec<f64>> {
    let read = |(name, desc, bytes): (String, diffx::base::Desc, Vec<u8>)| {
        let v = match desc.dtype {
            DType::F64 => bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            _ => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect(),
        };
        (name, v)
    };
    t.weights(averaged).unwrap().into_iter().map(read).collect()
}

/// AdamW by hand in f64, on the same batches.
fn by_hand(
    plan: &Plan,
    data: &[f32],
    first: &BTreeMap<String, Vec<f64>>,
) -> ([f64; 4], [f64; 4], f64) {
    let o = &plan.optimizer;
    let n = (data.len() / 4) as u64;
    let mut p: [f64; 4] = [first["w"][0], first["w"][1], first["w"][2], first["b"][0]];
    let (mut m, mut v, mut ema) = ([0.0; 4], [0.0; 4], p);
    let mut norm = 0.0;
    for t in 1..=plan.steps {
        let mut grad = [0f64; 4];
        for b in 0..plan.batch as u64 {
            let at = u64::from(t - 1) * plan.batch as u64 + b;
            let i = Permutation::new(n, plan.seed, (at / n) as u32).at(at % n) as usize;
            let row: Vec<f64> = data[i * 4..i * 4 + 4].iter().map(|v| f64::from(*v)).collect();
            let gap = row[0] * p[0] + row[1] * p[1] + row[2] * p[2] + p[3] - row[3];
            for k in 0..4 {
                let x = if k < 3 { row[k] } else { 1.0 };
                grad[k] += 2.0 * gap * x / plan.batch as f64;
            }
        }
        norm = grad.iter().map(|g| g * g).sum::<f64>().sqrt();
        let cut = (o.clip / norm).min(1.0);
        let warm = (f64::from(t) / f64::from(o.warmup)).min(1.0);
        let at = (f64::from(t) - f64::from(o.warmup)).max(0.0) / f64::from(plan.steps - o.warmup);
        let rate = o.rate * warm * 0.5 * (1.0 + (std::f64::consts::PI * at).cos());
        let keep = o.ema.min((1.0 + f64::from(t)) / (10.0 + f64::from(t)));
        for k in 0..4 {
            let g = grad[k] * cut;
            m[k] = o.beta1 * m[k] + (1.0 - o.beta1) * g;
            v[k] = o.beta2 * v[k] + (1.0 - o.beta2) * g * g;
            let m_hat = m[k] / (1.0 - o.beta1.powi(t as i32));
            let v_hat = v[k] / (1.0 - o.beta2.powi(t as i32));
            let decay = if k < 3 { o.decay } else { 0.0 }; // the bias has rank 1
            p[k] -= rate * (m_hat / (v_hat.sqrt() + o.epsilon) + decay * p[k]);
            ema[k] = keep * ema[k] + (1.0 - keep) * p[k];
        }
    }
    (p, ema, norm)
}

#[test]
fn the_update_is_adamw_by_hand() {
    let data = rows(37);
    for (float, tolerance) in [(DType::F64, 1e-12), (DType::F32, 3e-6)] {
        let plan = plan(40);
        let mut t = training(float, 1, plan.clone(), &data);
        let first = values(&t, false);
        assert_eq!(first["b"], [if float == DType::F64 { 0.1 } else { f64::from(0.1f32) }]);
        let report = go(&mut t, 40);
        let (p, ema, norm) = by_hand(&plan, &data, &first);
        for (want, averaged) in [(p, false), (ema, true)] {
            let got = values(&t, averaged);
            let got = [got["w"][0], got["w"][1], got["w"][2], got["b"][0]];
            for k in 0..4 {
                assert!((got[k] - want[k]).abs() < tolerance, "{float} {k}: {got:?} {want:?}");
            }
        }
        assert!((report.norm - norm).abs() < tolerance * 10.0, "{} {norm}", report.norm);
        assert_eq!(report.step, 40);
    }
}

#[test]
fn it_finds_the_line() {
    let optimizer = Optimizer { rate: 0.05, warmup: 10, ..Optimizer::default() };
    let plan = Plan { optimizer, batch: 16, ..plan(400) };
    let mut t = training(DType::F32, 2, plan, &rows(200));
    let report = go(&mut t, 400);
    assert!(report.loss < 1e-6, "{report:?}");
    let got = values(&t, false);
    for k in 0..FEATURES {
        assert!((got["w"][k] - TRUE[k]).abs() < 1e-3, "{got:?}");
    }
    assert!((got["b"][0] - BIAS).abs() < 1e-3);
    let held = t.measure(&dataset(&rows(50)), 4).unwrap();
    assert!(held.loss < 1e-3 && held.metrics[0] < 0.03, "{held:?}");
    assert_eq!(held, t.measure(&dataset(&rows(50)), 4).unwrap());
    let e = t.advance(&mut || Interrupt::Continue).unwrap_err();
    assert_eq!((e.status, e.message.as_str()), (Status::State, "all 400 steps are done"));
}

#[test]
fn a_resumed_run_has_the_bits_of_one_that_never_stopped() {
    let dir = std::env::temp_dir().join(format!("diffx-training-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (half, whole, again) = (
        dir.join("half.safetensors"),
        dir.join("whole.safetensors"),
        dir.join("again.safetensors"),
    );
    let data = rows(37);
    let none = BTreeMap::new();
    let mut straight = training(DType::F32, 1, plan(30), &data);
    go(&mut straight, 30);
    straight.save(&whole, &none).unwrap();

    let mut first = training(DType::F32, 1, plan(30), &data);
    go(&mut first, 13);
    first.save(&half, &none).unwrap();
    drop(first);
    // resumed on another number of threads, and paused inside steps on the way
    let mut second = training(DType::F32, 2, plan(30), &data);
    second.resume(&half).unwrap();
    assert_eq!(second.done(), 13);
    let mut asked = 0;
    while second.done() < 30 {
        let _ = second
            .advance(&mut || {
                asked += 1;
                if asked % 7 == 0 { Interrupt::Pause } else { Interrupt::Continue }
            })
            .unwrap();
    }
    second.save(&again, &none).unwrap();
    assert_eq!(std::fs::read(&whole).unwrap(), std::fs::read(&again).unwrap());

    let mut other = training(DType::F32, 1, Plan { seed: 43, ..plan(30) }, &data);
    let e = other.resume(&half).unwrap_err();
    assert!(e.message.contains("trained with seed 42, this run has 43"), "{e}");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_broken_gradient_moves_nothing_and_too_many_end_the_run() {
    let mut data = rows(16);
    data[3] = f32::NAN;
    // every batch of 16 of these 16 rows holds the broken one
    let mut t = training(DType::F32, 1, Plan { batch: 16, ..plan(100) }, &data);
    let before = values(&t, false);
    let mut end = None;
    for step in 1..=100 {
        match t.advance(&mut || Interrupt::Continue) {
            Ok(Some(report)) => assert!(!report.norm.is_finite()),
            Ok(None) => panic!("nobody paused"),
            Err(e) => {
                end = Some((step, e));
                break;
            }
        }
    }
    let (step, e) = end.unwrap();
    assert_eq!(step, 50);
    assert!(e.message.contains("no finite gradient for 50 steps"), "{e}");
    // no gradient, no momentum: the bias stays, the others only shrink by the decay
    let after = values(&t, false);
    assert_eq!(before["b"], after["b"]);
    for k in 0..FEATURES {
        let (b, a) = (before["w"][k].abs(), after["w"][k].abs());
        assert!(a.is_finite() && a <= b && a > 0.8 * b, "{b} {a}");
    }
}

#[test]
fn the_cap_on_memory_is_obeyed() {
    let backend = Arc::new(Cpu::new(1));
    let small = Budget::new(64, None);
    let made = Training::new(
        backend,
        &parts(DType::F32),
        &Regression,
        plan(1),
        dataset(&rows(9)),
        &mut lookup(&HashMap::new()),
        &small,
    );
    assert_eq!(made.err().unwrap().status, Status::NoMemory);
    assert_eq!(small.used(), 0);
}

#[test]
fn data_that_does_not_fit_is_refused() {
    let backend = Arc::new(Cpu::new(1));
    let table = Tensor::from_f32(&[4, 2], &[0.0; 8], &Budget::unlimited()).unwrap();
    let data = Dataset::new(vec![table], Vec::new()).unwrap();
    let made = Training::new(
        backend,
        &parts(DType::F32),
        &Regression,
        plan(1),
        data,
        &mut lookup(&HashMap::new()),
        &Budget::unlimited(),
    );
    let e = made.err().unwrap();
    assert!(e.message.contains("the data is f32[4,2], the model wants f32[4,4]"), "{e}");
}
