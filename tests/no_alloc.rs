//! A run allocates nothing: a counting global allocator watches replays. Without the test harness, whose own thread
//! allocates when it likes.

#[path = "exec/once.rs"]
mod once;

use diffx::base::{DType, Desc};
use diffx::cpu::{Cpu, Pool};
use diffx::exec::{Interrupt, RunKey, SessionBuilder};
use diffx::graph::{AttrKey, Attrs, Graph, NodeId, Op};
use diffx::mem::Budget;
use once::KEY;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// Safety: everything is handed to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // Safety: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // Safety: the caller's promise.
        unsafe { System.dealloc(p, layout) }
    }

    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // Safety: the caller's promise.
        unsafe { System.realloc(p, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A step with everything in it: draws, a product, sums, softmax, chains of pointwise ops, a state that is overwritten.
fn step(g: &mut Graph) -> (NodeId, NodeId) {
    let x = g.input("x", Desc::new(DType::F32, &[64, 512]).unwrap());
    let w = g.input("w", Desc::new(DType::F32, &[512, 512]).unwrap());
    let h = g.emit(Op::MatMul, &[x, w], Attrs::NONE);
    let h = g.unary(Op::Silu, h);
    let last = Attrs::NONE.with_ints(AttrKey::Axes, vec![1]).with_int(AttrKey::KeepDims, 1);
    let mean = g.emit(Op::Mean, &[h], last);
    let h = g.binary(Op::Sub, h, mean);
    let soft = g.emit(Op::Softmax, &[h], Attrs::NONE.with_int(AttrKey::Axis, 1));
    let draw = Attrs::NONE.with_dims(AttrKey::Shape, &[64, 512]).with_int(AttrKey::Purpose, 1);
    let z = g.emit(Op::Normal, &[], draw);
    let shape = g.unary(Op::Square, h);
    let gamma = g.emit(Op::Gamma, &[shape], Attrs::NONE.with_int(AttrKey::Purpose, 2));
    let noise = g.binary(Op::Mul, z, gamma);
    let moved = g.binary(Op::Add, soft, noise);
    let moved = g.unary(Op::Tanh, moved);
    let turned = g.emit(Op::Transpose, &[moved], Attrs::NONE.with_ints(AttrKey::Perm, vec![1, 0]));
    let total = g.emit(Op::Sum, &[turned], Attrs::NONE);
    (moved, total)
}

fn main() {
    for threads in [1, 3] {
        let mut g = Graph::new(64, DType::F32);
        let (moved, total) = step(&mut g);
        let pool = Arc::new(Pool::new(threads));
        let mut s = SessionBuilder::new(Arc::new(Cpu::with_pool(Arc::clone(&pool))));
        let ids: Vec<_> = g.inputs().iter().map(|i| s.buffer(&i.name, i.desc)).collect();
        let sum = s.buffer("sum", g.desc(total));
        let plan = s.plan(&g, &ids, &[(moved, ids[0]), (total, sum)], &[]).unwrap();
        let mut s = s.allocate(&Budget::unlimited()).unwrap();
        let weights = vec![0.01f32; 512 * 512];
        s.write(ids[1], bytemuck::cast_slice(&weights)).unwrap();
        // what the system allocates for a thread it does when that begins to run: here they meet, so all of them have
        let all = Barrier::new(threads);
        pool.run(threads, &|_| {
            all.wait();
        })
        .unwrap();
        s.replay(plan, KEY).unwrap();
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for step in 1..20 {
            let key = RunKey { step, ..KEY };
            s.run(plan, key, &mut || Interrupt::Continue).unwrap();
        }
        let mut out = [0f32];
        s.read(sum, bytemuck::cast_slice_mut(&mut out)).unwrap();
        let after = ALLOCATIONS.load(Ordering::Relaxed);
        assert!(out[0].is_finite());
        assert_eq!(after - before, 0, "allocations in 19 replays with {threads} threads");
        println!("19 replays with {threads} threads: no allocation");
    }
}
