//! The sampling loop on hand-made parts with closed forms.

#[path = "support/tiny.rs"]
mod tiny;

use diffx::base::philox::Stream;
use diffx::base::{DType, Result, Status};
use diffx::cpu::Cpu;
use diffx::exec::{Backend, Interrupt, SessionBuilder, WeightBinding};
use diffx::graph::Weight;
use diffx::mem::{Budget, Tensor};
use diffx::sample::{
    Advance, At, Guidance, Parts, Predicts, Program, Replay, Request, Rows, Sampler, Scheme,
    Simulation, Trajectory,
};
use std::collections::HashMap;
use std::sync::Arc;
use tiny::{Exact, FirstOfGroup, Heun, TwoEvaluations, Walk, knots, parts};

const SEED: u64 = 7;

fn no_weights(w: &[Weight]) -> Result<Vec<WeightBinding>> {
    assert!(w.is_empty());
    Ok(vec![])
}

fn replay(
    parts: &Parts,
    sampler: &dyn Sampler,
    rows: &Rows,
    batch: usize,
    preview: bool,
    threads: usize,
) -> Result<Replay> {
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(threads));
    let mut session = SessionBuilder::new(backend);
    let program =
        Program::new(parts, sampler, rows, batch, preview, &mut session, &mut no_weights)?;
    Ok(Replay::new(program, session.allocate(&Budget::unlimited())?))
}

fn request(first: u64, n: usize) -> Request {
    Request { seed: SEED, first_sample: first, n_samples: n, preview_every: 0, conds: vec![] }
}

fn sample(
    parts: &Parts,
    sampler: &dyn Sampler,
    knots: &[f64],
    batch: usize,
    request: Request,
) -> Result<Vec<(String, Tensor)>> {
    let rows = Arc::new(Rows::new(sampler, parts, &[knots.to_vec()])?);
    let mut replay = replay(parts, sampler, &rows, batch, false, 1)?;
    let nulls: Vec<_> = parts.conds.iter().map(|c| (c.name.clone(), c.null_value)).collect();
    replay.begin(&rows, request, &nulls, &Budget::unlimited())?;
    replay.finish()?;
    Ok(replay.take_results())
}

fn find<'a>(results: &'a [(String, Tensor)], name: &str) -> &'a [f32] {
    results.iter().find(|(n, _)| n == name).unwrap().1.elements().unwrap()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned).collect()
}

fn exact(predicts: Predicts, conditional: bool) -> Exact {
    Exact { predicts, mean: 0.5, var: 0.25, conditional, dims: vec![2] }
}

/// The solution of the probability-flow ODE from level `hi` to 0 through the drawn prior.
fn solution(element: u64, hi: f64, mean: f64, var: f64) -> f64 {
    let xi = Stream { seed: SEED, purpose: 1, step: 0, ordinal: 0 }.normal_f32(element);
    let start = hi * f64::from(xi);
    mean + (start - mean) * (var / (var + hi * hi)).sqrt()
}

#[test]
fn heun_follows_the_exact_flow_for_every_kind_of_prediction() {
    for predicts in [
        Predicts::Residual,
        Predicts::Denoised,
        Predicts::Noise,
        Predicts::Velocity,
        Predicts::Score,
    ] {
        let parts = parts(exact(predicts, false), vec![]);
        let got = sample(&parts, &Heun, &knots(256, 10.0, 0.002), 5, request(3, 11)).unwrap();
        let x = find(&got, "x");
        assert_eq!(x.len(), 22);
        for (i, x) in x.iter().enumerate() {
            let want = solution(6 + i as u64, 10.0, 0.5, 0.25);
            assert!(
                (f64::from(*x) - want).abs() < 5e-4,
                "{predicts:?} element {i}: {x}, want {want}"
            );
        }
        assert!(find(&got, "log_weight").iter().all(|w| *w == 0.0));
        let feasible = &got.iter().find(|(n, _)| n == "feasible").unwrap().1;
        assert!(feasible.bytes().iter().all(|b| *b == 1));
    }
}

