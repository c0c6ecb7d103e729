//! Numbers of any element type with their sizes, as the tests calculate with them: f64 holds all of them.

use crate::Answer;
use diffx::base::{DType, Desc};
use diffx::mem::{Budget, Tensor};
use diffx::weights::SafeTensors;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    pub dims: Vec<usize>,
    pub values: Vec<f64>,
}

impl Array {
    pub(crate) fn new(dims: &[usize], values: Vec<f64>) -> Self {
        assert_eq!(dims.iter().product::<usize>(), values.len(), "sizes {dims:?}");
        Self { dims: dims.to_vec(), values }
    }

    pub(crate) fn of_f32(dims: &[usize], values: &[f32]) -> Self {
        Self::new(dims, values.iter().map(|v| f64::from(*v)).collect())
    }

    pub(crate) fn f32(&self) -> Vec<f32> {
        self.values.iter().map(|v| *v as f32).collect()
    }

    /// Elements of one index of the first axis.
    pub(crate) fn stride(&self) -> usize {
        self.values.len() / self.dims.first().copied().unwrap_or(1).max(1)
    }

    /// One index of the first axis.
    pub(crate) fn at(&self, i: usize) -> Self {
        let n = self.stride();
        Self::new(&self.dims[1..], self.values[i * n..(i + 1) * n].to_vec())
    }

    pub(crate) fn reshaped(&self, dims: &[usize]) -> Self {
        Self::new(dims, self.values.clone())
    }

    pub(crate) fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self::new(&self.dims, self.values.iter().map(|v| f(*v)).collect())
    }

    /// Element by element, of the same sizes.
    pub(crate) fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        assert_eq!(self.dims, other.dims, "sizes differ");
        let pairs = self.values.iter().zip(&other.values);
        Self::new(&self.dims, pairs.map(|(a, b)| f(*a, *b)).collect())
    }

    pub(crate) fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len() as f64
    }

    /// Any tensor of a file.
    pub(crate) fn read(file: &SafeTensors, name: &str) -> Answer<Self> {
        let tensor = file.tensor(name, &Budget::new(0, None)).map_err(|e| e.to_string())?;
        Ok(Self::of(&tensor))
    }

    pub(crate) fn of(tensor: &Tensor) -> Self {
        let dtype = tensor.desc().dtype;
        let value = |b: &[u8]| match dtype {
            DType::F32 => f64::from(f32::from_le_bytes(b.try_into().unwrap())),
            DType::F64 => f64::from_le_bytes(b.try_into().unwrap()),
            DType::F16 => half::f16::from_le_bytes(b.try_into().unwrap()).to_f64(),
            DType::BF16 => half::bf16::from_le_bytes(b.try_into().unwrap()).to_f64(),
            DType::I32 => f64::from(i32::from_le_bytes(b.try_into().unwrap())),
            DType::I64 => i64::from_le_bytes(b.try_into().unwrap()) as f64,
            DType::U8 | DType::Bool => f64::from(b[0]),
        };
        let values = tensor.bytes().chunks_exact(dtype.bytes()).map(value).collect();
        Self::new(tensor.dims(), values)
    }

    /// As a tensor of floats or of i32.
    pub(crate) fn tensor(&self, dtype: DType) -> Arc<Tensor> {
        let desc = Desc::new(dtype, &self.dims).expect("a rank we have");
        let bytes: Vec<u8> = match dtype {
            DType::F32 => self.values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect(),
            DType::F64 => self.values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            DType::I32 => self.values.iter().flat_map(|v| (*v as i32).to_le_bytes()).collect(),
            other => panic!("no input is {other}"),
        };
        let mut tensor = Tensor::new(desc, &Budget::new(0, None)).expect("memory");
        tensor.bytes_mut().copy_from_slice(&bytes);
        Arc::new(tensor)
    }
}
