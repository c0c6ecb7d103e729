//! The built-in grids, one file each, on the plugin SDK alone.

mod edm;
mod ends;
mod geometric;
mod uniform;

diffx_plugin::diffx_plugin! {
    id: "org.diffx.grids",
    license: "MIT OR Apache-2.0",
    grids: [edm::Edm, geometric::Geometric, uniform::Uniform],
}
