//! Shape and type rules: one per op. A rule reads the types of its inputs, checks every attribute and writes it back in
//! its one normal form: axes non-negative, lists complete, defaults filled in. Kernels, gradients and the reference
//! read attributes without asking again.
//!
//! Everything here faces untrusted input (plugins, fuzzers): a bad attribute is an error that names the op, the value
//! and the shapes, never a panic. Number of inputs, presence and kind of attributes are checked by the builder before.

mod contract;
mod index;
mod layout;
mod norm;
mod pointwise;
mod reduce;
mod source;

use super::attr::{Attrs, Value};
use super::op::{AttrKey, Class, Op};
use crate::bail;
use crate::base::{DType, Desc, MAX_RANK, Result, Shape};

/// The result of `op` on inputs of these types. Normalises the attributes: negative axes become positive, absent
/// lists are filled in, `dtype` 0 becomes `float`.
pub(super) fn infer(
    op: Op,
    inputs: &[Desc],
    attrs: &mut Attrs,
    float: DType,
    batch: usize,
) -> Result<Desc> {
    let mut call = Call { op, inputs, attrs, float, batch };
    match op.class() {
        Class::Source | Class::Random => source::rule(&mut call),
        Class::Pointwise => pointwise::rule(&mut call),
        Class::Reduce => reduce::rule(&mut call),
        Class::Contract => contract::rule(&mut call),
        Class::Norm => norm::rule(&mut call),
        Class::Index => index::rule(&mut call),
        Class::Layout => layout::rule(&mut call),
        Class::Meta => bail!(Invalid, "{}: rewritten by the builder, has no shape rule", op.name()),
    }
}

/// One application of an op while its shape is worked out.
struct Call<'a> {
    op: Op,
    inputs: &'a [Desc],
    attrs: &'a mut Attrs,
    float: DType,
    batch: usize,
}

