//! Networks of the built-in plugins against the references they are named after: forward and gradients with weights of the
//! reference's own files.

mod dit;
mod rig;
