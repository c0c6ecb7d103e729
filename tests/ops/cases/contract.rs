//! Matmul, the convolutions, attention.

use super::{Bench, Cases, Kind};
use diffx::base::DType;
use diffx::graph::{AttrKey, Attrs, NodeId, Op};

pub(super) fn add(cases: &mut Cases) {
    matmul(cases);
    convolution(cases);
    attention(cases);
}

fn matmul(cases: &mut Cases) {
    let swap = |lead: &[usize], rows: usize, cols: usize, swapped: i64| {
        let last = if swapped == 1 { [cols, rows] } else { [rows, cols] };
        [lead, &last].concat()
    };
    // leading axes of a and of b, then m, k, n
    let shapes: &[(&[usize], &[usize], [usize; 3], Kind)] = &[
        (&[], &[], [1, 1, 1], Kind::Smooth),
        (&[], &[], [3, 4, 5], Kind::Smooth),
        (&[2], &[], [2, 3, 4], Kind::Smooth),
        (&[2], &[2], [2, 3, 2], Kind::Smooth),
        (&[2, 1], &[1, 3], [2, 1, 2], Kind::Smooth),
        (&[], &[2], [2, 3, 1], Kind::Smooth),
        (&[2], &[1], [1, 3, 2], Kind::Smooth),
        (&[], &[], [0, 3, 2], Kind::Values),
        (&[], &[], [2, 0, 3], Kind::Values),
        (&[], &[], [1, 300, 17], Kind::Values),
        (&[], &[], [33, 65, 47], Kind::Values),
        (&[], &[], [128, 96, 64], Kind::Values),
        (&[3], &[], [17, 40, 24], Kind::Values),
        (&[3, 2], &[3, 2], [9, 16, 31], Kind::Values),
        (&[3, 1], &[4], [5, 7, 9], Kind::Values),
    ];
    for &(lead_a, lead_b, [m, k, n], kind) in shapes {
        for flags in 0..4 {
            let (ta, tb) = (flags & 1, flags >> 1);
            let attrs = Attrs::NONE.with_int(AttrKey::TransA, ta).with_int(AttrKey::TransB, tb);
            let label = format!("{lead_a:?} {lead_b:?} {m}x{k}x{n} flags {flags}");
            cases.add(Op::MatMul, &label, kind, |b| {
                let x = b.spread(&swap(lead_a, m, k, ta), -1.0, 1.0);
                let y = b.spread(&swap(lead_b, k, n, tb), -1.0, 1.0);
                b.emit(Op::MatMul, &[x, y], attrs.clone())
            });
            for half in [None, Some(DType::BF16), Some(DType::F16)] {
                let label = format!("{label} bias, weights {half:?}");
                cases.add(Op::MatMul, &label, kind, |b| {
                    let dtype = half.unwrap_or(b.float);
                    let x = b.spread(&swap(lead_a, m, k, ta), -1.0, 1.0);
                    let y = b.spread_as(dtype, &swap(lead_b, k, n, tb), -1.0, 1.0);
                    let bias = b.spread_as(dtype, &[n], -1.0, 1.0);
                    b.emit(Op::MatMul, &[x, y, bias], attrs.clone())
                });
            }
        }
    }
    for act in [Op::Relu, Op::Silu, Op::Gelu, Op::GeluTanh, Op::Sigmoid, Op::Tanh] {
        for ([m, k, n], kind) in [([2, 3, 4], Kind::Smooth), ([19, 33, 45], Kind::Values)] {
            for bias in [false, true] {
                let label = format!("{m}x{k}x{n} then {} bias {bias}", act.name());
                cases.add(Op::MatMul, &label, kind, |b| {
                    let mut all = vec![b.spread(&[m, k], -1.0, 1.0), b.spread(&[k, n], -1.0, 1.0)];
                    if bias {
                        all.push(b.spread(&[n], -1.0, 1.0));
                    }
                    let attrs = Attrs::NONE.with_int(AttrKey::Activation, i64::from(act.code()));
                    b.emit(Op::MatMul, &all, attrs)
                });
            }
        }
    }
}

/// Shapes and attributes of one convolution.
struct Geometry {
    x: &'static [usize],
    w: &'static [usize],
    stride: &'static [i64],
    padding: &'static [i64],
    dilation: &'static [i64],
    groups: i64,
    kind: Kind,
}

const fn conv(
    x: &'static [usize],
    w: &'static [usize],
    stride: &'static [i64],
    padding: &'static [i64],
    dilation: &'static [i64],
    groups: i64,
    kind: Kind,
) -> Geometry {
    Geometry { x, w, stride, padding, dilation, groups, kind }
}

