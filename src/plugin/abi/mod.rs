//! `diffx_plugin.h` in Rust: the same structs, field for field, and nothing else. No methods but the ones that make an
//! empty value: what a field means stands in the header, what is done about it in `host`, `entry` and `adapt`.
//!
//! Every struct is declared through one macro, so that the table the layout hash is taken over (rule in the header,
//! at `DFX_PLUGIN_LAYOUT`) is made of the very structs that cross the border.

mod graph;
mod kind;
mod layout;

pub use graph::*;
pub use kind::*;
pub use layout::{Field, Layout, hash, lines};

use layout::mirrors;
use std::ffi::{c_char, c_void};

pub const MAGIC: u32 = 0x5058_4644;
pub const ABI_MAJOR: u16 = 0;
pub const ABI_MINOR: u16 = 1;

/// `DFX_PLUGIN_LAYOUT`, as the header has it. The hash is taken over 64-bit layouts, so only there can it be checked.
pub const LAYOUT: u32 = 0x9d7b_cb54;
#[cfg(target_pointer_width = "64")]
const _: () =
    assert!(hash(STRUCTS) == LAYOUT, "the mirrors of diffx_plugin.h are not what the header says");

/// Every mirror, in the order of the header.
pub const STRUCTS: &[&[Layout]] = &[BASE, GRAPH, KINDS, REGISTRY];

/// Node, op, dtype, status and denoiser codes cross the border as plain integers: they are open sets.
pub const OK: i32 = 0;
pub const PLUGIN_SYMBOL: &std::ffi::CStr = c"diffx_plugin_v0";
pub const MAX_RANK: usize = 8;

mirrors! { BASE
    "dfx_error" Error {
        struct_size: u32,
        status: i32,
        source: u32,
        message_len: u32,
        message: [c_char; 496],
    }

    "dfx_desc" Desc {
        dtype: u32,
        rank: u32,
        dims: [i64; 8],
    }
}

mirrors! { REGISTRY
    "dfx_factory" Factory {
        struct_size: u32,
        kind: u32,
        api: *const c_void,
        id: *const c_char,
        summary: *const c_char,
        config_schema: *const c_char,
        create: Option<unsafe extern "C" fn(*const Factory, *const Host, *const c_char, *mut *mut c_void, *mut Error) -> i32>,
        destroy: Option<unsafe extern "C" fn(*mut c_void)>,
    }

    "dfx_plugin" Plugin {
        magic: u32,
        abi_major: u16,
        abi_minor: u16,
        struct_size: u32,
        required_minor: u32,
        layout: u32,
        n_factories: u32,
        factories: *const *const Factory,
        id: *const c_char,
        version: *const c_char,
        license: *const c_char,
    }
}

// Safety: both are tables of constants; their pointers lead to constants of a library that stays mapped.
unsafe impl Sync for Factory {}
// Safety: as above.
unsafe impl Sync for Plugin {}

const _: () = assert!(size_of::<Error>() == 512 && size_of::<Desc>() == 72);

impl Error {
    /// Ready to be filled by a plugin.
    pub fn empty() -> Self {
        Self {
            struct_size: size_of::<Self>() as u32,
            status: 0,
            source: 0,
            message_len: 0,
            message: [0; 496],
        }
    }
}
