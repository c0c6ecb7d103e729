//! The CPU generator of PyTorch: a list of calls of one generator, which the names of the outputs say in order.

use crate::array::Array;
use crate::case::Test;
use crate::compare::Got;
use crate::{Answer, Row};
use diffx::base::torch::Torch;

pub(crate) const KINDS: &[Row] = &[Row { kind: "rng.torch_cpu", cases: &[], run: calls }];

fn calls(test: &Test, got: &mut Got) -> Answer {
    let mut g = Torch::new(test.params["seed"].as_u64().ok_or("no seed")?);
    let mut names: Vec<&String> = test.outputs.iter().map(|o| &o.0).collect();
    names.sort();
    for name in names {
        let dims = test.expected(name)?.dims; // sizes alone: they are the call's argument
        let n: usize = dims.iter().product();
        let call = name.split_once('_').map_or("", |c| c.1);
        let numbers = |parts: &str| -> Vec<u64> {
            parts.split(['_', 'x']).filter_map(|p| p.parse().ok()).collect()
        };
        let values: Vec<f64> = if call.starts_with("randn64_") {
            let mut out = vec![0.0; n];
            g.normals_f64(&mut out);
            out
        } else if call.starts_with("randn_") {
            let mut out = vec![0.0f32; n];
            g.normals_f32(&mut out);
            let short = |v: &f32| match call {
                _ if call.starts_with("randn_half") => half::f16::from_f32(*v).to_f64(),
                _ if call.starts_with("randn_bf16") => half::bf16::from_f32(*v).to_f64(),
                _ => f64::from(*v),
            };
            out.iter().map(short).collect()
        } else if call.starts_with("rand64_") {
            (0..n).map(|_| g.uniform_f64()).collect()
        } else if call.starts_with("rand_") {
            (0..n).map(|_| f64::from(g.uniform_f32())).collect()
        } else if call.starts_with("randperm_") {
            g.permutation(n).iter().map(|v| *v as f64).collect()
        } else if let Some(ends) = call.strip_prefix("randint_") {
            let ends = match numbers(ends).as_slice() {
                [lo, hi] => (*lo, *hi),
                _ => (0, 1 << 40), // "big"
            };
            (0..n).map(|_| (ends.0 + g.below(ends.1 - ends.0)) as f64).collect()
        } else {
            return Err(format!("no call is named {name}"));
        };
        got.put(name, Array::new(&dims, values));
    }
    Ok(())
}
