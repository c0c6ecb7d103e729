//! The mirrors described for abi_stable (feature `layout-check`): a plugin exports the description beside its
//! descriptor, and a host built with the same feature compares it with its own, field by field, signedness and function
//! types included. A check of builds against each other, for CI and debugging; never part of the ABI, and a plugin
//! without it is as good.

use crate::abi::Every;
use abi_stable::StableAbi;
use abi_stable::library::{
    CheckTypeLayout, LibHeader, ROOT_MODULE_LOADER_NAME, RootModule, RootModuleResult,
};
use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::sabi_types::VersionStrings;

pub use abi_stable::library::LibHeader as Header;

/// What the comparison starts from. Nobody calls it: its type names every struct of the header.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = MirrorsRef)))]
#[sabi(missing_field(panic))]
#[derive(Debug)]
pub struct Mirrors {
    #[sabi(last_prefix_field)]
    pub every: extern "C" fn(*const Every),
}

impl RootModule for MirrorsRef {
    abi_stable::declare_root_module_statics! {MirrorsRef}
    const BASE_NAME: &'static str = "diffx_plugin";
    const NAME: &'static str = "diffx_plugin";
    const VERSION_STRINGS: VersionStrings = abi_stable::package_version_strings!();
}

/// The value of the exported symbol.
pub const fn header() -> Header {
    // Safety: `construct` gives a MirrorsRef.
    unsafe { LibHeader::from_constructor::<MirrorsRef>(construct, CheckTypeLayout::Yes) }
}

extern "C" fn construct() -> RootModuleResult {
    extern "C" fn every(_: *const Every) {}
    abi_stable::library::__call_root_module_loader(|| Mirrors { every }.leak_into_prefix())
}

/// Exports the description from a crate that exports its descriptor.
#[doc(hidden)]
#[macro_export]
macro_rules! export_mirrors {
    () => {
        #[cfg(feature = "export")]
        #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
        static MIRRORS: $crate::layout_check::Header = $crate::layout_check::header();
    };
}

const _: () = {
    let (ours, theirs) =
        (b"_1as_0lib_1header_0root_bmodule_bloader", ROOT_MODULE_LOADER_NAME.as_bytes());
    assert!(ours.len() == theirs.len(), "abi_stable looks for another symbol");
    let mut i = 0;
    while i < ours.len() {
        assert!(ours[i] == theirs[i], "abi_stable looks for another symbol");
        i += 1;
    }
};
