//! The built-in grids.
