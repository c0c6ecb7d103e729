//! What a test put, held to the manifest: |got - want| <= atol + rtol |want| for every element, or equal where the
//! manifest says exact. Gradients by parameter are held to their norm, their sum and the elements sampled of them.

use crate::Answer;
use crate::array::Array;
use crate::case::{Test, Tolerance};
use serde_json::Value;
use std::collections::BTreeMap;

/// Relative tolerance of gradients, and the absolute one in parts of the largest element (the oracle's rule).
const GRAD_RTOL: f64 = 1e-3;
const GRAD_ATOL: f64 = 1e-5;
const LEAST_ATOL: f64 = 1e-6;

/// Outputs and gradients of a test.
#[derive(Default)]
pub(crate) struct Got {
    outputs: BTreeMap<String, Array>,
    grads: BTreeMap<String, Array>,
    /// Compared by the test itself: what it is about has no tensors.
    pub judged: bool,
}

impl Got {
    pub(crate) fn put(&mut self, name: &str, value: Array) {
        self.outputs.insert(name.to_owned(), value);
    }

    /// The gradient by a parameter, under the name of the manifest's table.
    pub(crate) fn put_grad(&mut self, name: &str, value: Array) {
        self.grads.insert(name.to_owned(), value);
    }
}

pub(crate) fn check(test: &Test, got: &Got) -> Answer {
    let mut faults = Vec::new();
    for (name, tolerance) in &test.outputs {
        let want = test.expected(name)?;
        let parameter = name.strip_prefix("grad.").and_then(|n| got.grads.get(n));
        match got.outputs.get(name).or(parameter) {
            Some(value) => faults.extend(fault(name, value, &want, tolerance)),
            None => faults.push(format!("{name} is missing")),
        }
    }
    if let Some(path) = &test.grads {
        let table = test.json(path)?;
        for (name, row) in table["params"].as_object().into_iter().flatten() {
            match got.grads.get(name) {
                Some(value) => faults.extend(grad_fault(name, value, row)),
                None if row["l2"].as_f64() == Some(0.0) => {} // a parameter the loss does not reach
                None => faults.push(format!("gradient by {name} is missing")),
            }
        }
    }
    if test.outputs.is_empty() && test.grads.is_none() && !got.judged {
        faults.push("nothing was compared".into());
    }
    if faults.is_empty() {
        return Ok(());
    }
    let more = faults.len().saturating_sub(4);
    faults.truncate(4);
    if more > 0 {
        faults.push(format!("and {more} more"));
    }
    Err(faults.join("; "))
}

fn fault(name: &str, got: &Array, want: &Array, t: &Tolerance) -> Option<String> {
    if got.dims != want.dims {
        return Some(format!("{name} is {:?}, want {:?}", got.dims, want.dims));
    }
    // how far, in parts of what is allowed
    let excess = |(g, w): (&f64, &f64)| {
        let same = g == w || (g.is_nan() && w.is_nan());
        match t.exact || (t.atol == 0.0 && t.rtol == 0.0) {
            true => f64::from(u8::from(!same)) * 2.0,
            false if same => 0.0,
            false => (g - w).abs() / (t.atol + t.rtol * w.abs()),
        }
    };
    let parts: Vec<f64> = got.values.iter().zip(&want.values).map(excess).collect();
    let bad = parts.iter().filter(|p| p.is_nan() || **p > 1.0).count();
    let first = parts.iter().position(|p| p.is_nan() || *p > 1.0)?;
    let most = parts.iter().fold(0.0_f64, |m, p| m.max(*p));
    Some(format!(
        "{name}: {bad} of {} differ, by up to {most:.3} of what is allowed; [{first}] is {}, want {}",
        parts.len(),
        got.values[first],
        want.values[first]
    ))
}

fn grad_fault(name: &str, got: &Array, row: &Value) -> Option<String> {
    let list = |key: &str| -> Vec<f64> {
        row[key].as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
    };
    let dims: Vec<usize> = list("shape").iter().map(|d| *d as usize).collect();
    if got.dims != dims {
        return Some(format!("gradient by {name} is {:?}, want {dims:?}", got.dims));
    }
    let (indices, values) = (list("idx"), list("val"));
    let largest = values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let atol = (GRAD_ATOL * largest).max(LEAST_ATOL);
    let near = |got: f64, want: f64, atol: f64| (got - want).abs() <= atol + GRAD_RTOL * want.abs();
    for (i, want) in indices.iter().zip(&values) {
        let found = got.values.get(*i as usize).copied().unwrap_or(f64::NAN);
        if !near(found, *want, atol) {
            return Some(format!("gradient by {name}: [{i}] is {found}, want {want}"));
        }
    }
    let n = got.values.len() as f64;
    let l2 = got.values.iter().map(|v| v * v).sum::<f64>().sqrt();
    let want = row["l2"].as_f64()?;
    if !near(l2, want, LEAST_ATOL * n.sqrt()) {
        return Some(format!("gradient by {name}: its norm is {l2}, want {want}"));
    }
    // elements of either sign cancel: what is left of each one's tolerance is of the size of the norm
    let (sum, sum_want) = (got.values.iter().sum::<f64>(), row["sum"].as_f64()?);
    if !near(sum, sum_want, n.sqrt() * (GRAD_ATOL * want + LEAST_ATOL)) {
        return Some(format!("gradient by {name}: its sum is {sum}, want {sum_want}"));
    }
    None
}
