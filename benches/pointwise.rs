//! Fused pointwise programs on one thread: bytes per second of a CIR-like step (14 ops, 3 reads, 1 write), of the same
//! step one op at a time, of a few elementary functions, and the cost of replaying a tiny plan.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use diffx::base::{DType, Desc};
use diffx::cpu::Cpu;
use diffx::exec::{BufferId, PlanId, RunKey, Session, SessionBuilder};
use diffx::graph::{Graph, NodeId, Op};
use diffx::mem::Budget;
use std::sync::Arc;

const KEY: RunKey = RunKey { seed: 1, step: 0, first_sample: 0 };

/// x' = max(0, x + (a (b - x+) - s^2 x+ score) dt + s sqrt(x+ dt) z)
fn cir(g: &mut Graph, x: NodeId, score: NodeId, z: NodeId) -> NodeId {
    let plus = g.unary(Op::Relu, x);
    let b = g.scalar(0.04);
    let gap = g.binary(Op::Sub, b, plus);
    let a = g.scalar(1.5);
    let pull = g.binary(Op::Mul, gap, a);
    let s2 = g.scalar(0.25);
    let scaled = g.binary(Op::Mul, plus, s2);
    let push = g.binary(Op::Mul, scaled, score);
    let drift = g.binary(Op::Sub, pull, push);
    let dt = g.scalar(0.01);
    let drift = g.binary(Op::Mul, drift, dt);
    let moved = g.binary(Op::Add, x, drift);
    let variance = g.binary(Op::Mul, plus, dt);
    let root = g.unary(Op::Sqrt, variance);
    let s = g.scalar(0.5);
    let root = g.binary(Op::Mul, root, s);
    let noise = g.binary(Op::Mul, root, z);
    let out = g.binary(Op::Add, moved, noise);
    g.unary(Op::Relu, out)
}

/// A session with one plan over inputs of `n` elements.
fn session(
    n: usize,
    count: usize,
    fuse: bool,
    build: impl FnOnce(&mut Graph, &[NodeId]) -> NodeId,
) -> (Session, PlanId) {
    let mut g = Graph::new(1, DType::F32);
    let desc = Desc::new(DType::F32, &[n]).expect("shape");
    let nodes: Vec<NodeId> = (0..count).map(|i| g.input(&format!("x{i}"), desc)).collect();
    let out = build(&mut g, &nodes);
    let mut s = SessionBuilder::new(Arc::new(Cpu::new(1)));
    s.fuse(fuse);
    let ids: Vec<BufferId> = (0..count).map(|i| s.buffer(&format!("x{i}"), desc)).collect();
    let y = s.buffer("y", desc);
    let plan = s.plan(&g, &ids, &[(out, y)], &[]).expect("plan");
    let mut s = s.allocate(&Budget::unlimited()).expect("memory");
    for (k, id) in ids.iter().enumerate() {
        let values: Vec<f32> =
            (0..n).map(|i| ((i * (k + 7)) % 1000) as f32 * 1e-3 + 0.01).collect();
        s.write(*id, bytemuck::cast_slice(&values)).expect("write");
    }
    (s, plan)
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("cir14");
    for n in [65_536usize, 1_000_000, 16_000_000] {
        for (name, fuse) in [("fused", true), ("one by one", false)] {
            let (mut s, plan) = session(n, 3, fuse, |g, x| cir(g, x[0], x[1], x[2]));
            group.throughput(Throughput::Bytes(16 * n as u64)).sample_size(20);
            group.bench_function(BenchmarkId::new(name, n), |b| {
                b.iter(|| s.replay(plan, KEY).expect("run"));
            });
        }
    }
    group.finish();
    let mut group = c.benchmark_group("unary");
    let n = 65_536;
    for op in [Op::Exp, Op::Log, Op::Tanh, Op::Silu, Op::Gelu, Op::Sin, Op::Lgamma] {
        let (mut s, plan) = session(n, 1, true, |g, x| g.unary(op, x[0]));
        group.throughput(Throughput::Elements(n as u64)).sample_size(20);
        group.bench_function(op.name(), |b| b.iter(|| s.replay(plan, KEY).expect("run")));
    }
    group.finish();
    // two programs that cannot fuse: different shapes
    let (mut s, plan) = session(4, 1, true, |g, x| {
        let a = g.unary(Op::Neg, x[0]);
        let flat = g.emit(
            Op::Reshape,
            &[a],
            diffx::graph::Attrs::NONE.with_dims(diffx::graph::AttrKey::Shape, &[2, 2]),
        );
        let b = g.unary(Op::Square, flat);
        g.emit(
            Op::Reshape,
            &[b],
            diffx::graph::Attrs::NONE.with_dims(diffx::graph::AttrKey::Shape, &[4]),
        )
    });
    c.bench_function("replay of two tiny steps", |b| b.iter(|| s.replay(plan, KEY).expect("run")));
}

criterion_group!(benches, bench);
criterion_main!(benches);
