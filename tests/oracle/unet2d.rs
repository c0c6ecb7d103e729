//! UNet2DModel.

use crate::Row;

pub(crate) const KINDS: &[Row] = &[];
