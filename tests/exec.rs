//! Sessions: shared buffers, outputs that land on inputs, pauses, caps, weights, and random graphs against the
//! reference, fused and not.

#[path = "exec/once.rs"]
mod once;

use diffx::base::{DType, Desc, Status};
use diffx::cpu::Cpu;
use diffx::exec::{BufferId, Interrupt, Session, SessionBuilder, WeightBinding};
use diffx::graph::reference::{self, RefTensor};
use diffx::graph::{AttrKey, Attrs, Graph, NodeId, Op, WeightInit};
use diffx::mem::{Budget, Tensor};
use once::{KEY, decoded, encoded, run_bytes};
use std::sync::Arc;

fn f32s(dims: &[usize]) -> Desc {
    Desc::new(DType::F32, dims).unwrap()
}

fn builder() -> SessionBuilder {
    SessionBuilder::new(Arc::new(Cpu::new(1)))
}

fn put(s: &mut Session, id: BufferId, values: &[f32]) {
    s.write(id, bytemuck::cast_slice(values)).unwrap();
}

fn get(s: &Session, id: BufferId) -> Vec<f32> {
    let mut out = vec![0f32; s.desc(id).unwrap().shape.elements()];
    s.read(id, bytemuck::cast_slice_mut(&mut out)).unwrap();
    out
}

#[test]
fn two_plans_share_buffers() {
    let mut s = builder();
    let x = s.buffer("x", f32s(&[3]));
    let total = s.buffer("total", f32s(&[3]));
    let mut grow = Graph::new(1, DType::F32);
    let a = grow.input("x", f32s(&[3]));
    let two = grow.scalar(2.0);
    let b = grow.binary(Op::Mul, a, two);
    let grow = s.plan(&grow, &[x], &[(b, x)], &[]).unwrap();
    let mut add = Graph::new(1, DType::F32);
    let (a, t) = (add.input("x", f32s(&[3])), add.input("t", f32s(&[3])));
    let sum = add.binary(Op::Add, a, t);
    let add = s.plan(&add, &[x, total], &[(sum, total)], &[]).unwrap();
    let mut s = s.allocate(&Budget::unlimited()).unwrap();
    put(&mut s, x, &[1.0, -1.0, 0.5]);
    for _ in 0..3 {
        s.replay(grow, KEY).unwrap();
        s.replay(add, KEY).unwrap();
    }
    assert_eq!(get(&s, x), [8.0, -8.0, 4.0]);
    assert_eq!(get(&s, total), [14.0, -14.0, 7.0]);
}

#[test]
fn outputs_are_stored_after_every_input_was_read() {
    // swap, a copy of an old value, a broadcast of it, and an update: all over the same two buffers
    let mut g = Graph::new(1, DType::F32);
    let (a, b) = (g.input("a", f32s(&[2])), g.input("b", f32s(&[2])));
    let sum = g.binary(Op::Add, a, b);
    let wide = g.emit(Op::BroadcastTo, &[a], Attrs::NONE.with_dims(AttrKey::Shape, &[3, 2]));
    let late = g.unary(Op::Neg, wide);
    let mut s = builder();
    let (x, y) = (s.buffer("x", f32s(&[2])), s.buffer("y", f32s(&[2])));
    let (z, w) = (s.buffer("z", f32s(&[2])), s.buffer("w", f32s(&[3, 2])));
    let swap = s.plan(&g, &[x, y], &[(b, x), (a, y), (sum, z), (late, w)], &[]).unwrap();
    let update = s.plan(&g, &[x, y], &[(sum, x), (late, w)], &[]).unwrap();
    let mut s = s.allocate(&Budget::unlimited()).unwrap();
    put(&mut s, x, &[1.0, 2.0]);
    put(&mut s, y, &[10.0, 20.0]);
    s.replay(swap, KEY).unwrap();
    assert_eq!((get(&s, x), get(&s, y)), (vec![10.0, 20.0], vec![1.0, 2.0]));
    assert_eq!(get(&s, z), [11.0, 22.0]);
    assert_eq!(get(&s, w), [-1.0, -2.0, -1.0, -2.0, -1.0, -2.0]);
    s.replay(update, KEY).unwrap();
    assert_eq!((get(&s, x), get(&s, y)), (vec![11.0, 22.0], vec![1.0, 2.0]));
    assert_eq!(get(&s, w), [-10.0, -20.0, -10.0, -20.0, -10.0, -20.0]);
}

