//! The room `base` as the shared sources see it: its errors, and loom's threads in place of the system's.

#[path = "../../../src/base/error.rs"]
#[allow(dead_code, unused_macros)]
pub mod error;

pub use error::{Error, Result, Status};

/// In place of `src/base/sync.rs`, name by name.
pub mod sync {
    pub use loom::hint::spin_loop;
    pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
    pub use loom::sync::{Condvar, Mutex, MutexGuard};
    // an object that goes too early would be a use after free, which is not what these models are about
    pub use std::sync::{Arc, PoisonError};

    /// One look before a thread sleeps: more are the same again.
    pub const SPINS: u32 = 1;

    pub mod thread {
        pub use loom::thread::{Builder, JoinHandle, current};

        pub fn sleep(_: std::time::Duration) {
            loom::thread::yield_now();
        }
    }

    /// A clock that stands still: what is due at once is always late, what is due later never.
    #[derive(Clone, Copy, PartialEq, PartialOrd)]
    pub struct Instant(std::time::Duration);

    impl Instant {
        pub fn now() -> Self {
            Self(std::time::Duration::ZERO)
        }

        pub fn elapsed(&self) -> std::time::Duration {
            std::time::Duration::ZERO
        }

        pub fn checked_add(&self, d: std::time::Duration) -> Option<Self> {
            (d != std::time::Duration::MAX).then_some(Self(d))
        }

        pub fn saturating_duration_since(&self, other: Self) -> std::time::Duration {
            self.0.saturating_sub(other.0)
        }

        #[allow(clippy::should_implement_trait)]
        pub fn min(self, other: Self) -> Self {
            if other < self { other } else { self }
        }
    }

    impl std::ops::Add<std::time::Duration> for Instant {
        type Output = Self;

        fn add(self, d: std::time::Duration) -> Self {
            Self(self.0 + d)
        }
    }
}
