//! Schedulers of diffusers.

use crate::Row;

pub(crate) const KINDS: &[Row] = &[];
