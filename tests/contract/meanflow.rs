//! Case 6: MeanFlow training, a JVP inside a loss (processes 7.2, row C5), and an adjoint sweep over a stored
//! trajectory (objectives 2.5).

use crate::rig::{Job, Plugins, backend, bind, plugins, weights};
use diffx::base::DType;
use diffx::base::Desc;
use diffx::base::philox::Stream;
use diffx::exec::{Interrupt, RunKey, SessionBuilder};
use diffx::graph::Weight;
use diffx::mem::{Budget, Tensor};
use diffx::sample::Build;
use diffx::train::update::lookup;
use diffx::train::{Dataset, LossIo, Optimizer, Plan, Schedule, Sweep, Training};
use std::collections::HashMap;

/// Data N(.7, .25), and the average velocity u(1.3, .2, .8) of its flow.
const MEAN: f64 = 0.7;
const STD: f64 = 0.5;
const U: f64 = 0.160_912_953_965;

fn average_velocity(mean: f64, std: f64, z: f64, r: f64, t: f64) -> f64 {
    let spread = |t: f64| ((1.0 - t).powi(2) * std * std + t * t).sqrt();
    let moved = (1.0 - r) * mean + spread(r) / spread(t) * (z - (1.0 - t) * mean);
    (z - moved) / (t - r)
}

