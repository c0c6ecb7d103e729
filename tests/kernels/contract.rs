//! matmul, convolutions, attention.

use crate::harness::{T, close, noise, rows_stand_alone, run};
use diffx::base::DType::{self, BF16, Bool, F16, F32, F64};
use diffx::graph::{AttrKey, Attrs, Op};

fn trans(a: bool, b: bool) -> Attrs {
    Attrs::NONE.with_int(AttrKey::TransA, i64::from(a)).with_int(AttrKey::TransB, i64::from(b))
}

/// c[l, i, j] = sum a[l * la, ..] b[l * lb, ..]
fn product(
    a: &T,
    b: &T,
    ta: bool,
    tb: bool,
    lead: &[(usize, usize)],
    m: usize,
    n: usize,
) -> Vec<f64> {
    let k = a.dims()[a.dims().len() - if ta { 2 } else { 1 }];
    let (x, y) = (a.values(), b.values());
    let mut out = Vec::new();
    for &(la, lb) in lead {
        for i in 0..m {
            for j in 0..n {
                out.push(
                    (0..k)
                        .map(|p| {
                            let u = if ta { p * m + i } else { i * k + p };
                            let v = if tb { j * k + p } else { p * n + j };
                            x[la * m * k + u] * y[lb * k * n + v]
                        })
                        .sum(),
                );
            }
        }
    }
    out
}

#[test]
fn matmul_of_every_orientation_and_weight_type() {
    for (float, weight) in [(F32, F32), (F64, F64), (F32, BF16), (F32, F16), (F64, BF16)] {
        for (m, k, n) in [
            (1, 1, 1),
            (1, 300, 70),
            (3, 5, 7),
            (40, 64, 33),
            (130, 600, 300),
            (0, 3, 4),
            (3, 0, 4),
        ] {
            for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
                let a = T::random(float, &if ta { [k, m] } else { [m, k] }, 1);
                let b = T::random(weight, &if tb { [n, k] } else { [k, n] }, 2);
                let got = run(Op::MatMul, &[&a, &b], &trans(ta, tb));
                close(Op::MatMul, &got, &product(&a, &b, ta, tb, &[(0, 0)], m, n));
            }
        }
    }
}

#[test]
fn matmul_broadcasts_leading_axes() {
    let cases: [(&[usize], &[usize], Vec<(usize, usize)>); 5] = [
        (&[2, 3, 4, 5], &[5, 6], (0..6).map(|i| (i, 0)).collect()),
        (&[4, 5], &[3, 5, 6], (0..3).map(|i| (0, i)).collect()),
        (&[2, 1, 4, 5], &[3, 5, 6], (0..6).map(|i| (i / 3, i % 3)).collect()),
        (&[2, 3, 4, 5], &[2, 3, 5, 6], (0..6).map(|i| (i, i)).collect()),
        (&[1, 4, 5], &[1, 5, 6], vec![(0, 0)]),
    ];
    for (da, db, lead) in cases {
        let (a, b) = (T::random(F32, da, 3), T::random(F32, db, 4));
        let got = run(Op::MatMul, &[&a, &b], &trans(false, false));
        close(Op::MatMul, &got, &product(&a, &b, false, false, &lead, 4, 6));
    }
}

#[test]
fn matmul_adds_bias_then_activates() {
    let erf = diffx::base::special::normal::erf;
    let tanh_gelu = |x: f64| {
        0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
    };
    let acts: [(Op, &dyn Fn(f64) -> f64); 6] = [
        (Op::Relu, &|x| x.max(0.0)),
        (Op::Silu, &|x| x / (1.0 + (-x).exp())),
        (Op::Sigmoid, &|x| 1.0 / (1.0 + (-x).exp())),
        (Op::Tanh, &|x| x.tanh()),
        (Op::Gelu, &|x| 0.5 * x * (1.0 + erf(x / 2f64.sqrt()))),
        (Op::GeluTanh, &tanh_gelu),
    ];
    for (float, weight) in [(F32, F32), (F64, F64), (F32, BF16)] {
        let (a, b) = (T::random(float, &[17, 40], 5), T::random(weight, &[40, 50], 6));
        let bias = T::random(weight, &[50], 7);
        let plain = product(&a, &b, false, false, &[(0, 0)], 17, 50);
        for (act, f) in acts {
            let attrs = trans(false, false).with_int(AttrKey::Activation, i64::from(act.code()));
            let got = run(Op::MatMul, &[&a, &b, &bias], &attrs);
            let add = bias.values();
            let want: Vec<f64> =
                plain.iter().enumerate().map(|(i, x)| f(x + add[i % 50])).collect();
            close(Op::MatMul, &got, &want);
        }
    }
}

