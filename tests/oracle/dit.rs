//! DiT and SiT.

use crate::Row;

pub(crate) const KINDS: &[Row] = &[];
