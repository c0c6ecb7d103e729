//! The contract of `diffx_plugin.h`, case by case: each hard thing the header promises is written as a plugin in C,
//! compiled with the system's compiler, and run against a closed form. Every case also shows a wrong variant failing.

mod law;
mod rig;

mod adaptive;
mod block;
mod cir;
mod doob;
mod joint;
mod lora;
mod meanflow;
mod smc;
