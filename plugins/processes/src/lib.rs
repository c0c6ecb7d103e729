//! The built-in processes, one file each, on the plugin SDK alone. `gaussian` and `bessel` hold the formulas that several
//! of them share; `additive` is the process that is Gaussian in w, and `bessel` ends with the one that is a radius there,
//! `critical` the one of position and velocity. `tokens` is what the discrete ones share.

mod additive;
mod besq;
mod bessel;
mod cir;
mod cld;
mod critical;
mod edm;
mod flow;
mod gaussian;
mod gbm;
mod mask;
mod mirror;
mod ou;
mod pfgmpp;
mod scheduled;
mod sub_vp;
mod tokens;
mod uniform;
mod ve;
mod vp;
mod vsmd;

use additive::OnGaussian;
use bessel::OnBessel;
use critical::OnPhaseSpace;

diffx_plugin::diffx_plugin! {
    id: "org.diffx.processes",
    license: "MIT OR Apache-2.0",
    processes: [
        OnGaussian<ve::Ve>,
        OnGaussian<edm::Edm>,
        OnGaussian<vp::Vp>,
        OnGaussian<sub_vp::SubVp>,
        OnGaussian<flow::Flow>,
        OnGaussian<ou::Ou>,
        pfgmpp::Pfgmpp,
        scheduled::Scheduled,
        OnGaussian<gbm::Gbm>,
        OnGaussian<mirror::Mirror>,
        OnBessel<besq::Besq>,
        OnBessel<cir::Cir>,
        OnPhaseSpace<cld::Cld>,
        OnPhaseSpace<vsmd::Vsmd>,
        mask::Mask,
        uniform::Uniform,
    ],
}
