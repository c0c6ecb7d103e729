//! The built-in objectives, one file each, on the plugin SDK alone. `level` is what they share.

mod cdg;
mod dsm;
mod elbo;
mod ism;
mod level;

diffx_plugin::diffx_plugin! {
    id: "org.diffx.objectives",
    license: "MIT OR Apache-2.0",
    objectives: [cdg::Cdg, dsm::Dsm, elbo::Elbo, ism::Ism],
}