#[test]
fn heun_is_of_second_order() {
    let parts = parts(exact(Predicts::Residual, false), vec![]);
    let error = |n: usize| {
        // to a level above 0, where the order shows
        let mut k = knots(n + 1, 10.0, 0.1);
        k.pop();
        let got = sample(&parts, &Heun, &k, 8, request(0, 8)).unwrap();
        let x = find(&got, "x");
        let mut worst = 0f64;
        for (i, x) in x.iter().enumerate() {
            let xi = Stream { seed: SEED, purpose: 1, step: 0, ordinal: 0 }.normal_f32(i as u64);
            let shrink = ((0.25 + 0.01) / (0.25 + 100.0f64)).sqrt();
            let want = 0.5 + (10.0 * f64::from(xi) - 0.5) * shrink;
            worst = worst.max((f64::from(*x) - want).abs());
        }
        worst
    };
    let (coarse, fine) = (error(10), error(20));
    let order = (coarse / fine).log2();
    assert!((1.6..3.2).contains(&order), "order {order}: {coarse} then {fine}");
}

#[test]
fn samples_do_not_depend_on_the_batch_or_the_threads() {
    let parts = parts(exact(Predicts::Residual, false), vec![]);
    let k = knots(8, 10.0, 0.01);
    let whole = sample(&parts, &Heun, &k, 64, request(0, 50)).unwrap();
    let whole = find(&whole, "x");
    for batch in [1, 7, 50] {
        let got = sample(&parts, &Heun, &k, batch, request(0, 50)).unwrap();
        assert_eq!(find(&got, "x"), whole, "batch {batch}");
    }
    let (a, b) = (
        sample(&parts, &Heun, &k, 9, request(0, 13)).unwrap(),
        sample(&parts, &Heun, &k, 4, request(13, 37)).unwrap(),
    );
    assert_eq!([find(&a, "x"), find(&b, "x")].concat(), whole);
    let rows = Arc::new(Rows::new(&Heun, &parts, &[k]).unwrap());
    let mut threaded = replay(&parts, &Heun, &rows, 50, false, 3).unwrap();
    threaded.begin(&rows, request(0, 50), &[], &Budget::unlimited()).unwrap();
    threaded.finish().unwrap();
    assert_eq!(find(&threaded.take_results(), "x"), whole);
}

#[test]
fn two_evaluations_are_one_batch_and_slots_live_across_steps() {
    let guidance: Arc<dyn Guidance> = Arc::new(TwoEvaluations { scale: 2.0 });
    let parts = parts(exact(Predicts::Denoised, true), vec![guidance]);
    let means = [1.0f32, -1.0, 0.0];
    let cond = Arc::new(Tensor::from_f32(&[3, 1], &means, &Budget::unlimited()).unwrap());
    let mut ask = request(0, 3);
    ask.conds = vec![("mean".into(), cond)];
    let got = sample(&parts, &Heun, &knots(256, 10.0, 0.002), 2, ask).unwrap();
    for (i, x) in find(&got, "x").iter().enumerate() {
        // two linear denoisers combine to that of the mean 0.5 + 2 (m - 0.5)
        let mean = 0.5 + 2.0 * (f64::from(means[i / 2]) - 0.5);
        let want = solution(i as u64, 10.0, mean, 0.25);
        assert!((f64::from(*x) - want).abs() < 5e-4, "element {i}: {x}, want {want}");
    }
    // 255 Heun steps of two calls and an Euler step of one
    assert!(find(&got, "log_weight").iter().all(|w| *w == 511.0));
}

#[test]
fn conditions_are_checked_by_name_and_shape() {
    let parts = parts(exact(Predicts::Denoised, true), vec![]);
    let k = knots(4, 10.0, 0.1);
    let cond = |dims: &[usize]| {
        let n = dims.iter().product();
        Arc::new(Tensor::from_f32(dims, &vec![0.0; n], &Budget::unlimited()).unwrap())
    };
    let mut ask = request(0, 3);
    ask.conds = vec![("colour".into(), cond(&[1]))];
    assert_eq!(sample(&parts, &Heun, &k, 2, ask.clone()).unwrap_err().status, Status::NotFound);
    ask.conds = vec![("mean".into(), cond(&[2, 1]))];
    assert_eq!(sample(&parts, &Heun, &k, 2, ask.clone()).unwrap_err().status, Status::Invalid);
    ask.conds = vec![("mean".into(), cond(&[1]))];
    sample(&parts, &Heun, &k, 2, ask).unwrap();
}

