//! Draws: the bits of the CPU, wherever a sample stands.

use crate::machine;
use crate::once::{KEY, run_on};
use diffx::base::{DType, Desc, Shape};
use diffx::cpu::Cpu;
use diffx::exec::{Backend, RunKey, SessionBuilder};
use diffx::graph::{AttrKey, Attrs, Graph, NodeId, Op};
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

fn drawn(device: &Arc<dyn Backend>, rows: usize, key: RunKey) -> Vec<Vec<u8>> {
    let (g, out) = draws(rows);
    let mut session = SessionBuilder::new(Arc::clone(device));
    let to: Vec<_> = out.iter().map(|o| (*o, session.buffer("out", g.desc(*o)))).collect();
    let plan = session.plan(&g, &[], &to, &[]).unwrap();
    let mut session = session.allocate(&diffx::mem::Budget::unlimited()).unwrap();
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
