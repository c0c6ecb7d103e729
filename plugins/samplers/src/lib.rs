//! The built-in samplers, one file each, on the plugin SDK alone. A row holds the columns of each component in turn;
//! `discrete` is the step of components made of tokens.

mod ancestral;
mod churn;
mod discrete;
mod euler;
mod heun;

diffx_plugin::diffx_plugin! {
    id: "org.diffx.samplers",
    license: "MIT OR Apache-2.0",
    samplers: [euler::Euler, heun::Heun, ancestral::Ancestral, churn::Churn],
}
