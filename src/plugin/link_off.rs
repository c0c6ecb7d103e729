//! Stands in where libraries are no ELF files: plugins are linked in there, and a file is refused with a clear word.

use super::load::Loaded;
use crate::bail;
use crate::base::Result;
use std::fs::File;
use std::path::Path;

pub(super) fn supported() -> Result<()> {
    bail!(
        Unsupported,
        "plugins cannot be loaded from files on {}; link them in and register their descriptors",
        std::env::consts::OS
    )
}

pub(super) fn open(_: File, _: &Path, _: &[u8]) -> Result<Loaded> {
    supported()?;
    bail!(Internal, "there is no linker")
}
