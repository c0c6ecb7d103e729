//! The built-in processes.
