//! Weights in files: safetensors and GGUF, whole or in shards, read strictly and lazily under the names of a network,
//! written atomically, converted between float types, and bound to the names a network declares. Knows no network.

pub mod atomic;
pub mod bind;
pub mod convert;
mod folder;
pub mod gguf;
mod header;
pub mod index;
mod narrow;
mod open;
pub mod safetensors;
pub mod source;

pub use bind::{Found, Named, Wanted, bind};
pub use gguf::Gguf;
pub use open::plain_file;
pub use safetensors::{Entry, Out, SafeTensors, write, write_pieces};
pub use source::{Held, Source};
