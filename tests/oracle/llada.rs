//! LLaDA.

use crate::Row;

pub(crate) const KINDS: &[Row] = &[];
