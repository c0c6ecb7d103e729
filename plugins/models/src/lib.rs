//! The built-in models, one file each, on the plugin SDK alone.

diffx_plugin::diffx_plugin! {
    id: "org.diffx.models",
    license: "MIT OR Apache-2.0",
}
