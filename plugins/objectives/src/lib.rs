//! The built-in objectives, one file each, on the plugin SDK alone. `level` is what they share.

mod cdg;
mod consistency;
mod drifting;
mod dsm;
mod elbo;
mod ism;
mod level;
mod meanflow;

diffx_plugin::diffx_plugin! {
    id: "org.diffx.objectives",
    license: "MIT OR Apache-2.0",
    objectives: [
        cdg::Cdg,
        dsm::Dsm,
        elbo::Elbo,
        ism::Ism,
        consistency::Consistency,
        meanflow::MeanFlow,
        drifting::Drifting,
    ],
}
