//! Named tables: what a reader, or a host, gives. Row i of each belongs to example i. Taken in strictly: floats become
//! f32, whole numbers i32, and nothing that is not finite gets past.

use crate::base::{DType, Desc, Result};
use crate::mem::{Budget, Tensor};
use crate::weights::convert;
use crate::{bail, fail};
use std::sync::Arc;

/// Most tables of one training.
const MOST: usize = 256;

/// Tables by name, in the order they were given.
#[derive(Debug, Clone, Default)]
pub struct Tables(Vec<(String, Arc<Tensor>)>);

impl Tables {
    /// Adds a table: f32 and i32 as they are, other floats as f32, other whole numbers as i32.
    pub fn add(&mut self, name: &str, table: Arc<Tensor>, budget: &Arc<Budget>) -> Result<()> {
        let desc = table.desc();
        if name.is_empty() || self.get(name).is_some() {
            bail!(Invalid, "two tables are named {name:?}, or one has no name");
        }
        if self.0.len() == MOST {
            bail!(Unsupported, "more than {MOST} tables");
        }
        let Some(&n) = desc.dims().first() else {
            bail!(Invalid, "table {name} is {desc}, want one row per example");
        };
        if let Some((first, other)) = self.0.first()
            && other.dims().first() != Some(&n)
        {
            bail!(Invalid, "table {name} has {n} rows, {first} has {}", self.len());
        }
        let table = match desc.dtype {
            DType::F32 | DType::I32 => table,
            _ => Arc::new(taken_in(&table, budget).map_err(|e| e.within(format!("table {name}")))?),
        };
        if desc.dtype.is_float() {
            let values = table.elements::<f32>()?;
            if let Some(i) = values.iter().position(|v| !v.is_finite()) {
                let row = i / (values.len() / n.max(1)).max(1);
                bail!(Invalid, "table {name}: a value of example {row} is {}", values[i]);
            }
        }
        self.0.push((name.to_owned(), table));
        Ok(())
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Tensor>> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, t)| t)
    }

    /// Takes a table out.
    pub fn take(&mut self, name: &str) -> Option<Arc<Tensor>> {
        let at = self.0.iter().position(|(n, _)| n == name)?;
        Some(self.0.remove(at).1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Tensor>)> {
        self.0.iter().map(|(n, t)| (n.as_str(), t))
    }

    /// Names with their types, for a message.
    pub fn listed(&self) -> String {
        let row = |(n, t): &(String, Arc<Tensor>)| format!("{n} {}", t.desc());
        self.0.iter().map(row).collect::<Vec<_>>().join(", ")
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.0.first().and_then(|(_, t)| t.dims().first().copied()).unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A copy in f32 or i32.
fn taken_in(table: &Tensor, budget: &Arc<Budget>) -> Result<Tensor> {
    let from = table.desc();
    if from.dtype.is_float() {
        return convert::converted(table, DType::F32, budget);
    }
    let mut out = Tensor::new(Desc { dtype: DType::I32, shape: from.shape }, budget)?;
    let width = from.dtype.bytes();
    let wide = |bytes: &[u8]| match bytes.try_into() {
        Ok(eight) => i64::from_ne_bytes(eight),
        Err(_) => i64::from(bytes.first().copied().unwrap_or(0)), // u8 and bool
    };
    let cells = out.bytes_mut().chunks_exact_mut(4).zip(table.bytes().chunks_exact(width));
    for (to, bytes) in cells {
        let v = wide(bytes);
        let small = i32::try_from(v).map_err(|_| fail!(Invalid, "{v} is no i32"))?;
        to.copy_from_slice(&small.to_ne_bytes());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor<T: bytemuck::Pod>(dtype: DType, dims: &[usize], values: &[T]) -> Arc<Tensor> {
        let desc = Desc::new(dtype, dims).unwrap();
        Arc::new(
            Tensor::from_bytes(desc, bytemuck::cast_slice(values), &Budget::unlimited()).unwrap(),
        )
    }

    #[test]
    fn types_are_narrowed_and_rows_agree() {
        let budget = Budget::unlimited();
        let mut t = Tables::default();
        t.add("x", tensor(DType::F64, &[2, 1], &[1.5f64, 2.5]), &budget).unwrap();
        t.add("label", tensor(DType::I64, &[2], &[3i64, -1]), &budget).unwrap();
        assert_eq!(t.get("x").unwrap().elements::<f32>().unwrap(), [1.5, 2.5]);
        assert_eq!(t.get("label").unwrap().elements::<i32>().unwrap(), [3, -1]);
        let mut refuse = |name: &str, table| t.add(name, table, &budget).unwrap_err().message;
        let short = tensor(DType::F32, &[1], &[0f32]);
        assert_eq!(refuse("y", Arc::clone(&short)), "table y has 1 rows, x has 2");
        assert!(refuse("x", short).starts_with("two tables are named \"x\""));
        let big = tensor(DType::I64, &[2], &[1i64 << 40, 0]);
        assert_eq!(refuse("z", big), "table z: 1099511627776 is no i32");
        let odd = tensor(DType::F32, &[2, 2], &[0f32, 1.0, f32::NAN, 0.0]);
        assert_eq!(refuse("w", odd), "table w: a value of example 1 is NaN");
    }
}
