//! Special functions of the laws.
