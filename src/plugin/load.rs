//! From a file to a descriptor: policy, then a look at the bytes, then `dlopen` of the very bytes that were looked at.
//!
//! A truncated library kills the process inside `dlopen`, so headers are checked before; a file can change between
//! check and use, so the checked bytes are copied into a sealed memory file and loaded from there (`sealed`; systems
//! without one hold the file and look again, `held`). Constructors run in `dlopen`: past it nothing is a boundary of
//! security.

use super::{elf, link};
use crate::base::Result;
use crate::{bail, fail};
use sha2::{Digest, Sha256};
use std::ffi::c_void;
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Larger files are no plugins.
const MAX_FILE: u64 = 1 << 30;

/// What a host says about a file before it is loaded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trust<'a> {
    /// The engine was created with permission to load plugins at all.
    pub allowed: bool,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: Option<&'a str>,
}

/// A library that stays mapped until the process ends.
pub(super) struct Loaded {
    pub(super) descriptor: *const c_void,
    /// What the linker calls it.
    #[cfg(feature = "layout-check")]
    pub(super) name: std::path::PathBuf,
    /// First address and length of each mapped segment.
    pub(super) segments: Vec<(usize, usize)>,
}

impl Loaded {
    /// Whether `n` bytes at `p` lie in one segment of the library.
    pub(super) fn holds(&self, p: *const c_void, n: usize) -> bool {
        let at = p.addr();
        self.segments.iter().any(|(start, len)| {
            at >= *start && at.checked_add(n).is_some_and(|end| end <= start.saturating_add(*len))
        })
    }
}

pub(super) fn load(path: &Path, trust: &Trust<'_>) -> Result<Loaded> {
    link::supported()?;
    let (file, path, bytes) = admit(path, trust)?;
    elf::check(&bytes)?;
    link::open(file, &path, &bytes)
}

/// The file behind the path and its bytes, if policy allows it.
fn admit(path: &Path, trust: &Trust<'_>) -> Result<(File, PathBuf, Vec<u8>)> {
    if !trust.allowed {
        bail!(Denied, "this engine was created without permission to load plugins");
    }
    if !path.is_absolute() {
        bail!(Denied, "plugin paths must be absolute");
    }
    let found = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => fail!(NotFound, "there is no such file"),
        _ => fail!(Io, "cannot be read: {e}"),
    };
    let path = path.canonicalize().map_err(found)?; // the rules are for what links lead to
    let mut file = File::open(&path).map_err(found)?;
    let about = file.metadata().map_err(found)?;
    if !about.is_file() {
        bail!(Format, "is not a file");
    }
    closed(&about, "it")?;
    if let Some(parent) = path.parent() {
        closed(&parent.metadata().map_err(found)?, "its folder")?;
    }
    if about.len() > MAX_FILE {
        bail!(Format, "has {} bytes, a plugin has at most {MAX_FILE}", about.len());
    }
    let mut bytes = Vec::new();
    (&mut file).take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(found)?;
    if let Some(want) = trust.sha256 {
        if want.len() != 64 || !want.bytes().all(|b| b.is_ascii_hexdigit()) {
            bail!(Invalid, "sha256 {want:?} is not 64 hexadecimal digits");
        }
        let found: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        if !found.eq_ignore_ascii_case(want) {
            bail!(Denied, "has the SHA-256 {found}, want {want}");
        }
    }
    Ok((file, path, bytes))
}

/// Not everybody may write to it.
#[cfg(unix)]
fn closed(about: &Metadata, what: &str) -> Result<()> {
    let mode = std::os::unix::fs::MetadataExt::mode(about);
    if mode & 0o002 != 0 {
        bail!(Denied, "everybody may write to {what} (mode {:o})", mode & 0o7777);
    }
    Ok(())
}

/// Elsewhere nothing is loaded, see `link_off`.
#[cfg(not(unix))]
fn closed(_: &Metadata, _: &str) -> Result<()> {
    Ok(())
}
