//! The built-in guidance.
