//! Networks for tables.

use crate::Row;

pub(crate) const KINDS: &[Row] = &[];
