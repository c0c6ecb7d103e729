//! The built-in objectives, one file each, on the plugin SDK alone. `level` is what those on data share; `rollout`,
//! `evidence` and `steps` what those on rollouts do.

mod adjoint;
mod cdg;
mod cdg_gradient;
mod consistency;
mod dpo;
mod draft;
mod drifting;
mod dsm;
mod elbo;
mod elbo_pg;
mod evidence;
mod flow_grpo;
mod ism;
mod level;
mod meanflow;
mod nft;
mod rollout;
mod steps;

diffx_plugin::diffx_plugin! {
    id: "org.diffx.objectives",
    license: "MIT OR Apache-2.0",
    objectives: [
        cdg::Cdg,
        cdg_gradient::CdgGradient,
        dsm::Dsm,
        elbo::Elbo,
        ism::Ism,
        consistency::Consistency,
        meanflow::MeanFlow,
        drifting::Drifting,
        adjoint::Adjoint,
        dpo::Dpo,
        draft::Draft,
        elbo_pg::ElboPg,
        flow_grpo::Ddpo,
        flow_grpo::FlowGrpo,
        nft::Nft,
    ],
}
