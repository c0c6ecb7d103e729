//! The built-in objectives, one file each, on the plugin SDK alone.

mod dsm;
mod ism;

diffx_plugin::diffx_plugin! {
    id: "org.diffx.objectives",
    license: "MIT OR Apache-2.0",
    objectives: [dsm::Dsm, ism::Ism],
}
