//! The f64 reference of every op: naive loops, one obvious line per formula, sharing nothing with any kernel. Slow on
//! purpose. Backends and gradients are tested against it; nothing in a run calls it.
//!
//! Values of every element type are held as f64 (exact for f32, f16, bf16, i32, u8, bool; for i64 up to 2^53). Only
//! `cast` rounds; all other ops keep the f64 result even in a graph of f32.

mod contract;
mod index;
mod layout;
mod norm;
mod pointwise;
mod reduce;

use super::op::{AttrKey, Class, Op};
use super::{Constant, Graph, Node, NodeId};
use crate::bail;
use crate::base::{DType, Result, Shape};
use half::{bf16, f16};

/// A tensor of f64, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct RefTensor {
    pub shape: Shape,
    pub data: Vec<f64>,
}

impl RefTensor {
    /// Fails when `data` is not as long as `dims` say.
    pub fn new(dims: &[usize], data: Vec<f64>) -> Result<Self> {
        let shape = Shape::new(dims)?;
        if shape.elements() != data.len() {
            bail!(Invalid, "tensor {shape} cannot hold {} elements", data.len());
        }
        Ok(Self { shape, data })
    }

    pub fn full(shape: Shape, value: f64) -> Self {
        Self { shape, data: vec![value; shape.elements()] }
    }

    pub fn scalar(value: f64) -> Self {
        Self::full(Shape::SCALAR, value)
    }

    /// Element at a full index.
    fn at(&self, index: &[usize]) -> f64 {
        self.data[self.offset(index)]
    }

    fn offset(&self, index: &[usize]) -> usize {
        index.iter().zip(self.shape.dims()).fold(0, |at, (i, d)| at * d + i)
    }

    /// Element at the index of a shape this one broadcasts to.
    fn at_broadcast(&self, index: &[usize]) -> f64 {
        let skip = index.len() - self.shape.rank();
        let own: Vec<usize> = index[skip..]
            .iter()
            .zip(self.shape.dims())
            .map(|(i, d)| if *d == 1 { 0 } else { *i })
            .collect();
        self.at(&own)
    }
}

/// Calls `visit` with every index of `shape` in row-major order.
fn each_index(shape: Shape, mut visit: impl FnMut(&[usize])) {
    let mut index = vec![0; shape.rank()];
    for _ in 0..shape.elements() {
        visit(&index);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape.dim(axis) {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// A tensor from its index.
fn from_index(shape: Shape, mut value: impl FnMut(&[usize]) -> f64) -> RefTensor {
    let mut data = Vec::with_capacity(shape.elements());
    each_index(shape, |index| data.push(value(index)));
    RefTensor { shape, data }
}

/// The value of one node from the values of its inputs. Not for inputs, weights, constants and draws, whose values
/// come from outside.
pub fn apply(graph: &Graph, node: &Node, inputs: &[&RefTensor]) -> Result<RefTensor> {
    Ok(match node.op.class() {
        Class::Pointwise => pointwise::apply(node, inputs),
        Class::Reduce => reduce::apply(node, inputs),
        Class::Contract => contract::apply(graph, node, inputs),
        Class::Norm => norm::apply(node, inputs),
        Class::Index => index::apply(node, inputs),
        Class::Layout => layout::apply(node, inputs),
        Class::Source if node.op == Op::Full => {
            RefTensor::full(node.desc.shape, node.attrs.float(AttrKey::Value, 0.0))
        }
        Class::Source if node.op == Op::Iota => {
            let axis = node.attrs.int(AttrKey::Axis, 0) as usize;
            from_index(node.desc.shape, |index| index[axis] as f64)
        }
        _ => bail!(Unsupported, "{}: its value comes from outside the graph", node.op.name()),
    })
}

/// The values of `outputs`. `bind` gives the values of inputs, weights and draws: it gets the node (attribute `index`
/// says which input or weight) and, for draws, the values of its operands.
pub fn evaluate(
    graph: &Graph,
    outputs: &[NodeId],
    bind: &dyn Fn(&Node, &[&RefTensor]) -> Result<RefTensor>,
) -> Result<Vec<RefTensor>> {
    graph.check()?;
    let mut needed = vec![false; graph.nodes().len()];
    for id in outputs {
        needed[id.index()] = true;
    }
    for (i, node) in graph.nodes().iter().enumerate().rev() {
        if needed[i] {
            node.inputs.iter().for_each(|input| needed[input.index()] = true);
        }
    }
    let mut values: Vec<Option<RefTensor>> = vec![None; graph.nodes().len()];
    for (i, node) in graph.nodes().iter().enumerate() {
        if !needed[i] {
            continue;
        }
        // inputs have smaller ids and are needed, so their values are there
        let inputs: Vec<&RefTensor> =
            node.inputs.iter().filter_map(|input| values[input.index()].as_ref()).collect();
        let value = match node.op {
            Op::Input | Op::Weight => bind(node, &inputs)?,
            Op::Constant => decode(&graph.constants()[node.attrs.int(AttrKey::Index, 0) as usize]),
            _ if node.op.class() == Class::Random => bind(node, &inputs)?,
            _ => apply(graph, node, &inputs)?,
        };
        if value.shape != node.desc.shape {
            let name = node.op.name();
            bail!(Internal, "{name}: reference gives {}, node is {}", value.shape, node.desc);
        }
        values[i] = Some(value);
    }
    Ok(outputs.iter().filter_map(|id| values[id.index()].clone()).collect())
}

fn decode(constant: &Constant) -> RefTensor {
    let data = constant.bytes.chunks_exact(constant.desc.dtype.bytes());
    RefTensor {
        shape: constant.desc.shape,
        data: data.map(|bytes| element(constant.desc.dtype, bytes)).collect(),
    }
}

/// One element from its bytes, which are exactly as many as the type has.
pub fn element(dtype: DType, bytes: &[u8]) -> f64 {
    let mut b = [0; 8];
    b[..bytes.len()].copy_from_slice(bytes);
    let (two, four) = ([b[0], b[1]], [b[0], b[1], b[2], b[3]]);
    match dtype {
        DType::F64 => f64::from_ne_bytes(b),
        DType::F32 => f64::from(f32::from_ne_bytes(four)),
        DType::F16 => f16::from_ne_bytes(two).to_f64(),
        DType::BF16 => bf16::from_ne_bytes(two).to_f64(),
        DType::I32 => f64::from(i32::from_ne_bytes(four)),
        DType::I64 => i64::from_ne_bytes(b) as f64,
        DType::U8 => f64::from(b[0]),
        DType::Bool => f64::from(u8::from(b[0] != 0)),
    }
}

/// The bytes of one element, appended; the value is rounded as `cast` does.
pub fn encode(dtype: DType, value: f64, bytes: &mut Vec<u8>) {
    match dtype {
        DType::F64 => bytes.extend(value.to_ne_bytes()),
        DType::F32 => bytes.extend((value as f32).to_ne_bytes()),
        DType::F16 => bytes.extend(f16::from_f64(value).to_ne_bytes()),
        DType::BF16 => bytes.extend(bf16::from_f64(value).to_ne_bytes()),
        DType::I32 => bytes.extend((value as i32).to_ne_bytes()),
        DType::I64 => bytes.extend((value as i64).to_ne_bytes()),
        DType::U8 => bytes.push(value as u8),
        DType::Bool => bytes.push(u8::from(value != 0.0)),
    }
}

/// The value after a round trip through the element type.
pub fn round(dtype: DType, value: f64) -> f64 {
    let mut bytes = Vec::with_capacity(8);
    encode(dtype, value, &mut bytes);
    element(dtype, &bytes)
}