#[test]
fn rows_of_products_stand_alone() {
    for dtype in [F32, F64] {
        let (k, n) = (515, 77);
        let (a, w) = (T::random(dtype, &[300, k], 8), T::random(dtype, &[k, n], 9));
        let wt = T::random(dtype, &[n, k], 9);
        rows_stand_alone(Op::MatMul, &[(&a, true), (&w, false)], |_| trans(false, false));
        rows_stand_alone(Op::MatMul, &[(&a, true), (&wt, false)], |_| trans(false, true));
        let a = T::random(dtype, &[20, 9, 30], 8);
        let b = T::random(dtype, &[20, 30, 11], 8);
        rows_stand_alone(Op::MatMul, &[(&a, true), (&b, true)], |_| trans(false, false));
    }
}

/// stride, padding, dilation, groups, then x and w.
struct Conv {
    stride: [usize; 2],
    padding: [usize; 4],
    dilation: [usize; 2],
    groups: usize,
    x: [usize; 4],
    w: [usize; 4],
}

impl Conv {
    fn attrs(&self) -> Attrs {
        Attrs::NONE
            .with_dims(AttrKey::Stride, &self.stride)
            .with_dims(AttrKey::Padding, &self.padding)
            .with_dims(AttrKey::Dilation, &self.dilation)
            .with_int(AttrKey::Groups, self.groups as i64)
    }

    fn out(&self) -> [usize; 4] {
        let side = |i: usize| {
            let reach = self.dilation[i] * (self.w[2 + i] - 1) + 1;
            (self.x[2 + i] + self.padding[2 * i] + self.padding[2 * i + 1] - reach) / self.stride[i]
                + 1
        };
        [self.x[0], self.w[0], side(0), side(1)]
    }

    /// Calls f(index of x, of w, of the result) for every product of the convolution.
    fn each(&self, mut f: impl FnMut(usize, usize, usize)) {
        let at = |d: &[usize; 4], i: [usize; 4]| ((i[0] * d[1] + i[1]) * d[2] + i[2]) * d[3] + i[3];
        let (x, w, y) = (self.x, self.w, self.out());
        for b in 0..y[0] {
            for o in 0..y[1] {
                for i in 0..y[2] * y[3] {
                    let (oy, ox) = (i / y[3], i % y[3]);
                    for t in 0..w[1] * w[2] * w[3] {
                        let (c, ky, kx) = (t / (w[2] * w[3]), t / w[3] % w[2], t % w[3]);
                        let iy = (oy * self.stride[0] + ky * self.dilation[0])
                            .wrapping_sub(self.padding[0]);
                        let ix = (ox * self.stride[1] + kx * self.dilation[1])
                            .wrapping_sub(self.padding[2]);
                        if iy < x[2] && ix < x[3] {
                            let channel = o / (y[1] / self.groups) * w[1] + c;
                            f(
                                at(&x, [b, channel, iy, ix]),
                                at(&w, [o, c, ky, kx]),
                                at(&y, [b, o, oy, ox]),
                            );
                        }
                    }
                }
            }
        }
    }
}

fn convolutions() -> Vec<Conv> {
    let plain = |x, w| Conv { stride: [1; 2], padding: [0; 4], dilation: [1; 2], groups: 1, x, w };
    vec![
        plain([2, 3, 7, 9], [4, 3, 1, 1]),
        Conv { padding: [1; 4], ..plain([2, 3, 8, 40], [5, 3, 3, 3]) },
        Conv { padding: [1, 2, 0, 3], stride: [2, 3], ..plain([1, 4, 9, 11], [6, 4, 3, 2]) },
        Conv {
            padding: [4, 4, 2, 2],
            dilation: [3, 2],
            stride: [1, 2],
            ..plain([2, 2, 10, 12], [3, 2, 3, 3])
        },
        Conv { groups: 3, padding: [1; 4], ..plain([2, 6, 5, 6], [9, 2, 3, 3]) },
        Conv {
            groups: 4,
            stride: [2, 2],
            padding: [0, 1, 0, 1],
            ..plain([3, 4, 6, 7], [4, 1, 2, 2])
        },
        Conv { padding: [0, 0, 5, 0], ..plain([2, 3, 1, 17], [4, 3, 1, 6]) },
        Conv { stride: [3, 3], ..plain([1, 1, 4, 5], [1, 1, 1, 1]) },
        Conv { padding: [1; 4], ..plain([0, 3, 4, 4], [2, 3, 3, 3]) },
        Conv { padding: [9; 4], ..plain([1, 1, 2, 2], [2, 1, 3, 3]) },
    ]
}

