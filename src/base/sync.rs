//! What threads share, under one name: the standard library's. The models of `tests/loom` compile the same sources with
//! this file replaced, so that every order in which threads can meet is tried.

pub use std::hint::spin_loop;
pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
pub use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
pub use std::thread;
#[cfg(not(test))]
pub use std::time::Instant;

#[cfg(test)]
pub use super::clock::Instant;

/// Turns of a spin loop before a thread sleeps: some 20 microseconds.
pub const SPINS: u32 = 2_000;
