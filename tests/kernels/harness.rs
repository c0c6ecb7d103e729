//! Tensors for tests, and one call of one kernel: shapes come from the graph, scratch and result start as garbage.

use bytemuck::{Pod, Zeroable};
use diffx::base::{DType, Desc, Result};
use diffx::cpu::kernel::split::Share;
use diffx::cpu::{Call, In, Out, Pool, kernel};
use diffx::exec::RunKey;
use diffx::graph::{Attrs, Graph, Op};

#[derive(Clone, Copy, Zeroable, Pod)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// 64-byte aligned bytes.
#[derive(Clone)]
pub(crate) struct Bytes(Vec<Line>, usize);

impl Bytes {
    pub(crate) fn garbage(n: usize) -> Self {
        Self(vec![Line([0xA5; 64]); n.div_ceil(64)], n)
    }
    pub(crate) fn get(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.0)[..self.1]
    }
    pub(crate) fn get_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.0)[..self.1]
    }
}

#[derive(Clone)]
pub(crate) struct T {
    pub(crate) desc: Desc,
    pub(crate) bytes: Bytes,
}

impl T {
    pub(crate) fn new(dtype: DType, dims: &[usize], values: &[f64]) -> Self {
        let desc = Desc::new(dtype, dims).unwrap();
        assert_eq!(desc.shape.elements(), values.len());
        let mut bytes = Bytes::garbage(desc.bytes());
        for (chunk, v) in bytes.get_mut().chunks_exact_mut(dtype.bytes()).zip(values) {
            match dtype {
                DType::F32 => chunk.copy_from_slice(&(*v as f32).to_ne_bytes()),
                DType::F64 => chunk.copy_from_slice(&v.to_ne_bytes()),
                DType::F16 => chunk.copy_from_slice(&half::f16::from_f64(*v).to_ne_bytes()),
                DType::BF16 => chunk.copy_from_slice(&half::bf16::from_f64(*v).to_ne_bytes()),
                DType::I32 => chunk.copy_from_slice(&(*v as i32).to_ne_bytes()),
                DType::I64 => chunk.copy_from_slice(&(*v as i64).to_ne_bytes()),
                DType::U8 | DType::Bool => chunk[0] = *v as u8,
            }
        }
        Self { desc, bytes }
    }

    /// Values in (-1, 1) that the type holds exactly.
    pub(crate) fn random(dtype: DType, dims: &[usize], seed: u32) -> Self {
        let n = dims.iter().product();
        Self::new(dtype, dims, &noise(n, seed))
    }

    pub(crate) fn values(&self) -> Vec<f64> {
        let read = |c: &[u8]| match self.desc.dtype {
            DType::F32 => f64::from(f32::from_ne_bytes(c.try_into().unwrap())),
            DType::F64 => f64::from_ne_bytes(c.try_into().unwrap()),
            DType::F16 => half::f16::from_ne_bytes(c.try_into().unwrap()).to_f64(),
            DType::BF16 => half::bf16::from_ne_bytes(c.try_into().unwrap()).to_f64(),
            DType::I32 => f64::from(i32::from_ne_bytes(c.try_into().unwrap())),
            DType::I64 => i64::from_ne_bytes(c.try_into().unwrap()) as f64,
            DType::U8 | DType::Bool => f64::from(c[0]),
        };
        self.bytes.get().chunks_exact(self.desc.dtype.bytes()).map(read).collect()
    }

    pub(crate) fn dims(&self) -> &[usize] {
        self.desc.dims()
    }

    /// The first `n` rows of axis 0.
    pub(crate) fn rows(&self, from: usize, to: usize) -> Self {
        let mut dims = self.dims().to_vec();
        let row = self.desc.bytes() / dims[0].max(1);
        dims[0] = to - from;
        let desc = Desc::new(self.desc.dtype, &dims).unwrap();
        let mut bytes = Bytes::garbage(desc.bytes());
        bytes.get_mut().copy_from_slice(&self.bytes.get()[from * row..to * row]);
        Self { desc, bytes }
    }
}

/// Multiples of 1/64 in (-1, 1): f16 and bf16 hold them exactly.
pub(crate) fn noise(n: usize, seed: u32) -> Vec<f64> {
    let mut s = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    (0..n)
        .map(|_| {
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from((s >> 16) % 127) / 64.0 - 63.0 / 64.0
        })
        .collect()
}

pub(crate) const KEY: RunKey = RunKey { seed: 42, step: 3, first_sample: 0 };

pub(crate) fn try_run(
    op: Op,
    inputs: &[&T],
    attrs: &Attrs,
    threads: usize,
    batch: usize,
    key: RunKey,
) -> Result<T> {
    in_shares(op, inputs, attrs, threads, batch, key, |_| 1)
}