#[test]
fn convolutions_and_their_gradients() {
    for (float, weight) in [(F32, F32), (F64, F64), (F32, BF16)] {
        for c in convolutions() {
            let (x, w) = (T::random(float, &c.x, 1), T::random(weight, &c.w, 2));
            let g = T::random(float, &c.out(), 3);
            let bias = T::random(weight, &[c.w[0]], 4);
            let n = |d: &[usize]| d.iter().product::<usize>();
            let (xs, ws, gs, bs) = (x.values(), w.values(), g.values(), bias.values());
            let mut y: Vec<f64> =
                (0..n(&c.out())).map(|i| bs[i / n(&c.out()[2..]) % c.w[0]]).collect();
            let (mut dx, mut dw) = (vec![0.0; n(&c.x)], vec![0.0; n(&c.w)]);
            c.each(|i, j, k| {
                y[k] += xs[i] * ws[j];
                dx[i] += gs[k] * ws[j];
                dw[j] += gs[k] * xs[i];
            });
            close(Op::Conv, &run(Op::Conv, &[&x, &w, &bias], &c.attrs()), &y);
            let attrs = c.attrs().with_dims(AttrKey::Shape, &c.x);
            close(Op::ConvInputGrad, &run(Op::ConvInputGrad, &[&g, &w], &attrs), &dx);
            let attrs = c.attrs().with_dims(AttrKey::Shape, &c.w);
            close(Op::ConvWeightGrad, &run(Op::ConvWeightGrad, &[&x, &g], &attrs), &dw);
        }
    }
}

#[test]
fn one_dimensional_convolution_is_a_line_of_two() {
    let (x, w) = (T::random(F32, &[3, 4, 50], 1), T::random(F32, &[6, 2, 5], 2));
    let lists = |lead: &[usize], pad: &[usize]| {
        Attrs::NONE
            .with_dims(AttrKey::Stride, &[lead, &[2]].concat())
            .with_dims(AttrKey::Dilation, &[lead, &[3]].concat())
            .with_dims(AttrKey::Padding, &[pad, &[4, 1]].concat())
            .with_int(AttrKey::Groups, 2)
    };
    let line = run(Op::Conv, &[&x, &w], &lists(&[], &[]));
    let flat = |t: &T, d: &[usize]| T::new(F32, d, &t.values());
    let plane = run(
        Op::Conv,
        &[&flat(&x, &[3, 4, 1, 50]), &flat(&w, &[6, 2, 1, 5])],
        &lists(&[1], &[0, 0]),
    );
    assert!(line.bytes.get() == plane.bytes.get());
    for (op, a, b, shape) in
        [(Op::ConvInputGrad, &line, &w, x.dims()), (Op::ConvWeightGrad, &x, &line, w.dims())]
    {
        let widen = |d: &[usize]| [&d[..2], &[1], &d[2..]].concat();
        let got = run(op, &[a, b], &lists(&[], &[]).with_dims(AttrKey::Shape, shape));
        let (a, b) = (flat(a, &widen(a.dims())), flat(b, &widen(b.dims())));
        let attrs = lists(&[1], &[0, 0]).with_dims(AttrKey::Shape, &widen(shape));
        assert!(got.bytes.get() == run(op, &[&a, &b], &attrs).bytes.get());
    }
}

#[test]
fn images_stand_alone() {
    let (x, w) = (T::random(F32, &[30, 4, 9, 10], 1), T::random(F32, &[8, 2, 3, 3], 2));
    let attrs = Attrs::NONE.with_dims(AttrKey::Padding, &[1, 1]).with_int(AttrKey::Groups, 2);
    rows_stand_alone(Op::Conv, &[(&x, true), (&w, false)], |_| attrs.clone());
    let g = T::random(F32, &[30, 8, 9, 10], 3);
    rows_stand_alone(Op::ConvInputGrad, &[(&g, true), (&w, false)], |n| {
        attrs.clone().with_dims(AttrKey::Shape, &[n, 4, 9, 10])
    });
}

