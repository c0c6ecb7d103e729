//! Versions, features and names of statuses.

use super::guard::quiet;
use crate::base::Status;
use std::ffi::{CStr, c_char, c_void};

const MAJOR: u32 = 0;
const MINOR: u32 = 1;

#[unsafe(no_mangle)]
pub extern "C" fn dfx_api_version() -> u32 {
    MAJOR << 16 | MINOR
}

#[unsafe(no_mangle)]
pub extern "C" fn dfx_version_string() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// What every build can do; `cuda` is one of those that found nvcc.
const FEATURES: &[&str] = &["cpu", "train"];

/// # Safety
/// `name` is NULL or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_has_feature(name: *const c_char) -> i32 {
    quiet(0, || {
        // Safety: as the caller promised.
        let name = unsafe { super::guard::text(name, "feature") };
        let has = |name| FEATURES.contains(&name) || name == "cuda" && crate::engine::has_cuda();
        i32::from(matches!(name, Ok(Some(name)) if has(name)))
    })
}

/// # Safety
/// `id` is NULL or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dfx_extension(id: *const c_char) -> *const c_void {
    quiet(std::ptr::null(), || {
        // Safety: as the caller promised.
        match unsafe { super::guard::text(id, "extension") } {
            // there for good, so that the lookup is always exercised
            Ok(Some("diffx.version/1")) => dfx_version_string().cast(),
            _ => std::ptr::null(),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn dfx_status_name(status: i32) -> *const c_char {
    const NAMES: &[&CStr] = &[
        c"DFX_OK",
        c"DFX_E_INVALID",
        c"DFX_E_STATE",
        c"DFX_E_NOT_FOUND",
        c"DFX_E_NO_MEMORY",
        c"DFX_E_IO",
        c"DFX_E_FORMAT",
        c"DFX_E_UNSUPPORTED",
        c"DFX_E_VERSION",
        c"DFX_E_CANCELLED",
        c"DFX_E_DENIED",
        c"DFX_E_DEVICE",
        c"DFX_E_PLUGIN",
        c"DFX_E_INTERNAL",
    ];
    let index = status.checked_neg().and_then(|s| usize::try_from(s).ok());
    index.and_then(|i| NAMES.get(i)).map_or(c"DFX_E_?".as_ptr(), |n| n.as_ptr())
}

const _: () = assert!(Status::ALL.len() == 13);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_statuses() {
        for status in Status::ALL {
            // Safety: a constant of ours.
            let name = unsafe { CStr::from_ptr(dfx_status_name(status.code())) };
            assert_eq!(name.to_str().unwrap(), status.name());
        }
        // Safety: as above.
        assert_eq!(unsafe { CStr::from_ptr(dfx_status_name(i32::MIN)) }, c"DFX_E_?");
    }
}