#[test]
fn one_node_may_fill_several_buffers() {
    let mut g = Graph::new(1, DType::F32);
    let a = g.input("a", f32s(&[4]));
    let b = g.unary(Op::Square, a);
    let flat = g.emit(Op::Reshape, &[b], Attrs::NONE.with_dims(AttrKey::Shape, &[2, 2]));
    let seven = g.full(7.0, DType::F32, &[4]);
    let mut s = builder();
    let ids: Vec<BufferId> = (0..4).map(|i| s.buffer(&format!("{i}"), f32s(&[4]))).collect();
    let square = s.buffer("square", f32s(&[2, 2]));
    let outs = [(b, ids[0]), (b, ids[1]), (a, ids[2]), (seven, ids[3]), (flat, square)];
    let plan = s.plan(&g, &ids[..1], &outs, &[]).unwrap();
    let mut s = s.allocate(&Budget::unlimited()).unwrap();
    put(&mut s, ids[0], &[1.0, 2.0, 3.0, 4.0]);
    s.replay(plan, KEY).unwrap();
    for id in [ids[0], ids[1], square] {
        assert_eq!(get(&s, id), [1.0, 4.0, 9.0, 16.0]);
    }
    assert_eq!(get(&s, ids[2]), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(get(&s, ids[3]), [7.0; 4]);
}

/// x -> x + 1 in `n` steps that cannot fuse.
fn ladder(n: usize) -> (Session, diffx::exec::PlanId, BufferId) {
    let mut g = Graph::new(1, DType::F32);
    let mut x = g.input("x", f32s(&[6]));
    let one = g.scalar(1.0);
    for i in 0..n {
        x = g.binary(Op::Add, x, one);
        let dims: &[usize] = [&[2, 3][..], &[3, 2]][i % 2];
        x = g.emit(Op::Reshape, &[x], Attrs::NONE.with_dims(AttrKey::Shape, dims));
    }
    x = g.emit(Op::Reshape, &[x], Attrs::NONE.with_dims(AttrKey::Shape, &[6]));
    let mut s = builder();
    let id = s.buffer("x", f32s(&[6]));
    let plan = s.plan(&g, &[id], &[(x, id)], &[]).unwrap();
    (s.allocate(&Budget::unlimited()).unwrap(), plan, id)
}

/// One thread of a host's frame loop: a long node is left and gone on with inside, and no bit shows it.
#[test]
fn a_long_node_pauses_inside() {
    let (m, n, k) = (96, 1024, 2048);
    let mut g = Graph::new(m, DType::F32);
    let (a, b) = (g.input("a", f32s(&[m, k])), g.input("b", f32s(&[k, n])));
    let product = g.emit(Op::MatMul, &[a, b], Attrs::NONE);
    let wave = g.unary(Op::Sin, product);
    let result = |threads: usize, pausing: bool| {
        let mut s = SessionBuilder::new(Arc::new(Cpu::new(threads)));
        let ids = [s.buffer("a", f32s(&[m, k])), s.buffer("b", f32s(&[k, n]))];
        let out = s.buffer("out", f32s(&[m, n]));
        let plan = s.plan(&g, &ids, &[(wave, out)], &[]).unwrap();
        let mut s = s.allocate(&Budget::unlimited()).unwrap();
        for (id, step) in ids.into_iter().zip([7u32, 11]) {
            let len = s.desc(id).unwrap().shape.elements() as u32;
            let values: Vec<f32> = (0..len).map(|i| (i * step % 97) as f32 / 97.0 - 0.5).collect();
            put(&mut s, id, &values);
        }
        let (mut asked, mut pauses) = (0, 0);
        while !s
            .run(plan, KEY, &mut || {
                asked += 1;
                if pausing && asked % 2 == 0 { Interrupt::Pause } else { Interrupt::Continue }
            })
            .unwrap()
        {
            pauses += 1;
        }
        (get(&s, out), asked, pauses)
    };
    let (plain, asked, _) = result(2, false);
    assert_eq!(asked, 2, "two nodes");
    let (paused, asked, pauses) = result(1, true);
    // 201 million multiply-adds, some 8 million each time
    assert!((24..80).contains(&pauses), "{pauses} pauses, asked {asked} times");
    assert!(plain == paused);
}

#[test]
fn a_paused_run_goes_on_where_it_stopped() {
    let (mut s, plan, x) = ladder(5);
    let mut calls = 0;
    let mut pauses = 0;
    // pauses before every other step, so that each call makes one step
    while !s
        .run(plan, KEY, &mut || {
            calls += 1;
            if calls % 2 == 0 { Interrupt::Pause } else { Interrupt::Continue }
        })
        .unwrap()
    {
        pauses += 1;
        assert!(s.is_paused());
        let other = diffx::exec::RunKey { step: 9, ..KEY };
        let refused = s.run(plan, other, &mut || Interrupt::Continue).unwrap_err();
        assert_eq!(refused.status, Status::State);
        assert!(pauses < 100);
    }
    assert!(pauses >= 4 && !s.is_paused());
    assert_eq!(get(&s, x), [5.0; 6]);
    s.replay(plan, KEY).unwrap();
    assert_eq!(get(&s, x), [10.0; 6]);
}

#[test]
fn a_cancelled_run_says_so_and_the_session_lives_on() {
    let (mut s, plan, x) = ladder(4);
    let mut left = 2;
    let error = s
        .run(plan, KEY, &mut || {
            left -= 1;
            if left < 0 { Interrupt::Cancel } else { Interrupt::Continue }
        })
        .unwrap_err();
    assert_eq!(error.status, Status::Cancelled);
    put(&mut s, x, &[0.0; 6]);
    s.replay(plan, KEY).unwrap();
    assert_eq!(get(&s, x), [4.0; 6]);
}

#[test]
fn planned_bytes_are_used_bytes_and_a_smaller_cap_refuses() {
    let build = || {
        let mut g = Graph::new(1, DType::F32);
        let a = g.input("a", f32s(&[100, 7]));
        let c = g.constant(f32s(&[7]), bytemuck::cast_slice(&[1f32; 7]));
        let w = g.weight("w", f32s(&[7]), WeightInit::Ones);
        let b = g.binary(Op::Mul, a, c);
        let flat = g.emit(Op::Reshape, &[b], Attrs::NONE.with_dims(AttrKey::Shape, &[7, 100]));
        let flat = g.unary(Op::Tanh, flat);
        let back = g.emit(Op::Reshape, &[flat], Attrs::NONE.with_dims(AttrKey::Shape, &[100, 7]));
        let out = g.binary(Op::Add, back, w);
        let mut s = builder();
        let id = s.buffer("a", f32s(&[100, 7]));
        let budget = Budget::unlimited();
        let weight = Arc::new(Tensor::from_f32(&[7], &[2.0; 7], &budget).unwrap());
        s.plan(&g, &[id], &[(out, id)], &[WeightBinding::Tensor(weight)]).unwrap();
        s
    };
    let need = build().bytes();
    assert!(need > 2 * 2800);
    let budget = Budget::new(need, None);
    let session = build().allocate(&budget).unwrap();
    assert_eq!(budget.used(), need);
    drop(session);
    assert_eq!(budget.used(), 0);
    let small = Budget::new(need - 1, None);
    let error = build().allocate(&small).err().expect("the cap is below the need");
    assert_eq!((error.status, small.peak()), (Status::NoMemory, 0));
}

#[test]
fn wrong_bindings_are_named() {
    let mut g = Graph::new(1, DType::F32);
    let a = g.input("a", f32s(&[2]));
    let w = g.weight("blocks.0.w", f32s(&[2]), WeightInit::Zeros);
    let out = g.binary(Op::Add, a, w);
    let budget = Budget::unlimited();
    let bad = Desc::new(DType::BF16, &[2]).unwrap();
    let bad = WeightBinding::Tensor(Arc::new(Tensor::new(bad, &budget).unwrap()));
    let good = WeightBinding::Tensor(Arc::new(Tensor::new(f32s(&[2]), &budget).unwrap()));
    let mut s = builder();
    let (x, y) = (s.buffer("x", f32s(&[2])), s.buffer("y", f32s(&[3])));
    let mut message = |inputs: &[BufferId], outs: &[(NodeId, BufferId)], w: &WeightBinding| {
        s.plan(&g, inputs, outs, std::slice::from_ref(w)).unwrap_err().message
    };
    let text = message(&[x], &[(out, x)], &bad);
    assert!(text.contains("base/blocks.0.w") && text.contains("bf16[2]"), "{text}");
    assert!(message(&[y], &[(out, x)], &good).contains("input a: want f32[2], buffer y"));
    assert!(message(&[x], &[(out, y)], &good).contains("output y: want f32[3]"));
    assert!(message(&[x], &[(NodeId(999), x)], &good).contains("999"));
    assert!(message(&[], &[(out, x)], &good).contains("1 inputs"));
    assert!(message(&[BufferId(7)], &[(out, x)], &good).contains("buffer 7"));
    assert!(message(&[x], &[(out, x), (out, x)], &good).contains("another output"));
}

#[test]
fn fixed_weights_of_narrow_types_are_widened() {
    let mut g = Graph::new(1, DType::F32);
    let desc = Desc::new(DType::BF16, &[300]).unwrap();
    let w = g.weight("w", desc, WeightInit::Zeros);
    let code = Attrs::NONE.with_int(AttrKey::DType, i64::from(DType::F32.code()));
    let wide = g.emit(Op::Cast, &[w], code);
    let two = g.scalar(2.0);
    let out = g.binary(Op::Mul, wide, two);
    let budget = Budget::unlimited();
    let values: Vec<half::bf16> = (0..300).map(|i| half::bf16::from_f32(i as f32)).collect();
    let tensor = Tensor::from_bytes(desc, bytemuck::cast_slice(&values), &budget).unwrap();
    let mut s = builder();
    let y = s.buffer("y", f32s(&[300]));
    let plan = s.plan(&g, &[], &[(out, y)], &[WeightBinding::Tensor(Arc::new(tensor))]).unwrap();
    let mut s = s.allocate(&budget).unwrap();
    s.replay(plan, KEY).unwrap();
    let want: Vec<f32> = values.iter().map(|v| v.to_f32() * 2.0).collect();
    assert_eq!(get(&s, y), want);
}

#[test]
fn steps_are_timed_on_demand() {
    let mut g = Graph::new(1, DType::F32);
    let a = g.input("a", f32s(&[1000]));
    g.push_scope("here");
    let out = g.unary(Op::Tanh, a);
    let mut s = builder();
    s.profile(true);
    let x = s.buffer("x", f32s(&[1000]));
    let plan = s.plan(&g, &[x], &[(out, x)], &[]).unwrap();
    assert!(s.describe(plan).contains("here"));
    let mut s = s.allocate(&Budget::unlimited()).unwrap();
    (0..3).for_each(|_| s.replay(plan, KEY).unwrap());
    let times = s.profile(plan);
    assert_eq!((times.len(), times[0].runs), (1, 3));
    assert!(times[0].ns > 0 && times[0].name == "here tanh", "{}", times[0].name);
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// A graph of pointwise ops, broadcasts and reshapes over three inputs, with masks and integers in between.
fn random_graph(seed: u64, float: DType) -> (Graph, Vec<RefTensor>, Vec<NodeId>) {
    let mut r = Random(seed);
    let mut g = Graph::new(2, float);
    let shapes: [&[usize]; 4] = [&[3, 5, 40], &[5, 40], &[3, 1, 40], &[1]];
    let mut inputs = Vec::new();
    let mut floats = Vec::new();
    for (i, dims) in shapes.iter().enumerate() {
        let n: usize = dims.iter().product();
        let data = (0..n).map(|_| reference::round(float, r.below(2000) as f64 * 1e-3 - 1.0));
        inputs.push(RefTensor::new(dims, data.collect()).unwrap());
        floats.push(g.input(&format!("x{i}"), Desc::new(float, dims).unwrap()));
    }
    for _ in 0..30 {
        let (a, b) = (floats[r.below(floats.len())], floats[r.below(floats.len())]);
        let unary = [Op::Neg, Op::Tanh, Op::Abs, Op::Relu, Op::StopGradient, Op::Sigmoid];
        let binary = [Op::Add, Op::Sub, Op::Mul, Op::Min, Op::Max];
        let node = match r.below(8) {
            0 | 1 => g.unary(unary[r.below(unary.len())], a),
            2..=4 => {
                let op = binary[r.below(binary.len())];
                let x = g.binary(op, a, b);
                g.unary(Op::Tanh, x)
            }
            5 => {
                let mask = g.binary(Op::Lt, a, b);
                let flipped = g.unary(Op::Not, mask);
                let half = g.scalar(0.5);
                g.emit(Op::Where, &[flipped, a, half], Attrs::NONE)
            }
            6 => {
                let hundred = g.scalar(100.0);
                let big = g.binary(Op::Mul, a, hundred);
                let cast = |t: DType| Attrs::NONE.with_int(AttrKey::DType, i64::from(t.code()));
                let whole = g.emit(Op::Cast, &[big], cast(DType::I32));
                let seven = g.full(7.0, DType::I32, &[]);
                let rest = g.binary(Op::Rem, whole, seven);
                g.emit(Op::Cast, &[rest], cast(float))
            }
            _ => {
                let n = g.desc(a).shape.elements();
                let dims = g.desc(a).dims().to_vec();
                let flat = g.emit(Op::Reshape, &[a], Attrs::NONE.with_dims(AttrKey::Shape, &[n]));
                let flat = g.unary(Op::Neg, flat);
                g.emit(Op::Reshape, &[flat], Attrs::NONE.with_dims(AttrKey::Shape, &dims))
            }
        };
        floats.push(node);
    }
    let outs = (0..4).map(|_| floats[floats.len() - 1 - r.below(20)]).collect();
    g.check().unwrap();
    (g, inputs, outs)
}

#[test]
fn random_graphs_agree_with_the_reference_fused_or_not() {
    for seed in 0..150 {
        // f64 on both sides: an error can only be a wrong value, not a rounding
        let (g, inputs, outs) = random_graph(seed, DType::F64);
        let want = reference::evaluate(&g, &outs, &|node, _| {
            Ok(inputs[node.attrs.int(AttrKey::Index, 0) as usize].clone())
        })
        .unwrap();
        let bytes = encoded(&g, &inputs);
        let fused = run_bytes(Cpu::new(1), true, &g, &bytes, &outs).unwrap();
        for ((node, got), want) in outs.iter().zip(&fused).zip(want) {
            for (a, b) in decoded(&g, *node, got).iter().zip(&want.data) {
                assert!((a - b).abs() < 1e-9, "seed {seed}: {a} for {b}");
            }
        }
        let single = run_bytes(Cpu::new(3), false, &g, &bytes, &outs).unwrap();
        assert_eq!(fused, single, "seed {seed}");
        let (g, inputs, outs) = random_graph(seed, DType::F32);
        let bytes = encoded(&g, &inputs);
        let fused = run_bytes(Cpu::new(1), true, &g, &bytes, &outs).unwrap();
        let single = run_bytes(Cpu::new(1), false, &g, &bytes, &outs).unwrap();
        assert_eq!(fused, single, "seed {seed} f32");
    }
}

#[test]
fn threads_do_not_show_in_large_programs() {
    let n = 100_003;
    let mut g = Graph::new(1, DType::F32);
    let (a, b) = (g.input("a", f32s(&[n])), g.input("b", f32s(&[1])));
    let c = g.binary(Op::Mul, a, b);
    let d = g.unary(Op::Gelu, c);
    let m = g.binary(Op::Gt, d, a);
    let out = g.emit(Op::Where, &[m, d, a], Attrs::NONE);
    let values: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin() * 4.0).collect();
    let bytes = [bytemuck::cast_slice(&values).to_vec(), 1.5f32.to_ne_bytes().to_vec()];
    let want = run_bytes(Cpu::new(1), true, &g, &bytes, &[out, m]).unwrap();
    for threads in [2, 3, 7] {
        assert_eq!(run_bytes(Cpu::new(threads), true, &g, &bytes, &[out, m]).unwrap(), want);
    }
}
