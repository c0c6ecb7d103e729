//! Shapes large enough to be split over threads: `run` compares the bits of 1, 2 and 3 threads, and here every kernel
//! has enough work to be cut at places that fit no row, head or block evenly.

use crate::harness::{KEY, T, run, try_run};
use diffx::base::DType::{F32, I32};
use diffx::graph::{AttrKey, Attrs, Op};

#[test]
fn threads_never_show() {
    let of = |dims: &[usize]| T::random(F32, dims, 11);
    let axis = |a| Attrs::NONE.with_int(AttrKey::Axis, a);
    let x = of(&[7, 301, 257]);
    let flat = of(&[1201, 517]);
    for op in [Op::Sum, Op::Mean, Op::Prod, Op::ReduceMax, Op::ReduceMin, Op::LogSumExp] {
        for axes in [&[1i64][..], &[2], &[0, 2], &[0]] {
            run(op, &[&x], &Attrs::NONE.with_ints(AttrKey::Axes, axes));
        }
    }
    for op in
        [Op::ArgMax, Op::ArgMin, Op::CumSum, Op::Softmax, Op::LogSoftmax, Op::Sort, Op::ArgSort]
    {
        run(op, &[&x], &axis(1));
        run(op, &[&flat], &axis(1));
    }
    run(Op::TopK, &[&flat], &axis(1).with_int(AttrKey::K, 9));
    let eps = Attrs::NONE.with_float(AttrKey::Epsilon, 1e-5);
    run(Op::LayerNorm, &[&flat], &eps);
    run(Op::RmsNorm, &[&flat], &eps);
    run(Op::GroupNorm, &[&of(&[5, 12, 100, 53])], &eps.with_int(AttrKey::Groups, 3));

    run(Op::MatMul, &[&flat, &of(&[517, 130])], &Attrs::NONE);
    run(Op::MatMul, &[&of(&[1, 517]), &of(&[517, 3000])], &Attrs::NONE);
    run(Op::MatMul, &[&of(&[5, 61, 70]), &of(&[5, 70, 90])], &Attrs::NONE);
    let pad = Attrs::NONE.with_ints(AttrKey::Padding, [1, 1]);
    for images in [1, 5] {
        let (x, w, y) = (of(&[images, 12, 31, 33]), of(&[20, 12, 3, 3]), of(&[images, 20, 31, 33]));
        run(Op::Conv, &[&x, &w], &pad);
        run(Op::ConvInputGrad, &[&y, &w], &pad.clone().with_dims(AttrKey::Shape, x.dims()));
        run(Op::ConvWeightGrad, &[&x, &y], &pad.clone().with_dims(AttrKey::Shape, w.dims()));
        let groups = pad.clone().with_int(AttrKey::Groups, 4);
        let w = of(&[20, 3, 3, 3]);
        run(Op::Conv, &[&x, &w], &groups);
        run(Op::ConvWeightGrad, &[&x, &y], &groups.with_dims(AttrKey::Shape, w.dims()));
    }
    for heads in [1, 5] {
        let q = of(&[heads, 310, 40]);
        run(Op::Attention, &[&q, &q, &q], &Attrs::NONE.with_int(AttrKey::Causal, 1));
    }

    run(Op::Transpose, &[&x], &Attrs::NONE.with_ints(AttrKey::Perm, [2, 0, 1]));
    run(Op::Transpose, &[&flat], &Attrs::NONE.with_ints(AttrKey::Perm, [1, 0]));
    run(Op::Reshape, &[&flat], &Attrs::NONE.with_ints(AttrKey::Shape, [-1]));
    run(Op::BroadcastTo, &[&of(&[1201, 1])], &Attrs::NONE.with_ints(AttrKey::Shape, [1201, 517]));
    run(Op::Flip, &[&x], &Attrs::NONE.with_ints(AttrKey::Axes, [0, 2]));
    let (lo, hi) = ([1, 3, 0], [0, 2, 5]);
    run(Op::Pad, &[&x], &Attrs::NONE.with_ints(AttrKey::Lo, lo).with_ints(AttrKey::Hi, hi));
    run(Op::Concat, &[&x, &x], &axis(1));
    let (start, stop) = ([1, 2, 3], [7, 301, 250]);
    run(
        Op::Slice,
        &[&x],
        &Attrs::NONE.with_ints(AttrKey::Start, start).with_ints(AttrKey::Stop, stop),
    );
    let at = T::new(I32, &[3], &[1.0, 2.0, 3.0]);
    run(Op::DynamicSlice, &[&x, &at], &Attrs::NONE.with_ints(AttrKey::Sizes, [5, 200, 200]));
    run(Op::DynamicUpdate, &[&x, &of(&[5, 200, 200]), &at], &Attrs::NONE);
    let picks: Vec<f64> = (0..900).map(|i| f64::from(i * 37 % 301)).collect();
    let idx = T::new(I32, &[900], &picks);
    run(Op::Gather, &[&x, &idx], &axis(1));
    run(Op::ScatterAdd, &[&x, &idx, &of(&[7, 900, 257])], &axis(1));
    let along: Vec<f64> = (0..7 * 301 * 257).map(|i| f64::from(i * 37 % 301)).collect();
    let idx = T::new(I32, &[7, 301, 257], &along);
    run(Op::TakeAlong, &[&x, &idx], &axis(1));
    run(Op::ScatterAddAlong, &[&x, &idx, &x], &axis(1));
    let shape = Attrs::NONE.with_ints(AttrKey::Shape, [301, 1700]);
    run(Op::Full, &[], &shape.clone().with_float(AttrKey::Value, 2.5));
    run(Op::Iota, &[], &shape.with_int(AttrKey::Axis, 0));
}

#[test]
fn draws_do_not_see_threads() {
    let purpose = Attrs::NONE.with_int(AttrKey::Purpose, 2);
    let shape = purpose.clone().with_ints(AttrKey::Shape, [101, 3001]);
    let brownian =
        shape.clone().with_float(AttrKey::RangeLo, 0.0).with_float(AttrKey::RangeHi, 1.0);
    let x = T::new(F32, &[101, 31], &(0..3131).map(|i| f64::from(i) * 0.02).collect::<Vec<_>>());
    let (s, t) = (T::new(F32, &[101], &[0.25; 101]), T::new(F32, &[101], &[0.75; 101]));
    let cases: [(Op, Vec<&T>, &Attrs); 6] = [
        (Op::Normal, vec![], &shape),
        (Op::Uniform, vec![], &shape),
        (Op::Gamma, vec![&x], &purpose),
        (Op::Poisson, vec![&x], &purpose),
        (Op::Categorical, vec![&x], &purpose),
        (Op::Brownian, vec![&s, &t], &brownian),
    ];
    for (op, inputs, attrs) in cases {
        let with = |threads| try_run(op, &inputs, attrs, threads, 101, KEY).unwrap();
        let one = with(1);
        for threads in [2, 3] {
            assert!(one.bytes.get() == with(threads).bytes.get(), "{}", op.name());
        }
    }
}
