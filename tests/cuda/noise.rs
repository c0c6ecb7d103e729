//! Draws: the bits of the CPU, wherever a sample stands.

use crate::machine;
use crate::once::{KEY, decoded, run_on};
use diffx::base::{DType, Desc, Shape};
use diffx::cpu::Cpu;
use diffx::exec::{Backend, RunKey, SessionBuilder};
use diffx::graph::reference::encode;
use diffx::graph::{AttrKey, Attrs, Graph, NodeId, Op};
use std::collections::BTreeSet;
use std::sync::Arc;

fn desc(dims: &[usize], dtype: DType) -> Desc {
    Desc { shape: Shape::new(dims).unwrap(), dtype }
}

/// Normals and uniforms of both types, two nodes of a purpose, shapes that end inside a block of four.
fn draws(rows: usize) -> (Graph, Vec<NodeId>) {
    let mut g = Graph::new(rows, DType::F32);
    let mut out = Vec::new();
    for (k, dtype) in [DType::F32, DType::F64, DType::F32].into_iter().enumerate() {
        for op in [Op::Normal, Op::Uniform] {
            let attrs = Attrs::NONE
                .with_dims(AttrKey::Shape, &[rows, 3, 7])
                .with_int(AttrKey::Purpose, 1 + k as i64 / 2)
                .with_int(AttrKey::DType, dtype as i64);
            out.push(g.emit(op, &[], attrs));
        }
    }
    g.check().unwrap();
    (g, out)
}

/// The laws with parameters, borders included: each row has the same ones.
fn laws(rows: usize) -> (Graph, Vec<Vec<u8>>, Vec<NodeId>) {
    let mut g = Graph::new(rows, DType::F32);
    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    let purpose = |k: i64| Attrs::NONE.with_int(AttrKey::Purpose, k);
    let far = f64::INFINITY;
    let shapes = [1.0, 0.3, 1.5, 64.0, 0.01, 1e12, 0.0, f64::NAN, -1.0, far, 2.25];
    let means = [0.5, 3.0, 9.9, 10.1, 400.0, 1e9, 0.0, f64::NAN, -1.0, far, 17.0];
    let mut next = 0;
    for dtype in [DType::F32, DType::F64] {
        let mut put = |g: &mut Graph, dims: &[usize], value: &dyn Fn(usize) -> f64| {
            let desc = desc(dims, dtype);
            let row = desc.shape.elements() / rows;
            let mut to = Vec::new();
            (0..desc.shape.elements()).for_each(|i| encode(dtype, value(i % row), &mut to));
            bytes.push(to);
            next += 1;
            g.input(&format!("in{next}"), desc)
        };
        for (op, of) in [(Op::Gamma, shapes), (Op::Poisson, means)] {
            let x = put(&mut g, &[rows, 11], &|i| of[i]);
            let node = g.emit(op, &[x], purpose(2));
            out.push(node);
            let wide = put(&mut g, &[rows, 5, 9], &|i| 0.5 + i as f64);
            out.push(g.emit(op, &[wide], purpose(3)));
        }
        // fewer categories than stretches, more, and rows without a weight or with one that is no number
        for k in [1usize, 5, 64, 200] {
            let x = put(&mut g, &[rows, 6, k], &|i| match (i / k, i % k) {
                (0, 0) => f64::NAN,
                (1, _) => -far,
                (2, j) if j % 3 == 1 => -far,
                (3, j) if j == k - 1 => far,
                (q, j) => ((q * 31 + j * 17) % 29) as f64 / 4.0 - 3.0,
            });
            out.push(g.emit(Op::Categorical, &[x], purpose(4)));
        }
        for (depth, (from, to)) in [(24, (1.25, 3.7)), (3, (0.0, 9.0)), (31, (2.0, 2.0 + 1e-6))] {
            let (s0, s1) = (put(&mut g, &[rows], &|_| from), put(&mut g, &[rows], &|_| to));
            let attrs = purpose(5)
                .with_dims(AttrKey::Shape, &[rows, 7])
                .with_int(AttrKey::DType, dtype as i64)
                .with_int(AttrKey::Depth, depth)
                .with_float(AttrKey::RangeLo, 1.0)
                .with_float(AttrKey::RangeHi, 5.0);
            out.push(g.emit(Op::Brownian, &[s0, s1], attrs));
        }
    }
    g.check().unwrap();
    (g, bytes, out)
}

