//! One column of examples as a model takes it: rows of a table as they are, or labels, written as numbers or one-hot
//! when a batch is filled, so that a label costs four bytes.

use crate::bail;
use crate::base::{DType, Desc, Result};
use crate::mem::Tensor;
use std::sync::Arc;

/// A table and how its rows become values.
#[derive(Debug, Clone)]
pub struct Column {
    table: Arc<Tensor>,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// f32 or i32, as they stand.
    Rows,
    /// Integers as floats.
    Numbers,
    /// Labels below the number, as so many floats.
    OneHot(usize),
}

impl Column {
    pub fn rows(table: Tensor) -> Result<Self> {
        Self::shared(Arc::new(table))
    }

    fn shared(table: Arc<Tensor>) -> Result<Self> {
        let desc = table.desc();
        if !matches!(desc.dtype, DType::F32 | DType::I32) || desc.shape.rank() == 0 {
            bail!(Invalid, "a data table is {desc}, want rows of f32 or i32");
        }
        Ok(Self { table, form: Form::Rows })
    }

    /// The table `name` as values of `want` (one example: without the batch).
    ///
    /// | table | wanted | gives |
    /// |---|---|---|
    /// | f32 or i32 rows | the same type and sizes, axes of 1 apart | the rows |
    /// | i32 `[n]` | float `[]` or `[1]` | the number |
    /// | i32 `[n]` | float `[k]` | one-hot; labels are 0 to k - 1 |
    pub fn fit(name: &str, table: &Arc<Tensor>, want: Desc) -> Result<Self> {
        let column = Self::shared(Arc::clone(table))?;
        let (have, float) = (table.desc(), want.dtype.is_float());
        let tight = |dims: &[usize]| dims.iter().copied().filter(|d| *d != 1).collect::<Vec<_>>();
        let (row, wanted) = (tight(have.dims().get(1..).unwrap_or_default()), tight(want.dims()));
        if row == wanted && float == (have.dtype == DType::F32) {
            return Ok(column);
        }
        let size = want.shape.elements();
        if have.dtype == DType::I32 && row.is_empty() && float && want.shape.rank() <= 1 {
            if size == 1 {
                return Ok(Self { form: Form::Numbers, ..column });
            }
            let labels = column.table.elements::<i32>()?;
            if let Some(i) = labels.iter().position(|l| *l < 0 || *l as usize >= size) {
                bail!(
                    Invalid,
                    "table {name}: label {} of example {i}, want 0 to {}",
                    labels[i],
                    size - 1
                );
            }
            return Ok(Self { form: Form::OneHot(size), ..column });
        }
        bail!(Invalid, "table {name} is {have}, the model wants {want} per example")
    }

    pub fn len(&self) -> usize {
        self.table.dims().first().copied().unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn desc(&self) -> Desc {
        self.table.desc()
    }

    pub fn dims(&self) -> &[usize] {
        self.table.dims()
    }

    /// The bytes of the whole table, for a fingerprint.
    pub fn bytes(&self) -> &[u8] {
        self.table.bytes()
    }

    /// Whole numbers that stay such.
    pub fn is_tokens(&self) -> bool {
        self.form == Form::Rows && self.desc().dtype == DType::I32
    }

    /// Values of one row as a batch takes them.
    pub fn width(&self) -> usize {
        match self.form {
            Form::Rows => self.dims().iter().skip(1).product(),
            Form::Numbers => 1,
            Form::OneHot(n) => n,
        }
    }

    /// The elements of row `i` of a column of floats.
    pub fn floats(&self, i: usize) -> Result<&[f32]> {
        match self.form {
            Form::Rows if self.desc().dtype == DType::F32 => self.cut(i),
            _ => bail!(Invalid, "the column {} is not of f32", self.desc()),
        }
    }

    /// Row `i` in the type of a batch, at the end of `out`.
    pub fn append(&self, i: usize, dtype: DType, out: &mut Vec<u8>) -> Result<()> {
        let mut put = |v: f32| match dtype {
            DType::F64 => out.extend_from_slice(&f64::from(v).to_ne_bytes()),
            _ => out.extend_from_slice(&v.to_ne_bytes()),
        };
        match (self.form, self.desc().dtype) {
            (Form::Rows, DType::F32) => self.cut::<f32>(i)?.iter().for_each(|v| put(*v)),
            (Form::Rows, _) => {
                self.cut::<i32>(i)?.iter().for_each(|v| out.extend_from_slice(&v.to_ne_bytes()));
            }
            (Form::Numbers, _) => self.cut::<i32>(i)?.iter().for_each(|v| put(*v as f32)),
            (Form::OneHot(n), _) => {
                let label = self.cut::<i32>(i)?.first().copied().unwrap_or(-1);
                (0..n).for_each(|k| put(if label >= 0 && label as usize == k { 1.0 } else { 0.0 }));
            }
        }
        Ok(())
    }

    fn cut<T: bytemuck::Pod>(&self, i: usize) -> Result<&[T]> {
        let width: usize = self.dims().iter().skip(1).product();
        let all = self.table.elements::<T>()?;
        match i.checked_mul(width).and_then(|at| all.get(at..at + width)) {
            Some(row) => Ok(row),
            None => bail!(Invalid, "row {i} is outside the table {}", self.desc()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::Budget;

    fn labels(values: &[i32]) -> Arc<Tensor> {
        let desc = Desc::new(DType::I32, &[values.len()]).unwrap();
        Arc::new(
            Tensor::from_bytes(desc, bytemuck::cast_slice(values), &Budget::unlimited()).unwrap(),
        )
    }

    fn want(dtype: DType, dims: &[usize]) -> Desc {
        Desc::new(dtype, dims).unwrap()
    }

    #[test]
    fn labels_become_one_hot_or_numbers() {
        let mut out = Vec::new();
        let hot = Column::fit("label", &labels(&[2, 0]), want(DType::F32, &[3])).unwrap();
        hot.append(0, DType::F32, &mut out).unwrap();
        assert_eq!(out, bytemuck::cast_slice::<f32, u8>(&[0.0, 0.0, 1.0]));
        out.clear();
        let one = Column::fit("label", &labels(&[7]), want(DType::F64, &[1])).unwrap();
        one.append(0, DType::F64, &mut out).unwrap();
        assert_eq!(out, 7f64.to_ne_bytes());
        let e = Column::fit("label", &labels(&[0, 3]), want(DType::F32, &[3])).unwrap_err();
        assert_eq!(e.message, "table label: label 3 of example 1, want 0 to 2");
    }

    #[test]
    fn axes_of_one_are_free_and_other_sizes_are_not() {
        let table = Tensor::from_f32(&[2, 4, 1], &[0.0; 8], &Budget::unlimited()).unwrap();
        let table = Arc::new(table);
        assert_eq!(Column::fit("x", &table, want(DType::F32, &[1, 4])).unwrap().width(), 4);
        let e = Column::fit("x", &table, want(DType::F32, &[2, 2])).unwrap_err();
        assert_eq!(e.message, "table x is f32[2,4,1], the model wants f32[2,2] per example");
        assert!(Column::fit("x", &table, want(DType::I32, &[4])).is_err());
    }
}