const CONVOLUTIONS: &[Geometry] = &[
    conv(&[1, 1, 1], &[1, 1, 1], &[], &[], &[], 1, Kind::Smooth),
    conv(&[2, 2, 5], &[3, 2, 3], &[1], &[1], &[1], 1, Kind::Smooth),
    conv(&[1, 2, 6], &[2, 2, 2], &[2], &[0, 1], &[], 1, Kind::Smooth),
    conv(&[1, 4, 5], &[4, 1, 3], &[1], &[2], &[2], 4, Kind::Smooth),
    conv(&[2, 1, 3, 4], &[2, 1, 3, 3], &[1, 1], &[1, 1], &[], 1, Kind::Smooth),
    conv(&[1, 2, 4, 5], &[2, 1, 2, 3], &[2, 1], &[0, 1, 1, 2], &[1, 2], 2, Kind::Smooth),
    conv(&[1, 2, 5, 5], &[1, 2, 1, 1], &[3, 2], &[], &[], 1, Kind::Smooth),
    conv(&[2, 3, 3, 3], &[2, 3, 3, 3], &[], &[], &[], 1, Kind::Smooth),
    conv(&[3, 16, 33], &[24, 16, 5], &[1], &[2], &[], 1, Kind::Values),
    conv(&[2, 8, 17, 19], &[16, 8, 3, 3], &[1, 1], &[1, 1], &[], 1, Kind::Values),
    conv(&[2, 8, 16, 16], &[12, 4, 3, 3], &[2, 2], &[1, 1], &[], 2, Kind::Values),
    conv(&[1, 8, 12, 12], &[8, 1, 3, 3], &[1, 1], &[2, 2], &[2, 2], 8, Kind::Values),
    conv(&[2, 16, 9, 9], &[32, 16, 1, 1], &[1, 1], &[], &[], 1, Kind::Values),
];

fn convolution(cases: &mut Cases) {
    for c in CONVOLUTIONS {
        let mut attrs = Attrs::NONE.with_int(AttrKey::Groups, c.groups);
        for (key, list) in [
            (AttrKey::Stride, c.stride),
            (AttrKey::Padding, c.padding),
            (AttrKey::Dilation, c.dilation),
        ] {
            if !list.is_empty() {
                attrs = attrs.with_ints(key, list);
            }
        }
        let label =
            format!("{:?} {:?} s{:?} p{:?} d{:?}", c.x, c.w, c.stride, c.padding, c.dilation);
        for half in [None, Some(DType::BF16)] {
            for bias in [false, true] {
                let label = format!("{label} bias {bias} weights {half:?}");
                cases.add(Op::Conv, &label, c.kind, |b| {
                    let dtype = half.unwrap_or(b.float);
                    let x = b.spread(c.x, -1.0, 1.0);
                    let w = b.spread_as(dtype, c.w, -1.0, 1.0);
                    let mut all = vec![x, w];
                    if bias {
                        all.push(b.spread_as(dtype, &[c.w[0]], -1.0, 1.0));
                    }
                    b.emit(Op::Conv, &all, attrs.clone())
                });
            }
            cases.add(Op::ConvInputGrad, &format!("{label} weights {half:?}"), c.kind, |b| {
                let w = b.spread_as(half.unwrap_or(b.float), c.w, -1.0, 1.0);
                let g = result_like(b, c, &attrs);
                b.emit(Op::ConvInputGrad, &[g, w], attrs.clone().with_dims(AttrKey::Shape, c.x))
            });
        }
        cases.add(Op::ConvWeightGrad, &label, c.kind, |b| {
            let x = b.spread(c.x, -1.0, 1.0);
            let g = result_like(b, c, &attrs);
            b.emit(Op::ConvWeightGrad, &[x, g], attrs.clone().with_dims(AttrKey::Shape, c.w))
        });
    }
}

/// An input with the shape of the convolution's result.
fn result_like(b: &mut Bench, c: &Geometry, attrs: &Attrs) -> NodeId {
    let float = b.float;
    let x = b.graph.full(0.0, float, c.x);
    let w = b.graph.full(0.0, float, c.w);
    let y = b.emit(Op::Conv, &[x, w], attrs.clone());
    let dims = b.graph.desc(y).dims().to_vec();
    b.spread(&dims, -1.0, 1.0)
}

fn attention(cases: &mut Cases) {
    // leading axes, then s, t, d, e
    let shapes: &[(&[usize], [usize; 4], Kind)] = &[
        (&[], [1, 1, 1, 1], Kind::Smooth),
        (&[], [3, 4, 2, 3], Kind::Smooth),
        (&[2], [3, 3, 2, 2], Kind::Smooth),
        (&[1, 2], [2, 3, 2, 1], Kind::Smooth),
        (&[], [3, 2, 2, 2], Kind::Smooth),
        (&[2, 3], [33, 33, 16, 16], Kind::Values),
        (&[2], [17, 65, 64, 32], Kind::Values),
        (&[1, 2], [130, 130, 32, 32], Kind::Values),
    ];
    for &(lead, [s, t, d, e], kind) in shapes {
        for causal in [0, 1] {
            // none, bool for all heads, additive per head
            for mask in 0..3 {
                let label = format!("{lead:?} s{s} t{t} d{d} e{e} causal {causal} mask {mask}");
                cases.add(Op::Attention, &label, kind, |b| {
                    let q = b.spread(&[lead, &[s, d]].concat(), -1.5, 1.5);
                    let k = b.spread(&[lead, &[t, d]].concat(), -1.5, 1.5);
                    let v = b.spread(&[lead, &[t, e]].concat(), -1.5, 1.5);
                    let mut all = vec![q, k, v];
                    let mut attrs = Attrs::NONE.with_int(AttrKey::Causal, causal);
                    match mask {
                        1 => all.push(b.whole(DType::Bool, &[s, t], 0, 1)),
                        2 => {
                            all.push(b.spread(&[lead, &[1, t]].concat(), -1.0, 1.0));
                            attrs = attrs.with_float(AttrKey::Scale, 0.3);
                        }
                        _ => {}
                    }
                    b.emit(Op::Attention, &all, attrs)
                });
            }
        }
    }
}
