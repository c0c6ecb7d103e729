//! Kernels that work by tiles, at sizes that fill several: the digits they keep, and that no row knows of another.

use crate::machine;
use crate::once::{decoded, run_on};
use diffx::base::{DType, Desc, Shape};
use diffx::cpu::Cpu;
use diffx::graph::reference::{element, encode};
use diffx::graph::{AttrKey, Attrs, Graph, NodeId, Op};

/// Most that is lost, of the sum of what is added, by size.
const LOST: f64 = 2e-6;

fn desc(dims: &[usize], dtype: DType) -> Desc {
    Desc { shape: Shape::new(dims).unwrap(), dtype }
}

/// Numbers between -1 and 1 that look like none in particular.
fn values(n: usize, first: usize, dtype: DType) -> Vec<u8> {
    above(-1.0, n, first, dtype)
}

/// Such numbers between `least` and 1.
fn above(least: f64, n: usize, first: usize, dtype: DType) -> Vec<u8> {
    let mut bytes = Vec::new();
    for i in first..first + n {
        let word =
            (i as u32 + 1).wrapping_mul(2_654_435_761) ^ (i as u32).wrapping_mul(0x9E37_79B1) >> 7;
        encode(dtype, least + f64::from(word) / 2f64.powi(32) * (1.0 - least), &mut bytes);
    }
    bytes
}

fn numbers(bytes: &[u8], dtype: DType) -> Vec<f64> {
    bytes.chunks_exact(dtype.bytes()).map(|b| element(dtype, b)).collect()
}

/// The f32 operand is cut in three, not rounded: what is lost is what the tensor cores cut off while they add, of 32
/// products at the most. A long sum of numbers above 0 loses no more of itself, though all of that is to one side.
#[test]
fn weights_of_bf16_cost_the_other_operand_no_digits() {
    let Some(device) = machine::device(0) else { return };
    let cases = [
        (1, 8, 16, false, -1.0),
        (65, 70, 83, false, -1.0),
        (130, 33, 64, true, -1.0),
        (3, 4096, 8, true, 0.0),
    ];
    for (m, k, n, turned, least) in cases {
        let mut g = Graph::new(m, DType::F32);
        let x = g.input("x", desc(&[m, k], DType::F32));
        let w = g.input("w", desc(&if turned { [n, k] } else { [k, n] }, DType::BF16));
        let y = g.emit(Op::MatMul, &[x, w], Attrs::NONE.with_int(AttrKey::TransB, turned.into()));
        g.check().unwrap();
        let inputs = [above(least, m * k, 0, DType::F32), above(least, k * n, 5000, DType::BF16)];
        let got = run_on(device.clone(), true, &g, &inputs, &[y]).unwrap().remove(0);
        let (x, w) = (numbers(&inputs[0], DType::F32), numbers(&inputs[1], DType::BF16));
        let mut worst = 0.0f64;
        for (at, got) in numbers(&got, DType::F32).iter().enumerate() {
            let (row, column) = (at / n, at % n);
            let terms = (0..k)
                .map(|i| x[row * k + i] * w[if turned { column * k + i } else { i * n + column }]);
            let (sum, size) = terms.fold((0.0, 0.0), |(s, a), t| (s + t, a + f64::abs(t)));
            worst = worst.max((got - sum).abs() / size);
            assert!(worst <= LOST, "{m} {k} {n}: {at}: {got}, want {sum}");
        }
        println!("cuda: matmul_bf16 {m} x {k} x {n}: {worst:e} of the sum of sizes");
    }
}

/// Queries and keys that end inside a tile, more keys than one, every kind of mask.
fn attention(heads: usize, mask: Option<DType>, causal: bool) -> (Graph, Vec<Vec<u8>>, NodeId) {
    let (s, t, d, e) = (37, 75, 12, 20);
    let mut g = Graph::new(heads, DType::F32);
    let q = g.input("q", desc(&[heads, s, d], DType::F32));
    let k = g.input("k", desc(&[heads, t, d], DType::F32));
    let v = g.input("v", desc(&[heads, t, e], DType::F32));
    let mut bytes = vec![
        values(heads * s * d, 0, DType::F32),
        values(heads * t * d, 30_000, DType::F32),
        values(heads * t * e, 90_000, DType::F32),
    ];
    let mut inputs = vec![q, k, v];
    if let Some(dtype) = mask {
        inputs.push(g.input("mask", desc(&[s, t], dtype)));
        let mut to = Vec::new();
        for i in 0..s * t {
            // one query attends to nothing
            let seen = i % 3 != 0 && i / t != 5;
            let value = match dtype {
                DType::Bool => f64::from(u8::from(seen)),
                _ if seen => (i % 7) as f64 / 4.0,
                _ => f64::NEG_INFINITY,
            };
            encode(dtype, value, &mut to);
        }
        bytes.push(to);
    }
    let y = g.emit(Op::Attention, &inputs, Attrs::NONE.with_int(AttrKey::Causal, causal.into()));
    g.check().unwrap();
    (g, bytes, y)
}

#[test]
fn attention_by_tiles_is_attention() {
    let Some(device) = machine::device(0) else { return };
    for mask in [None, Some(DType::Bool), Some(DType::F32)] {
        for causal in [false, true] {
            let (g, inputs, y) = attention(3, mask, causal);
            let run = || run_on(device.clone(), true, &g, &inputs, &[y]).unwrap().remove(0);
            let got = run();
            let cpu = std::sync::Arc::new(Cpu::new(1));
            let want = run_on(cpu, true, &g, &inputs, &[y]).unwrap().remove(0);
            for (got, want) in decoded(&g, y, &got).iter().zip(decoded(&g, y, &want)) {
                assert!((got - want).abs() <= 1e-6, "{mask:?} {causal}: {got}, the CPU has {want}");
            }
            // the first head alone is the same bits
            let (one, inputs_of_one, y) = attention(1, mask, causal);
            let first: Vec<Vec<u8>> = inputs
                .iter()
                .zip(&inputs_of_one)
                .map(|(all, one)| all[..one.len()].to_vec())
                .collect();
            let alone = run_on(device.clone(), true, &one, &first, &[y]).unwrap().remove(0);
            assert_eq!(alone[..], got[..alone.len()]);
            if let (false, Some(driver)) = (machine::is_real(), machine::driver()) {
                machine::order(driver, 1);
                let down = run();
                machine::order(driver, 0);
                assert!(down == got, "{mask:?} {causal}: the order of threads shows");
            }
        }
    }
}
