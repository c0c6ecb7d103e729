//! From a file to a descriptor: policy, then a look at the bytes, then `dlopen` of the very bytes that were looked at.
//!
//! A truncated library kills the process inside `dlopen`, so headers are checked before; a file can change between
//! check and use, so the checked bytes are copied into a sealed memory file and loaded from there. Constructors run in
//! `dlopen`: past it nothing is a boundary of security.

use super::abi;
use super::elf;
use crate::base::Result;
use crate::{bail, fail};
use sha2::{Digest, Sha256};
use std::error::Error as _;
use std::ffi::{CString, c_int, c_void};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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
    segments: Vec<(usize, usize)>,
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
    let bytes = admit(path, trust)?;
    elf::check(&bytes)?;
    open(&bytes)
}

/// The bytes of the file, if policy allows it.
fn admit(path: &Path, trust: &Trust<'_>) -> Result<Vec<u8>> {
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
    if about.mode() & 0o002 != 0 {
        bail!(Denied, "everybody may write to it (mode {:o})", about.mode() & 0o7777);
    }
    if let Some(parent) = path.parent() {
        let mode = parent.metadata().map_err(found)?.mode();
        if mode & 0o002 != 0 {
            bail!(Denied, "everybody may write to its folder (mode {:o})", mode & 0o7777);
        }
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
    Ok(bytes)
}

/// Loads the bytes and finds the descriptor.
fn open(bytes: &[u8]) -> Result<Loaded> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    let file = sealed(bytes)?;
    let (file, name) = unused_name(file)?;
    // Safety: the caller of `Registry::load` trusts the file; its headers were checked.
    let library =
        unsafe { Library::open(Some(&name), RTLD_NOW | RTLD_LOCAL | libc::RTLD_NODELETE) };
    // dlerror is the source; without it the message says nothing
    let words = |e: &libloading::Error| e.source().map_or_else(|| e.to_string(), |s| s.to_string());
    let library = library.map_err(|e| fail!(Io, "the linker refused it: {}", words(&e)))?;
    // it is mapped for good: its name must not come to mean another file, so the descriptor stays open too
    let _ = file.into_raw_fd();
    // Safety: the symbol is data; only its address is taken.
    let symbol = unsafe { library.get::<*const c_void>(abi::PLUGIN_SYMBOL) };
    let descriptor = symbol.map(|s| s.as_raw_ptr().cast_const());
    std::mem::forget(library);
    match descriptor {
        Ok(p) if !p.is_null() => Ok(Loaded {
            descriptor: p,
            #[cfg(feature = "layout-check")]
            name: name.into(),
            segments: segments_around(p),
        }),
        _ => bail!(Format, "has no symbol {}", abi::PLUGIN_SYMBOL.to_string_lossy()),
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
fn unused_name(mut file: OwnedFd) -> Result<(OwnedFd, String)> {
    let mut taken = Vec::new();
    for _ in 0..1024 {
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        let c_name = CString::new(name.as_str()).map_err(|_| fail!(Internal, "a NUL in {name}"))?;
        // Safety: asks only; a library that is loaded is counted once more and then once less.
        let loaded = unsafe { libc::dlopen(c_name.as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_LAZY) };
        if loaded.is_null() {
            return Ok((file, name));
        }
        // Safety: the handle of the line above.
        unsafe { libc::dlclose(loaded) };
        let next = file.try_clone().map_err(|e| fail!(Io, "no descriptor for it: {e}"))?;
        taken.push(std::mem::replace(&mut file, next));
    }
    bail!(Io, "all names for it are taken by libraries loaded before")
}

/// The mapped segments of the library that holds `p`.
fn segments_around(p: *const c_void) -> Vec<(usize, usize)> {
    struct Search {
        at: usize,
        found: Vec<(usize, usize)>,
    }
    unsafe extern "C" fn visit(
        info: *mut libc::dl_phdr_info,
        _: libc::size_t,
        data: *mut c_void,
    ) -> c_int {
        // Safety: the linker gives a valid object and passes on our own pointer.
        let (info, search) = unsafe { (&*info, &mut *data.cast::<Search>()) };
        if info.dlpi_phdr.is_null() {
            return 0;
        }
        // Safety: the linker's own count of its own table.
        let headers =
            unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        let segments: Vec<(usize, usize)> = headers
            .iter()
            .filter(|h| h.p_type == libc::PT_LOAD)
            .map(|h| (info.dlpi_addr.wrapping_add(h.p_vaddr) as usize, h.p_memsz as usize))
            .collect();
        let holds = |(start, len): &(usize, usize)| search.at.wrapping_sub(*start) < *len;
        if !segments.iter().any(holds) {
            return 0;
        }
        search.found = segments;
        1
    }
    let mut search = Search { at: p.addr(), found: Vec::new() };
    // Safety: `visit` does not unwind and `search` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
    search.found
}
