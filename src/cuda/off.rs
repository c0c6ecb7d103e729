//! Stands in for the CUDA backend: the same call, and an error that says what is missing.

use crate::bail;
use crate::base::Result;
use crate::exec::Backend;
use std::sync::Arc;

/// A device by name (`cuda:0`).
pub fn open(device: &str) -> Result<Arc<dyn Backend>> {
    let index = device.strip_prefix("cuda").map(|rest| rest.strip_prefix(':').unwrap_or(rest));
    match index {
        Some(n) if n.is_empty() || n.bytes().all(|b| b.is_ascii_digit()) => {
            bail!(Unsupported, "device {device}: this build of diffx has no CUDA backend, use cpu")
        }
        _ => bail!(Invalid, "device {device:?}: want cpu or cuda:N"),
    }
}
