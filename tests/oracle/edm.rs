//! The networks of EDM.

use crate::Row;

pub(crate) const KINDS: &[Row] = &[];
