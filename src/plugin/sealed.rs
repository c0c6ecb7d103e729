//! The bytes of a plugin as a memory file that nobody can change any more: what was looked at is what is loaded (Linux).

use crate::base::Result;
use crate::{bail, fail};
use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A file the linker can open by name.
pub(super) struct Image {
    file: OwnedFd,
    name: PathBuf,
}

impl Image {
    pub(super) fn new(_: File, _: &Path, bytes: &[u8]) -> Result<Self> {
        unused_name(sealed(bytes)?)
    }

    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// It is mapped for good: its name must not come to mean another file, so the descriptor stays open too.
    pub(super) fn mapped(self) -> Result<()> {
        let _ = self.file.into_raw_fd();
        Ok(())
    }
}

/// A file in memory that nobody can change any more.
fn sealed(bytes: &[u8]) -> Result<OwnedFd> {
    const MFD_EXEC: libc::c_uint = 0x10; // Linux 6.3; older kernels do not know it and need no word
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let make = |flags| {
        // Safety: the name is a C string.
        unsafe { libc::memfd_create(c"diffx-plugin".as_ptr(), flags) }
    };
    let mut fd = make(flags | MFD_EXEC);
    if fd < 0 {
        fd = make(flags);
    }
    if fd < 0 {
        bail!(Io, "no memory file for it: {}", std::io::Error::last_os_error());
    }
    // Safety: the descriptor was just made and is nobody else's.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(bytes).map_err(|e| fail!(Io, "no memory file for it: {e}"))?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE | libc::F_SEAL_SEAL;
    // Safety: a descriptor of ours.
    if unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seals) } < 0 {
        bail!(Io, "its memory file cannot be sealed: {}", std::io::Error::last_os_error());
    }
    Ok(file.into())
}

/// A path to the memory file that no loaded library has: the linker would return that one without looking. Names come
/// back when a host closes descriptors that are not its own.
fn unused_name(mut file: OwnedFd) -> Result<Image> {
    let mut taken = Vec::new();
    for _ in 0..1024 {
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        let c_name = CString::new(name.as_str()).map_err(|_| fail!(Internal, "a NUL in {name}"))?;
        // Safety: asks only; a library that is loaded is counted once more and then once less.
        let loaded = unsafe { libc::dlopen(c_name.as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_LAZY) };
        if loaded.is_null() {
            return Ok(Image { file, name: name.into() });
        }
        // Safety: the handle of the line above.
        unsafe { libc::dlclose(loaded) };
        let next = file.try_clone().map_err(|e| fail!(Io, "no descriptor for it: {e}"))?;
        taken.push(std::mem::replace(&mut file, next));
    }
    bail!(Io, "all names for it are taken by libraries loaded before")
}
