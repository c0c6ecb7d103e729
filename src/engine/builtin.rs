//! The plugins that are linked in. They are registered through the same descriptors, and pass the same checks, as a
//! third party's; this is the only file that names them.

use crate::base::Result;
use crate::plugin::Registry;
use std::ffi::c_void;

/// Registers every built-in plugin.
pub(super) fn register(registry: &mut Registry) -> Result<()> {
    let plugins = [
        diffx_models::plugin(),
        diffx_processes::plugin(),
        diffx_guidance::plugin(),
        diffx_samplers::plugin(),
        diffx_grids::plugin(),
        diffx_objectives::plugin(),
    ];
    for plugin in plugins {
        let descriptor = std::ptr::from_ref(plugin).cast::<c_void>();
        // Safety: a static of a crate linked into this library.
        unsafe { registry.register(descriptor) }?;
    }
    Ok(())
}
