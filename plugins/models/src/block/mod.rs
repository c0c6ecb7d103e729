//! What the networks share: layers named and laid out as frameworks store them, embeddings of noise levels and labels,
//! attention, the feed-forward part of a transformer block, modulation. A reference's network is these with its names.

pub(crate) mod attention;
pub(crate) mod embedding;
pub(crate) mod encoder;
pub(crate) mod feed_forward;
pub(crate) mod layer;
pub(crate) mod modulation;
pub(crate) mod patch;
pub(crate) mod picture;
pub(crate) mod predicts;
pub(crate) mod resnet;

pub(crate) use feed_forward::ACTIVATIONS;
pub(crate) use layer::{Start, linear, project};