/// The ops of the tests here.
pub(crate) fn ops() -> BTreeSet<Op> {
    let ((plain, a), (laws, _, b)) = (draws(1), laws(1));
    let of = |g: &Graph, out: &[NodeId]| out.iter().map(|o| g.node(*o).op).collect::<Vec<_>>();
    of(&plain, &a).into_iter().chain(of(&laws, &b)).collect()
}

fn drawn(device: &Arc<dyn Backend>, rows: usize, key: RunKey) -> Vec<Vec<u8>> {
    let (g, out) = draws(rows);
    drawn_of(device, &g, &[], &out, key)
}

fn drawn_of(
    device: &Arc<dyn Backend>,
    g: &Graph,
    inputs: &[Vec<u8>],
    out: &[NodeId],
    key: RunKey,
) -> Vec<Vec<u8>> {
    let mut session = SessionBuilder::new(Arc::clone(device));
    let from: Vec<_> = g.inputs().iter().map(|i| session.buffer(&i.name, i.desc)).collect();
    let to: Vec<_> = out.iter().map(|o| (*o, session.buffer("out", g.desc(*o)))).collect();
    let plan = session.plan(g, &from, &to, &[]).unwrap();
    let mut session = session.allocate(&diffx::mem::Budget::unlimited()).unwrap();
    from.iter().zip(inputs).for_each(|(id, bytes)| session.write(*id, bytes).unwrap());
    session.replay(plan, RunKey { seed: !key.seed, ..key }).unwrap(); // the replay after it has another key
    session.replay(plan, key).unwrap();
    to.iter()
        .map(|(node, id)| {
            let mut bytes = vec![0; g.desc(*node).bytes()];
            session.read(*id, &mut bytes).unwrap();
            bytes
        })
        .collect()
}

#[test]
fn noise_has_the_bits_of_the_cpu() {
    let Some(device) = machine::device(0) else { return };
    let cpu: Arc<dyn Backend> = Arc::new(Cpu::new(1));
    let far = (1 << 56) / 21 - 200;
    for (seed, step, first_sample) in
        [(0, 0, 0), (0x0123_4567_89ab_cdef, 42, 7), (u64::MAX, u32::MAX, far)]
    {
        let key = RunKey { seed, step, first_sample };
        assert_eq!(drawn(&device, 131, key), drawn(&cpu, 131, key), "{key:?}");
    }
}

/// Gammas, Poisson numbers, categories and Brownian paths. A device's own exp and log may move the last bit of a gamma
/// below shape 1, so there a device is held to four of them; emulated, it has the library of the CPU.
#[test]
fn laws_have_the_bits_of_the_cpu() {
    let Some(device) = machine::device(0) else { return };
    let cpu: Arc<dyn Backend> = Arc::new(Cpu::new(1));
    for (rows, first_sample) in [(23, 0), (2, (1 << 56) / 54 - 30)] {
        let key = RunKey { seed: 0x0123_4567_89ab_cdef, step: 42, first_sample };
        let (g, inputs, out) = laws(rows);
        let got = drawn_of(&device, &g, &inputs, &out, key);
        let want = drawn_of(&cpu, &g, &inputs, &out, key);
        for ((node, got), want) in out.iter().zip(&got).zip(&want) {
            let (got, want) = (decoded(&g, *node, got), decoded(&g, *node, want));
            let op = g.node(*node).op;
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
                let close = machine::is_real() && (got - want).abs() <= 1e-15 * want.abs();
                assert!(same || close, "{} {i}: {got:e}, the CPU has {want:e}", op.name());
            }
            let distinct: BTreeSet<u64> = want.iter().map(|v| v.to_bits()).collect();
            let flat = op == Op::Categorical && want.iter().all(|v| *v == 0.0);
            assert!(distinct.len() > 1 || flat, "{} draws one number", op.name());
        }
    }
}

