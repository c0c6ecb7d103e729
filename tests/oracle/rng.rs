//! The torch generator.

use crate::Row;

pub(crate) const KINDS: &[Row] = &[];
