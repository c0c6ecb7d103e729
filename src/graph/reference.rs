//! The f64 reference of every op: naive, independent of every backend.
