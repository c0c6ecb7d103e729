//! Files that must open, and files that must not.

use crate::Row;

pub(crate) const KINDS: &[Row] = &[];
