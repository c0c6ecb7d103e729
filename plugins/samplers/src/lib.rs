//! The built-in samplers, one file each, on the plugin SDK alone.

diffx_plugin::diffx_plugin! {
    id: "org.diffx.samplers",
    license: "MIT OR Apache-2.0",
}