impl Call<'_> {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    /// Input `i`; the builder has checked the arity.
    fn input(&self, i: usize) -> Desc {
        self.inputs[i]
    }

    /// The inputs as they stand in errors: `f32[4,64] x f32[32,64]`.
    fn operands(&self) -> String {
        let list: Vec<String> = self.inputs.iter().map(Desc::to_string).collect();
        list.join(" x ")
    }

    fn desc(&self, dtype: DType, dims: &[usize]) -> Result<Desc> {
        Desc::new(dtype, dims).map_err(|e| e.within(self.name()))
    }

    // ---- types

    fn want(&self, i: usize, holds: bool, what: &str) -> Result<()> {
        if !holds {
            bail!(Invalid, "{}: operand {i} is {}, want {what}", self.name(), self.input(i));
        }
        Ok(())
    }

    /// f32 or f64.
    fn want_float(&self, i: usize) -> Result<()> {
        self.want(i, self.input(i).dtype.is_compute_float(), "f32 or f64")
    }

    /// f32, f64, i32 or i64.
    fn want_number(&self, i: usize) -> Result<()> {
        self.want(i, is_number(self.input(i).dtype), "f32, f64, i32 or i64")
    }

    fn want_index(&self, i: usize) -> Result<()> {
        self.want(i, self.input(i).dtype.is_index(), "i32 or i64")
    }

    /// Operand `i` has the type of operand 0, or (a parameter) is stored in f16 or bf16.
    fn want_like_first(&self, i: usize, or_half: bool) -> Result<()> {
        let (first, this) = (self.input(0).dtype, self.input(i).dtype);
        let half = matches!(this, DType::F16 | DType::BF16);
        if this == first || (or_half && half) {
            return Ok(());
        }
        let also = if or_half { ", f16 or bf16" } else { "" };
        bail!(Invalid, "{}: {}: operand {i} must be {first}{also}", self.name(), self.operands())
    }

    // ---- attributes

    /// A 0/1 attribute, written back.
    fn flag(&mut self, key: AttrKey) -> Result<bool> {
        let value = self.attrs.int(key, 0);
        if value != 0 && value != 1 {
            bail!(Invalid, "{}: {} is {value}, want 0 or 1", self.name(), key.name());
        }
        self.attrs.set(key, Value::Int(value));
        Ok(value == 1)
    }

    /// A finite float attribute.
    fn finite(&self, key: AttrKey, default: f64) -> Result<f64> {
        let value = self.attrs.float(key, default);
        if !value.is_finite() {
            bail!(Invalid, "{}: {} is {value}, want a finite number", self.name(), key.name());
        }
        Ok(value)
    }

    /// The axis attribute as an index below `rank`, written back.
    fn axis(&mut self, shape: Shape) -> Result<usize> {
        let axis = self.attrs.int(AttrKey::Axis, 0);
        let axis = self.to_axis(axis, shape)?;
        self.attrs.set(AttrKey::Axis, Value::Int(axis as i64));
        Ok(axis)
    }

    fn to_axis(&self, axis: i64, shape: Shape) -> Result<usize> {
        let rank = shape.rank() as i64;
        let positive = if axis < 0 { axis.saturating_add(rank) } else { axis };
        if positive < 0 || positive >= rank {
            bail!(Invalid, "{}: axis {axis} is outside the rank {rank} of {shape}", self.name());
        }
        Ok(positive as usize)
    }

    /// The axes attribute, ascending; absent or empty means all. Written back.
    fn axes(&mut self, shape: Shape) -> Result<Vec<usize>> {
        let given = self.attrs.ints(AttrKey::Axes);
        let mut axes = Vec::with_capacity(shape.rank());
        if given.len() > MAX_RANK {
            bail!(Invalid, "{}: {} axes for a tensor {shape}", self.name(), given.len());
        }
        for &axis in given {
            axes.push(self.to_axis(axis, shape)?);
        }
        if given.is_empty() {
            axes.extend(0..shape.rank());
        }
        axes.sort_unstable();
        if let Some(pair) = axes.windows(2).find(|p| p[0] == p[1]) {
            bail!(Invalid, "{}: axis {} of {shape} is named twice", self.name(), pair[0]);
        }
        self.set_dims(AttrKey::Axes, &axes);
        Ok(axes)
    }

    /// A list of lengths or offsets, each 0 or more.
    fn dims(&self, key: AttrKey) -> Result<Vec<usize>> {
        let list = self.attrs.ints(key);
        if list.len() > 2 * MAX_RANK {
            bail!(Invalid, "{}: {} has {} entries", self.name(), key.name(), list.len());
        }
        let mut out = Vec::with_capacity(list.len());
        for &v in list {
            match usize::try_from(v) {
                Ok(v) if v <= isize::MAX as usize => out.push(v),
                _ => bail!(Invalid, "{}: {} holds {v}, want 0 or more", self.name(), key.name()),
            }
        }
        Ok(out)
    }

    /// A list with one entry per axis of `shape`.
    fn dims_per_axis(&self, key: AttrKey, shape: Shape) -> Result<Vec<usize>> {
        self.want_per_axis(key, shape)?;
        self.dims(key)
    }

    fn want_per_axis(&self, key: AttrKey, shape: Shape) -> Result<()> {
        let (found, rank) = (self.attrs.ints(key).len(), shape.rank());
        if found != rank {
            bail!(
                Invalid,
                "{}: {} has {found} entries, want one for each of the {rank} axes of {shape}",
                self.name(),
                key.name()
            );
        }
        Ok(())
    }

    fn set_dims(&mut self, key: AttrKey, dims: &[usize]) {
        self.attrs.set(key, Value::Ints(dims.iter().map(|&d| d as i64).collect()));
    }

    /// The element type attribute, 0 or absent being the float type of the graph. Written back.
    fn dtype(&mut self) -> Result<DType> {
        let code = self.attrs.int(AttrKey::DType, 0);
        let dtype = match code {
            0 => Some(self.float),
            _ => u32::try_from(code).ok().and_then(DType::from_code),
        };
        let Some(dtype) = dtype else {
            bail!(Invalid, "{}: {code} is no element type code", self.name());
        };
        self.attrs.set(AttrKey::DType, Value::Int(i64::from(dtype.code())));
        Ok(dtype)
    }
}

fn is_number(dtype: DType) -> bool {
    dtype.is_compute_float() || dtype.is_index()
}

/// Whether a fill value is an element of the type.
fn holds(dtype: DType, value: f64) -> bool {
    let whole = value.fract() == 0.0; // false for infinities and NaN
    match dtype {
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => true,
        DType::I32 => whole && value >= f64::from(i32::MIN) && value <= f64::from(i32::MAX),
        DType::I64 => whole && value.abs() <= 9_007_199_254_740_992.0, // exact in the f64 attribute
        DType::U8 => whole && (0.0..=255.0).contains(&value),
        DType::Bool => value == 0.0 || value == 1.0,
    }
}
