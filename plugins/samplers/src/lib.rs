//! The built-in samplers, one file each, on the plugin SDK alone. A row holds the columns of each component in turn.
//! `linear` is what the samplers of one call per step share, `stages` what those of several do; `discrete` is the step of
//! components made of tokens.

mod adaptive_sde;
mod ancestral;
mod churn;
mod consistency;
mod ddim;
mod discrete;
mod dpmpp_2m;
mod dpmpp_2s;
mod dpmpp_3m;
mod em;
mod euler;
mod flow_map;
mod flow_sde;
mod heun;
mod linear;
mod recurrence;
mod rk4;
mod sde_dpmpp_2m;
mod seeds2;
mod stages;
mod stochastic_heun;
mod unipc;

use linear::OneCall;

diffx_plugin::diffx_plugin! {
    id: "org.diffx.samplers",
    license: "MIT OR Apache-2.0",
    samplers: [
        euler::Euler,
        heun::Heun,
        ancestral::Ancestral,
        churn::Churn,
        OneCall<ddim::Ddim>,
        OneCall<em::EulerMaruyama>,
        OneCall<flow_sde::FlowSde>,
        OneCall<dpmpp_2m::Dpmpp2m>,
        OneCall<dpmpp_3m::Dpmpp3m<2>>,
        OneCall<dpmpp_3m::Dpmpp3m<1>>,
        OneCall<sde_dpmpp_2m::SdeDpmpp2m>,
        dpmpp_2s::Dpmpp2s,
        unipc::UniPc,
        rk4::Rk4,
        recurrence::Recurrence,
        stochastic_heun::StochasticHeun,
        seeds2::Seeds2,
        adaptive_sde::AdaptiveSde,
        consistency::Consistency,
        flow_map::FlowMap,
    ],
}
