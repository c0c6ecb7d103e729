//! Random nodes: a sample draws the same values in any batch; the moments are those of the law.

use crate::harness::{KEY, T, try_run};
use diffx::base::DType::{F32, F64};
use diffx::base::philox::Stream;
use diffx::exec::RunKey;
use diffx::graph::{AttrKey, Attrs, Op};

fn attrs(op: Op, rows: usize, dtype: diffx::base::DType) -> Attrs {
    let a = Attrs::NONE.with_int(AttrKey::Purpose, 5);
    match op {
        Op::Normal | Op::Uniform | Op::Brownian => {
            let a = a
                .with_dims(AttrKey::Shape, &[rows, 7, 3])
                .with_int(AttrKey::DType, i64::from(dtype.code()));
            if op == Op::Brownian {
                return a.with_float(AttrKey::RangeLo, 0.0).with_float(AttrKey::RangeHi, 2.0);
            }
            a
        }
        _ => a,
    }
}

fn inputs(op: Op, dtype: diffx::base::DType) -> Vec<T> {
    match op {
        Op::Gamma | Op::Poisson => {
            let v: Vec<f64> = (0..210).map(|i| f64::from(i) * 0.37).collect();
            vec![T::new(dtype, &[10, 21], &v)]
        }
        Op::Categorical => vec![T::random(dtype, &[10, 4, 9], 3)],
        Op::Brownian => {
            let v: Vec<f64> = (0..10).map(|i| f64::from(i) * 0.1).collect();
            let w: Vec<f64> = v.iter().map(|x| x * 1.5 + 0.25).collect();
            vec![T::new(dtype, &[10], &v), T::new(dtype, &[10], &w)]
        }
        _ => Vec::new(),
    }
}

#[test]
fn a_sample_draws_the_same_in_any_batch() {
    for op in [Op::Normal, Op::Uniform, Op::Gamma, Op::Poisson, Op::Categorical, Op::Brownian] {
        for dtype in [F32, F64] {
            let all = inputs(op, dtype);
            let part = |from: usize, to: usize, threads| {
                let cut: Vec<T> = all.iter().map(|t| t.rows(from, to)).collect();
                let key = RunKey { first_sample: 1_000_003 + from as u64, ..KEY };
                let rows = to - from;
                let a = attrs(op, rows, dtype);
                try_run(op, &cut.iter().collect::<Vec<_>>(), &a, threads, rows, key).unwrap()
            };
            let whole = part(0, 10, 1);
            assert!(whole.bytes.get() == part(0, 10, 3).bytes.get(), "{}", op.name());
            let joined = [part(0, 3, 1).bytes.get(), part(3, 10, 2).bytes.get()].concat();
            assert!(whole.bytes.get() == joined, "{}", op.name());
            assert!(whole.values().iter().all(|v| v.is_finite()));
        }
    }
}

#[test]
fn elements_are_numbered_by_sample() {
    let key = RunKey { seed: 9, step: 4, first_sample: 6 };
    let got = try_run(Op::Normal, &[], &attrs(Op::Normal, 2, F32), 1, 2, key).unwrap();
    let stream = Stream { seed: 9, purpose: 5, step: 4, ordinal: 0 };
    for (i, v) in got.values().iter().enumerate() {
        assert_eq!(*v, f64::from(stream.normal_f32(6 * 21 + i as u64)));
    }
}

#[test]
fn only_the_brownian_path_ignores_the_step() {
    for op in [Op::Normal, Op::Uniform, Op::Gamma, Op::Poisson, Op::Categorical, Op::Brownian] {
        let t = inputs(op, F64);
        let at = |step| {
            let key = RunKey { step, ..KEY };
            let list: Vec<&T> = t.iter().collect();
            try_run(op, &list, &attrs(op, 10, F64), 1, 10, key).unwrap().values()
        };
        assert_eq!(at(1) == at(2), op == Op::Brownian, "{}", op.name());
    }
}

#[test]
fn brownian_increments_add_up() {
    let w = |a: f64, b: f64| {
        let (s, t) = (T::new(F64, &[1], &[a]), T::new(F64, &[1], &[b]));
        try_run(Op::Brownian, &[&s, &t], &attrs(Op::Brownian, 1, F64), 1, 1, KEY).unwrap().values()
    };
    let (whole, left, right) = (w(0.0, 2.0), w(0.0, 0.7), w(0.7, 2.0));
    for i in 0..whole.len() {
        assert!((whole[i] - left[i] - right[i]).abs() < 1e-12);
    }
}

#[test]
fn addresses_beyond_the_counter_are_refused() {
    let key = RunKey { first_sample: (1 << 56) / 21, ..KEY };
    let error = try_run(Op::Normal, &[], &attrs(Op::Normal, 2, F32), 1, 2, key).err().unwrap();
    assert!(error.message.contains("2^56"), "{error}");
    let key = RunKey { first_sample: u64::MAX, ..KEY };
    assert!(try_run(Op::Normal, &[], &attrs(Op::Normal, 2, F32), 1, 2, key).is_err());
    let key = RunKey { first_sample: (1 << 56) / 21 - 2, ..KEY };
    assert!(try_run(Op::Normal, &[], &attrs(Op::Normal, 2, F32), 1, 2, key).is_ok());
}

#[test]
fn rows_without_a_category_draw_zero_and_certainties_come_true() {
    let v = [f64::NEG_INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY, 0.0];
    let x = T::new(F32, &[2, 2], &v);
    let a = attrs(Op::Categorical, 2, F32);
    assert_eq!(try_run(Op::Categorical, &[&x], &a, 1, 2, KEY).unwrap().values(), [0.0, 1.0]);
}

#[test]
fn gamma_and_poisson_have_their_means() {
    let n = 20_000;
    for (op, p, spread) in [(Op::Gamma, 2.5, 2.5f64), (Op::Poisson, 7.0, 7.0)] {
        let x = T::new(F32, &[n], &vec![p; n]);
        let got = try_run(op, &[&x], &attrs(op, n, F32), 2, n, KEY).unwrap().values();
        let mean = got.iter().sum::<f64>() / n as f64;
        assert!((mean - p).abs() < 5.0 * (spread / n as f64).sqrt(), "{} {mean}", op.name());
    }
}
