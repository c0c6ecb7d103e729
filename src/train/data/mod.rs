//! Data for training: named tables of examples in memory, the readers that make them, and how they meet the components
//! and conditions of a model.

pub mod column;
pub mod csv;
pub mod date;
pub mod order;
pub mod panel;
pub mod png;
pub mod reader;
pub mod stored;
pub mod tables;
pub mod window;
pub mod windowed;

pub use column::Column;
pub use csv::Series;
pub use date::Stamp;
pub use order::Permutation;
pub use panel::Panel;
pub use reader::{READERS, Read, Reader, Source};
pub use tables::Tables;
pub use window::{Split, Windows, windows};

use crate::bail;
use crate::base::Result;
use crate::mem::Tensor;

/// Examples in memory, as a model takes them: row i of every column belongs to example i.
#[derive(Debug)]
pub struct Dataset {
    /// One per component of the state.
    pub x: Vec<Column>,
    /// One per condition of the model, and behind them what examples are worth where the objective reads that.
    pub cond: Vec<Column>,
    rows: Rows,
}

/// Which rows of the columns are examples.
#[derive(Debug, Clone, Copy)]
enum Rows {
    All(usize),
    /// `len` positions of a random order from `first` on: a part set aside is never stored.
    Part {
        order: Permutation,
        first: usize,
        len: usize,
    },
}

/// Epoch of the order that sets examples aside: none that training reaches.
const ASIDE: u32 = u32::MAX;

impl Dataset {
    /// Columns of plain rows.
    pub fn new(x: Vec<Tensor>, cond: Vec<Tensor>) -> Result<Self> {
        let rows = |t: Vec<Tensor>| t.into_iter().map(Column::rows).collect::<Result<Vec<_>>>();
        Self::of(rows(x)?, rows(cond)?)
    }

    pub fn of(x: Vec<Column>, cond: Vec<Column>) -> Result<Self> {
        let len = x.first().map_or(0, Column::len);
        for c in x.iter().chain(&cond) {
            if c.len() != len {
                bail!(Invalid, "a data table is {}, want {len} rows", c.desc());
            }
        }
        Ok(Self { x, cond, rows: Rows::All(len) })
    }

    /// Sets a share of the examples aside, chosen by `seed`: (the others, the share).
    pub fn aside(self, share: f64, seed: u64) -> (Self, Self) {
        let n = self.len();
        let held = ((n as f64 * share).round() as usize).min(n);
        let order = Permutation::new(n as u64, seed, ASIDE);
        let part = |first, len| Self {
            x: self.x.clone(),
            cond: self.cond.clone(),
            rows: Rows::Part { order, first, len },
        };
        (part(held, n - held), part(0, held))
    }

    pub fn len(&self) -> usize {
        match self.rows {
            Rows::All(len) | Rows::Part { len, .. } => len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where example `i` stands in the columns.
    pub fn position(&self, i: usize) -> usize {
        match self.rows {
            Rows::All(_) => i,
            Rows::Part { order, first, .. } => order.at((first + i) as u64) as usize,
        }
    }

    /// What tells two datasets with the same columns apart.
    pub fn part(&self) -> (usize, usize) {
        match self.rows {
            Rows::All(len) => (0, len),
            Rows::Part { first, len, .. } => (first, len),
        }
    }

    /// The elements of row `i` of a column; an error when there is no such row.
    pub fn row(column: &Column, i: usize) -> Result<&[f32]> {
        column.floats(i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::Budget;

    #[test]
    fn what_is_set_aside_is_not_trained_on() {
        let values: Vec<f32> = (0..23).map(|i| i as f32).collect();
        let table = Tensor::from_f32(&[23], &values, &Budget::unlimited()).unwrap();
        let (train, held) = Dataset::new(vec![table], vec![]).unwrap().aside(0.2, 4);
        assert_eq!((train.len(), held.len()), (18, 5));
        let mut all: Vec<usize> = (0..18).map(|i| train.position(i)).collect();
        all.extend((0..5).map(|i| held.position(i)));
        let in_order = all.clone();
        all.sort_unstable();
        assert_eq!(all, (0..23).collect::<Vec<_>>());
        assert_ne!(in_order, all);
    }
}
