//! The built-in processes, one file each, on the plugin SDK alone. `gaussian` and `bessel` hold what two of them share.

mod besq;
mod bessel;
mod cir;
mod gaussian;
mod gbm;
mod mask;
mod ve;

diffx_plugin::diffx_plugin! {
    id: "org.diffx.processes",
    license: "MIT OR Apache-2.0",
    processes: [ve::Ve, gbm::Gbm, besq::Besq, cir::Cir, mask::Mask],
}
