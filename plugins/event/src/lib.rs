//! Events and rewards over decoded samples, written as text: `sum(x[-10:]) <= -3`, `max(x) >= 40 and last(x) < 20`,
//! `mean(x) - 0.1 * max(abs(x))`.
//!
//! [`Expression::parse`] knows the words, [`Expression::resolve`] the components: names, slices and shapes are checked
//! there, and every fault says its column. The result has one tree and as many meanings as somebody gives it
//! ([`Meaning`]): numbers here (`holds` and `value` of [`Resolved`]), nodes of a graph in the plugin SDK. So what a
//! guidance steers to and what a host checks are one text read once.
//!
//! A leaf: it depends on nothing, so plugins (through the SDK) and the command may use it.

mod fault;
mod meaning;
mod numbers;
mod parse;
mod resolve;
mod tree;

pub use fault::Fault;
pub use meaning::Meaning;
pub use parse::{Expression, MOST_BYTES, MOST_DEPTH};
pub use resolve::Part;
pub use tree::{Both, Compare, Condition, Cut, Map, Pair, Reduce, Resolved, Tree};
