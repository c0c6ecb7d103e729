//! The built-in processes, one file each, on the plugin SDK alone.

diffx_plugin::diffx_plugin! {
    id: "org.diffx.processes",
    license: "MIT OR Apache-2.0",
}
