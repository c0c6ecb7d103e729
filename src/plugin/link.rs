//! From checked bytes to a mapped library and its descriptor, with the linker of a system whose libraries are ELF files.

use super::abi;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
use super::held::Image;
use super::load::Loaded;
#[cfg(any(target_os = "linux", target_os = "android"))]
use super::sealed::Image;
use crate::base::Result;
use crate::{bail, fail};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::error::Error as _;
use std::ffi::{c_int, c_void};
use std::fs::File;
use std::path::Path;

/// Whether files can be loaded here at all.
pub(super) fn supported() -> Result<()> {
    Ok(())
}

/// Loads the bytes and finds the descriptor.
pub(super) fn open(file: File, path: &Path, bytes: &[u8]) -> Result<Loaded> {
    let image = Image::new(file, path, bytes)?;
    #[cfg(feature = "layout-check")]
    let name = image.name().to_owned();
    // Safety: the caller of `Registry::load` trusts the file; its headers were checked.
    let library =
        unsafe { Library::open(Some(image.name()), RTLD_NOW | RTLD_LOCAL | libc::RTLD_NODELETE) };
    // dlerror is the source; without it the message says nothing
    let words = |e: &libloading::Error| e.source().map_or_else(|| e.to_string(), |s| s.to_string());
    let library = library.map_err(|e| fail!(Io, "the linker refused it: {}", words(&e)))?;
    image.mapped()?;
    // Safety: the symbol is data; only its address is taken.
    let symbol = unsafe { library.get::<*const c_void>(abi::PLUGIN_SYMBOL) };
    let descriptor = symbol.map(|s| s.as_raw_ptr().cast_const());
    std::mem::forget(library);
    match descriptor {
        Ok(p) if !p.is_null() => Ok(Loaded {
            descriptor: p,
            #[cfg(feature = "layout-check")]
            name,
            segments: segments_around(p),
        }),
        _ => bail!(Format, "has no symbol {}", abi::PLUGIN_SYMBOL.to_string_lossy()),
    }
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