#[test]
fn a_law_keeps_its_draws_in_any_batch() {
    let Some(device) = machine::device(0) else { return };
    let at = |rows, first_sample| {
        let (g, inputs, out) = laws(rows);
        drawn_of(&device, &g, &inputs, &out, RunKey { first_sample, ..KEY })
    };
    let (all, one) = (at(5, 100), at(1, 103));
    for (all, one) in all.iter().zip(&one) {
        let n = one.len();
        assert_eq!(all[3 * n..4 * n], one[..]);
    }
}

#[test]
fn a_sample_keeps_its_noise_in_any_batch() {
    let Some(device) = machine::device(0) else { return };
    let all = drawn(&device, 9, RunKey { first_sample: 100, ..KEY });
    let one = drawn(&device, 1, RunKey { first_sample: 105, ..KEY });
    for (all, one) in all.iter().zip(&one) {
        let n = one.len();
        assert_eq!(all[5 * n..6 * n], one[..]);
    }
}

#[test]
fn element_numbers_beyond_the_address_space_are_refused() {
    let Some(device) = machine::device(0) else { return };
    let (g, out) = draws(2);
    let mut session = SessionBuilder::new(device);
    let to: Vec<_> = out.iter().map(|o| (*o, session.buffer("out", g.desc(*o)))).collect();
    let plan = session.plan(&g, &[], &to, &[]).unwrap();
    let mut session = session.allocate(&diffx::mem::Budget::unlimited()).unwrap();
    let key = RunKey { first_sample: 1 << 56, ..KEY };
    let e = session.replay(plan, key).unwrap_err();
    assert!(e.message.contains("2^56"), "{e}");
}

/// A row of a product, a norm and a softmax is the same bits alone and among others.
#[test]
fn a_row_does_not_depend_on_the_batch() {
    let Some(device) = machine::device(0) else { return };
    let (width, wide) = (83, 70);
    let value = |i: usize| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0;
    let weight: Vec<u8> = (0..width * wide).flat_map(|i| value(i).to_le_bytes()).collect();
    let run = |first: usize, rows: usize| {
        let mut g = Graph::new(rows, DType::F32);
        let x = g.input("x", desc(&[rows, width], DType::F32));
        let w = g.input("w", desc(&[width, wide], DType::F32));
        let y = g.emit(Op::MatMul, &[x, w], Attrs::NONE);
        let n = g.emit(Op::LayerNorm, &[y], Attrs::NONE.with_float(AttrKey::Epsilon, 1e-5));
        let s = g.emit(Op::Softmax, &[n], Attrs::NONE.with_axis(1));
        let x: Vec<u8> = (first * width..(first + rows) * width)
            .flat_map(|i| value(i + 77).to_le_bytes())
            .collect();
        run_on(Arc::clone(&device), true, &g, &[x, weight.clone()], &[s]).unwrap().remove(0)
    };
    let all = run(0, 130);
    for row in [0, 63, 64, 129] {
        assert_eq!(run(row, 1)[..], all[row * wide * 4..(row + 1) * wide * 4], "row {row}");
    }
}

/// What the threads of a block do between two barriers depends on no order.
#[test]
fn the_order_of_threads_does_not_show() {
    if machine::is_real() {
        return; // a device has its own
    }
    let Some(driver) = machine::driver() else { return };
    let device = machine::device(0).unwrap();
    let x: Vec<u8> = (0..37 * 301).flat_map(|i| ((i % 97) as f32 / 7.0).to_le_bytes()).collect();
    let run = || {
        let mut g = Graph::new(37, DType::F32);
        let x_in = g.input("x", desc(&[37, 301], DType::F32));
        let square = Attrs::NONE.with_int(AttrKey::TransB, 1);
        let outs = [
            g.emit(Op::Sum, &[x_in], Attrs::NONE.with_ints(AttrKey::Axes, vec![1])),
            g.emit(Op::LogSumExp, &[x_in], Attrs::NONE),
            g.emit(Op::MatMul, &[x_in, x_in], square),
            g.emit(Op::RmsNorm, &[x_in], Attrs::NONE.with_float(AttrKey::Epsilon, 1e-6)),
            g.emit(Op::LogSoftmax, &[x_in], Attrs::NONE.with_axis(0)),
        ];
        run_on(Arc::clone(&device), true, &g, std::slice::from_ref(&x), &outs).unwrap()
    };
    let up = run();
    machine::order(driver, 1);
    let down = run();
    machine::order(driver, 0);
    assert!(up == down);
}
