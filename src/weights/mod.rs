//! Weights in files: safetensors read strictly and lazily, written atomically, converted between float types, and bound
//! to the names a network declares. Knows no network.

pub mod atomic;
pub mod bind;
pub mod convert;
mod header;
mod open;
pub mod safetensors;

pub use bind::{Wanted, bind};
pub use open::plain_file;
pub use safetensors::{Entry, Out, SafeTensors, write, write_pieces};