#[test]
fn with_control_each_sample_walks_at_its_own_pace() {
    let model = Exact {
        predicts: Predicts::Denoised,
        mean: 0.0,
        var: 1.0,
        conditional: false,
        dims: vec![1],
    };
    let parts = parts(model, vec![]);
    let sampler = Walk { rows: 3, limit: 3.5 };
    let k = [1.0, 0.5, 0.25, 0.0];
    let whole = sample(&parts, &sampler, &k, 40, request(0, 40)).unwrap();
    let x = find(&whole, "x");
    let mut early = 0;
    for (i, x) in x.iter().enumerate() {
        // 1 + 2 + 3 iterations unless the state passes the limit on the way
        let start = Stream { seed: SEED, purpose: 1, step: 0, ordinal: 0 }.normal_f32(i as u64);
        let mut want = start;
        for step in 1..=6 {
            let xi = Stream { seed: SEED, purpose: 2, step, ordinal: 0 }.normal_f32(i as u64);
            want = want + 1.0 + xi * 0.01;
            if want > 3.5 {
                early += i32::from(step < 6);
                break;
            }
        }
        assert!((x - want).abs() < 1e-5, "sample {i}: {x}, want {want}");
    }
    let rows = Arc::new(Rows::new(&sampler, &parts, &[k.to_vec()]).unwrap());
    let mut saved = replay(&parts, &sampler, &rows, 40, false, 1).unwrap();
    saved.begin(&rows, request(0, 40), &[], &Budget::unlimited()).unwrap();
    for (row, inside) in [(5, true), ((1 << 20) - 1, true), (1 << 20, false), (1 << 32, false)] {
        let put = saved.restore(0, At::Row(row), &mut |_, _, _, _| Ok(()));
        assert_eq!(put.is_ok(), inside, "row {row} of a saved run");
    }
    assert!(early > 10, "{early} samples were done early, so the freeze was tested");
    let small = sample(&parts, &sampler, &k, 7, request(0, 40)).unwrap();
    assert_eq!(find(&small, "x"), x);
}

#[test]
fn a_permutation_moves_everything_a_particle_owns() {
    let guidance: Arc<dyn Guidance> = Arc::new(FirstOfGroup { group: 4 });
    let parts = parts(exact(Predicts::Residual, false), vec![guidance]);
    let k = knots(6, 10.0, 0.1);
    let got = sample(&parts, &Heun, &k, 5, request(8, 12)).unwrap();
    for (i, x) in find(&got, "x").iter().enumerate() {
        let first = find(&got, "x")[i / 8 * 8 + i % 2];
        assert_eq!(*x, first, "element {i}");
    }
    assert!(find(&got, "log_weight").iter().all(|who| *who == 0.0), "the slot moved too");
    let whole = sample(&parts, &Heun, &k, 12, request(8, 12)).unwrap();
    assert_eq!(find(&whole, "x"), find(&got, "x"));
    let half_a_group = sample(&parts, &Heun, &k, 4, request(0, 6));
    assert_eq!(half_a_group.unwrap_err().status, Status::Invalid);
}

#[test]
fn a_saved_run_goes_on_with_the_same_bits() {
    let parts = parts(exact(Predicts::Residual, false), vec![]);
    let rows = Arc::new(Rows::new(&Heun, &parts, &[knots(6, 10.0, 0.1)]).unwrap());
    let budget = Budget::unlimited();
    let mut straight = replay(&parts, &Heun, &rows, 4, false, 1).unwrap();
    straight.begin(&rows, request(0, 10), &[], &budget).unwrap();
    straight.finish().unwrap();
    let want = straight.take_results();
    for stop in 0..24 {
        let mut first = replay(&parts, &Heun, &rows, 4, false, 1).unwrap();
        first.begin(&rows, request(0, 10), &[], &budget).unwrap();
        for _ in 0..stop {
            first.advance(&mut || Interrupt::Continue).unwrap();
        }
        let saved = first.save().unwrap();
        let mut bytes = HashMap::new();
        for (i, (name, _)) in saved.tensors.iter().enumerate() {
            let own: &mut Vec<u8> = bytes.entry(name.clone()).or_default();
            let put = &mut |piece: &[u8]| {
                own.extend_from_slice(piece);
                Ok(())
            };
            first.show_saved(i, put).unwrap();
        }
        drop(first);
        let mut second = replay(&parts, &Heun, &rows, 4, false, 1).unwrap();
        second.begin(&rows, request(0, 10), &[], &budget).unwrap();
        second
            .restore(saved.batch, saved.at, &mut |name, _, at, out| {
                out.copy_from_slice(&bytes[name][at..at + out.len()]);
                Ok(())
            })
            .unwrap();
        second.finish().unwrap();
        let got = second.take_results();
        assert_eq!(find(&got, "x"), find(&want, "x"), "stopped after {stop} plans");
    }
}

