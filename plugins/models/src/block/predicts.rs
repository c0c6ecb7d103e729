//! The words for what a network predicts, in configurations.

use diffx_plugin::Predicts;

/// With the default first.
pub(crate) const PREDICTS: &[(&str, Predicts)] = &[
    ("residual", Predicts::Residual),
    ("denoised", Predicts::Denoised),
    ("noise", Predicts::Noise),
    ("velocity", Predicts::Velocity),
    ("score", Predicts::Score),
    ("value", Predicts::Value),
    ("v", Predicts::V),
];