/// Mean and standard deviation after training in `mode` (0 right, 1 no JVP, 2 no stop-gradient).
fn train(p: &Plugins, mode: u32) -> (f64, f64) {
    let mut parts = p.parts(p.model("meanflow.average", "{}"), vec![p.process("ve", "{}")]);
    (parts.float, parts.weight_dtype) = (DType::F64, DType::F64);
    parts.conds[0].desc.dtype = DType::F64; // as a pipeline does: float conditions follow its type
    const N: usize = 1 << 14;
    let mut x = vec![0f32; N];
    Stream { seed: 2, purpose: 64, step: 0, ordinal: 0 }.fill_normal_f32(0, &mut x);
    x.iter_mut().for_each(|x| *x = MEAN as f32 + STD as f32 * *x);
    // exactly the moments of the law, so that the optimum is that of the law
    let mean = x.iter().sum::<f32>() / N as f32;
    let var = x.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / N as f32;
    x.iter_mut().for_each(|x| *x = MEAN as f32 + STD as f32 * (*x - mean) / var.sqrt());
    let budget = Budget::unlimited();
    let x = Tensor::from_f32(&[N, 1], &x, &budget).unwrap();
    let r = Tensor::from_f32(&[N, 1], &vec![0.0; N], &budget).unwrap();
    let plan = Plan {
        steps: 1500,
        batch: 512,
        seed: 3,
        optimizer: Optimizer {
            rate: 0.02,
            warmup: 0,
            schedule: Schedule::Cosine,
            clip: 0.0,
            ..Optimizer::default()
        },
        trained: vec!["base".into()],
    };
    let objective = p.objective("meanflow.objective", &format!(r#"{{"mode":{mode}}}"#));
    let data = Dataset::new(vec![x], vec![r]).unwrap();
    let mut training = Training::new(
        backend(),
        &parts,
        &*objective,
        plan,
        data,
        &mut lookup(&HashMap::new()),
        &budget,
    )
    .unwrap();
    while training.done() < training.steps() {
        training.advance(&mut || Interrupt::Continue).unwrap();
    }
    let got = training.weights(false).unwrap();
    let value = |name: &str| {
        let (_, _, bytes) = got.iter().find(|(n, _, _)| n == name).unwrap();
        f64::from_le_bytes(bytes[..8].try_into().unwrap())
    };
    (value("mean"), value("log_std").exp())
}

#[test]
fn training_finds_the_average_velocity() {
    assert!((average_velocity(MEAN, STD, 1.3, 0.2, 0.8) - U).abs() < 1e-11);
    let Some(p) = plugins("meanflow") else { return };
    let u = |(mean, std)| average_velocity(mean, std, 1.3, 0.2, 0.8);
    let right = train(&p, 0);
    assert!((right.0 - MEAN).abs() < 0.02 && (right.1 - STD).abs() < 0.02, "learned {right:?}");
    assert!((u(right) - U).abs() < 0.02, "u = {}, want {U}", u(right));
    println!("learned mean and std {right:?}, u = {}", u(right));
    for (mode, what) in [(1, "without the JVP"), (2, "without the stop")] {
        let wrong = train(&p, mode);
        println!("{what}: {wrong:?}, u = {}", u(wrong));
        assert!((u(wrong) - U).abs() > 0.15, "{what}: {wrong:?}, u = {}", u(wrong));
    }
}

/// Over the Euler steps of a linear ODE the adjoint is a product, the same for every sample.
#[test]
fn a_sweep_carries_the_adjoint_back() {
    let Some(p) = plugins("meanflow") else { return };
    const BATCH: usize = 5;
    let parts = p.parts(p.model("meanflow.linear", "{}"), vec![p.process("ve", "{}")]);
    let all = weights(&[("base/mean", &[MEAN as f32]), ("base/log_std", &[(STD as f32).ln()])]);
    let mut job = Job::new(parts, p.sampler("ancestral", "{}"), vec![p.knots(9, 10.0, 0.05)]);
    (job.batch, job.weights) = (BATCH, all);
    let trajectory = job.record(BATCH).unwrap();

    let objective = p.objective("meanflow.adjoint", "{}");
    let budget = Budget::unlimited();
    let mut binder = |w: &[Weight]| bind(&job.weights, w);
    let mut sweep =
        Sweep::new(backend(), &job.parts, &*objective, BATCH, &mut binder, &budget).unwrap();
    let reward_grad: Vec<f32> = (0..BATCH).map(|i| 1.0 + i as f32).collect();
    let first = vec![reward_grad.iter().flat_map(|g| g.to_ne_bytes()).collect()];
    let key = RunKey { seed: 1, step: 0, first_sample: 0 };
    let go = &mut || Interrupt::Continue;
    let carry = sweep.run(&trajectory, Some(&first), key, go).unwrap();

    let levels = &job.knots[0];
    let value = |k: usize, row: usize| {
        let at = (k * BATCH + row) * 4;
        f64::from(f32::from_ne_bytes(carry[0].bytes()[at..at + 4].try_into().unwrap()))
    };
    let mut adjoint = 1.0;
    for k in (0..levels.len()).rev() {
        if k + 1 < levels.len() {
            let (s, u) = (levels[k], levels[k + 1]);
            adjoint *= 1.0 + (u - s) / s * (1.0 - STD * STD / (STD * STD + s * s));
        }
        for row in 0..BATCH {
            let want = adjoint * f64::from(reward_grad[row]);
            let got = value(k, row);
            assert!(
                (got - want).abs() < 1e-5 * want.abs().max(1.0),
                "record {k}, row {row}: {got}, want {want}"
            );
        }
    }
    // the loss reads what the sweep left
    let mut b = Build::new(&job.parts, BATCH).unwrap();
    let carried = Desc::new(DType::F32, &[levels.len(), BATCH, 1]).unwrap();
    let mut io = LossIo { carry: vec![b.graph.input("carry", carried)], ..LossIo::default() };
    objective.loss(&mut b, &mut io).unwrap();
    let mut session = SessionBuilder::new(backend());
    let (input, output) = (
        session.buffer("carry", carried),
        session.buffer("loss", Desc::new(DType::F32, &[]).unwrap()),
    );
    let weights = bind(&job.weights, b.graph.weights()).unwrap();
    let plan = session.plan(&b.graph, &[input], &[(io.loss.unwrap(), output)], &weights).unwrap();
    let mut session = session.allocate(&budget).unwrap();
    session.write(input, carry[0].bytes()).unwrap();
    session.run(plan, key, go).unwrap();
    let mut loss = [0u8; 4];
    session.read(output, &mut loss).unwrap();
    let want = adjoint * f64::from(reward_grad.iter().sum::<f32>()) / BATCH as f64;
    let loss = f64::from(f32::from_ne_bytes(loss));
    assert!((loss - want).abs() < 1e-5 * want.abs().max(1.0), "loss {loss}, want {want}");

    // it is no copy of the reward's gradient, and without one there is nothing to carry
    assert!(adjoint < 0.2, "the whole product is {adjoint}");
    let none = sweep.run(&trajectory, None, key, go).unwrap();
    assert!(none[0].bytes().iter().all(|b| *b == 0));
}
