//! The built-in objectives.