/// mask(head, i, j) is added to the scores.
fn attend(q: &T, k: &T, v: &T, scale: f64, mask: impl Fn(usize, usize, usize) -> f64) -> Vec<f64> {
    let r = q.dims().len();
    let (s, d, t, e) = (q.dims()[r - 2], q.dims()[r - 1], k.dims()[r - 2], v.dims()[r - 1]);
    let heads: usize = q.dims()[..r - 2].iter().product();
    let (q, k, v) = (q.values(), k.values(), v.values());
    let mut out = vec![0.0; heads * s * e];
    for h in 0..heads {
        for i in 0..s {
            let score: Vec<f64> = (0..t)
                .map(|j| {
                    let dot: f64 =
                        (0..d).map(|c| q[(h * s + i) * d + c] * k[(h * t + j) * d + c]).sum();
                    dot * scale + mask(h, i, j)
                })
                .collect();
            let m = score.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            if m == f64::NEG_INFINITY {
                continue;
            }
            let total: f64 = score.iter().map(|x| (x - m).exp()).sum();
            for j in 0..t {
                for c in 0..e {
                    out[(h * s + i) * e + c] +=
                        (score[j] - m).exp() / total * v[(h * t + j) * e + c];
                }
            }
        }
    }
    out
}

fn qkv(dtype: DType, lead: &[usize], s: usize, t: usize, d: usize, e: usize) -> [T; 3] {
    let of = |n: usize, c: usize, seed| T::random(dtype, &[lead, &[n, c]].concat(), seed);
    [of(s, d, 1), of(t, d, 2), of(t, e, 3)]
}

const HIDDEN: f64 = f64::NEG_INFINITY;

#[test]
fn attention_plain_and_causal() {
    for dtype in [F32, F64] {
        for (lead, s, t, d, e) in [
            (&[][..], 1, 1, 1, 1),
            (&[2, 3], 5, 7, 4, 6),
            (&[2], 130, 300, 72, 72),
            (&[1, 2], 97, 128, 33, 1),
            (&[2], 4, 0, 3, 2),
            (&[0, 2], 4, 3, 3, 2),
            (&[2], 200, 150, 16, 8),
        ] {
            let [q, k, v] = qkv(dtype, lead, s, t, d, e);
            let scale = 1.0 / (d as f64).sqrt();
            let got = run(Op::Attention, &[&q, &k, &v], &Attrs::NONE);
            close(Op::Attention, &got, &attend(&q, &k, &v, scale, |_, _, _| 0.0));
            let attrs = Attrs::NONE.with_int(AttrKey::Causal, 1).with_float(AttrKey::Scale, 3.0);
            let got = run(Op::Attention, &[&q, &k, &v], &attrs);
            let causal = |_, i, j| if j + s <= i + t { 0.0 } else { HIDDEN };
            close(Op::Attention, &got, &attend(&q, &k, &v, 3.0, causal));
        }
    }
}

#[test]
fn attention_masks_broadcast_and_may_hide_everything() {
    let (b, h, s, t) = (2, 3, 100, 140);
    let [q, k, v] = qkv(F32, &[b, h], s, t, 8, 5);
    for dims in [&[b, h, s, t][..], &[b, 1, 1, t], &[h, s, 1], &[s, t], &[1, 1, 1, 1], &[t], &[]] {
        let full = [&vec![1; 4 - dims.len()][..], dims].concat();
        let n: usize = dims.iter().product();
        let at = |head: usize, i: usize, j: usize| {
            let own = [head / h, head % h, i, j];
            (0..4).fold(0, |at, a| at * full[a] + if full[a] == 1 { 0 } else { own[a] })
        };
        // the first half hides everything, so whole rows and whole key blocks vanish
        let keep: Vec<f64> = noise(n, 7)
            .iter()
            .enumerate()
            .map(|(i, x)| f64::from(u8::from(*x > 0.0 && i > n / 2)))
            .collect();
        let mask = T::new(Bool, dims, &keep);
        let got = run(Op::Attention, &[&q, &k, &v, &mask], &Attrs::NONE);
        let want = |hide: &dyn Fn(usize) -> f64| {
            attend(&q, &k, &v, 8f64.powf(-0.5), |a, i, j| hide(at(a, i, j)))
        };
        close(Op::Attention, &got, &want(&|i| if keep[i] != 0.0 { 0.0 } else { HIDDEN }));
        let add: Vec<f64> =
            keep.iter().zip(noise(n, 9)).map(|(k, x)| if *k != 0.0 { x } else { HIDDEN }).collect();
        let mask = T::new(F32, dims, &add);
        let got = run(Op::Attention, &[&q, &k, &v, &mask], &Attrs::NONE);
        close(Op::Attention, &got, &want(&|i| add[i]));
    }
}

#[test]
fn attention_of_a_sample_stands_alone() {
    let [q, k, v] = qkv(F32, &[20, 2], 100, 133, 24, 24);
    for causal in [0, 1] {
        let attrs = Attrs::NONE.with_int(AttrKey::Causal, causal);
        rows_stand_alone(Op::Attention, &[(&q, true), (&k, true), (&v, true)], |_| attrs.clone());
    }
}
