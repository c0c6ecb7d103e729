//! Conformance of the op table without a backend: shapes, gradients, directional derivatives, errors.

#[path = "ops/cases.rs"]
mod cases;
#[path = "ops/gradient.rs"]
mod gradient;
#[path = "ops/hostile.rs"]
mod hostile;
#[path = "ops/rules.rs"]
mod rules;
#[path = "ops/shapes.rs"]
mod shapes;
