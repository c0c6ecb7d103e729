//! The built-in guidance, one file each, on the plugin SDK alone.

mod cfg;

diffx_plugin::diffx_plugin! {
    id: "org.diffx.guidance",
    license: "MIT OR Apache-2.0",
    guidances: [cfg::Cfg],
}
