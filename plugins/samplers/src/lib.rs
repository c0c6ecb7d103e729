//! The built-in samplers.