#[test]
fn previews_tend_to_the_sample_and_cancel_is_obeyed() {
    let parts = parts(exact(Predicts::Residual, false), vec![]);
    let rows = Arc::new(Rows::new(&Heun, &parts, &[knots(32, 10.0, 0.01)]).unwrap());
    let mut run = replay(&parts, &Heun, &rows, 4, true, 1).unwrap();
    let mut ask = request(0, 4);
    ask.preview_every = 4;
    run.begin(&rows, ask.clone(), &[], &Budget::unlimited()).unwrap();
    let mut shown = Vec::new();
    loop {
        match run.advance(&mut || Interrupt::Continue).unwrap() {
            Advance::Preview => {
                let mut bytes = vec![0; run.program.previews()[0].1.desc.bytes()];
                run.read_preview(0, &mut bytes).unwrap();
                shown.push(floats(&bytes));
            }
            Advance::Done => break,
            _ => {}
        }
    }
    let got = run.take_results();
    let x = find(&got, "x");
    assert_eq!(shown.len(), 8);
    let far = |p: &[f32]| p.iter().zip(x).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(far(&shown[7]) < 1e-6 && far(&shown[7]) < far(&shown[0]));
    run.begin(&rows, ask, &[], &Budget::unlimited()).unwrap();
    let stopped = run.advance(&mut || Interrupt::Cancel).unwrap_err();
    assert_eq!(stopped.status, Status::Cancelled);
}

#[test]
fn a_trajectory_holds_every_state() {
    let parts = parts(exact(Predicts::Residual, false), vec![]);
    let rows = Arc::new(Rows::new(&Heun, &parts, &[knots(6, 10.0, 0.1)]).unwrap());
    let mut run = replay(&parts, &Heun, &rows, 3, false, 1).unwrap();
    run.begin(&rows, request(0, 3), &[], &Budget::unlimited()).unwrap();
    let mut trajectory = Trajectory::new(&run, &Budget::unlimited()).unwrap();
    trajectory.record(&mut run, &mut || Interrupt::Continue).unwrap();
    let (desc, bytes) = (trajectory.states[0].0, trajectory.states[0].1.bytes());
    assert_eq!(bytes.len(), 7 * desc.bytes());
    let states = floats(bytes);
    for e in 0..6 {
        let xi = Stream { seed: SEED, purpose: 1, step: 0, ordinal: 0 }.normal_f32(e as u64);
        assert!((states[e] - 10.0 * xi).abs() < 1e-5);
    }
    let got = run.take_results();
    assert_eq!(&states[36..], find(&got, "x"));
    assert_eq!(trajectory.levels[0], 10.0);
    assert_eq!(*trajectory.levels.last().unwrap(), 0.0);
}

#[test]
fn brownian_motion_is_simulated_at_its_times() {
    let mut parts = parts(exact(Predicts::Residual, false), vec![]);
    parts.float = DType::F64;
    let budget = Budget::unlimited();
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(1));
    let x0 = Tensor::from_f64(&[2], &[1.0, 2.0], &budget).unwrap();
    let run = |n, first| {
        Simulation {
            parts: &parts,
            x0: &x0,
            times: &[0.0, 1.0, 4.0],
            keep: &[],
            scheme: Scheme::Exact,
            n_samples: n,
            seed: 3,
            first_sample: first,
        }
        .run(&backend, &budget, &mut || Interrupt::Continue)
        .unwrap()
    };
    let out = run(20_000, 0);
    assert_eq!(out.dims(), [20_000, 3, 2]);
    let v: &[f64] = out.elements().unwrap();
    for (t, var) in [(0, 0.0), (1, 1.0), (2, 4.0)] {
        let at: Vec<f64> = v.chunks(6).map(|s| s[2 * t] - 1.0).collect();
        let mean = at.iter().sum::<f64>() / 20_000.0;
        let square = at.iter().map(|x| x * x).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.05, "mean {mean} at {t}");
        assert!((square - var).abs() <= 0.05 * var, "variance {square} at {t}, want {var}");
    }
    let nothing = Tensor::from_f64(&[0], &[], &budget).unwrap();
    let mut none = parts.clone();
    none.components[0].dims = vec![0];
    let many = Simulation {
        parts: &none,
        x0: &nothing,
        times: &[0.0, 1.0, 4.0],
        keep: &[],
        scheme: Scheme::Exact,
        n_samples: 1 << 32,
        seed: 3,
        first_sample: 0,
    };
    // would take minutes, batch by batch
    let out = many.run(&backend, &budget, &mut || panic!("nothing runs")).unwrap();
    assert_eq!(out.dims(), [1 << 32, 3, 0]);
    let part = run(10, 100);
    assert_eq!(part.elements::<f64>().unwrap(), &v[600..660]);
}
