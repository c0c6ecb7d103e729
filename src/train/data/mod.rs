//! Data for training: tables of examples in memory, and the readers that make them.

pub mod csv;
pub mod date;
pub mod order;
pub mod window;

pub use csv::Series;
pub use date::Stamp;
pub use order::Permutation;
pub use window::{Split, Windows, windows};

use crate::bail;
use crate::base::{DType, Result};
use crate::mem::Tensor;

/// Examples in memory: row i of every table belongs to example i.
#[derive(Debug)]
pub struct Dataset {
    /// f32 [examples, ...] per component of the state.
    pub x: Vec<Tensor>,
    /// f32 [examples, ...] per condition of the model.
    pub cond: Vec<Tensor>,
    len: usize,
}

impl Dataset {
    pub fn new(x: Vec<Tensor>, cond: Vec<Tensor>) -> Result<Self> {
        let rows = |t: &Tensor| t.dims().first().copied().unwrap_or(0);
        let len = x.first().map_or(0, rows);
        for t in x.iter().chain(&cond) {
            if t.desc().dtype != DType::F32 || rows(t) != len {
                bail!(Invalid, "a data table is {}, want f32 with {len} rows", t.desc());
            }
        }
        Ok(Self { x, cond, len })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements of row `i` of a table; an error when there is no such row.
    pub fn row(table: &Tensor, i: usize) -> Result<&[f32]> {
        let width: usize = table.dims().iter().skip(1).product();
        let all = table.elements::<f32>()?;
        match i.checked_mul(width).and_then(|at| all.get(at..at + width)) {
            Some(row) => Ok(row),
            None => bail!(Invalid, "row {i} is outside the table {}", table.desc()),
        }
    }
}
