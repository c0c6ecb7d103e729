//! CSDI's network.

use crate::Row;

pub(crate) const KINDS: &[Row] = &[];
