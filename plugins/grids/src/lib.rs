//! The built-in grids, one file each, on the plugin SDK alone.

diffx_plugin::diffx_plugin! {
    id: "org.diffx.grids",
    license: "MIT OR Apache-2.0",
}
