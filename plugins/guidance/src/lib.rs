//! The built-in guidance, one file each, on the plugin SDK alone.

mod auto;
mod cfg;
mod classifier;
mod doob;
mod dps;
mod fista;
mod gamma;
mod log_h;
mod project;
mod reject;
mod replace;
mod rows;
mod score;
mod steer;

diffx_plugin::diffx_plugin! {
    id: "org.diffx.guidance",
    license: "MIT OR Apache-2.0",
    guidances: [
        auto::Auto, cfg::Cfg, classifier::Classifier, doob::Doob, dps::Dps, fista::Fista,
        project::Project, reject::Reject,
        replace::Replace, steer::Steer,
    ],
}
