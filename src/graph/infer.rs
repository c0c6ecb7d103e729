//! Shape and type rules: one per op.

use super::attr::Attrs;
use super::op::Op;
use crate::base::{DType, Desc, Result};

/// The result of `op` on inputs of these types. Normalises the attributes: negative axes become positive, absent
/// lists are filled in, `dtype` 0 becomes `float`.
pub(super) fn infer(
    op: Op,
    inputs: &[Desc],
    attrs: &mut Attrs,
    float: DType,
    batch: usize,
) -> Result<Desc> {
    let _ = (inputs, attrs, float, batch);
    crate::bail!(Unsupported, "{}: no shape rule", op.name())
}