/// As many shares as `count` makes of the kernel's own number.
fn in_shares(
    op: Op,
    inputs: &[&T],
    attrs: &Attrs,
    threads: usize,
    batch: usize,
    key: RunKey,
    count: impl Fn(usize) -> usize,
) -> Result<T> {
    let float = inputs.first().map_or(DType::F32, |t| t.desc.dtype);
    let mut g = Graph::new(batch, if float.is_compute_float() { float } else { DType::F32 });
    let nodes: Vec<_> = inputs.iter().map(|t| g.input("x", t.desc)).collect();
    let id = g.emit(op, &nodes, attrs.clone());
    g.check()?;
    let node = g.node(id);
    let descs: Vec<Desc> = inputs.iter().map(|t| t.desc).collect();
    let ins: Vec<In<'_>> =
        inputs.iter().map(|t| In { desc: t.desc, data: t.bytes.get() }).collect();
    let mut out = T { desc: node.desc, bytes: Bytes::garbage(node.desc.bytes()) };
    let pool = Pool::new(threads);
    let mut scratch =
        Bytes::garbage(kernel::scratch_bytes(op, &node.attrs, &descs, node.desc, pool.threads()));
    let of = count(kernel::shares(op, &node.attrs, &descs, node.desc));
    for index in 0..of {
        kernel::run(&mut Call {
            op,
            attrs: &node.attrs,
            inputs: &ins,
            out: Out { desc: node.desc, data: out.bytes.get_mut() },
            scratch: scratch.get_mut(),
            pool: &pool,
            share: Share { index, of },
            key,
        })?;
    }
    Ok(out)
}

/// Ops whose kernels are cut into shares where they are long.
const SHARED: &[Op] = &[
    Op::MatMul,
    Op::Conv,
    Op::ConvInputGrad,
    Op::Attention,
    Op::Softmax,
    Op::LogSoftmax,
    Op::LayerNorm,
    Op::RmsNorm,
    Op::GroupNorm,
    Op::Normal,
    Op::Uniform,
    Op::Gamma,
    Op::Poisson,
    Op::Categorical,
    Op::Brownian,
];

/// The result, the same bits with 1, 2 and 3 threads, and share by share.
pub(crate) fn run(op: Op, inputs: &[&T], attrs: &Attrs) -> T {
    let batch = inputs.first().and_then(|t| t.dims().first().copied()).unwrap_or(1);
    let one = try_run(op, inputs, attrs, 1, batch, KEY).unwrap();
    for threads in [2, 3] {
        let other = try_run(op, inputs, attrs, threads, batch, KEY).unwrap();
        assert!(one.bytes.get() == other.bytes.get(), "{} with {threads} threads", op.name());
    }
    if SHARED.contains(&op) {
        // few enough for one share: cut all the same
        let count = |own: usize| if own == 1 { 3 } else { own };
        let other = in_shares(op, inputs, attrs, 1, batch, KEY, count).unwrap();
        assert!(one.bytes.get() == other.bytes.get(), "{} in shares", op.name());
    }
    one
}

/// Compares by the tolerance of the op table.
pub(crate) fn close(op: Op, got: &T, want: &[f64]) {
    let tolerance = op.info().tolerance(got.desc.dtype);
    let got_values = got.values();
    assert_eq!(got_values.len(), want.len(), "{}", op.name());
    for (i, (g, w)) in got_values.iter().zip(want).enumerate() {
        let same = g == w || (g.is_nan() && w.is_nan());
        let near = (g - w).abs() <= tolerance * w.abs().max(1.0);
        assert!(same || near, "{} {}: element {i} is {g}, want {w}", op.name(), got.desc);
    }
}

/// The first row alone, and the first few rows, have the bits they have in the whole batch. `inputs[i].1` says whether
/// operand i has the batch on axis 0.
pub(crate) fn rows_stand_alone(op: Op, inputs: &[(&T, bool)], attrs: impl Fn(usize) -> Attrs) {
    let batch = inputs.iter().find(|i| i.1).unwrap().0.dims()[0];
    let all: Vec<&T> = inputs.iter().map(|i| i.0).collect();
    let whole = run(op, &all, &attrs(batch));
    for n in [1, 2, 3, 8] {
        let cut: Vec<T> =
            inputs.iter().map(|(t, b)| if *b { t.rows(0, n) } else { (*t).clone() }).collect();
        let part = run(op, &cut.iter().collect::<Vec<_>>(), &attrs(n));
        let len = part.bytes.get().len();
        assert!(part.bytes.get() == &whole.bytes.get()[..len], "{}: {n} of {batch}", op.name());
    }
}
