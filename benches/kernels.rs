//! CPU kernels on one thread, in work per second of the thread's own CPU time: wall time on a shared machine measures
//! the neighbours.

use bytemuck::{Pod, Zeroable};
use diffx::base::{DType, Desc};
use diffx::cpu::kernel::split::Share;
use diffx::cpu::{Call, In, Out, Pool, kernel};
use diffx::exec::RunKey;
use diffx::graph::{AttrKey, Attrs, Graph, Op};

#[derive(Clone, Copy, Zeroable, Pod)]
#[repr(C, align(64))]
struct Line([u8; 64]);

fn lines(bytes: usize) -> Vec<Line> {
    vec![Line([0x3c; 64]); bytes.div_ceil(64)] // 0x3c3c..: a small number in every float type
}

/// Seconds of CPU this thread has used.
fn cpu_seconds() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // Safety: the clock exists on Linux and writes the struct.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

/// Prints billions of `work` per CPU second: the median of some runs.
fn report(name: &str, work: f64, op: Op, inputs: &[(DType, &[usize])], attrs: Attrs) {
    let mut g = Graph::new(inputs[0].1[0], DType::F32);
    let descs: Vec<Desc> = inputs.iter().map(|(t, d)| Desc::new(*t, d).expect("a shape")).collect();
    let nodes: Vec<_> = descs.iter().map(|d| g.input("x", *d)).collect();
    let id = g.emit(op, &nodes, attrs);
    g.check().expect("a valid op");
    let node = g.node(id);
    let data: Vec<Vec<Line>> = descs.iter().map(|d| lines(d.bytes())).collect();
    let ins: Vec<In<'_>> = descs
        .iter()
        .zip(&data)
        .map(|(d, x)| In { desc: *d, data: &bytemuck::cast_slice(x)[..d.bytes()] })
        .collect();
    let (out_bytes, pool) = (node.desc.bytes(), Pool::new(1));
    let bytes = kernel::scratch_bytes(op, &node.attrs, &descs, node.desc, 1);
    let (mut scratch, mut out) = (lines(bytes), lines(out_bytes));
    let mut times = Vec::new();
    let begin = cpu_seconds();
    while times.len() < 5 || (cpu_seconds() - begin < 0.4 && times.len() < 500) {
        let start = cpu_seconds();
        kernel::run(&mut Call {
            op,
            attrs: &node.attrs,
            inputs: &ins,
            out: Out {
                desc: node.desc,
                data: &mut bytemuck::cast_slice_mut(&mut out)[..out_bytes],
            },
            scratch: &mut bytemuck::cast_slice_mut(&mut scratch)[..bytes],
            pool: &pool,
            share: Share::ALL,
            key: RunKey { seed: 1, step: 0, first_sample: 0 },
        })
        .expect("a run");
        times.push(cpu_seconds() - start);
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!("{name:44} {:8.1} G/s {:10.1} us", work / median * 1e-9, median * 1e6);
}

fn main() {
    use DType::{BF16, F32, F64};
    let trans = || Attrs::NONE.with_int(AttrKey::TransB, 1);
    println!("matmul, x[m,k] w[n,k]^T, floating point operations");
    for (m, k, n) in
        [(256, 1152, 4608), (4096, 1536, 1536), (64, 256, 1024), (1, 1152, 4608), (8, 64, 64)]
    {
        let work = 2.0 * (m * k * n) as f64;
        let shapes: [&[usize]; 2] = [&[m, k], &[n, k]];
        for (x, w) in [(F32, F32), (F32, BF16), (F64, F64)] {
            let name = format!("{m} x {k} x {n}, {x} by {w}");
            report(&name, work, Op::MatMul, &[(x, shapes[0]), (w, shapes[1])], trans());
        }
    }
    println!("convolution 3x3 with padding, floating point operations");
    for (c, o, side) in [(128, 128, 32), (32, 32, 16), (320, 320, 64)] {
        let (x, w, y) = ([1, c, side, side], [o, c, 3, 3], [1, o, side, side]);
        let work = 2.0 * (o * c * 9 * side * side) as f64;
        let pad = Attrs::NONE.with_ints(AttrKey::Padding, [1, 1]);
        let name = |what| format!("{what} {c} to {o}, {side}x{side}");
        report(&name("forward"), work, Op::Conv, &[(F32, &x), (F32, &w)], pad.clone());
        let attrs = pad.clone().with_dims(AttrKey::Shape, &x);
        report(&name("by input"), work, Op::ConvInputGrad, &[(F32, &y), (F32, &w)], attrs);
        let attrs = pad.with_dims(AttrKey::Shape, &w);
        report(&name("by weight"), work, Op::ConvWeightGrad, &[(F32, &x), (F32, &y)], attrs);
    }
    println!("attention, floating point operations of the two products");
    for (heads, s, d) in [(16, 256, 72), (4, 1024, 64), (4, 64, 16)] {
        let q: &[usize] = &[heads, s, d];
        let work = 4.0 * (heads * s * s * d) as f64;
        let name = format!("{heads} heads, {s} positions, {d} wide");
        report(&name, work, Op::Attention, &[(F32, q); 3], Attrs::NONE);
    }
    println!("along rows of 1152, bytes read and written");
    let x: [usize; 2] = [1024, 1152];
    let bytes = (2 * x[0] * x[1] * 4) as f64;
    let eps = Attrs::NONE.with_float(AttrKey::Epsilon, 1e-6);
    let row: [usize; 1] = [1152];
    report("layer_norm", bytes, Op::LayerNorm, &[(F32, &x), (F32, &row), (F32, &row)], eps);
    let axis = Attrs::NONE.with_int(AttrKey::Axis, 1);
    report("softmax", bytes, Op::Softmax, &[(F32, &x)], axis.clone());
    report("sum", bytes / 2.0, Op::Sum, &[(F32, &x)], Attrs::NONE.with_ints(AttrKey::Axes, [1]));
    let down = Attrs::NONE.with_ints(AttrKey::Axes, [0]);
    report("sum down the columns", bytes / 2.0, Op::Sum, &[(F32, &x)], down);
    let perm = Attrs::NONE.with_ints(AttrKey::Perm, [1, 0]);
    report("transpose", bytes, Op::Transpose, &[(F32, &x)], perm);
    report("argsort", bytes / 2.0, Op::ArgSort, &[(F32, &x)], axis);
}
